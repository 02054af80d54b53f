"""The wheelhouse folder: made whole from a lock, or not there; every fault in it named; the kit's own wheel."""

import base64
import dataclasses
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import uv
from fake_index import Index

import kaggle_kit
from kaggle_kit.errors import WheelhouseError
from kaggle_kit.targets import Target
from kaggle_kit.wheelhouse import folder as folder_module
from kaggle_kit.wheelhouse.fetch import cached_path, fetch
from kaggle_kit.wheelhouse.folder import (
    assemble,
    build_kit_wheel,
    kit_wheel_bytes,
    kit_wheel_name,
    ready_wheelhouse,
    verify,
)
from kaggle_kit.wheelhouse.lock import Lock, lock_path, write_lock
from kaggle_kit.wheelhouse.resolve import Host, Resolution

_CHILD = "child-0.1-py3-none-any.whl"


@pytest.fixture
def out(resolution: Resolution, cache: Path, tmp_path: Path) -> Path:
    """A wheelhouse, assembled."""
    fetch(resolution.lock, cache=cache, urls=resolution.urls)
    return assemble(resolution.lock, cache=cache, out=tmp_path / "wheels" / "tiny")


def _state(folder: Path) -> dict[str, tuple[int, int]]:
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.iterdir()}


def test_holds_all(out: Path, lock: Lock) -> None:
    """The folder holds the locked wheels, the kit's own wheel and the manifest, and nothing else."""
    assert {path.name for path in out.iterdir()} == {
        *(wheel.file for wheel in lock.wheels),
        kit_wheel_name(),
        "manifest.json",
    }


def test_is_whole(out: Path) -> None:
    """A wheelhouse just assembled passes the check."""
    assert verify(out).name == "tiny"


def test_manifest_form(out: Path) -> None:
    """The manifest says what it is of, for which Python, and lists the files by path."""
    body = json.loads((out / "manifest.json").read_text())
    assert {key: body[key] for key in body if key != "files"} == {
        "kind": "wheelhouse",
        "name": "tiny",
        "pythons": ["3.11"],
        "version": 1,
    }
    assert [entry["path"] for entry in body["files"]] == sorted(path.name for path in out.glob("*.whl"))


def test_hard_links(out: Path, lock: Lock, cache: Path) -> None:
    """Wheels take no second place on the disk, and none is a symbolic link."""
    assert all((out / wheel.file).samefile(cached_path(cache, wheel)) for wheel in lock.wheels)
    assert not [path for path in out.iterdir() if path.is_symlink()]


def test_copies_where_links_fail(
    out: Path, lock: Lock, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Across file systems the wheels are copied, and a second assembly leaves the copies alone."""

    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    copied = assemble(lock, cache=cache, out=tmp_path / "elsewhere")
    before = _state(copied)
    verify(assemble(lock, cache=cache, out=copied))
    assert _state(copied) == before
    assert not (copied / _CHILD).samefile(out / _CHILD)


def test_again_changes_nothing(out: Path, lock: Lock, cache: Path) -> None:
    """Assembling what stands already touches no file."""
    before = _state(out)
    assemble(lock, cache=cache, out=out)
    assert _state(out) == before


def test_stale_files_go(out: Path, lock: Lock, cache: Path) -> None:
    """Wheels of an older lock are removed."""
    smaller = Lock(**{**vars(lock), "wheels": lock.wheels[1:]})
    verify(assemble(smaller, cache=cache, out=out))
    assert not (out / lock.wheels[0].file).exists()


def test_kit_wheel_is_refreshed(out: Path, lock: Lock, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the runtime changed, its wheel and the manifest change, and the other files stay."""
    before = _state(out)
    monkeypatch.setattr(folder_module, "kit_wheel_bytes", lambda: b"another runtime")
    verify(assemble(lock, cache=cache, out=out))
    changed = {name for name, state in _state(out).items() if before[name] != state}
    assert changed == {kit_wheel_name(), "manifest.json"}


def test_broken_wheel_is_replaced(out: Path, resolution: Resolution, cache: Path) -> None:
    """A flipped byte, shared with the cache by the hard link, is repaired by fetch and assemble."""
    (out / _CHILD).chmod(0o644)
    body = bytearray((out / _CHILD).read_bytes())
    body[200] ^= 1
    (out / _CHILD).write_bytes(body)
    fetch(resolution.lock, cache=cache, urls=resolution.urls)
    verify(assemble(resolution.lock, cache=cache, out=out))


def test_stopped_half_way(out: Path, lock: Lock, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An assembly that was stopped leaves no manifest, so it never passes as whole; the next one completes it."""
    (out / _CHILD).unlink()

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "hardlink_to", interrupt)
        with pytest.raises(KeyboardInterrupt):
            assemble(lock, cache=cache, out=out)
    with pytest.raises(WheelhouseError, match=r"manifest\.json is missing"):
        verify(out)
    verify(assemble(lock, cache=cache, out=out))


def test_not_fetched(resolution: Resolution, cache: Path, tmp_path: Path) -> None:
    """A wheel that is not in the cache is named, and no manifest is left."""
    with pytest.raises(WheelhouseError, match=r"\.whl is not in the cache"):
        assemble(resolution.lock, cache=cache, out=tmp_path / "out")
    assert not (tmp_path / "out" / "manifest.json").exists()


@pytest.mark.parametrize("name", ["photo.jpg", "folder/a.whl", "manifest.json"])
def test_folder_of_something_else(out: Path, lock: Lock, cache: Path, tmp_path: Path, name: str) -> None:
    """A folder that holds other things is left as it is."""
    assert out.is_dir()
    theirs = tmp_path / "theirs" / name
    theirs.parent.mkdir(parents=True)
    theirs.write_text('{"kind": "model", "name": "x", "version": 1, "files": []}')
    with pytest.raises(WheelhouseError, match="name an empty or a new folder"):
        assemble(lock, cache=cache, out=tmp_path / "theirs")
    assert theirs.exists()


def test_disk_full(out: Path, lock: Lock, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is an error in words."""
    assert out.is_dir()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "hardlink_to", full)
    monkeypatch.setattr(shutil, "copy2", full)
    with pytest.raises(WheelhouseError, match="is full"):
        assemble(lock, cache=cache, out=tmp_path / "other")


def _flip(path: Path) -> None:
    path.chmod(0o644)
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)


