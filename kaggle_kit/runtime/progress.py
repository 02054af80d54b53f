"""What a notebook shows of its run: a line now and then, and at the end a table and a plot."""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kaggle_kit.runtime.record import RunRecord

_SECONDS_BETWEEN_LINES = 5.0
_MOST_POINTS = 400
_WIDTH, _HEIGHT, _LEFT, _BASE = 640, 180, 70, 150


def duration(seconds: float) -> str:
    """Seconds as h:mm:ss, or m:ss below an hour; a negative time is 0:00."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def _to_notebook(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


@dataclass
class ProgressLine:
    """Writes one line for each thing that the worker says, at most one in five seconds while it scores.

    `points` holds (seconds since the start, tokens done in all passes): the run's throughput, for a plot.
    """

    deadline: float
    started: float = field(default_factory=time.monotonic)
    last: float = 0.0
    points: list[tuple[float, int]] = field(default_factory=list)
    write: Callable[[str], None] = field(default=_to_notebook)
    before: int = 0
    """Tokens of the stages that have ended, of all workers."""
    since: dict[int, float] = field(default_factory=dict)
    """When each worker's stage began."""
    now: dict[int, int] = field(default_factory=dict)
    """Tokens that each worker has done in its stage."""

    def show(self, event: dict[str, Any]) -> None:
        """Write what `event` says, if it is time to."""
        match event["event"]:
            case "stage":
                worker = event.get("worker", 0)
                self.since[worker] = time.monotonic()
                self.before += self.now.pop(worker, 0)
                self._write(str(event["name"]))
            case "rows":
                self._write(f"{event['todo']:,} rows to score, {event['tokens']:,} prompt tokens")
            case "engine":
                self._write(f"engine: {event['name']}")
            case "progress":
                self.now[event.get("worker", 0)] = event["tokens"]
                self._keep()
                finished = event["rows"] == event["all_rows"]
                if finished or time.monotonic() - self.last >= _SECONDS_BETWEEN_LINES:
                    self.last = time.monotonic()
                    self._write(self._progress(event))
            case "restart":
                self._write(f"the worker stopped ({event['message']}); starting it again, scored rows are kept")
            case "late":
                self._write(f"no time is left for {event['rows']:,} rows")
            case "note":
                self._write(f"note: {event['text']}")
            case "error":
                self._write(f"error: {event['message']}")

    def _keep(self) -> None:
        tokens = self.before + sum(self.now.values())
        self.points.append((round(time.monotonic() - self.started, 1), tokens))
        if len(self.points) > _MOST_POINTS:
            self.points = self.points[::2]

    def _progress(self, event: dict[str, Any]) -> str:
        rows, tokens = event["rows"], event["tokens"]
        seconds = max(time.monotonic() - self.since.get(event.get("worker", 0), self.started), 1e-6)
        now = time.time()
        end = event.get("p95")
        finish = f"  done in {duration(end - now)} at the latest (p95)" if end else ""
        left = f"  deadline in {duration(self.deadline - now)}" if math.isfinite(self.deadline) else ""
        return (
            f"{rows:,}/{event['all_rows']:,} rows  {rows / seconds:,.1f} rows/s  {tokens / seconds:,.0f} tokens/s  "
            f"budget {event['budget']:,}{finish}{left}"
        )

    def _write(self, text: str) -> None:
        self.write(f"[{duration(time.monotonic() - self.started):>7}] {text}")


def summary_lines(record: RunRecord) -> list[str]:
    """The table: one line for each figure that the run's record holds."""
    table = [("engine", record.engine or "not started")]
    names = ("total", "scored", "swapped", "ruled", "copies", "cut", "unreadable", "unmatched", "not_reached", "prior")
    if record.rows:
        table += [(f"rows {name.replace('_', ' ')}", f"{getattr(record.rows, name):,}") for name in names]
        table += [(f"  {number:,} rows", reason) for reason, number in record.rows.unanswered.items()]
    table += [("prompt tokens", f"{record.prompt_tokens:,}"), ("longest prompt", f"{record.longest_prompt:,}")]
    if mass := record.label_mass:
        table.append(("label mass", f"{mass.mean:.4f} on average, {mass.lowest:.4f} at the lowest"))
    table += [(name, duration(seconds)) for name, seconds in record.worker.stages.items()]
    table += (record.prompt | record.allowances | record.models).items()

    width = max(len(name) for name, _ in table)
    lines = [f"{name:<{width}}  {value}" for name, value in table]
    return [*lines, *record.row_notes, *([record.low_mass] if record.low_mass else [])]


def throughput_plot(points: Sequence[tuple[float, int]]) -> str:
    """An SVG of tokens done over time, readable on light and dark; empty if there are not two points.

    `points`: (seconds, tokens) in ascending order.
    """
    if len(points) < 2:
        return ""
    seconds, tokens = points[-1]
    if not seconds or not tokens:
        return ""

    across = _WIDTH - _LEFT - 10
    path = " ".join(
        f"{_LEFT + across * second / seconds:.1f},{_BASE - (_BASE - 20) * done / tokens:.1f}" for second, done in points
    )

    grey = 'stroke="#888" stroke-width="1"'
    text = 'font-family="sans-serif" font-size="12" fill="#888"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}">'
        f'<line x1="{_LEFT}" y1="{_BASE}" x2="{_WIDTH - 10}" y2="{_BASE}" {grey}/>'
        f'<line x1="{_LEFT}" y1="20" x2="{_LEFT}" y2="{_BASE}" {grey}/>'
        f'<polyline points="{path}" fill="none" stroke="#1f9bcf" stroke-width="2"/>'
        f'<text x="{_LEFT - 8}" y="24" text-anchor="end" {text}>{tokens:,}</text>'
        f'<text x="{_LEFT - 8}" y="{_BASE}" text-anchor="end" {text}>0</text>'
        f'<text x="{_WIDTH - 10}" y="{_BASE + 18}" text-anchor="end" {text}>{duration(seconds)}</text>'
        f'<text x="{_LEFT}" y="{_BASE + 18}" {text}>prompt tokens over time</text></svg>'
    )
