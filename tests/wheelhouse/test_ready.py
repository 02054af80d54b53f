"""The one call of the dry run."""

import dataclasses
from pathlib import Path

import pytest
from fake_index import Index

from kaggle_kit.errors import WheelhouseError
from kaggle_kit.targets import Target
from kaggle_kit.wheelhouse.assemble import verify
from kaggle_kit.wheelhouse.lock import Lock, lock_path, write_lock
from kaggle_kit.wheelhouse.ready import Host, ready_wheelhouse

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
    """Another Python than the lock's is resolved anew, once, into the cache, and the note says so."""
    host = dataclasses.replace(_HOST, python="3.12")
    ready = ready_wheelhouse(target, project=project, host=host)
    assert ready.note is not None
    assert ready.note.startswith("Python 3.12 here, the lock is for 3.11: resolved anew into ")
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
    """Another processor is resolved anew."""
    ready = ready_wheelhouse(target, project=project, host=dataclasses.replace(_HOST, machine="aarch64"))
    assert ready.note is not None
    assert ready.note.startswith("aarch64 here, the lock is for x86_64: ")
    assert (ready.folder / "binary-2.0-py3-none-any.whl").is_file()


def test_older_glibc_that_will_do(project: Path, target: Target) -> None:
    """An older glibc than the target's needs nothing new while every locked wheel loads on it."""
    assert ready_wheelhouse(target, project=project, host=dataclasses.replace(_HOST, glibc="2.31")).note is None


def test_older_glibc_that_will_not_do(project: Path, target: Target) -> None:
    """A glibc older than a locked wheel needs is resolved anew, and the note names the wheel."""
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
