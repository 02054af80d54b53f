"""The files of a lock, in the user's cache: each there once, whole, and of the locked SHA-256.

The cache is shared by all projects and runs of a user: `wheels/<sha256>/<file>`, with `wheels/<sha256>.part`
while it comes. A file whose hash was checked gets a fixed modification time; as long as that and the size
stand, it is taken as checked, so that a run with nothing to fetch reads no gigabytes. Writing to the file
(or to a hard link of it in a wheelhouse) moves the time, and it is hashed again.
"""

import fcntl
import functools
import os
import queue
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol

from kaggle_kit.errors import WheelhouseError
from kaggle_kit.files import sha256_file
from kaggle_kit.wheelhouse.download import Patience, Stopped, disk_error, download
from kaggle_kit.wheelhouse.lock import Lock, LockedWheel
from kaggle_kit.wheelhouse.resolve import locate

_THREADS = 4
_CHECKED_TIME = 1_000_000_000  # seconds since 1970: 2001-09-09, which no fresh write has
_SPARE_BYTES = 16 << 20


class Progress(Protocol):
    """Told how far a fetch is: bytes that are there, bytes in all. Threads call it, one at a time."""

    def __call__(self, done: int, total: int) -> None: ...


def silent(done: int, total: int) -> None:
    """The progress of one who does not want to know."""


def cached_path(cache: Path, wheel: LockedWheel) -> Path:
    """Where the cache keeps `wheel`."""
    return cache / "wheels" / wheel.sha256 / wheel.file


def is_untouched(path: Path) -> bool:
    """Whether `path`, a file of the cache or a link or copy of it, is as it was when its hash was checked."""
    return path.stat().st_mtime == _CHECKED_TIME


def is_cached(cache: Path, wheel: LockedWheel, *, rehash: bool = False) -> bool:
    """Whether the cache holds `wheel` whole. Hashes it if it may have changed since, or if told to."""
    path = cached_path(cache, wheel)
    try:
        status = path.stat()
    except FileNotFoundError:
        return False
    if status.st_size != wheel.size:
        return False
    if not rehash and is_untouched(path):
        return True
    if sha256_file(path) != wheel.sha256:
        return False
    with suppress(PermissionError):  # another user's cache: right, only hashed each time
        os.utime(path, (_CHECKED_TIME, _CHECKED_TIME))
    return True


def fetch(
    lock: Lock,
    *,
    cache: Path,
    progress: Progress = silent,
    urls: Mapping[str, str] | None = None,
    rehash: bool = False,
    patience: Patience | None = None,
) -> dict[str, Path]:
    """Bring every file of `lock` into `cache`; the paths by file name.

    Nothing is asked of any network when all is there. `urls` are addresses that are known already (from
    `resolve`); the others are asked of the index. `rehash` reads every cached file again.
    Raises WheelhouseError: not offered, not reachable, wrong hash or size, disk full. What has come is kept.
    """
    missing = [wheel for wheel in lock.wheels if not is_cached(cache, wheel, rehash=rehash)]
    if missing:
        folder = _make_folder(cache)
        for wheel in missing:
            cached_path(cache, wheel).unlink(missing_ok=True)  # cut or changed, where there is one
        _refuse_full_disk(missing, folder)
        known = {wheel.file: urls[wheel.file] for wheel in missing if urls and wheel.file in urls}
        unknown = [wheel for wheel in missing if wheel.file not in known]
        addresses = known | (locate(unknown, lock) if unknown else {})
        tally = _Tally(progress=progress, total=lock.size, done=lock.size - sum(wheel.size for wheel in missing))
        _fetch_all(missing, addresses, folder=folder, tally=tally, patience=patience)
    return {wheel.file: cached_path(cache, wheel) for wheel in lock.wheels}


@dataclass(kw_only=True)
class _Tally:
    """The bytes that are there, counted over all threads."""

    progress: Progress
    total: int
    done: int
    guard: threading.Lock = field(default_factory=threading.Lock)

    def advance(self, count: int) -> None:
        with self.guard:
            self.done += count
            self.progress(self.done, self.total)


def _fetch_all(
    wheels: Sequence[LockedWheel],
    urls: Mapping[str, str],
    *,
    folder: Path,
    tally: _Tally,
    patience: Patience | None,
) -> None:
    stop = threading.Event()
    tally.advance(0)

    one = functools.partial(_fetch_one, folder=folder, tally=tally, stop=stop, patience=patience)
    # The largest first: the last file to come should not be the long one.
    largest_first = sorted(wheels, key=lambda wheel: -wheel.size)
    _in_threads([functools.partial(one, wheel, urls[wheel.file]) for wheel in largest_first], stop)


