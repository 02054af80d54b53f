"""The log of a sealed run: every line as it comes, in a file that cannot fill the disk."""

from __future__ import annotations

from collections import deque
from typing import IO, TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

LINE_BYTES = 1 << 16
"""A longer line is several lines."""
HEAD_BYTES = 32 << 20
TAIL_LINES = 2_000
"""Lines from the end that are kept of a log that is too long: they say how it ended."""


def lines_of(stream: IO[bytes] | None) -> Iterator[str]:
    """The lines of a process's output, without their ends; bytes that are not UTF-8 become U+FFFD."""
    while stream is not None and (raw := stream.readline(LINE_BYTES)):
        yield raw.decode("utf-8", "replace").rstrip("\n")


class LogFile:
    """A log of at most `HEAD_BYTES`, and, if there was more, its last `TAIL_LINES` lines."""

    def __init__(self, path: Path) -> None:
        """Write to `path`, which is made anew."""
        self._path = path
        self._bytes = 0
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._left_out = 0

    def __enter__(self) -> Self:
        """Open it."""
        self._stream = self._path.open("w", encoding="utf-8")
        return self

    def line(self, text: str) -> bool:
        """Add a line; False if it is beyond the bound, so that only the last such lines are written at the end."""
        size = len(text.encode("utf-8", "replace")) + 1
        if self._left_out or self._bytes + size > HEAD_BYTES:
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
