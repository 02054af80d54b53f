"""Installing offline: from the wheelhouse alone, or an error that names what is wrong with it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest
import uv

from kaggle_kit.errors import KitError, WheelhouseError
from kaggle_kit.files import sha256_file, write_atomic
from kaggle_kit.runtime.install import (
    BYTECODE,
    _index_environment,
    empty_environment,
    environment_packages,
    find_installer,
    install,
    install_engine,
    install_from_index,
    refuse_python,
)
from kaggle_kit.runtime.manifest import MANIFEST, dump_manifest, make_manifest
from kaggle_kit.wheelhouse.folder import build_kit_wheel, kit_wheel_name

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
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


def seal(folder: Path, **extra: object) -> None:
    """Write the manifest of what the folder holds now."""
    write_atomic(folder / MANIFEST, dump_manifest(make_manifest(folder, kind="wheelhouse", name="tiny", extra=extra)))


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


@pytest.fixture
def compiled(wheelhouse, tmp_path):
    """The packages of another environment of the same wheels, compiled; one file is not the wheel's."""
    python = install(wheelhouse, scratch=tmp_path / "other")
    packages = environment_packages(python)
    (packages / "needy.py").write_text("VALUE = 'another'\n", encoding="utf-8")
    command = [sys.executable, "-m", "compileall", "-q", "--invalidation-mode", "checked-hash", str(packages)]
    subprocess.run(command, check=True)
    return packages


def test_bytecode_that_is_there_is_taken_where_it_is_the_sources(compiled, wheelhouse, tmp_path, monkeypatch):
    """A dry run names it: no module is compiled again, and one whose source is another answers by its own source."""
    monkeypatch.setenv(BYTECODE, str(compiled))
    python = install(wheelhouse, scratch=tmp_path / "scratch")
    folder = environment_packages(python) / "kaggle_kit" / "__pycache__"
    assert folder.readlink() == compiled / "kaggle_kit" / "__pycache__"
    compiled_before = {path: path.stat().st_mtime_ns for path in compiled.rglob("*.pyc") if "needy" not in path.name}
    assert ask(python, "import kaggle_kit.errors, engine, needy; print(engine.VALUE, needy.VALUE)") == "2.0+cpu 1.0"
    assert all(path.stat().st_mtime_ns == before for path, before in compiled_before.items())


def test_without_bytecode_an_install_has_none(wheelhouse, tmp_path, monkeypatch):
    """As on Kaggle: nothing is linked; nor where the folder that is named is none."""
    for scratch, folder in (("one", None), ("two", tmp_path / "nothing")):
        if folder:
            monkeypatch.setenv(BYTECODE, str(folder))
        packages = environment_packages(install(wheelhouse, scratch=tmp_path / scratch))
        assert not [path for path in packages.rglob("__pycache__") if path.is_symlink()]


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


def test_without_uv_pip_installs(wheelhouse, tmp_path, monkeypatch):
    """Where neither the wheelhouse nor the image has a uv, the image's pip makes the same environment."""
    monkeypatch.setenv("PATH", "/nowhere")
    done = install_engine(wheelhouse, scratch=tmp_path / "scratch")
    assert done.installer == "pip"
    assert ask(done.python, "import engine, needy; print(engine.VALUE, needy.VALUE)") == "2.0+cpu 1.0"


def test_a_uv_that_does_not_run_is_passed_over(wheelhouse, tmp_path, monkeypatch):
    """A uv for another machine, or in a scratch where nothing may run, does not stop the install."""
    with zipfile.ZipFile(make_wheel(wheelhouse, "uv"), "a") as wheel:
        wheel.writestr("uv-1.0.data/scripts/uv", b"\x7fELF for another machine")
    seal(wheelhouse)
    monkeypatch.setenv("PATH", "/nowhere")
    assert install_engine(wheelhouse, scratch=tmp_path / "scratch").installer == "pip"


