"""One file from one address, resumed where an earlier attempt was cut."""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import urlsplit
from urllib.request import url2pathname

from kaggle_kit.errors import WheelhouseError

if TYPE_CHECKING:
    from requests import Response, Session

_CHUNK_BYTES = 1 << 16  # what a cut may lose
_TIMEOUT_SECONDS = (15, 60)  # to connect, and between two pieces of an answer
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How often to try again without one new byte, and the first pause in seconds (it doubles each time)."""

    attempts: int = 6
    pause: float = 0.5


class Stopped(Exception):  # noqa: N818 - not an error: the caller asked for it
    """The download was told to stop; what has come so far stays."""


class _Cut(Exception):  # noqa: N818 - never leaves this module
    """The connection or the server failed in a way that may pass."""


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
    patience = patience or Patience()
    left = patience.attempts
    while True:
        before = stream.seek(0, os.SEEK_END)
        if before >= size:
            return
        try:
            _once(url, stream, size=size, session=session, advance=advance, stop=stop)
        except _Cut as cut:
            left = patience.attempts if stream.seek(0, os.SEEK_END) > before else left - 1
            if left <= 0:
                raise WheelhouseError(
                    f"{_shown(url)} could not be downloaded: {cut}, {patience.attempts} times in a row. "
                    "Check the connection; the same command goes on where this one stopped"
                ) from cut
            if stop.wait(patience.pause * 2 ** (patience.attempts - left)):
                raise Stopped from cut


def _once(
    url: str,
    stream: BinaryIO,
    *,
    size: int,
    session: "Session",
    advance: Callable[[int], None],
    stop: Event,
) -> None:
    start = stream.seek(0, os.SEEK_END)
    with _opened(url, start=start, session=session) as (begins, pieces):
        if begins != start:
            stream.truncate(begins)
            stream.seek(begins)
            advance(begins - start)
        for piece in pieces:
            if stop.is_set():
                raise Stopped
            stream.write(piece)
            advance(len(piece))
            if stream.tell() > size:
                return  # more than was locked: the hash will tell
    if stream.tell() < size:
        raise _Cut(f"the answer ended after {stream.tell():,} of {size:,} bytes")


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
        told = response.headers.get("Content-Range", "")
        first = told.removeprefix("bytes ").partition("-")[0]
        if not first.isdecimal() or int(first) > start:
            raise WheelhouseError(f"{_shown(response.url)} answers with a range that was not asked: {told!r}")
        return int(first)
    if status in _PASSING:
        raise _Cut(f"the server answers {status} {response.reason}")
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


def certificates() -> str | bool:
    """The CA bundle that the environment names for OpenSSL, requests or pip; True where it names none."""
    for variable in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT"):
        if (path := os.environ.get(variable)) and Path(path).exists():
            return path
    return True


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
