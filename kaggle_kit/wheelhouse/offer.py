"""What a notebook with internet would download, in one folder: for its rehearsal, which has no network."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from kaggle_kit.errors import WheelhouseError
from kaggle_kit.files import link_or_copy, user_cache
from kaggle_kit.wheelhouse.fetch import Progress, fetch, is_cached, silent
from kaggle_kit.wheelhouse.index import ask_archive
from kaggle_kit.wheelhouse.lock import LockedWheel

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kaggle_kit.wheelhouse.lock import Lock
    from kaggle_kit.wheelhouse.own_environment import SourceArchive


def ready_offer(
    lock: Lock,
    archives: Sequence[SourceArchive],
    *,
    cache: Path | None = None,
    urls: Mapping[str, str] | None = None,
    progress: Progress = silent,
) -> Path:
    """A folder with the wheels of `lock` and the archives, flat, as installers read a folder of links (`--find-links`).

    What is missing is fetched into `cache` (by default the user's), where the folder is kept. Raises WheelhouseError
    where a file cannot be had, or comes with another SHA-256.
    """
    cache = cache or user_cache()
    found = [_archive(archive, cache) for archive in archives]
    whole = replace(lock, wheels=(*lock.wheels, *(file for file, _ in found)))
    known = {file.file: url for file, url in found if url}
    files = fetch(whole, cache=cache, urls={**(urls or {}), **known}, progress=progress)
    key = hashlib.sha256("\n".join(sorted(file.sha256 for file in whole.wheels)).encode()).hexdigest()[:16]
    folder = cache / "offers" / key
    if not folder.is_dir():
        _fill(folder, files)
    return folder


def _archive(archive: SourceArchive, cache: Path) -> tuple[LockedWheel, str]:
    """The archive as a file of a lock, and its address; none where the cache has it already, unchanged."""
    for path in (cache / "wheels" / archive.sha256).glob("*"):
        found = _as_locked(archive, path.name, path.stat().st_size)
        if is_cached(cache, found):
            return found, ""
    url, file, size, sha256 = ask_archive(archive.name, archive.version)
    if sha256 != archive.sha256:
        raise WheelhouseError(
            f"the index offers {file} with SHA-256 {sha256}, and kit knows it with {archive.sha256}: do not use it"
        )
    return _as_locked(archive, file, size), url


def _as_locked(archive: SourceArchive, file: str, size: int) -> LockedWheel:
    return LockedWheel(name=archive.name, version=archive.version, file=file, sha256=archive.sha256, size=size)


def _fill(folder: Path, files: Mapping[str, Path]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        for name, path in files.items():
            link_or_copy(path, fresh / name)
        fresh.chmod(0o755)
        with suppress(OSError):  # another process was quicker
            fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