def test_a_uv_wheel_without_the_program_is_passed_over(wheelhouse, tmp_path):
    """A wheel of that name that holds something else leaves the image's uv."""
    make_wheel(wheelhouse, "uv")
    seal(wheelhouse)
    assert install_engine(wheelhouse, scratch=tmp_path / "scratch").installer == "uv"


def test_neither_uv_nor_pip(wheelhouse, tmp_path, monkeypatch):
    """With no installer at all the error says to lock again with uv."""
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(WheelhouseError, match=r"no uv that runs here.* and no pip; lock the wheelhouse again with uv"):
        install(wheelhouse, scratch=tmp_path / "scratch")


def test_it_says_how_long_each_step_took(wheelhouse, tmp_path):
    """The seconds of checking, preparing and installing are told."""
    done = install_engine(wheelhouse, scratch=tmp_path / "scratch")
    assert list(done.seconds) == ["verify", "prepare", "install"]
    assert (done.wheels, done.environment) == (3, {})


def test_only_the_wheels_for_this_python_are_installed(wheelhouse, tmp_path):
    """Of wheels for several Pythons side by side, those of the running one are taken."""
    make_wheel(wheelhouse, "needy", version="2.0")
    seal(
        wheelhouse,
        pythons=[HERE, "3.99"],
        only={"needy-1.0-py3-none-any.whl": ["3.99"], "needy-2.0-py3-none-any.whl": [HERE]},
    )
    python = install(wheelhouse, scratch=tmp_path / "scratch")
    assert ask(python, "import needy; print(needy.VALUE)") == "2.0"


def test_another_python_than_the_wheelhouses_is_refused(wheelhouse, tmp_path):
    """An image that moved on is told in words, not by an installer's."""
    seal(wheelhouse, pythons=["3.98", "3.99"])
    with pytest.raises(WheelhouseError, match=rf"this is Python {HERE}; the wheelhouse tiny .* is for 3\.98, 3\.99"):
        install(wheelhouse, scratch=tmp_path / "scratch")


def test_a_name_that_kaggle_changed_is_put_right(wheelhouse, tmp_path):
    """A wheel that lost the + of its name is installed under its true one."""
    (wheelhouse / "engine-2.0+cpu-py3-none-any.whl").rename(wheelhouse / "engine-2.0cpu-py3-none-any.whl")
    python = install(wheelhouse, scratch=tmp_path / "scratch")
    assert ask(python, "from importlib.metadata import version; print(version('engine'))") == "2.0+cpu"


@pytest.mark.parametrize("with_uv", [True, False])
def test_an_overlay_lies_before_the_image(wheelhouse, tmp_path, monkeypatch, with_uv):
    """In the overlay mode the wheels go to a folder of their own, which the image's Python is told of."""
    seal(wheelhouse, mode="overlay")
    if not with_uv:
        monkeypatch.setenv("PATH", "/nowhere")
    done = install_engine(wheelhouse, scratch=tmp_path / "scratch")
    assert (done.python, done.environment) == (
        Path(sys.executable),
        {"PYTHONPATH": str(tmp_path / "scratch" / "overlay")},
    )
    code = "import engine; print(engine.__file__)"
    found = subprocess.run([done.python, "-c", code], env=done.environment, capture_output=True, text=True, check=True)
    assert found.stdout.startswith(str(tmp_path / "scratch" / "overlay"))


def test_a_manifest_cannot_name_a_wheel_out_of_its_folder(wheelhouse, tmp_path):
    """A true name that is a path is refused."""
    seal(wheelhouse, true_names={"needy-1.0-py3-none-any.whl": "../needy-1.0-py3-none-any.whl"})
    with pytest.raises(WheelhouseError, match=r"gives needy-1\.0-py3-none-any\.whl the name '\.\./needy"):
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
    with pytest.raises(WheelhouseError, match=r"has 0\.0 GB free; the environment needs about 0\.0 GB: free space"):
        install(wheelhouse, scratch=tmp_path / "scratch")


