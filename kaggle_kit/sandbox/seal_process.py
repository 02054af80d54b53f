"""A sealed process that runs: asked to stop, then made to, with nothing of it left behind."""

import contextlib
import os
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from kaggle_kit.sandbox.seal_driver import descendants, kill_descendants
from kaggle_kit.sandbox.seal_layout import remove_layout

STOP_SECONDS = 30.0
_LOOK_SECONDS = 0.05


@dataclass(frozen=True)
class Sealed:
    """A started command. As a context manager it never leaves the room running.

    `process` is the outermost process: its streams and its exit code are the command's.
    `depth` says how many processes of the seal stand above the command; `remove` is deleted after it.
    """

    process: "subprocess.Popen[bytes]"
    depth: int
    remove: Path | None = None

    def stop(self, *, grace_seconds: float = STOP_SECONDS) -> int:
        """Send SIGTERM to the command, wait up to `grace_seconds`, kill all that is left.

        Returns its exit code, 128 + N where signal N ended it.
        """
        end = time.monotonic() + grace_seconds
        told = False
        try:
            while self.process.poll() is None and time.monotonic() < end:
                told = told or self._tell()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(_LOOK_SECONDS)
        finally:
            # A second Ctrl-C ends the waiting, and must not leave the room running.
            code = self.kill()
        return code

    def kill(self) -> int:
        """SIGKILL the command and all that it started. Returns its exit code as `stop` does."""
        if self.process.poll() is None:
            # The seal's own process dies last: while it lives, its descendants can be found.
            kill_descendants(self.process.pid)
            self.process.kill()
        code = self.process.wait()
        if self.depth == 0:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
        if self.remove is not None:
            remove_layout(self.remove)
        return 128 - code if code < 0 else code

    def _tell(self) -> bool:
        """SIGTERM the command, not the seal, which would end it at once; False where it is not yet there."""
        below = descendants(self.process.pid)
        command = [self.process.pid, *below][self.depth : self.depth + 1]
        for pid in command:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        return bool(command)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        # Nobody reads any more: a full pipe would hold up the command that is asked to end.
        streams = [each for each in (self.process.stdout, self.process.stderr) if each is not None]
        drains = [threading.Thread(target=_drain, args=(each,), daemon=True) for each in streams]
        for drain in drains:
            drain.start()
        self.stop()
        for drain, stream in zip(drains, streams, strict=True):
            drain.join()
            stream.close()


def _drain(stream: IO[bytes]) -> None:
    # ValueError: it is closed already, its reader saw the end.
    with contextlib.suppress(ValueError):
        while stream.read1(1 << 16):  # type: ignore[attr-defined]
            pass
