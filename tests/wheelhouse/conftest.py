"""Fixtures: an index on the loopback, a clean environment for uv and the cache, a tiny target."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_index import Index

from kaggle_kit.targets import Target
from kaggle_kit.wheelhouse import prove
from kaggle_kit.wheelhouse.index import uv_program
from kaggle_kit.wheelhouse.lock import Lock
from kaggle_kit.wheelhouse.resolve import Resolution, resolve


@pytest.fixture
def index() -> Iterator[Index]:
    """A running index without files."""
    index = Index()
    server = index.start()
    yield index
    server.shutdown()
    server.server_close()


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """The user's cache of this test."""
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def environment(index: Index, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """uv asks the loopback index only; nothing of this user's settings or caches is read.

    A rehearsed install finds uv, as in an image that has it: by pip, as in test_dataset.py, it takes ten times as long.
    """
    (tmp_path / "programs").mkdir()
    (tmp_path / "programs" / "uv").symlink_to(uv_program())
    own = prove._environment
    path = f"{tmp_path / 'programs'}:{{PATH}}"
    monkeypatch.setattr(prove, "_environment", lambda scratch: (told := own(scratch)) | {"PATH": path.format(**told)})
    for name in list(os.environ):
        if name.startswith(("UV_", "PIP_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("KIT_CACHE_DIR", str(cache))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    monkeypatch.setenv("UV_DEFAULT_INDEX", index.simple)
    monkeypatch.setenv("UV_HTTP_TIMEOUT", "5")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)


@pytest.fixture
def target() -> Target:
    """A target whose engine is a small wheel."""
    return Target(
        name="tiny",
        summary="for tests",
        python="3.11",
        glibc="2.35",
        engine="engine==1.0",
        extras=("helper>=1",),
        exclude=("unwanted",),
        session_seconds=60,
        working_bytes=1_000_000,
    )


@pytest.fixture
def stocked(index: Index) -> Index:
    """The index with all that the tiny target needs: four wheels, one of them for each of several platforms."""
    index.add("engine-1.0-py3-none-any.whl", requires=("binary>=2", "unwanted", "child"))
    index.add("helper-1.5-py3-none-any.whl")
    index.add("child-0.1-py3-none-any.whl", padding=400_000)
    index.add("unwanted-9.0-py3-none-any.whl")
    index.add("binary-2.0-cp311-cp311-manylinux_2_28_x86_64.whl")
    index.add("binary-2.0-cp311-cp311-manylinux_2_39_x86_64.whl")
    index.add("binary-2.0-cp312-cp312-manylinux_2_28_x86_64.whl")
    index.add("binary-2.0-py3-none-any.whl")
    return index


@pytest.fixture
def resolution(stocked: Index, target: Target) -> Resolution:
    """The tiny target, resolved."""
    assert stocked.port
    return resolve(target)


@pytest.fixture
def lock(resolution: Resolution) -> Lock:
    """The tiny target's lock."""
    return resolution.lock