@pytest.fixture
def crowded(tmp_path, monkeypatch):
    """A disk that has no space until what an earlier install left is gone, down to the folder named."""
    scratch = tmp_path / "scratch"

    def fill(name: str) -> Path:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 0, 0 if (scratch / name).exists() else 10**9))
        return scratch

    return fill


@pytest.mark.parametrize("name", ["env", "uv-cache"])
def test_a_second_install_has_the_space_of_the_first(wheelhouse, crowded, name):
    """The environment that is replaced gives its space, and so does uv's cache, of which its files are links."""
    scratch = crowded("nothing")
    install(wheelhouse, scratch=scratch)
    crowded(name)
    python = install(wheelhouse, scratch=scratch)
    assert ask(python, "import engine; print(engine.VALUE)") == "2.0+cpu"


def test_where_there_is_space_uvs_cache_serves_again(wheelhouse, crowded):
    """What uv unpacked for the first install is not unpacked a second time."""
    scratch = crowded("env")
    install(wheelhouse, scratch=scratch)
    (scratch / "uv-cache" / "kept").touch()
    install(wheelhouse, scratch=scratch)
    assert (scratch / "uv-cache" / "kept").exists()


def test_a_refused_install_leaves_no_environment_and_says_so(wheelhouse, crowded):
    """Where even that does not suffice, the earlier environment is gone, and the message tells it."""
    scratch = crowded("nothing")
    install(wheelhouse, scratch=scratch)
    crowded("requirements.txt")
    with pytest.raises(WheelhouseError, match=r"GB free, now that the environment of an earlier run is removed from"):
        install(wheelhouse, scratch=scratch)
    assert not {"env", "uv-cache"} & {path.name for path in scratch.iterdir()}


def test_a_file_that_is_no_wheel_is_told_in_uvs_own_words(wheelhouse, tmp_path):
    """What the manifest vouches for but uv cannot install is an error with uv's last lines."""
    (wheelhouse / "broken-1.0-py3-none-any.whl").write_bytes(b"no zip")
    seal(wheelhouse)
    with pytest.raises(
        WheelhouseError, match=r"(?s)uv pip install failed \(exit code \d+\):.*broken has an invalid package format"
    ):
        install(wheelhouse, scratch=tmp_path / "scratch")


def test_a_wheel_for_another_python_is_told(wheelhouse, tmp_path):
    """A wheel that does not fit this Python is refused by name."""
    path = wheelhouse / "needy-1.0-py3-none-any.whl"
    path.rename(wheelhouse / "needy-1.0-cp27-cp27m-win32.whl")
    seal(wheelhouse)
    with pytest.raises(WheelhouseError, match="needy"):
        install(wheelhouse, scratch=tmp_path / "scratch")


