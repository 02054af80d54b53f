"""The memory and the disk that a sealed run uses, looked at each second."""

from __future__ import annotations

import os
import shutil
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from psutil import Process

TEMPORARY_BYTES = 60 << 30
"""What a run may write into /tmp and /kaggle/temp. Kaggle does not say what it has; this holds any model twice."""
KEPT_FREE_BYTES = 1 << 30
_SECONDS_BETWEEN_LOOKS = 1.0
_GB = 1e9


@dataclass
class MemoryWatch:
    """Samples the proportional set size (PSS: shared pages counted once) of the process `pid` and its descendants.

    `peak_bytes` is the largest sample; 0 where this system does not show it.
    """

    pid: int
    peak_bytes: int = 0

    @contextmanager
    def watching(self) -> Iterator[Self]:
        """Sample within the context."""
        with _repeated(self._look):
            yield self

    def _look(self) -> bool:
        import psutil

        try:
            root = psutil.Process(self.pid)
            tree = [root, *root.children(recursive=True)]
        except psutil.Error:
            return False
        self.peak_bytes = max(self.peak_bytes, sum(map(_pss, tree)))
        return True


def _pss(process: Process) -> int:
    import psutil

    try:
        return int(process.memory_full_info().pss)
    except (psutil.Error, AttributeError):
        return 0


@dataclass(frozen=True)
class SpaceWatch:
    """Looks at the disk under `folder`, into which the run writes all that is not /kaggle/working.

    The run is ended when the files there are more than `most_bytes`, or when the disk has less than `kept_free` bytes
    left.
    """

    folder: Path
    most_bytes: int = TEMPORARY_BYTES
    kept_free: int = KEPT_FREE_BYTES

    @contextmanager
    def watching(self, end: Callable[[str], None]) -> Iterator[None]:
        """Call `end` with a sentence, once, if a limit is passed within the context."""
        free_before = shutil.disk_usage(self.folder).free

        def look() -> bool:
            if problem := self._problem(free_before):
                end(problem)
            return problem is None

        with _repeated(look):
            yield

    def _problem(self, free_before: int) -> str | None:
        free = shutil.disk_usage(self.folder).free
        if free < min(self.kept_free, free_before):
            return f"the disk under {self.folder} had {free / _GB:.1f} GB left: make room on it"

        # Counting the files takes long: only if so much of the disk is gone that these may be the reason.
        if free_before - free > self.most_bytes and (size := folder_bytes(self.folder)) > self.most_bytes:
            allowed = f"{self.most_bytes / _GB:.1f} GB are allowed"
            return f"it wrote {size / _GB:.1f} GB into /tmp and /kaggle/temp, and {allowed}"
        return None


@contextmanager
def _repeated(look: Callable[[], bool]) -> Iterator[None]:
    """Call `look` in a thread within the context, until it returns False."""
    over = threading.Event()

    def repeat() -> None:
        while not over.wait(_SECONDS_BETWEEN_LOOKS) and look():
            pass

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def folder_bytes(folder: Path) -> int:
    """Bytes on disk of the files below `folder`; links are not followed, and what cannot be read is not counted."""
    total = 0
    for each, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(each, name)).st_blocks * 512  # noqa: PTH118  100,000 files
            except OSError:
                continue
    return total
