"""The files of a lock, in the user's cache: each there once, whole, and of the locked SHA-256.

The cache is shared by all projects and runs of a user: `wheels/<sha256>/<file>`, with `wheels/<sha256>.part`
while it comes. A file whose hash was checked gets a fixed modification time; as long as that and the size
stand, it is taken as checked, so that a run with nothing to fetch reads no gigabytes. Writing to the file
(or to a hard link of it in a wheelhouse) moves the time, and it is hashed again. A file that was cut is
resumed where it ended.
"""

import errno
import fcntl
import functools
import os
import queue
import random
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, BinaryIO, Protocol
from urllib.parse import urlsplit
from urllib.request import url2pathname

from kaggle_kit.errors import WheelhouseError
from kaggle_kit.files import sha256_file
from kaggle_kit.retry import Failed, Patience, Retries, may_pass, retry_after
from kaggle_kit.wheelhouse.index import certificates, locate
from kaggle_kit.wheelhouse.lock import Lock, LockedWheel

if TYPE_CHECKING:
    from requests import Response, Session


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

        done = lock.size - sum(wheel.size for wheel in missing)
        fetching = _Fetching(folder=folder, progress=progress, patience=patience, total=lock.size, done=done)
        fetching.advance(0)
        # The largest first: the last file to come should not be the long one.
        largest_first = sorted(missing, key=lambda wheel: -wheel.size)
        jobs = [functools.partial(fetching.bring, wheel, addresses[wheel.file]) for wheel in largest_first]
        _in_threads(jobs, fetching.stop)
    return {wheel.file: cached_path(cache, wheel) for wheel in lock.wheels}


@dataclass(kw_only=True)
class _Fetching:
    """What the threads of one fetch share: where files come to, and the bytes that are there."""

    folder: Path
    progress: Progress
    patience: Patience | None
    total: int
    done: int
    stop: threading.Event = field(default_factory=threading.Event)
    guard: threading.Lock = field(default_factory=threading.Lock)

    def advance(self, count: int) -> None:
        with self.guard:
            self.done += count
            self.progress(self.done, self.total)

    def bring(self, wheel: LockedWheel, url: str) -> None:
        import requests

        part, final = self.folder / f"{wheel.sha256}.part", self.folder / wheel.sha256 / wheel.file
        try:
            with requests.Session() as session, _held(part, self.stop) as stream:
                if is_cached(self.folder.parent, wheel):  # another process was quicker
                    part.unlink(missing_ok=True)
                    self.advance(wheel.size)
                    return
                self.advance(min(stream.seek(0, os.SEEK_END), wheel.size))
                stop, patience = self.stop, self.patience
                download(
                    url, stream, size=wheel.size, session=session, advance=self.advance, stop=stop, patience=patience
                )
                _accept(wheel, part, final)
        except OSError as error:
            raise disk_error(error, self.folder) from error


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


