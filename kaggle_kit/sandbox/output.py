"""The output of a sealed run, within limits: its files, as regular files under new names, and its log.

Files have one way out of the seal. The host reads frames from a pipe (`seal_driver.Sender` writes them) and makes each
file itself, below a folder that nothing inside has ever seen: no link, device, mode bit or owner can come along. The
frames are data from outside too: a process inside that got hold of the pipe could send any.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Self

from kaggle_kit.sandbox import seal_driver as frames
from kaggle_kit.sandbox.seal import drain

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

LINE_BYTES = 1 << 16
"""A longer line of the log is several lines."""
LOG_HEAD_BYTES = 32 << 20
LOG_TAIL_LINES = 2_000
"""Lines from the end that are kept of a log that is too long: they say how it ended."""
_MOST_NAME_BYTES = 1024
"""With the folder that it comes to in front, a name must still be a path that the system takes: of 4,096 bytes."""
_MOST_NAMED = 20
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True)
class Limits:
    """How much a run may leave: bytes in all, files and folders in all, folders within each other."""

    bytes: int
    files: int = 50_000
    depth: int = frames.DEPTH


@dataclass
class Received:
    """What came out: `left` names what was not taken on purpose, `failed` what could not be received."""

    left: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    complete: bool = False
    """Everything that was there has been sent."""


class _CutError(Exception):
    """The stream ended within a frame, or holds something that is not a frame."""


class _Destination:
    """A folder of the host into which files are made, each by its path below it."""

    def __init__(self, place: Path, reserved: frozenset[str]) -> None:
        self.made = 0
        """Folders and files made so far, those among them that were removed again."""
        self._root = os.open(place, _FOLDER)
        self._reserved = reserved

    def close(self) -> None:
        """Let the folder go."""
        os.close(self._root)

    def refusal(self, name: bytes, depth: int) -> str | None:
        """Why no file may have this name; None if one may."""
        parts = name.split(b"/")
        if any(part in {b"", b".", b".."} for part in parts) or b"\0" in name or len(name) > _MOST_NAME_BYTES:
            return "it is not the name of a file below /kaggle/working"
        try:
            name.decode()
        except UnicodeDecodeError:
            return "its name is not UTF-8, and no list of files could hold it"
        if len(parts) > depth:
            return f"it lies more than {depth} folders deep"
        if os.fsdecode(name) in self._reserved:
            return "kit keeps a file of its own under this name"
        return None

    def create(self, name: bytes) -> int:
        """The descriptor of a new file. Raises OSError if something of that name is there, or cannot be made."""
        *folders, last = name.split(b"/")
        with self._below(folders) as folder:
            self.made += 1
            return os.open(last, _NEW_FILE, 0o644, dir_fd=folder)

    def remove(self, name: bytes) -> None:
        """Remove a file that did not come out whole."""
        *folders, last = name.split(b"/")
        with contextlib.suppress(OSError), self._below(folders) as folder:
            os.unlink(last, dir_fd=folder)

    @contextlib.contextmanager
    def _below(self, folders: list[bytes]) -> Iterator[int]:
        here = os.dup(self._root)
        try:
            for part in folders:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, 0o755, dir_fd=here)
                    self.made += 1
                inner = os.open(part, _FOLDER, dir_fd=here)
                os.close(here)
                here = inner
            yield here
        finally:
            os.close(here)


def receive(stream: IO[bytes], into: Path, *, limits: Limits, reserved: frozenset[str] = frozenset()) -> Received:
    """Make in the folder `into` the files that `stream` brings; files named in `reserved` are left behind.

    A file that would go over `limits`, or whose name something has already, is left behind whole. Nothing that the
    stream says raises: what is wrong with it stands in the result.
    """
    received = Received()
    folder = _Destination(into, reserved)
    try:
        _receive_all(stream, folder, limits, received)
    except _CutError:
        received.failed.append(
            "the files that the run left came out only in part: the seal ended before they were sent"
        )
    finally:
        folder.close()
    return received


def _receive_all(stream: IO[bytes], folder: _Destination, limits: Limits, received: Received) -> None:
    rest = limits.bytes
    while True:
        kind, payload = _frame(stream)
        if kind == frames.END:
            received.complete = True
            return
        if kind != frames.FILE:
            raise _CutError
        refusal = folder.refusal(payload, limits.depth)
        if refusal is None and folder.made >= limits.files:
            refusal = f"there are more than {limits.files:,} files and folders"
        if refusal is not None:
            _add(received.left, f"{os.fsdecode(payload)} was left behind: {refusal}")
            _skip(stream)
        else:
            rest -= _receive_file(stream, payload, folder, rest, received)


def _receive_file(stream: IO[bytes], name: bytes, folder: _Destination, rest: int, received: Received) -> int:
    """Receive one file of at most `rest` bytes; returns how many it has, 0 if it was not received."""
    shown = os.fsdecode(name)
    try:
        descriptor = folder.create(name)
    except OSError as error:
        _add(received.failed, f"{shown} could not be brought out: {error.strerror}")
        _skip(stream)
        return 0

    size = 0
    problem: str | None = None
    whole = False
    try:
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            for data in _data(stream):
                size += len(data)
                if problem is None and size > rest:
                    problem = f"was left behind: with it there would be more than {rest:,} bytes left to take"
                if problem is None:
                    problem = _write(file, data)
            whole = True
    except _BrokenError:
        problem = problem or "could not be brought out: it could not be read to its end"
    finally:
        if problem is not None or not whole:
            folder.remove(name)
    if problem is None:
        return size
    _add(received.left if "left behind" in problem else received.failed, f"{shown} {problem}")
    return 0


class _BrokenError(Exception):
    """The file could not be read to its end."""


def _data(stream: IO[bytes]) -> Iterator[bytes]:
    """The parts of the file that has begun. Raises _BrokenError if the sender could not read it to its end."""
    while True:
        kind, payload = _frame(stream)
        if kind == frames.DATA:
            yield payload
        elif kind == frames.WHOLE:
            return
        elif kind == frames.BROKEN:
            raise _BrokenError
        else:
            raise _CutError


def _skip(stream: IO[bytes]) -> None:
    with contextlib.suppress(_BrokenError):
        for _ in _data(stream):
            pass


def _write(file: IO[bytes], data: bytes) -> str | None:
    """Write all of `data`; returns why that is not possible."""
    left = memoryview(data)
    try:
        while left:
            left = left[file.write(left) :]
    except OSError as error:
        return f"could not be brought out: {error.strerror}"
    return None


def _frame(stream: IO[bytes]) -> tuple[bytes, bytes]:
    kind, length = frames.HEADER.unpack(_exactly(stream, frames.HEADER.size))
    if length > frames.CHUNK_BYTES:
        raise _CutError
    return kind, _exactly(stream, length)


def _exactly(stream: IO[bytes], count: int) -> bytes:
    data = stream.read(count)
    if len(data) != count:
        raise _CutError
    return data


def _add(sentences: list[str], sentence: str) -> None:
    """Add a sentence; a run that leaves a million links does not fill the memory with a million of them."""
    if len(sentences) < _MOST_NAMED:
        sentences.append(sentence)
    elif len(sentences) == _MOST_NAMED:
        sentences.append("and more")


class Receiver:
    """The host's end of the pipe: receives files in a thread, so that a full pipe never holds up the seal.

    As a context manager it gives the descriptor `write_end` for the sealed side; `received` is there after leaving it.
    """

    def __init__(self, into: Path, *, limits: Limits, reserved: frozenset[str] = frozenset()) -> None:
        """Files come to the folder `into`, as `receive` says."""
        self._into, self._limits, self._reserved = into, limits, reserved
        self.received = Received()

    def __enter__(self) -> Self:
        """Open the pipe and begin to read."""
        read_end, self.write_end = os.pipe2(os.O_CLOEXEC)
        self._stream = os.fdopen(read_end, "rb", buffering=1 << 16)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        return self

    def close_write_end(self) -> None:
        """Close this process's copy of the sealed side's end: the pipe ends when the seal does."""
        if self.write_end >= 0:
            os.close(self.write_end)
            self.write_end = -1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait until the pipe has ended: call it after the seal has."""
        self.close_write_end()
        self._thread.join()
        self._stream.close()

    def _read(self) -> None:
        try:
            self.received = receive(self._stream, self._into, limits=self._limits, reserved=self._reserved)
        except OSError as error:
            self.received.failed.append(f"the files that the run left could not be brought out: {error.strerror}")
        # The sender must not wait for a reader that has stopped.
        drain(self._stream)


