"""Progress as a person wants to read it in a notebook's output or a log."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from typing import Any

_SECONDS_BETWEEN_LINES = 5.0


def duration(seconds: float) -> str:
    """Seconds as h:mm:ss, or m:ss below an hour; a negative time is 0:00."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


@dataclass
class ProgressLine:
    """Writes one line for each thing that the worker says, at most one in five seconds while it scores."""

    deadline: float
    started: float = field(default_factory=time.monotonic)
    scoring_since: float = 0.0
    last: float = 0.0
    total_rows: int = 0
    total_tokens: int = 0

    def show(self, event: dict[str, Any]) -> None:
        """Write what `event` says, if it is time to."""
        match event["event"]:
            case "stage":
                if event["name"] == "scoring":
                    self.scoring_since = time.monotonic()
                self._write(str(event["name"]))
            case "rows":
                self.total_rows, self.total_tokens = event["todo"], event["tokens"]
                self._write(f"{event['todo']:,} rows to score, {event['tokens']:,} prompt tokens")
            case "progress":
                finished = event["rows"] == self.total_rows
                if finished or time.monotonic() - self.last >= _SECONDS_BETWEEN_LINES:
                    self.last = time.monotonic()
                    self._write(self._progress(event["rows"], event["tokens"]))
            case "restart":
                self._write(f"the worker stopped ({event['message']}); starting it again, scored rows are kept")
            case "error":
                self._write(f"error: {event['message']}")

    def _progress(self, rows: int, tokens: int) -> str:
        seconds = max(time.monotonic() - self.scoring_since, 1e-6)
        rate = tokens / seconds
        left = (self.total_tokens - tokens) / rate if rate else 0.0
        return (
            f"{rows:,}/{self.total_rows:,} rows  {rows / seconds:,.1f} rows/s  {rate:,.0f} tokens/s  "
            f"{duration(left)} to go, {duration(self.deadline - time.time())} to the deadline"
        )

    def _write(self, text: str) -> None:
        sys.stdout.write(f"[{duration(time.monotonic() - self.started):>7}] {text}\n")
        sys.stdout.flush()
