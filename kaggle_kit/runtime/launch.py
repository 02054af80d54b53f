"""A child process that is not trusted: started, heard within bounds, and ended.

How it is started is the caller's choice. On Kaggle, and within a sealed dry run, it is a plain process; on a user's own
machine the command line passes a launcher that seals it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import selectors
import signal
import stat
import subprocess
import time
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Protocol, TypeAlias

from kaggle_kit.errors import RunError
from kaggle_kit.runtime.events import MOST_LINE, WorkerError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

GRACE_SECONDS = 5.0
_KILL_SECONDS = 30.0
"""A process in a call of the driver that never returns cannot be killed: the notebook goes on without it."""
_END_SECONDS = 30.0
"""How long a process may take to go after it has closed its output."""
_STRAY_SECONDS = 2.0
"""How long one that it forked, and that writes on after its death, is heard."""
_MOST_REST = 4 << 20
_READ = 1 << 18
_PIPE = 1 << 20
"""What the pipe of events holds, if the system lets it: a reader that is busy for a moment then stops no engine."""
_MOST_LOG = 32 << 20
_TAIL = 1 << 18
_LAST_LINES = 40


class Running(Protocol):
    """A started child; its three standard streams are pipes."""

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process whose streams and exit code are the child's."""

    def stop(self, *, grace_seconds: float) -> int | None:
        """End it and all that it started: politely (SIGTERM), after `grace_seconds` not.

        Returns its exit code; 128 + N or -N if signal N ended it, None if nothing can end it.
        """


@dataclass(frozen=True)
class Program:
    """What is started: a command, whose first word is a Python, with its whole environment.

    It reads the files and folders `reads` and writes in the folders `writes`, all absolute; a seal shows it no others.
    `folder` is its working folder, one of `writes`; None: it does not matter.
    """

    command: Sequence[str]
    environment: Mapping[str, str]
    reads: Sequence[Path] = ()
    writes: Sequence[Path] = ()
    folder: Path | None = None


Launch: TypeAlias = "Callable[[Program], Running]"
"""Starts a program as a child whose three streams are pipes."""


@dataclass(frozen=True)
class _Plain:
    process: subprocess.Popen[bytes]

    def stop(self, *, grace_seconds: float) -> int | None:
        for number, seconds in ((signal.SIGTERM, grace_seconds), (signal.SIGKILL, _KILL_SECONDS)):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=seconds)
        return self.process.returncode


def launch_plain(program: Program) -> Running:
    """A plain process that sees all that this user does, in a group of its own.

    If its folder does not matter, it is not this process's: Python would import from there, a project's `json.py` in
    the place of its own.
    """
    pipe = subprocess.PIPE
    return _Plain(
        subprocess.Popen(
            program.command,
            env=dict(program.environment),
            cwd=program.folder or "/",
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            start_new_session=True,
        )
    )


def open_own(path: Path, flags: int) -> int:
    """A descriptor of the file `path`, made if it is missing. Raises RunError for anything but a regular file."""
    try:
        descriptor = os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror}; remove what stands there") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise RunError(f"{path} is not a regular file: remove what stands there")
    return descriptor


class Log:
    """A child's error stream, as a file of bounded size: beyond that it begins again."""

    def __init__(self, path: Path) -> None:
        """Add to the file `path`. Raises RunError for anything but a regular file."""
        self._stream = os.fdopen(open_own(path, os.O_WRONLY | os.O_APPEND), "ab", buffering=0)

    def write(self, content: bytes) -> None:
        """Add to it. A full disk loses words, never the work."""
        with contextlib.suppress(OSError):
            if os.fstat(self._stream.fileno()).st_size + len(content) > _MOST_LOG:
                os.ftruncate(self._stream.fileno(), 0)
                self._stream.write(b"[the log was longer than 32 MiB, and begins here again]\n")
            self._stream.write(content)

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