def _in_threads(jobs: Sequence[Callable[[], None]], stop: threading.Event) -> None:
    """Run `jobs` on a few threads; the first error, or Ctrl-C, stops all of them and is raised.

    Daemon threads, not an executor: after Ctrl-C nobody waits for a silent server.
    """
    waiting: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
    for job in jobs:
        waiting.put(job)
    errors: list[BaseException] = []
    threads = [
        threading.Thread(target=_work, args=(waiting, errors, stop), daemon=True)
        for _ in range(min(_THREADS, len(jobs)))
    ]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(0.2)
    finally:
        stop.set()
    # The first that is a cause: the others were told to stop because of it.
    for error in sorted(errors, key=lambda error: isinstance(error, Stopped)):
        raise error


def _work(waiting: "queue.SimpleQueue[Callable[[], None]]", errors: list[BaseException], stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            job = waiting.get_nowait()
        except queue.Empty:
            return
        try:
            job()
        except BaseException as error:  # noqa: BLE001 - the waiting thread raises it
            errors.append(error)
            stop.set()


def _fetch_one(
    wheel: LockedWheel,
    url: str,
    *,
    folder: Path,
    tally: _Tally,
    stop: threading.Event,
    patience: Patience | None,
) -> None:
    import requests

    part, final = folder / f"{wheel.sha256}.part", folder / wheel.sha256 / wheel.file
    try:
        with requests.Session() as session, _held(part, stop) as stream:
            if is_cached(folder.parent, wheel):  # another process was quicker
                part.unlink(missing_ok=True)
                tally.advance(wheel.size)
                return
            tally.advance(min(stream.seek(0, os.SEEK_END), wheel.size))
            download(
                url,
                stream,
                size=wheel.size,
                session=session,
                advance=tally.advance,
                stop=stop,
                patience=patience,
            )
            _accept(wheel, part, final)
    except OSError as error:
        raise disk_error(error, folder) from error


def _accept(wheel: LockedWheel, part: Path, final: Path) -> None:
    """Move the whole `part` to its place, or drop it and raise WheelhouseError."""
    size, found = part.stat().st_size, sha256_file(part)
    if size != wheel.size or found != wheel.sha256:
        part.unlink()
        what = (
            f"SHA-256 {found}, the lock says {wheel.sha256}"
            if size == wheel.size
            else f"{size:,} bytes, the lock says {wheel.size:,}"
        )
        raise WheelhouseError(
            f"{wheel.file} came with {what}. It was dropped; fetch it again, and if it happens again the "
            "file on the index is not the one that was locked: do not use it"
        )
    final.parent.mkdir(exist_ok=True)
    part.chmod(0o444)  # hard links in wheelhouses share these bytes: nobody should write to them
    os.utime(part, (_CHECKED_TIME, _CHECKED_TIME))
    part.replace(final)


@contextmanager
def _held(part: Path, stop: threading.Event) -> Iterator[BinaryIO]:
    """`part`, open for writing and held by this process alone; waits while another one holds it."""
    while True:
        part.touch(exist_ok=True)
        with part.open("r+b", buffering=0) as stream:
            while not _take(stream):
                if stop.wait(0.2):
                    raise Stopped
            # The former holder may have finished or dropped the file: then this is no longer `part`.
            if part.exists() and part.stat().st_ino == os.fstat(stream.fileno()).st_ino:
                yield stream
                return


def _take(stream: BinaryIO) -> bool:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _make_folder(cache: Path) -> Path:
    folder = cache / "wheels"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WheelhouseError(f"the cache folder {folder} cannot be made: {error}") from error
    return folder


def _refuse_full_disk(missing: Sequence[LockedWheel], folder: Path) -> None:
    """Say now what would otherwise be found out after half the download."""
    held = sum(part.stat().st_size for wheel in missing if (part := folder / f"{wheel.sha256}.part").is_file())
    needed = sum(wheel.size for wheel in missing) - held + _SPARE_BYTES
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise WheelhouseError(
            f"{needed / 1e6:,.0f} MB are to be fetched into {folder}, where {free / 1e6:,.0f} MB are free. "
            "Make room, or name another folder by KIT_CACHE_DIR"
        )
