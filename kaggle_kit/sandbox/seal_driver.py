"""The first process of a dry run inside the seal: runs the notebook's command and brings its files out.

Only the standard library, and nothing of the kit: it runs under the image's Python, which has no kit.
`/kaggle/working` is a tmpfs that is lost when the sealed process space ends, so whatever stands there is
copied to the writable folder of the host when the command ends and when the run is stopped (SIGTERM).
"""

import argparse
import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

COPY_FAILED = 74
"""The exit code (EX_IOERR) where the command itself ended well and its files could not be brought out."""

_PR_SET_CHILD_SUBREAPER = 36
_PART_PREFIX = ".kit-part-"


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
    found: list[int] = []
    waiting = [pid]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


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


def copy_out(working: Path, out: Path) -> tuple[list[str], list[str]]:
    """Copy the regular files below `working` to `out`, each under a temporary name first, then renamed.

    A symbolic link is followed where it leads to a file below `working`; every other link, and sockets, pipes
    and devices, are left behind: on the host they would lead to something else.

    Returns two lists of sentences: what was left behind on purpose, and what failed (a full or read-only
    `out`, an unreadable file). One file that fails does not keep the others inside.
    """
    left: list[str] = []
    failed: list[str] = []
    inside = working.resolve()
    for number, path in enumerate(_files(working, failed)):
        relative = path.relative_to(working)
        real = path.resolve()
        if not real.is_relative_to(inside) or not real.is_file():
            left.append(f"{relative} was left behind: it is not a regular file of {working}")
            continue
        part = out / f"{_PART_PREFIX}{number}"
        try:
            target = out / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(real, part)
            shutil.copystat(real, part)
            part.replace(target)
        except OSError as error:
            failed.append(f"{relative} could not be brought out: {error}")
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
    return left, failed


def _files(working: Path, failed: list[str]) -> Iterator[Path]:
    for folder, folders, names in os.walk(working, onerror=lambda error: failed.append(str(error))):
        folders.sort()
        linked = [name for name in folders if Path(folder, name).is_symlink()]
        for name in sorted([*names, *linked]):
            yield Path(folder, name)


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


def run(command: Sequence[str], *, working: Path, out: Path, grace_seconds: float) -> int:
    """Run `command` to its end, bring out the files, and return the code to exit with.

    After a SIGTERM the command has `grace_seconds` to end by itself. Whatever it started is killed before the
    copying, so that no file changes meanwhile. A command ended by signal N counts as 128 + N, as in a shell.
    """
    stop = _Stop()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    # Orphans of the command become children of this process, where they are found and killed.
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    code = _run_command(command, stop, grace_seconds)
    if not kill_descendants(os.getpid()):
        _say("some processes of the notebook could not be killed")
    left, failed = copy_out(working, out)
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
    """Read the command line: `seal_driver.py --working DIR --out DIR --grace SECONDS -- COMMAND…`."""
    parser = argparse.ArgumentParser(description="Run a command, then bring the files of --working to --out.")
    parser.add_argument("--working", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--grace", type=float, default=10.0, help="seconds for the command after a SIGTERM")
    parser.add_argument("command", nargs="+")
    given = parser.parse_args()
    return run(given.command, working=given.working, out=given.out, grace_seconds=given.grace)


if __name__ == "__main__":
    sys.exit(main())
