"""What a sealed run leaves, taken out: regular files, under new names, within bounds.

The one way out of the seal. The host reads frames from a pipe (`seal_driver.Outlet` writes them) and makes each file
itself, below a folder that nothing inside has ever seen: no link, device, mode bit or owner can come along. The frames
are data from outside too: a process inside that got hold of the pipe could send any.
"""

from __future__ import annotations

import contextlib
import os
import threading
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Self

from kaggle_kit.sandbox import seal_driver as frames

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

_MOST_NAME_BYTES = 4096
_MOST_NAMED = 20
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True)
class Bounds:
    """How much a run may leave: bytes in all, files, folders within each other."""

    bytes: int
    files: int = 50_000
    depth: int = frames.DEPTH


@dataclass
class Taken:
    """What came out: `left` names what was not taken on purpose, `failed` what could not be taken."""

    left: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    complete: bool = False
    """Everything that was there has been sent."""


class _Cut(Exception):  # noqa: N818  not an error: the stream ended early
    """The stream ended within a frame, or holds something that is not a frame."""


class _Folder:
    """A folder of the host into which files are made, each by its path below it."""

    def __init__(self, place: Path, reserved: frozenset[str]) -> None:
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
        if len(parts) > depth:
            return f"it lies more than {depth} folders deep"
        if os.fsdecode(name) in self._reserved:
            return "kit keeps a file of its own under this name"
        return None

    def create(self, name: bytes) -> int:
        """The descriptor of a new file. Raises OSError if something of that name is there, or cannot be made."""
        *folders, last = name.split(b"/")
        with self._below(folders) as folder:
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
                inner = os.open(part, _FOLDER, dir_fd=here)
                os.close(here)
                here = inner
            yield here
        finally:
            os.close(here)


def take_out(stream: IO[bytes], into: Path, *, bounds: Bounds, reserved: frozenset[str] = frozenset()) -> Taken:
    """Make in the folder `into` the files that `stream` brings; files named in `reserved` are left behind.

    A file that would go over `bounds`, or whose name something has already, is left behind whole. Nothing that the
    stream says raises: what is wrong with it stands in the result.
    """
    taken = Taken()
    folder = _Folder(into, reserved)
    try:
        _take_all(stream, folder, bounds, taken)
    except _Cut:
        taken.failed.append("the files that the run left came out only in part: the seal ended before they were sent")
    finally:
        folder.close()
    return taken


def _take_all(stream: IO[bytes], folder: _Folder, bounds: Bounds, taken: Taken) -> None:
    rest = bounds.bytes
    files = 0
    while True:
        kind, payload = _frame(stream)
        if kind == frames.END:
            taken.complete = True
            return
        if kind != frames.FILE:
            raise _Cut
        files += 1
        refusal = folder.refusal(payload, bounds.depth)
        if refusal is None and files > bounds.files:
            refusal = f"there are more than {bounds.files:,} files"
        if refusal is not None:
            _note(taken.left, f"{os.fsdecode(payload)} was left behind: {refusal}")
            _skip(stream)
        else:
            rest -= _take_one(stream, payload, folder, rest, taken)


def _take_one(stream: IO[bytes], name: bytes, folder: _Folder, rest: int, taken: Taken) -> int:
    """Take one file of at most `rest` bytes; returns how many it has, 0 if it was not taken."""
    shown = os.fsdecode(name)
    try:
        descriptor = folder.create(name)
    except OSError as error:
        _note(taken.failed, f"{shown} could not be brought out: {error.strerror}")
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
                    problem = _written(file, data)
            whole = True
    except _Broken:
        problem = problem or "could not be brought out: it could not be read to its end"
    finally:
        if problem is not None or not whole:
            folder.remove(name)
    if problem is None:
        return size
    _note(taken.left if "left behind" in problem else taken.failed, f"{shown} {problem}")
    return 0


class _Broken(Exception):  # noqa: N818  the sender says so
    """The file could not be read to its end."""


def _data(stream: IO[bytes]) -> Iterator[bytes]:
    """The parts of the file that has begun. Raises _Broken if the sender could not read it to its end."""
    while True:
        kind, payload = _frame(stream)
        if kind == frames.DATA:
            yield payload
        elif kind == frames.WHOLE:
            return
        elif kind == frames.BROKEN:
            raise _Broken
        else:
            raise _Cut


def _skip(stream: IO[bytes]) -> None:
    with contextlib.suppress(_Broken):
        for _ in _data(stream):
            pass


def _written(file: IO[bytes], data: bytes) -> str | None:
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
        raise _Cut
    return kind, _exactly(stream, length)


def _exactly(stream: IO[bytes], count: int) -> bytes:
    data = stream.read(count)
    if len(data) != count:
        raise _Cut
    return data


def _note(sentences: list[str], sentence: str) -> None:
    """Keep a sentence; a run that leaves a million links does not fill the memory with a million of them."""
    if len(sentences) < _MOST_NAMED:
        sentences.append(sentence)
    elif len(sentences) == _MOST_NAMED:
        sentences.append("and more")


class Inlet:
    """The host's end of the pipe: takes files out in a thread, so that a full pipe never holds up the seal.

    As a context manager it gives the descriptor `outlet` for the sealed side; `taken` is there after leaving it.
    """

    def __init__(self, into: Path, *, bounds: Bounds, reserved: frozenset[str] = frozenset()) -> None:
        """Files come to the folder `into`, as `take_out` says."""
        self._into, self._bounds, self._reserved = into, bounds, reserved
        self.taken = Taken()

    def __enter__(self) -> Self:
        """Open the pipe and begin to read."""
        inlet, self.outlet = os.pipe2(os.O_CLOEXEC)
        self._stream = os.fdopen(inlet, "rb", buffering=1 << 16)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        return self

    def close_outlet(self) -> None:
        """Close this process's copy of the sealed side's end: the pipe ends when the seal does."""
        if self.outlet >= 0:
            os.close(self.outlet)
            self.outlet = -1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait until the pipe has ended: call it after the seal has."""
        self.close_outlet()
        self._thread.join()
        self._stream.close()

    def _read(self) -> None:
        try:
            self.taken = take_out(self._stream, self._into, bounds=self._bounds, reserved=self._reserved)
        except OSError as error:
            self.taken.failed.append(f"the files that the run left could not be brought out: {error.strerror}")
        # The sender must not wait for a reader that has stopped.
        with contextlib.suppress(OSError, ValueError):
            while self._stream.read1(1 << 16):  # type: ignore[attr-defined]
                pass
