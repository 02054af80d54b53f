"""The memory that a process and all below it use together, sampled."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

_SECONDS_BETWEEN_SAMPLES = 1.0


class MemoryWatch:
    """Samples the proportional set size (PSS: shared pages counted once) of a process tree, each second.

    `peak_bytes` is the largest sample; 0 where this system does not show it.
    """

    def __init__(self, pid: int) -> None:
        """Watch the process `pid` and its descendants, from entering the context to leaving it."""
        self._pid = pid
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.peak_bytes = 0

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        import psutil

        while not self._stop.wait(_SECONDS_BETWEEN_SAMPLES):
            try:
                root = psutil.Process(self._pid)
                tree = [root, *root.children(recursive=True)]
            except psutil.Error:
                return
            self.peak_bytes = max(self.peak_bytes, sum(map(_pss, tree)))


def _pss(process: object) -> int:
    import psutil

    if not isinstance(process, psutil.Process):
        return 0
    try:
        return int(process.memory_full_info().pss)
    except (psutil.Error, AttributeError):
        return 0
