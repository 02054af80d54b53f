"""Every way in which a wheelhouse is known to fail on Kaggle, planted on purpose: found before it is pushed."""

import shutil
import stat
import zipfile
from pathlib import Path

import pytest
from planted import finish, library_for_glibc, make_target, make_wheel, place

from kaggle_kit.errors import WheelhouseError
from kaggle_kit.runtime.install import install
from kaggle_kit.wheelhouse.folder import verify
from kaggle_kit.wheelhouse.prove import proof_problem, prove

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no gcc here to make libraries with")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with one wheel, the engine; the lock and the manifest come with `finish`."""
    make_wheel(place(tmp_path / "project"))
    return tmp_path / "project"


def failures(project: Path, **changes) -> dict[str, str]:
    """Check → what it found, of all checks that failed; nothing is installed."""
    proof = prove(make_target(**changes), project=project, install=False)
    assert (proof_problem(project, "tiny") is None) == (proof.verdict == "proved")
    return {check.name: "\n".join(check.notes) for check in proof.checks if check.result == "failed"}


def test_no_fault(project: Path) -> None:
    """Without a fault nothing fails."""
    finish(project)
    assert failures(project) == {}


def test_flipped_byte(project: Path) -> None:
    """One other byte is found by its file's name."""
    path = finish(project) / "engine-1.0-py3-none-any.whl"
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    with pytest.raises(WheelhouseError, match=r"engine-1\.0-py3-none-any\.whl .*it is corrupt"):
        verify(path.parent)
    assert "engine-1.0-py3-none-any.whl" in failures(project)["manifest"]


def test_missing_wheel(project: Path) -> None:
    """A wheel that is gone is named."""
    (finish(project) / "engine-1.0-py3-none-any.whl").unlink()
    with pytest.raises(WheelhouseError, match=r"engine-1\.0-py3-none-any\.whl is missing"):
        verify(place(project))
    assert "engine-1.0-py3-none-any.whl is missing" in failures(project)["manifest"]


def test_missing_before_the_manifest_was_made(project: Path) -> None:
    """A wheel that the lock names and the manifest does not is named."""
    make_wheel(place(project), "helper-1.0-py3-none-any.whl")
    finish(project)
    (place(project) / "helper-1.0-py3-none-any.whl").unlink()
    lock = (project / "wheels" / "pylock.tiny.toml").read_text()
    finish(project)
    (project / "wheels" / "pylock.tiny.toml").write_text(lock)
    assert "helper-1.0-py3-none-any.whl is locked and not in the manifest" in failures(project)["as locked"]


def test_wheel_for_the_wrong_python(project: Path) -> None:
    """A cp310 wheel for a target of Python 3.11 is named with the Python."""
    make_wheel(place(project), "old-1.0-cp310-cp310-manylinux_2_17_x86_64.whl")
    finish(project)
    assert failures(project)["tags"] == (
        "old-1.0-cp310-cp310-manylinux_2_17_x86_64.whl is not for Python 3.11 on Linux x86_64"
    )


def test_package_that_refuses_the_python(project: Path) -> None:
    """A pure wheel that requires an older Python is named, though its tags fit."""
    make_wheel(place(project), "old-1.0-py3-none-any.whl", headers=["Requires-Python: <3.11"])
    finish(project)
    assert failures(project)["requirements"] == ("old-1.0-py3-none-any.whl requires Python <3.11, the target has 3.11")


def test_glibc_by_tag(project: Path) -> None:
    """A wheel whose name asks for glibc 2.39 is named where the target has 2.35."""
    make_wheel(place(project), "new-1.0-cp311-cp311-manylinux_2_39_x86_64.whl")
    finish(project)
    assert failures(project)["tags"] == (
        "new-1.0-cp311-cp311-manylinux_2_39_x86_64.whl needs a newer glibc than the target's 2.35"
    )