def lines_of(stream: IO[bytes] | None) -> Iterator[str]:
    """The lines of a process's output, without their ends; bytes that are not UTF-8 become U+FFFD."""
    while stream is not None and (raw := stream.readline(LINE_BYTES)):
        yield raw.decode("utf-8", "replace").rstrip("\n")


class LogFile:
    """A log of at most `LOG_HEAD_BYTES`, and, if there was more, its last `LOG_TAIL_LINES` lines."""

    def __init__(self, path: Path) -> None:
        """Write to `path`, which is made again."""
        self._path = path
        self._bytes = 0
        self._tail: deque[str] = deque(maxlen=LOG_TAIL_LINES)
        self._left_out = 0

    def __enter__(self) -> Self:
        """Open it."""
        self._stream = self._path.open("w", encoding="utf-8")
        return self

    def line(self, text: str) -> bool:
        """Add a line; False if it is beyond the bound, so that only the last such lines are written at the end."""
        size = len(text.encode("utf-8", "replace")) + 1
        if self._left_out or self._bytes + size > LOG_HEAD_BYTES:
            self._left_out += 1
            self._tail.append(text)
            return False
        self._bytes += size
        self._stream.write(f"{text}\n")
        self._stream.flush()
        return True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write the end of a log that was too long, and close it."""
        with self._stream:
            if missing := self._left_out - len(self._tail):
                self._stream.write(f"[kit: {missing:,} lines are left out here; the log is too long]\n")
            self._stream.writelines(f"{text}\n" for text in self._tail)
