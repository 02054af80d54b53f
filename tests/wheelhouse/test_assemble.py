"""The wheelhouse folder: whole or not there, and every fault in it named."""

import json
import os
import shutil
from pathlib import Path

import pytest
from fake_index import Index

from kaggle_kit.errors import WheelhouseError
from kaggle_kit.wheelhouse import assemble as assemble_module
from kaggle_kit.wheelhouse.assemble import assemble, verify
from kaggle_kit.wheelhouse.fetch import cached_path, fetch
from kaggle_kit.wheelhouse.kit_wheel import kit_wheel_name
from kaggle_kit.wheelhouse.lock import Lock
from kaggle_kit.wheelhouse.resolve import Resolution

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
    monkeypatch.setattr(assemble_module, "kit_wheel_bytes", lambda: b"another runtime")
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
