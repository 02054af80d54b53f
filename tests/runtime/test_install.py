"""Installing offline: from the wheelhouse alone, or an error that names what is wrong with it."""

import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest
import uv

from kaggle_kit.errors import KitError, WheelhouseError
from kaggle_kit.files import write_atomic
from kaggle_kit.runtime.install import install
from kaggle_kit.runtime.manifest import MANIFEST, dump_manifest, make_manifest
from kaggle_kit.wheelhouse.kit_wheel import build_kit_wheel, kit_wheel_name

UV_WHEEL = "uv-0.0.0-py3-none-manylinux_2_17_x86_64.whl"


class Usage(NamedTuple):
    """What shutil.disk_usage gives."""

    total: int
    used: int
    free: int


def make_wheel(folder: Path, name: str, *, version: str = "1.0", requires: str = "") -> Path:
    """A small wheel that installs one module."""
    info = f"{name}-{version}.dist-info"
    path = folder / f"{name}-{version}-py3-none-any.whl"
    requirement = f"Requires-Dist: {requires}\n" if requires else ""
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{name}.py", f"VALUE = {version!r}\n")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requirement}")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return path


def seal(folder: Path) -> None:
    """Write the manifest of what the folder holds now."""
    write_atomic(folder / MANIFEST, dump_manifest(make_manifest(folder, kind="wheelhouse", name="tiny")))


@pytest.fixture
def wheelhouse(tmp_path, monkeypatch):
    """Three wheels, one with a requirement that nobody has and one with a local version; uv is on the PATH."""
    folder = tmp_path / "kaggle" / "input" / "wheels"
    folder.mkdir(parents=True)
    build_kit_wheel(folder)
    make_wheel(folder, "needy", requires="nobody-has-this==9")
    make_wheel(folder, "engine", version="2.0+cpu")
    seal(folder)
    monkeypatch.setenv("PATH", str(Path(uv.find_uv_bin()).parent), prepend=":")
    return folder


def ask(python: Path, code: str) -> str:
    done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_every_wheel_is_installed_with_no_index(wheelhouse, tmp_path, monkeypatch):
    """The environment holds each wheel and the kit's runtime, though the image's settings point to a dead index."""
    monkeypatch.setenv("UV_INDEX_URL", "http://127.0.0.1:1/simple")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple")
    monkeypatch.setenv("UV_OFFLINE", "0")
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    python = install(wheelhouse, scratch=tmp_path / "scratch")
    assert python == tmp_path / "scratch" / "env" / "bin" / "python"
    code = "import engine, needy, kaggle_kit.runtime.worker as w; print(engine.VALUE, needy.VALUE, w.__file__)"
    versions = ask(python, code).split()
    assert versions[:2] == ["2.0+cpu", "1.0"]
    assert versions[2].startswith(str(tmp_path / "scratch" / "env"))


def test_a_second_install_begins_anew(wheelhouse, tmp_path):
    """An environment that a killed session left half made is replaced."""
    env = tmp_path / "scratch" / "env"
    (env / "bin").mkdir(parents=True)
    (env / "bin" / "python").write_text("broken", encoding="utf-8")
    python = install(wheelhouse, scratch=tmp_path / "scratch")
    assert ask(python, "import engine; print(engine.VALUE)") == "2.0+cpu"


@pytest.mark.parametrize("name", ["with space", "with+plus", "é"])
def test_spaces_and_signs_in_the_folders_name_will_do(wheelhouse, tmp_path, name):
    """Wherever the wheelhouse is mounted, its path is taken as it is."""
    moved = wheelhouse.rename(tmp_path / name)
    python = install(moved, scratch=tmp_path / "scratch")
    assert ask(python, "import needy; print(needy.VALUE)") == "1.0"


def test_the_wheelhouses_own_uv_is_used(wheelhouse, tmp_path, monkeypatch):
    """With no uv in the image, the one in the wheelhouse is unpacked and run."""
    with zipfile.ZipFile(wheelhouse / UV_WHEEL, "w") as wheel:
        wheel.write(uv.find_uv_bin(), "uv-0.0.0.data/scripts/uv")
        wheel.writestr("uv-0.0.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: uv\nVersion: 0.0.0\n")
        wheel.writestr(
            "uv-0.0.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: py3-none-manylinux_2_17_x86_64\n",
        )
        wheel.writestr("uv-0.0.0.dist-info/RECORD", "")
    seal(wheelhouse)
    monkeypatch.setenv("PATH", "/nowhere")
    python = install(wheelhouse, scratch=tmp_path / "scratch")
    assert (tmp_path / "scratch" / "uv").is_file()
    assert ask(python, "import needy; print(needy.VALUE)") == "1.0"