@needs_gcc
def test_glibc_by_symbol(project: Path, tmp_path: Path) -> None:
    """A library that needs a symbol of glibc 2.39 is found in a wheel whose name promises 2.17."""
    file = "liar-1.0-cp311-cp311-manylinux_2_17_x86_64.whl"
    make_wheel(place(project), file, members={"liar_ext.so": library_for_glibc(tmp_path / "gcc", "2.39")})
    finish(project)
    assert failures(project)["symbols"].startswith(f"liar_ext.so in {file} needs GLIBC_2.39, the target has 2.35")


@needs_gcc
def test_library_that_is_nowhere(project: Path, tmp_path: Path) -> None:
    """A Python module that needs a library of no wheel and of no Linux is found."""
    from planted import compile_library

    other = tmp_path / "libother.so"
    compile_library("int other(void) { return 1; }", other, "-Wl,-soname,libother.so.7")
    source = "extern int other(void); void *PyInit_ext(void) { return other() ? 0 : 0; }"
    module = compile_library(source, tmp_path / "ext.so", "-x", "none", other)
    make_wheel(place(project), "lone-1.0-py3-none-any.whl", members={"lone_ext.so": module})
    finish(project)
    assert failures(project)["libraries"] == (
        "lone_ext.so in lone-1.0-py3-none-any.whl needs libother.so.7, which is in no wheel and not on every Linux"
    )


def test_sdist(project: Path) -> None:
    """An sdist is no wheel, and is named."""
    (place(project) / "builds-1.0.tar.gz").write_bytes(b"source")
    finish(project)
    assert failures(project)["only wheels"].startswith("builds-1.0.tar.gz is no wheel")


def test_version_conflict(project: Path) -> None:
    """A requirement that the set holds in another version names both wheels."""
    make_wheel(place(project), "needy-1.0-py3-none-any.whl", requires=["helper>=2"])
    make_wheel(place(project), "helper-1.0-py3-none-any.whl")
    finish(project)
    assert failures(project)["requirements"] == (
        "needy-1.0-py3-none-any.whl requires helper>=2, and helper-1.0-py3-none-any.whl is there: a version conflict"
    )


def test_two_versions_of_one_package(project: Path) -> None:
    """Two versions of one package for one Python are named, where the manifest was made without the lock's care."""
    make_wheel(place(project), "helper-1.0-py3-none-any.whl")
    finish(project)
    lock = (project / "wheels" / "pylock.tiny.toml").read_text()
    make_wheel(place(project), "helper-2.0-py3-none-any.whl")
    finish(project)
    (project / "wheels" / "pylock.tiny.toml").write_text(lock)
    assert failures(project)["one version each"] == (
        "helper-1.0-py3-none-any.whl and helper-2.0-py3-none-any.whl are two wheels of helper for Python 3.11"
    )


def test_undeclared_dependency(project: Path) -> None:
    """A wheel that requires what is not in the set is named with the requirement."""
    make_wheel(place(project), "needy-1.0-py3-none-any.whl", requires=["surprise>=1"])
    finish(project)
    assert failures(project)["requirements"] == (
        "needy-1.0-py3-none-any.whl requires surprise>=1, and no wheel of surprise is there"
    )


def test_dependency_of_an_extra(project: Path) -> None:
    """What only an extra requires is missed where a wheel asks for that extra."""
    make_wheel(place(project), "needy-1.0-py3-none-any.whl", requires=["helper[fast]"])
    make_wheel(place(project), "helper-1.0-py3-none-any.whl", requires=['speed; extra == "fast"'])
    finish(project)
    assert failures(project)["requirements"] == (
        'helper-1.0-py3-none-any.whl requires speed; extra == "fast", and no wheel of speed is there'
    )


def test_plus_renamed_by_kaggle(project: Path, tmp_path: Path) -> None:
    """A + that Kaggle took out of a name is told by `verify`, and put right by the notebook's install."""
    file = "local-1.0+cpu-py3-none-any.whl"
    make_wheel(place(project), file)
    folder = finish(project)
    (folder / file).rename(folder / file.replace("+", ""))
    with pytest.raises(WheelhouseError, match=r"local-1\.0\+cpu-py3-none-any\.whl .* is there as local-1\.0cpu-py3"):
        verify(folder)
    assert "the name that Kaggle shows" in failures(project)["manifest"]
    python = install(folder, scratch=tmp_path / "scratch")
    (installed,) = (python.parents[1] / "lib").glob("python*/site-packages/local-1.0+cpu.dist-info")
    assert installed.is_dir()