def _accept(wheel: LockedWheel, part: Path, final: Path) -> None:
    """Move the whole `part` to its place, or drop it and raise WheelhouseError."""
    size, sha256 = part.stat().st_size, sha256_file(part)
    if size != wheel.size or sha256 != wheel.sha256:
        part.unlink()
        what = (
            f"SHA-256 {sha256}, the lock says {wheel.sha256}"
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


_CHUNK_BYTES = 1 << 16  # what a cut may lose
_TIMEOUT_SECONDS = (15, 60)  # to connect, and between two pieces of an answer


class Stopped(Exception):  # noqa: N818 - not an error: the caller asked for it
    """The download was told to stop; what has come so far stays."""


class _Cut(Exception):  # noqa: N818 - never leaves this module
    """The connection or the server failed in a way that may pass; `after_s` are the seconds it asks to wait, if any."""

    def __init__(self, why: str, after_s: float | None = None) -> None:
        super().__init__(why)
        self.after_s = after_s


def download(
    url: str,
    stream: BinaryIO,
    *,
    size: int,
    session: "Session",
    advance: Callable[[int], None],
    stop: Event,
    patience: Patience | None = None,
) -> None:
    """Append what is missing of `size` bytes at `url` to `stream`, an unbuffered file open for writing.

    `advance` is told each number of new bytes, below zero where the server made us begin again.
    Raises WheelhouseError (refused, gone, too often cut), Stopped, OSError (disk).
    """

    def wait(seconds: float) -> None:
        if stop.wait(seconds):
            raise Stopped

    def attempt() -> None:
        start = stream.seek(0, os.SEEK_END)
        with _opened(url, start=start, session=session) as (begins, pieces):
            stream.seek(stream.truncate(begins))
            advance(begins - start)
            for piece in pieces:
                wait(0)
                stream.write(piece)
                advance(len(piece))
                if stream.tell() > size:
                    return  # more than was locked: the hash will tell
        if stream.tell() < size:
            raise _Cut(f"the answer ended after {stream.tell():,} of {size:,} bytes")

    patience = patience or Patience(first_s=0.5)
    retries = Retries(patience, tell=lambda _: None, sleep=wait, chance=random.random, refusal=WheelhouseError)
    while (before := stream.seek(0, os.SEEK_END)) < size:
        try:
            attempt()
        except _Cut as cut:
            if stream.seek(0, os.SEEK_END) > before:
                retries.rest()
                continue
            why = f"{_shown(url)} could not be downloaded: {cut}"
            problem = WheelhouseError(
                f"{why}, {patience.attempts} times in a row. "
                "Check the connection; the same command goes on where this one stopped"
            )
            retries.wait(Failed(why, problem, cut.after_s))


@contextmanager
def _opened(url: str, *, start: int, session: "Session") -> Iterator[tuple[int, Iterator[bytes]]]:
    """The pieces of the file from byte `start` on, or from another byte where the server insists."""
    if urlsplit(url).scheme == "file":
        try:
            with local_path(url).open("rb") as source:
                source.seek(start)
                yield start, iter(lambda: source.read(_CHUNK_BYTES), b"")
        except FileNotFoundError as error:
            raise WheelhouseError(f"{error.filename} is missing, where a package index said it is") from error
        return
    import requests

    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    try:
        with session.get(
            url, headers=headers, stream=True, timeout=_TIMEOUT_SECONDS, verify=certificates()
        ) as response:
            yield _begin(response, start=start), response.iter_content(_CHUNK_BYTES)
    except (requests.exceptions.SSLError, requests.exceptions.InvalidSchema) as error:
        raise WheelhouseError(f"{_shown(url)} cannot be reached safely: {error}") from error
    except requests.RequestException as error:
        raise _Cut(_plain(error)) from error


def _begin(response: "Response", *, start: int) -> int:
    """The byte at which the body of `response` begins."""
    status = response.status_code
    if status == 200:
        return 0
    if status == 206:
        range_ = response.headers.get("Content-Range", "")
        first = range_.removeprefix("bytes ").partition("-")[0]
        if not first.isdecimal() or int(first) > start:
            raise WheelhouseError(f"{_shown(response.url)} answers with a range that was not asked: {range_!r}")
        return int(first)
    if may_pass(status):
        raise _Cut(f"the server answers {status} {response.reason}", retry_after(response.headers))
    raise WheelhouseError(f"{_shown(response.url)} cannot be downloaded: {status} {response.reason}")


def size_of(url: str) -> int:
    """The size in bytes of the file at `url`, without downloading it. Raises WheelhouseError."""
    if urlsplit(url).scheme == "file":
        return local_path(url).stat().st_size
    import requests

    try:
        response = requests.head(
            url,
            headers={"Accept-Encoding": "identity"},
            allow_redirects=True,
            timeout=_TIMEOUT_SECONDS,
            verify=certificates(),
        )
        response.raise_for_status()
        return int(response.headers["Content-Length"])
    except (requests.RequestException, KeyError, ValueError) as error:
        raise WheelhouseError(f"the size of {_shown(url)} cannot be found: {error}") from error


def local_path(url: str) -> Path:
    """The path that a file:// address names."""
    return Path(url2pathname(urlsplit(url).path))


def disk_error(error: OSError, folder: Path) -> WheelhouseError:
    """`error`, met while writing below `folder`, in a user's words."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        free = shutil.disk_usage(folder).free
        return WheelhouseError(
            f"the disk of {folder} is full ({free / 1e6:,.0f} MB free). Make room, or name another folder by "
            "KIT_CACHE_DIR; the same command goes on where this one stopped"
        )
    return WheelhouseError(f"{folder} cannot be written: {error}")


def _shown(url: str) -> str:
    """`url` without the user, password and query that it may carry."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}{parts.path}"


def _plain(error: Exception) -> str:
    """The innermost cause of a requests error: its own text repeats addresses and object names."""
    cause: BaseException = error
    while (inner := cause.__cause__ or cause.__context__) is not None:
        cause = inner
    return f"{type(cause).__name__}: {cause}" if str(cause) else type(cause).__name__