def _cut(path: Path) -> None:
    path.chmod(0o644)
    os.truncate(path, 100)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda out: _flip(out / _CHILD), rf"{_CHILD}.* has SHA-256"),
        (lambda out: _flip(out / kit_wheel_name()), r"kaggle_kit_runtime.* has SHA-256"),
        (lambda out: _cut(out / _CHILD), rf"{_CHILD}.* has 100 bytes"),
        (lambda out: (out / _CHILD).unlink(), rf"{_CHILD} is missing"),
        (
            lambda out: (out / "evil-1-py3-none-any.whl").write_text("x"),
            "evil-1-py3-none-any.whl in .* does not belong",
        ),
        (lambda out: (out / "link.whl").symlink_to("nowhere"), r"link\.whl in .* does not belong"),
        (lambda out: (out / "manifest.json").unlink(), r"manifest\.json is missing"),
        (lambda out: (out / "manifest.json").write_text("{"), "cannot be read as a manifest"),
        (shutil.rmtree, "is missing"),
    ],
)
def test_fault_is_named(out: Path, fault, message: str) -> None:
    """Each fault is an error that names the file, the cause, and the command that repairs it."""
    fault(out)
    with pytest.raises(WheelhouseError, match=message) as caught:
        verify(out)
    assert "Repair it with: kit wheels fetch --target tiny" in str(caught.value)


def test_quick_reads_no_file(out: Path) -> None:
    """The quick check compares sizes only: it passes over a flipped byte and not over a cut file."""
    _flip(out / _CHILD)
    verify(out, quick=True)
    _cut(out / _CHILD)
    with pytest.raises(WheelhouseError, match="100 bytes"):
        verify(out, quick=True)


def test_folder_of_a_model(tmp_path: Path) -> None:
    """The folder of something else is not a wheelhouse, whole as it may be."""
    (tmp_path / "manifest.json").write_text('{"kind": "model", "name": "x", "version": 1, "files": []}')
    with pytest.raises(WheelhouseError, match="folder of a model"):
        verify(tmp_path)


def test_index_is_not_asked(out: Path, lock: Lock, cache: Path, stocked: Index) -> None:
    """Assembling and checking need no network."""
    asked = len(stocked.requests)
    verify(assemble(lock, cache=cache, out=out))
    assert len(stocked.requests) == asked


_HOST = Host(python="3.11", machine="x86_64", glibc="2.36")


@pytest.fixture
def project(lock: Lock, tmp_path: Path) -> Path:
    """A project with the lock of the tiny target."""
    write_lock(lock_path(tmp_path / "project", "tiny"), lock)
    return tmp_path / "project"


def test_first_call_makes_it(project: Path, target: Target) -> None:
    """From a lock alone, the wheelhouse is fetched, assembled and whole, and there is nothing to note."""
    ready = ready_wheelhouse(target, project=project, host=_HOST)
    assert (ready.folder, ready.note) == (project / "wheels" / "tiny", None)
    assert verify(ready.folder).extra == {"pythons": ["3.11"]}


def test_second_call_asks_nobody(project: Path, target: Target, stocked: Index) -> None:
    """When all is there, no network is asked."""
    ready_wheelhouse(target, project=project, host=_HOST)
    asked = len(stocked.requests)
    ready_wheelhouse(target, project=project, host=_HOST)
    assert len(stocked.requests) == asked


