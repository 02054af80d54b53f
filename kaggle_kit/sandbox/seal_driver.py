"""The first process of a dry run inside the seal: runs the notebook's command and brings its files out.

Only the standard library, and nothing of the kit: it runs under the image's Python, which has no kit.
`/kaggle/working` is a tmpfs that is lost when the sealed process space ends, so whatever stands there is
sent to the host through a pipe when the command ends and when the run is stopped (SIGTERM).
"""

import argparse
import contextlib
import ctypes
import errno
import os
import signal
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

COPY_FAILED = 74
"""The exit code (EX_IOERR) where the command itself ended well and its files could not be brought out."""

HEADER = struct.Struct(">cI")
"""What a frame begins with: its kind, and the length of what follows in bytes."""
FILE, DATA, WHOLE, BROKEN, END = b"F", b"D", b"W", b"B", b"."
"""Kinds of frames: a file begins (its name follows), a part of it, it is whole, it could not be read, all is sent."""
CHUNK_BYTES = 1 << 20
DEPTH = 32
"""Folders within each other that are looked through."""

_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36


def descendants(pid: int) -> list[int]:
    """The process ids of all living descendants of `pid`, parents before their children."""
    children: dict[int, list[int]] = {}
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError, ValueError, IndexError):
            # The name of a program may itself hold spaces and brackets: read from behind the last one.
            state, parent = Path(entry.path, "stat").read_text("utf-8", "replace").rpartition(")")[2].split()[:2]
            if state != "Z":
                children.setdefault(int(parent), []).append(int(entry.name))
    below: list[int] = []
    parents = [pid]
    while parents:
        own = children.get(parents.pop(), [])
        below += own
        parents += own
    return below


def kill_descendants(pid: int, *, seconds: float = 10.0) -> bool:
    """SIGKILL every descendant of `pid` until none is left; False where some outlived `seconds`."""
    end = time.monotonic() + seconds
    while left := descendants(pid):
        for each in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(each, signal.SIGKILL)
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


class Sender:
    """Sends files out of the seal: frames on a pipe that the host reads, each a kind, a length, and so many bytes.

    Nothing but bytes passes: names and contents are the host's to judge. No folder of the host is writable from
    inside, so nothing that the notebook leaves can stand in the host's way.
    """

    def __init__(self, descriptor: int) -> None:
        """Write to `descriptor`, which no child of this process inherits."""
        os.set_inheritable(descriptor, False)
        self._stream = os.fdopen(descriptor, "wb", buffering=0)

    def close(self) -> None:
        """Close the pipe, by which the host sees that nothing more comes."""
        self._stream.close()

    def send(self, kind: bytes, payload: bytes = b"") -> None:
        """One frame. Raises OSError if the host no longer reads."""
        for part in (HEADER.pack(kind, len(payload)), payload):
            rest = memoryview(part)
            while rest:
                rest = rest[self._stream.write(rest) or 0 :]

    def send_file(self, path: Path, name: str) -> str | None:
        """The regular file at `path` under `name`; returns why it could not be read, None if it was sent whole."""
        try:
            # A pipe or a device must not keep this process waiting, nor a link lead it elsewhere.
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            return f"{name} could not be read: {'it is a link' if error.errno == errno.ELOOP else error.strerror}"
        with os.fdopen(descriptor, "rb", buffering=0) as stream:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return f"{name} was left behind: it is not a regular file"
            self.send(FILE, os.fsencode(name))
            try:
                while data := stream.read(CHUNK_BYTES):
                    self.send(DATA, data)
            except BrokenPipeError:
                raise
            except OSError as error:
                self.send(BROKEN)
                return f"{name} could not be read to its end: {error.strerror}"
            self.send(WHOLE)
        return None


@dataclass(frozen=True)
class Output:
    """What is sent at the end: the files of `also` under their own names, and those below `working`.

    `most_bytes`: a file that would go over it is left behind. Files of holes can claim to be as large as they like.
    """

    working: Path
    also: Sequence[Path]
    most_bytes: int


