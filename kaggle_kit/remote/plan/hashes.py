"""SHA-256 of large files, computed once: remembered by place, size, times and inode."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Lock
from typing import TYPE_CHECKING

from kaggle_kit.errors import KitError
from kaggle_kit.files import Stamp, readable_cache, stamp_of, write_atomic
from kaggle_kit.runtime.manifest import FileEntry

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_CHUNK_BYTES = 4 << 20
_SETTLED_NS = 2_000_000_000
"""A file written less than this before it was read may change again within one tick of its file system's clock."""
_THREADS = 4
_VERSION = 2

Tell = Callable[[Path, int], None]
"""Told of progress: the file, and how many more of its bytes are hashed. May be called from several threads."""


@dataclass
class HashCache:
    """The remembered hashes. `open_cache` reads them, `save` keeps what was added."""

    place: Path | None
    _known: dict[str, tuple[Stamp, str]]
    _added: dict[str, tuple[Stamp, str]] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def get(self, path: Path, stamp: Stamp) -> str | None:
        """The hash of `path`, if it is in the state in which it was hashed."""
        known = self._known.get(str(path))
        return known[1] if known and known[0] == stamp else None

    def add(self, path: Path, stamp: Stamp, sha256: str) -> None:
        """Remember a hash."""
        with self._lock:
            self._known[str(path)] = self._added[str(path)] = (stamp, sha256)

    def save(self) -> None:
        """Write what was added, beside what others have written meanwhile; files that are gone are forgotten.

        A cache that cannot be written is no fault: the next run hashes again.
        """
        if not self._added or self.place is None:
            return
        merged = _read(self.place) | self._added
        body = {path: [*stamp, sha256] for path, (stamp, sha256) in sorted(merged.items()) if Path(path).exists()}
        try:
            write_atomic(self.place, json.dumps({"version": _VERSION, "files": body}) + "\n")
        except OSError:
            return
        self._added.clear()


def open_cache(place: Path | None = None) -> HashCache:
    """The cache in `place`, by default the user's; one that cannot be read counts as empty."""
    cache = readable_cache()
    place = place or (cache / "hashes.json" if cache else None)
    return HashCache(place, _read(place) if place else {})


def _read(place: Path) -> dict[str, tuple[Stamp, str]]:
    try:
        body = json.loads(place.read_text(encoding="utf-8"))
        if body["version"] != _VERSION:
            return {}
        return {str(path): (Stamp(*map(int, stamp)), str(sha256)) for path, (*stamp, sha256) in body["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def hash_files(files: Mapping[str, Path], *, cache: HashCache, tell: Tell | None = None) -> tuple[FileEntry, ...]:
    """The entries of `files` (path as it will be known → where it lies), sorted by path; several are read at a time.

    Raises KitError where a file cannot be read, or changes while it is read.
    """
    stop = Event()

    def entry(item: tuple[str, Path]) -> FileEntry:
        return _hash(item[0], item[1].absolute(), cache=cache, tell=tell, stop=stop)

    with ThreadPoolExecutor(max_workers=_THREADS) as pool:
        try:
            return tuple(pool.map(entry, sorted(files.items())))
        finally:
            # Where this ends early (a file changed, Ctrl-C), leaving the pool must not wait for gigabytes.
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            cache.save()


def _hash(name: str, path: Path, *, cache: HashCache, tell: Tell | None, stop: Event) -> FileEntry:
    try:
        with path.open("rb", buffering=0) as stream:
            before = stamp_of(os.fstat(stream.fileno()))
            if known := cache.get(path, before):
                if tell:
                    tell(path, before.size)
                return FileEntry(name, known, before.size)
            started_ns = time.time_ns()
            digest = hashlib.sha256()
            buffer = bytearray(min(_CHUNK_BYTES, before.size + 1))
            view = memoryview(buffer)
            done = 0
            # A file that grows as fast as it is read would never end.
            while done <= before.size and (count := stream.readinto(buffer)):
                done += count
                digest.update(view[:count])
                if stop.is_set():
                    raise KitError(f"{path} was not read to its end")
                if tell:
                    tell(path, count)
            after = stamp_of(os.fstat(stream.fileno()))
        now = stamp_of(path.stat())
    except OSError as error:
        raise KitError(
            f"{path} cannot be read: {error.strerror}; nothing can be said of what a push would send"
        ) from error
    if not before.content == after.content == now.content:
        raise KitError(f"{path} changed while it was read; wait until what writes it is done, then run this again")
    if before == now and max(before.mtime_ns, before.ctime_ns) < started_ns - _SETTLED_NS:
        cache.add(path, before, digest.hexdigest())
    return FileEntry(name, digest.hexdigest(), before.size)


def digest_of(entries: Iterable[FileEntry]) -> str:
    """One SHA-256 for a set of files: over path, SHA-256 and size of each, sorted by path."""
    lines = (f"{entry.path}\0{entry.sha256}\0{entry.size}\n" for entry in sorted(entries, key=lambda entry: entry.path))
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()