def test_other_python(project: Path, target: Target, cache: Path, stocked: Index) -> None:
    """Another Python than the lock's is resolved again, once, into the cache, and the note says so."""
    host = dataclasses.replace(_HOST, python="3.12")
    ready = ready_wheelhouse(target, project=project, host=host)
    assert ready.note is not None
    assert ready.note.startswith("Python 3.12 here, the lock is for 3.11: resolved again into ")
    assert ready.folder.is_relative_to(cache)
    assert (ready.folder / "binary-2.0-cp312-cp312-manylinux_2_28_x86_64.whl").is_file()
    assert not (project / "wheels" / "tiny").exists()
    asked = len(stocked.requests)
    assert ready_wheelhouse(target, project=project, host=host) == ready
    assert len(stocked.requests) == asked


def test_broken_lock_in_the_cache(project: Path, target: Target, cache: Path) -> None:
    """A lock of the cache that was cut is made again."""
    host = dataclasses.replace(_HOST, python="3.12")
    ready = ready_wheelhouse(target, project=project, host=host)
    (path,) = (cache / "locks").iterdir()
    path.write_bytes(path.read_bytes()[:300])
    assert ready_wheelhouse(target, project=project, host=host) == ready


def test_other_machine(project: Path, target: Target) -> None:
    """Another processor is resolved again."""
    ready = ready_wheelhouse(target, project=project, host=dataclasses.replace(_HOST, machine="aarch64"))
    assert ready.note is not None
    assert ready.note.startswith("aarch64 here, the lock is for x86_64: ")
    assert (ready.folder / "binary-2.0-py3-none-any.whl").is_file()


def test_older_glibc_that_will_do(project: Path, target: Target) -> None:
    """An older glibc than the target's needs nothing new while every locked wheel loads on it."""
    assert ready_wheelhouse(target, project=project, host=dataclasses.replace(_HOST, glibc="2.31")).note is None


def test_older_glibc_that_will_not_do(project: Path, target: Target) -> None:
    """A glibc older than a locked wheel needs is resolved again, and the note names the wheel."""
    ready = ready_wheelhouse(target, project=project, host=dataclasses.replace(_HOST, glibc="2.17"))
    assert ready.note is not None
    assert ready.note.startswith("glibc 2.17 here, and the lock's binary-2.0-cp311")
    assert (ready.folder / "binary-2.0-py3-none-any.whl").is_file()


def test_no_lock(target: Target, tmp_path: Path) -> None:
    """Without a lock, the command that makes it is named."""
    with pytest.raises(WheelhouseError, match="kit wheels lock --target tiny"):
        ready_wheelhouse(target, project=tmp_path, host=_HOST)


def test_lock_for_another_engine(project: Path, target: Target) -> None:
    """A lock that was made before the target changed is refused, with both values and the command."""
    changed = target.model_copy(update={"engine": "engine==2.0"})
    with pytest.raises(WheelhouseError, match=r"engine==1\.0, the target tiny now says engine==2\.0.*kit wheels lock"):
        ready_wheelhouse(changed, project=project, host=_HOST)


_ONLY_THE_WHEEL = """
import sys
sys.path.insert(0, sys.argv[1])
import kaggle_kit.runtime.manifest as module
print(module.__file__)
"""


def test_same_bytes() -> None:
    """Two builds give the same bytes."""
    first = kit_wheel_bytes()
    folder_module._packed.cache_clear()
    assert kit_wheel_bytes() == first


def test_changed_sources_give_other_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process has made is not made again, but for files or a version that changed since."""
    here = Path(kaggle_kit.__file__).parent
    package = shutil.copytree(here, tmp_path / "kaggle_kit", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(kaggle_kit, "__file__", str(package / "__init__.py"))
    before = kit_wheel_bytes()
    assert kit_wheel_bytes() is before
    (package / "runtime" / "job.py").write_text("changed = True\n")
    changed = kit_wheel_bytes()
    (package / "runtime" / "more.py").write_text("")
    more = kit_wheel_bytes()
    monkeypatch.setattr(kaggle_kit, "__version__", "9.9")
    assert len({before, changed, more, kit_wheel_bytes()}) == 4


def test_file_times_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same sources under other times, in another place, give the same bytes."""
    here = Path(kaggle_kit.__file__).parent
    package = tmp_path / "kaggle_kit"
    names = ("__init__.py", "child.py", "errors.py", "files.py", "outside.py", "owners.py")
    ground = [here / name for name in names]
    data = (here / "runtime").rglob("*.json")
    for path in [*ground, *data, *(here / "runtime").rglob("*.py"), *(here / "model").rglob("*.py")]:
        copy = package / path.relative_to(here)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
        os.utime(copy, (1, 1))
    (package / "runtime" / "notes.txt").write_text("not a module")
    expected = kit_wheel_bytes()
    monkeypatch.setattr(kaggle_kit, "__file__", str(package / "__init__.py"))
    assert kit_wheel_bytes() == expected