def test_two_files_with_one_name_on_kaggle(project: Path) -> None:
    """Two wheels that Kaggle would give one name are named."""
    for file in ("local-1.0+1-py3-none-any.whl", "local-1.01-py3-none-any.whl"):
        make_wheel(place(project), file)
    target = make_target(pythons=("3.11", "3.12"))
    finish(
        project,
        target=target,
        pythons={"local-1.0+1-py3-none-any.whl": ("3.11",), "local-1.01-py3-none-any.whl": ("3.12",)},
    )
    found = failures(project, pythons=("3.11", "3.12"))["names on Kaggle"]
    assert "local-1.0+1-py3-none-any.whl and local-1.01-py3-none-any.whl would both be local-1.01" in found


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("../../escaped.py", "leads outside its folder: path traversal"),
        ("/etc/escaped.py", "an absolute path"),
        ("package/../../escaped.py", "path traversal"),
        ("C:\\escaped.py", "an absolute path"),
    ],
)
def test_path_traversal(project: Path, name: str, cause: str) -> None:
    """A file that would be written outside its folder is found, and nothing is unpacked."""
    make_wheel(place(project), "evil-1.0-py3-none-any.whl", members={name: b"gotcha"})
    finish(project)
    found = failures(project)
    assert found["archives"].startswith("evil-1.0-py3-none-any.whl holds ")
    assert cause in found["archives"]


def test_symbolic_link(project: Path) -> None:
    """A link in an archive is found: it may lead anywhere."""
    link = zipfile.ZipInfo("evil_link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    make_wheel(place(project), "evil-1.0-py3-none-any.whl", members={link: b"/etc/passwd"})
    finish(project)
    assert "evil-1.0-py3-none-any.whl holds 'evil_link', a symbolic link" in failures(project)["archives"]


def test_zip_bomb(project: Path) -> None:
    """A small wheel that would fill the disk is found by its figures, without unpacking it."""
    zeros = {"bomb_data.bin": bytes(64 << 20)}
    make_wheel(place(project), "bomb-1.0-py3-none-any.whl", members=zeros, compression=zipfile.ZIP_DEFLATED)
    finish(project)
    found = failures(project)["archives"]
    assert found.startswith("bomb-1.0-py3-none-any.whl has ")
    assert "a zip bomb" in found


def test_file_that_record_does_not_list(project: Path) -> None:
    """A file that was slipped into a wheel is found."""
    file = "engine-1.0-py3-none-any.whl"
    make_wheel(place(project), file, members={"extra.py": b"import this"}, unlisted=("extra.py",))
    finish(project)
    assert failures(project)["archives"] == (
        f"{file} holds 'extra.py', which its RECORD does not list: it was added later"
    )


def test_wheel_under_another_name(project: Path) -> None:
    """A wheel that was given another version by renaming is found."""
    path = make_wheel(place(project), "helper-1.0-py3-none-any.whl")
    path.rename(path.with_name("helper-2.0-py3-none-any.whl"))
    finish(project)
    assert failures(project)["names inside"] == "helper-2.0-py3-none-any.whl holds helper 1.0: it was renamed"


def test_an_unsafe_wheel_is_not_installed(project: Path) -> None:
    """Where a wheel is unsafe the install is not rehearsed, and the proof says why."""
    make_wheel(place(project), "evil-1.0-py3-none-any.whl", members={"../x": b"x"})
    finish(project)
    proof = prove(make_target(), project=project)
    (check,) = [check for check in proof.checks if check.name == "install"]
    assert (check.result, check.notes) == ("not run", ("a wheel is not safe to unpack",))