def test_an_installer_is_not_a_module_of_the_folder_it_runs_in(tmp_path, monkeypatch):
    """The image's pip and venv are Python's own, whatever lies where the command is given."""
    for name in ("pip", "venv", "json", "ensurepip"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w')\n")
    monkeypatch.chdir(tmp_path)
    installer = find_installer(tmp_path / "scratch", advice="try again", with_uv=False)
    (tmp_path / "scratch").mkdir()
    assert installer.name == "pip"
    assert empty_environment(installer, tmp_path / "scratch").exists()
    assert not (tmp_path / "mark").exists()


INFO = "tiny-1.0.dist-info"


@pytest.fixture
def offered(tmp_path, monkeypatch):
    """A folder with one wheel, as the only place where packages are; the line that requires it."""
    folder = tmp_path / "offered"
    folder.mkdir()
    wheel = folder / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny.py", "word = 'tiny'\n")
        archive.writestr(f"{INFO}/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        archive.writestr(f"{INFO}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{INFO}/RECORD", f"tiny.py,,\n{INFO}/METADATA,,\n{INFO}/WHEEL,,\n{INFO}/RECORD,,\n")
    for name in ("UV_FIND_LINKS", "PIP_FIND_LINKS"):
        monkeypatch.setenv(name, str(folder))
    monkeypatch.setenv("PATH", f"{Path(uv.find_uv_bin()).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    # Read, it would end each call: the file is not there.
    monkeypatch.setenv("UV_CONSTRAINT", str(tmp_path / "missing.txt"))
    monkeypatch.setenv("PIP_CONSTRAINT", str(tmp_path / "missing.txt"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return f"tiny==1.0 --hash=sha256:{sha256_file(wheel)}"


@pytest.mark.parametrize("with_uv", [True, False])
def test_it_is_installed(offered, tmp_path, with_uv):
    """uv does it, or pip where there is no uv; other settings of the image do not get in the way."""
    made = install_from_index(wheels=offered, archives="", scratch=tmp_path / "scratch", with_uv=with_uv)
    assert made.installer == ("uv" if with_uv else "pip")
    assert made.wheels == 1
    told = subprocess.run([made.python, "-I", "-c", "import tiny; print(tiny.word)"], capture_output=True, check=True)
    assert told.stdout == b"tiny\n"


@pytest.mark.parametrize("with_uv", [True, False])
def test_another_hash_is_refused(offered, tmp_path, with_uv):
    """The file that is offered is not the one that was locked."""
    wrong = offered[:-64] + "0" * 64
    with pytest.raises(WheelhouseError, match=r"failed \(exit code [12]\)"):
        install_from_index(wheels=wrong, archives="", scratch=tmp_path / "scratch", with_uv=with_uv)


def test_a_package_that_is_not_offered(offered, tmp_path):
    """The installer's own words are told."""
    wanted = f"{offered}\nother==1.0 --hash=sha256:{'0' * 64}"
    with pytest.raises(WheelhouseError, match="other"):
        install_from_index(wheels=wanted, archives="", scratch=tmp_path / "scratch")


def test_no_installer_at_all(tmp_path, monkeypatch):
    """Where neither uv nor pip runs, the advice is of the image: there is no wheelhouse to lock."""
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(WheelhouseError, match=r"^there is no uv that runs here, and no pip; pin an image that has one"):
        install_from_index(wheels="", archives="", scratch=tmp_path / "scratch")


@pytest.mark.parametrize(
    "name",
    [
        *("HTTPS_PROXY", "SSL_CERT_FILE", "UV_HTTP_TIMEOUT", "UV_SYSTEM_CERTS", "UV_NATIVE_TLS"),
        *("UV_INDEX_OWN_PASSWORD", "PIP_PROXY", "PIP_TIMEOUT", "PIP_CERT", "PIP_CLIENT_CERT"),
    ],
)
def test_the_network_is_reached_as_the_machine_says(tmp_path, monkeypatch, name):
    """Proxies, certificates, time limits and logins are settings of the machine, and stay."""
    monkeypatch.setenv(name, "x")
    assert _index_environment(tmp_path / "python")[name] == "x"


@pytest.mark.parametrize("name", ["UV_CONSTRAINT", "UV_NO_BINARY", "UV_TORCH_BACKEND", "PIP_NO_DEPS", "PIP_TARGET"])
def test_what_else_an_installer_is_told_is_dropped(tmp_path, monkeypatch, name):
    """The lines and their hashes say what is installed, and nothing else does."""
    monkeypatch.setenv(name, "x")
    assert name not in _index_environment(tmp_path / "python")


def test_a_foreign_python_is_refused():
    """Packages that are locked for other Pythons are not tried."""
    with pytest.raises(WheelhouseError, match=r"this is Python 3\.\d+, and the packages .* for 3\.1 and 3\.2; pin"):
        refuse_python(["3.1", "3.2"])
    refuse_python([f"{sys.version_info.major}.{sys.version_info.minor}"])
