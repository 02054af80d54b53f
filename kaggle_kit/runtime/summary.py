"""The end of a notebook: its figures as a table, its throughput as a plot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kaggle_kit.runtime.integrity import integrity_lines
from kaggle_kit.runtime.progress import duration

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

RECORD = "kit-run.json"
"""The file in which a notebook leaves its run's record; `templates/frame.py.j2` writes it."""
_WIDTH, _HEIGHT, _LEFT, _BASE = 640, 180, 70, 150


def summary_lines(record: Mapping[str, Any]) -> list[str]:
    """The table: one line for each figure that the run's record holds."""
    rows = record.get("rows", {})
    worker = record.get("worker", {})
    mass = record.get("label_mass")
    table: list[tuple[str, str]] = [("engine", str(record.get("engine", "not started")))]
    names = ("total", "scored", "swapped", "ruled", "copies", "cut", "unreadable", "not_reached", "prior")
    table += [(f"rows {name.replace('_', ' ')}", f"{rows[name]:,}") for name in names if name in rows]
    table += [("prompt tokens", f"{record.get('prompt_tokens', 0):,}")]
    table += [("longest prompt", f"{record.get('longest_prompt', 0):,}")]
    if mass:
        table.append(("label mass", f"{mass['mean']:.4f} on average, {mass['lowest']:.4f} at the lowest"))
    table += [(name, duration(seconds)) for name, seconds in worker.get("stages", {}).items()]
    table += integrity_lines(record).items()
    width = max(len(name) for name, _ in table)
    return [f"{name:<{width}}  {value}" for name, value in table]


def throughput_plot(points: Sequence[tuple[float, int]]) -> str:
    """An SVG of tokens done over time, readable on light and dark; empty where there are not two points.

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
