"""The disk that a sealed run may fill: a notebook that writes without end must not take this machine's last byte."""

from __future__ import annotations

import os
import shutil
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TEMPORARY_BYTES = 60 << 30
"""What a run may write into /tmp and /kaggle/temp. Kaggle does not say what it has; this holds any model twice."""
KEPT_FREE_BYTES = 1 << 30
_SECONDS_BETWEEN_LOOKS = 1.0
_GB = 1e9


@dataclass(frozen=True)
class SpaceWatch:
    """Looks each second at the disk under `folder`, into which the run writes all that is not /kaggle/working.

    The run is ended when the files there are more than `most_bytes`, or when the disk has less than `kept_free` bytes
    left.
    """

    folder: Path
    most_bytes: int
    kept_free: int = KEPT_FREE_BYTES

    @contextmanager
    def watching(self, end: Callable[[str], None]) -> Iterator[None]:
        """Call `end` with a sentence, once, if a limit is passed within the context."""
        over = threading.Event()
        thread = threading.Thread(target=self._watch, args=(end, over), daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _watch(self, end: Callable[[str], None], over: threading.Event) -> None:
        free_before = shutil.disk_usage(self.folder).free
        while not over.wait(_SECONDS_BETWEEN_LOOKS):
            free = shutil.disk_usage(self.folder).free
            if free < min(self.kept_free, free_before):
                end(f"the disk under {self.folder} had {free / _GB:.1f} GB left: make room on it")
                return
            # Counting the files takes long: only if so much of the disk is gone that these may be the reason.
            if free_before - free > self.most_bytes and (size := folder_bytes(self.folder)) > self.most_bytes:
                allowed = f"{self.most_bytes / _GB:.1f} GB are allowed"
                end(f"it wrote {size / _GB:.1f} GB into /tmp and /kaggle/temp, and {allowed}")
                return


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