def test_holds_the_runtime_only(tmp_path: Path) -> None:
    """Nothing but the runtime, a part of model, and the modules that both stand on is inside."""
    with zipfile.ZipFile(build_kit_wheel(tmp_path)) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    ground = {"__init__", "child", "errors", "files", "outside"}
    assert {f"kaggle_kit/{name}.py" for name in ground} < names
    assert "kaggle_kit/runtime/__init__.py" in names
    data = {
        f"kaggle_kit/runtime/facts/{path.name}"
        for path in (Path(kaggle_kit.__file__).parent / "runtime/facts").iterdir()
    }
    data.add("kaggle_kit/runtime/model_types.json")
    assert {name for name in names if not name.endswith(".py")} == data
    assert all(name.count("/") in {1, 2, 3} for name in names)
    assert not [name for name in names if name.startswith(("kaggle_kit/cli", "kaggle_kit/wheelhouse"))]


def test_holds_what_makes_a_model(tmp_path: Path) -> None:
    """With the wheel alone, in a Python without site-packages, a notebook's session and its program are imported."""
    wheel = build_kit_wheel(tmp_path)
    program = _ONLY_THE_WHEEL.replace("runtime.manifest", "model.make_session")
    program += "import kaggle_kit.model.quantize, kaggle_kit.model.make_program, kaggle_kit.model.calibration\n"
    command = [sys.executable, "-S", "-E", "-s", "-P", "-c", program, wheel]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(wheel))


def test_every_module_of_model_in_it_is_needed() -> None:
    """What is carried of model is what the session and its program import, and the worker that is run by its path."""
    program = (
        "import sys, kaggle_kit.model.make_session, kaggle_kit.model.make_program, kaggle_kit.model.quantize\n"
        "print(*(name for name in sys.modules if name.startswith('kaggle_kit.model')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    needed = {name.rpartition(".")[2] for name in done.stdout.split()} - {"model"} | {"quantize_worker"}
    with zipfile.ZipFile(io.BytesIO(kit_wheel_bytes())) as archive:
        inside = {Path(name).stem for name in archive.namelist() if name.startswith("kaggle_kit/model/")}
    assert inside - {"__init__"} == needed


def test_record_is_true(tmp_path: Path) -> None:
    """RECORD names each file with its SHA-256 and size, and itself without."""
    with zipfile.ZipFile(build_kit_wheel(tmp_path)) as archive:
        record_name = next(name for name in archive.namelist() if name.endswith("/RECORD"))
        for line in archive.read(record_name).decode().splitlines():
            name, told, size = line.rsplit(",", 2)
            if name != record_name:
                body = archive.read(name)
                digest = base64.urlsafe_b64encode(hashlib.sha256(body).digest()).rstrip(b"=").decode()
                assert (told, size) == (f"sha256={digest}", str(len(body)))
        assert len(archive.read(record_name).decode().splitlines()) == len(archive.namelist())


def test_written_once(tmp_path: Path) -> None:
    """A wheel whose bytes are there already is not written again."""
    os.utime(build_kit_wheel(tmp_path), (1, 1))
    assert build_kit_wheel(tmp_path).stat().st_mtime == 1


def test_imports_in_place(tmp_path: Path) -> None:
    """A Python without any site-packages imports the runtime straight from the wheel file."""
    wheel = build_kit_wheel(tmp_path)
    command = [sys.executable, "-S", "-E", "-s", "-P", "-c", _ONLY_THE_WHEEL, wheel]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.startswith(str(wheel))


def test_installs_offline(tmp_path: Path) -> None:
    """uv installs the wheel into an empty environment with no index, and finds it sound."""
    wheel = build_kit_wheel(tmp_path / "wheels")
    python = tmp_path / "env" / "bin" / "python"
    for arguments in (
        ["venv", "--offline", "--python", sys.executable, tmp_path / "env"],
        ["pip", "install", "--offline", "--no-index", wheel, "--python", python],
        ["pip", "check", "--python", python],
    ):
        subprocess.run([uv.find_uv_bin(), *arguments], capture_output=True, timeout=60, check=True)
    program = "import kaggle_kit.runtime as r, kaggle_kit as k; print(r.__file__, k.__version__)"
    done = subprocess.run([python, "-I", "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.startswith(str(tmp_path / "env"))
    assert done.stdout.split()[1] == kaggle_kit.__version__


def test_name_is_a_wheel_name() -> None:
    """The file is named by PEP 427 for any Python 3."""
    assert kit_wheel_name() == f"kaggle_kit_runtime-{kaggle_kit.__version__}-py3-none-any.whl"