def test_no_uv_at_all_is_an_error(wheelhouse, tmp_path, monkeypatch):
    """Neither the wheelhouse's nor the image's: the error says to lock again."""
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(WheelhouseError, match="holds no uv, and the image has none"):
        install(wheelhouse, scratch=tmp_path / "scratch")


def test_a_uv_wheel_without_the_program_is_an_error(wheelhouse, tmp_path):
    """A wheel of that name that holds something else is named."""
    make_wheel(wheelhouse, "uv")
    seal(wheelhouse)
    with pytest.raises(WheelhouseError, match=r"uv-1\.0-py3-none-any\.whl .* holds no uv program"):
        install(wheelhouse, scratch=tmp_path / "scratch")


def test_a_uv_of_another_machine_is_an_error(wheelhouse, tmp_path):
    """A program that this processor cannot run is a fault of the wheelhouse."""
    with zipfile.ZipFile(wheelhouse / UV_WHEEL, "w") as wheel:
        wheel.writestr("uv-0.0.0.data/scripts/uv", b"\x7fELF for another machine")
    seal(wheelhouse)
    with pytest.raises(WheelhouseError, match=r"uv cannot be run here: Exec format error"):
        install(wheelhouse, scratch=tmp_path / "scratch")


@pytest.mark.parametrize("keep_size", [True, False])
def test_a_corrupt_wheel_is_named_before_anything_is_made(wheelhouse, tmp_path, keep_size):
    """One changed byte, or a cut upload, ends the install with the wheel's name and no environment."""
    path = wheelhouse / kit_wheel_name()
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"x" if keep_size else content[: len(content) // 2])
    with pytest.raises(WheelhouseError, match=kit_wheel_name()):
        install(wheelhouse, scratch=tmp_path / "scratch")
    assert not (tmp_path / "scratch").exists()


def test_a_missing_wheel_is_named(wheelhouse, tmp_path):
    """A wheel that the upload lost is told by its name."""
    (wheelhouse / "needy-1.0-py3-none-any.whl").unlink()
    with pytest.raises(WheelhouseError, match=r"needy-1\.0-py3-none-any\.whl is missing from the wheelhouse tiny"):
        install(wheelhouse, scratch=tmp_path / "scratch")


def test_a_folder_without_manifest_is_refused(wheelhouse, tmp_path):
    """Nothing is installed that cannot be checked."""
    (wheelhouse / MANIFEST).unlink()
    with pytest.raises(KitError, match=r"manifest\.json is missing"):
        install(wheelhouse, scratch=tmp_path / "scratch")


def test_too_little_space_is_told_with_what_is_needed(wheelhouse, tmp_path, monkeypatch):
    """Before unpacking starts, the free and the needed space are compared."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 10**9 - 1000, 1000))
    with pytest.raises(WheelhouseError, match=r"has 0\.0 GB free, the environment needs about 0\.0 GB; free space"):
        install(wheelhouse, scratch=tmp_path / "scratch")


def test_a_file_that_is_no_wheel_is_told_in_uvs_own_words(wheelhouse, tmp_path):
    """What the manifest vouches for but uv cannot install is an error with uv's last lines."""
    (wheelhouse / "broken-1.0-py3-none-any.whl").write_bytes(b"no zip")
    seal(wheelhouse)
    with pytest.raises(
        WheelhouseError, match=r"(?s)uv pip failed \(exit code \d+\):.*broken has an invalid package format"
    ):
        install(wheelhouse, scratch=tmp_path / "scratch")


def test_a_wheel_for_another_python_is_told(wheelhouse, tmp_path):
    """A wheel that does not fit this Python is refused by name."""
    path = wheelhouse / "needy-1.0-py3-none-any.whl"
    path.rename(wheelhouse / "needy-1.0-cp27-cp27m-win32.whl")
    seal(wheelhouse)
    with pytest.raises(WheelhouseError, match="needy"):
        install(wheelhouse, scratch=tmp_path / "scratch")