def send_output(sender: Sender, output: Output) -> tuple[list[str], list[str]]:
    """Send the regular files of the output.

    A symbolic link is followed if it leads to a file below the working folder. Every other link is left behind, and
    so are sockets, pipes and devices: on the host they would lead to something else.

    Returns two lists of sentences: what was left behind on purpose, and what failed. One file that fails does not
    keep the others inside. Raises OSError if the host no longer reads.
    """
    left: list[str] = []
    sent = [sender.send_file(path, path.name) for path in output.also if os.path.lexists(path)]
    failed = [problem for problem in sent if problem]

    inside = output.working.resolve()
    rest = output.most_bytes
    for path in _files(output.working, failed):
        name = str(path.relative_to(output.working))
        try:
            real = path.resolve()
            known = real.lstat()
        except (OSError, RuntimeError) as error:  # RuntimeError: links that lead to each other
            left.append(f"{name} was left behind: {error}")
            continue
        if not real.is_relative_to(inside) or not stat.S_ISREG(known.st_mode):
            left.append(f"{name} was left behind: it is not a regular file of {output.working}")
        elif known.st_size > rest:
            left.append(f"{name} was left behind: it claims to have {known.st_size:,} bytes")
        else:
            rest -= known.st_size
            if problem := sender.send_file(real, name):
                failed.append(problem)
    sender.send(END)
    return left, failed


def _files(working: Path, failed: list[str]) -> Iterator[Path]:
    outer = len(working.parts)
    for folder, folders, names in os.walk(working, onerror=lambda error: failed.append(str(error))):
        linked = [name for name in folders if Path(folder, name).is_symlink()]
        for name in sorted([*names, *linked]):
            yield Path(folder, name)
        # The host takes nothing from deeper, and a walk without end could not be finished.
        folders[:] = sorted(folders) if len(Path(folder).parts) - outer < DEPTH else []


class _Stop:
    """Remembers that SIGTERM or SIGINT came, and hands it on to the command once."""

    def __init__(self) -> None:
        self.asked = False
        self.process: subprocess.Popen[bytes] | None = None

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        if not self.asked:
            self.asked = True
            if self.process is not None:
                self.process.terminate()


def run(command: Sequence[str], *, sender: Sender, output: Output, grace_seconds: float) -> int:
    """Run `command` to its end, bring out the files, and return the code to exit with.

    After a SIGTERM the command has `grace_seconds` to end by itself. Whatever it started is killed before the
    copying, so that no file changes meanwhile. A command ended by signal N counts as 128 + N, as in a shell.
    """
    stop = _Stop()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    libc = ctypes.CDLL(None, use_errno=True)
    # Otherwise the command, the same user as this process, could open the pipe through /proc and forge frames.
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        _say("this process cannot be closed to the notebook")
        return 127
    # Orphans of the command become children of this process, where they are found and killed.
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    code = _run_command(command, stop, grace_seconds)
    if not kill_descendants(os.getpid()):
        _say("some processes of the notebook could not be killed")
    try:
        left, failed = send_output(sender, output)
    except OSError as error:
        left, failed = [], [f"the files could not be brought out: {error}"]
    sender.close()
    for sentence in [*left, *failed]:
        _say(sentence)
    return COPY_FAILED if failed and code == 0 else code


def _run_command(command: Sequence[str], stop: _Stop, grace_seconds: float) -> int:
    if stop.asked:
        return 128 + signal.SIGTERM
    try:
        process = stop.process = subprocess.Popen(command, start_new_session=True)
    except OSError as error:
        _say(f"{command[0]} could not be started: {error}")
        return 127
    if stop.asked:
        process.terminate()
    end: float | None = None
    while True:
        try:
            code = process.wait(0.2)
        except subprocess.TimeoutExpired:
            if stop.asked and end is None:
                end = time.monotonic() + grace_seconds
            if end is not None and time.monotonic() > end:
                process.kill()
        else:
            return 128 - code if code < 0 else code


def _say(sentence: str) -> None:
    # The host may be gone, and its pipe with it: that must not keep the files inside.
    with contextlib.suppress(OSError):
        sys.stderr.write(f"kit: {sentence}\n")
        sys.stderr.flush()


def main() -> int:
    """Read the command line: `seal_driver.py --working DIR --pipe FD --most BYTES [--also FILE] -- COMMAND…`."""
    parser = argparse.ArgumentParser(description="Run a command, then send the files of --working into --pipe.")
    parser.add_argument("--working", type=Path, required=True)
    parser.add_argument("--pipe", type=int, required=True, help="the descriptor of the pipe to the host")
    parser.add_argument("--also", type=Path, action="append", default=[], help="a file to send besides")
    parser.add_argument("--most", type=int, required=True, help="bytes to send at most")
    parser.add_argument("--grace", type=float, default=10.0, help="seconds for the command after a SIGTERM")
    parser.add_argument("command", nargs="+")
    given = parser.parse_args()
    output = Output(given.working, tuple(given.also), given.most)
    return run(given.command, sender=Sender(given.pipe), output=output, grace_seconds=given.grace)


if __name__ == "__main__":
    sys.exit(main())