def log_tail(log: Path) -> str:
    """The last lines of a log; nothing if there is none."""
    try:
        descriptor = os.open(log, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        return ""
    with os.fdopen(descriptor, "rb") as stream:
        stream.seek(max(0, status.st_size - _TAIL))
        return "\n".join(stream.read(_TAIL).decode("utf-8", "replace").splitlines()[-_LAST_LINES:])


@dataclass
class Hearing:
    """Listens to a child: the lines of its output, each of bounded length; its error stream goes into `log`."""

    process: subprocess.Popen[bytes]
    log: Log
    most_line: int = MOST_LINE
    _begun: bytearray = field(default_factory=bytearray)

    def __post_init__(self) -> None:
        """Reading never waits but in `lines`."""
        self._selector = selectors.DefaultSelector()
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None  # noqa: S101  a launcher's promise
            os.set_blocking(stream.fileno(), False)
            self._selector.register(stream, selectors.EVENT_READ)
        with contextlib.suppress(OSError):
            fcntl.fcntl(self._output, fcntl.F_SETPIPE_SZ, _PIPE)

    @property
    def _output(self) -> IO[bytes]:
        assert self.process.stdout is not None  # noqa: S101
        return self.process.stdout

    def lines(self, left: Callable[[], float], stop: threading.Event | None = None) -> Iterator[bytes]:
        """Its lines as they come, until it has ended, `left()` seconds are none, or `stop` is set.

        Raises WorkerError for a line that does not end.
        """
        ended: float | None = None
        while (seconds := left()) > 0 and not (stop and stop.is_set()):
            dead = self.process.poll() is not None
            closed = self._output not in self._open()
            if dead or closed:
                ended = ended or time.monotonic() + (_STRAY_SECONDS if dead else _END_SECONDS)
                if time.monotonic() > ended:
                    return
            # Never without a limit: a signal that comes as a wait begins is only seen when the wait ends.
            ready = self._selector.select(0 if dead else min(seconds, 0.05 if closed else 1.0))
            if dead and not ready:
                return
            for key, _ in ready:
                yield from self._read(key.fileobj)  # type: ignore[arg-type]

    def rest(self) -> Iterator[bytes]:
        """What it had said before it was ended, and was not heard yet; waits for nothing."""
        for stream in self._open():
            for _ in range(_MOST_REST // _READ):
                if not (chunk := self._chunk(stream)):
                    break
                yield from self._take(stream, chunk)

    def close(self) -> None:
        """Let go of its streams."""
        self._selector.close()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def _open(self) -> list[IO[bytes]]:
        return [key.fileobj for key in self._selector.get_map().values()]  # type: ignore[misc]

    def _chunk(self, stream: IO[bytes]) -> bytes:
        """What there is to be read; nothing at the end, or if nothing has come."""
        try:
            return os.read(stream.fileno(), _READ)
        except OSError:
            return b""

    def _read(self, stream: IO[bytes]) -> Iterator[bytes]:
        try:
            chunk = os.read(stream.fileno(), _READ)
        except BlockingIOError:
            return
        if not chunk:
            self._selector.unregister(stream)
            return
        yield from self._take(stream, chunk)

    def _take(self, stream: IO[bytes], chunk: bytes) -> Iterator[bytes]:
        if stream is not self._output:
            self.log.write(chunk)
            return
        *ended, rest = chunk.split(b"\n")
        for part in ended:
            line = bytes(self._begun + part)
            self._begun.clear()
            yield line
        self._begun += rest
        if len(self._begun) > self.most_line:
            raise WorkerError(f"the worker's output has a line of more than {self.most_line:,} bytes")


@contextlib.contextmanager
def heard(running: Running, log: Path) -> Iterator[Hearing]:
    """Listen to a child until the block ends; what it still said then is in the log, and the child is gone.

    Raises RunError if the log cannot be written.
    """
    try:
        log_file = Log(log)
    except BaseException:
        running.stop(grace_seconds=0)
        raise
    hearing = Hearing(running.process, log_file)
    try:
        yield hearing
    finally:
        hearing.close()
        log_file.close()
