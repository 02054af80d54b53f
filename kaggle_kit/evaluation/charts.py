"""The charts of a report: time by stage, throughput, prompt lengths, reliability, label mass, slices."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

from kaggle_kit.evaluation import svg
from kaggle_kit.runtime.progress import duration

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from markupsafe import Markup

    from kaggle_kit.evaluation.assess import SliceFigures
    from kaggle_kit.evaluation.metrics import Reliability
    from kaggle_kit.evaluation.run import Lengths

_HEIGHT = 210.0
_WINDOWS = 60
_BINS = 36
_MASSES = (0.5, 0.9, 0.99, 0.999, 0.9999)
_PASSES = ("scoring", "swapped pass")


def seconds_text(value: float) -> str:
    """`22 ms`, `0.5 s`, `42 s`, `12:30`."""
    if value < 0.1:
        return f"{1000 * value:.0f} ms"
    if value < 10:
        return f"{value:.1f} s"
    return f"{value:.0f} s" if value < 100 else duration(value)


def stage_chart(stages: Sequence[Mapping[str, float]]) -> Markup | None:
    """Seconds by stage, one bar for each run; None if no stage is known."""
    names = list(dict.fromkeys(name for one in stages for name in one))
    if not names:
        return None
    bars = [
        svg.Bar(
            name,
            [one.get(name) for one in stages],
            [seconds_text(one[name]) if name in one else "–" for one in stages],
        )
        for name in names
    ]
    return svg.bar_chart(bars, "Time by stage: " + "; ".join(f"{bar.label} {' and '.join(bar.texts)}" for bar in bars))


def rates(points: Sequence[tuple[float, int]], *, stages: Mapping[str, float]) -> list[tuple[float, float]]:
    """Tokens per second over seconds since scoring began, as the corners of steps; empty below two points.

    `points`: (seconds, tokens done so far). Where scoring began is known from the stages' lengths, else it is the
    first point.
    """
    import numpy as np

    last = dict(points)
    times = sorted(last)
    if len(times) < 2 or last[times[-1]] <= 0:
        return []

    passes = sum(seconds for name, seconds in stages.items() if name in _PASSES)
    begin = times[-1] - passes if passes else times[0]
    begin = min(max(begin, 0.0), times[0])
    if begin < times[0]:
        last[begin] = 0
        times = [begin, *times]

    edges = np.linspace(times[0], times[-1], min(_WINDOWS, len(times) - 1) + 1)
    done = np.interp(edges, times, [last[time] for time in times])
    corners: list[tuple[float, float]] = []
    for (left, before), (right, after) in pairwise(zip(edges - times[0], done, strict=True)):
        rate = max(float(after - before), 0.0) / float(right - left)
        corners += [(float(left), rate), (float(right), rate)]
    return corners


def rate_chart(series: Sequence[Sequence[tuple[float, float]]]) -> Markup | None:
    """Prompt tokens per second since scoring began, one line for each run; None if none is known."""
    known = [corners for corners in series if corners]
    if not known:
        return None
    longest = max(corners[-1][0] for corners in known)
    highest = max(rate for corners in known for _, rate in corners)

    frame = svg.plot(
        width=svg.WIDTH,
        height=_HEIGHT,
        x_ticks=svg.time_ticks(longest),
        x_high=longest,
        y_ticks=svg.ticks(highest),
        x_text=(lambda tick: f"{tick:g} s") if longest < 100 else duration,
        x_name="time since scoring began",
    )
    parts = list(frame.frame)
    for place, corners in enumerate(series):
        if corners:
            parts.append(svg.polyline([(frame.x.at(x), frame.y.at(y)) for x, y in corners], kind=f"l{place}"))
    return svg.picture(
        frame.height, f"Prompt tokens per second over {duration(longest)}, {highest:,.0f} at most", parts
    )


def length_chart(lengths: Lengths) -> Markup | None:
    """How many prompts have how many tokens uncut, those that are cut in a colour of their own, and the budget.

    The last bar holds all longer ones. None if no model answered.
    """
    import numpy as np

    whole = np.asarray(lengths.whole, dtype=float)
    if not len(whole):
        return None
    budget = float(lengths.budget or 0)
    x_ticks = svg.ticks(max(float(np.quantile(whole, 0.99)), budget * 1.2, 1.0), most=4)
    longest = float(whole.max())
    edges = np.linspace(0, x_ticks[-1], _BINS + 1)

    cut = whole > lengths.tokens
    counts = [np.histogram(np.minimum(whole[chosen], x_ticks[-1]), bins=edges)[0] for chosen in (~cut, cut)]
    frame = svg.plot(
        width=svg.WIDTH,
        height=_HEIGHT,
        x_ticks=x_ticks,
        y_ticks=svg.ticks(1.12 * float((counts[0] + counts[1]).max())),
        x_text=lambda tick: svg.brief(tick) + ("+" if tick == x_ticks[-1] < longest else ""),
        x_name="tokens of the uncut prompt",
    )
    parts = list(frame.frame)

    for place, (low, high) in enumerate(pairwise(edges)):
        base = 0
        for kind, count in enumerate(int(one[place]) for one in counts):
            if count:
                top, bottom = frame.y.at(base + count), frame.y.at(base)
                hint = f"{low:,.0f} to {high:,.0f} tokens: {count:,} rows{' cut' if kind else ''}"
                left, width = frame.x.at(low), frame.x.at(high) - frame.x.at(low) - 1
                parts.append(svg.box(left, top, width, bottom - top, kind=f"s{kind}", hint=hint))
            base += count

    if budget:
        at = frame.x.at(budget)
        parts.append(svg.line(at, frame.y.end, at, frame.y.start, kind="mk"))
        anchor, beside = ("end", at - 5) if budget > x_ticks[-1] / 2 else ("", at + 5)
        parts.append(svg.text(beside, frame.y.end + 10, f"budget {budget:,.0f}", kind=anchor))
    return svg.picture(frame.height, f"Lengths of {len(whole):,} prompts, {int(cut.sum()):,} of them cut", parts)


def reliability_chart(series: Sequence[Sequence[Reliability]], name: str) -> Markup:
    """The share that came true over the probability that was given; a dot's size shows its rows."""
    ticks = [0.0, 0.25, 0.5, 0.75, 1.0]
    frame = svg.plot(
        width=svg.WIDTH,
        height=300.0,
        x_ticks=ticks,
        y_ticks=ticks,
        x_text=lambda tick: f"{tick:g}",
        y_text=lambda tick: f"{tick:g}",
        x_name="probability given",
    )
    parts = [*frame.frame, svg.line(frame.x.at(0), frame.y.at(0), frame.x.at(1), frame.y.at(1), kind="mk")]
    for place, bins in enumerate(series):
        most = max((one.rows for one in bins), default=1)
        corners = [(frame.x.at(one.confidence), frame.y.at(one.accuracy)) for one in bins]
        parts.append(svg.polyline(corners, kind=f"l{place}"))
        for (x, y), one in zip(corners, bins, strict=True):
            hint = f"given {one.confidence:.3f}, true {one.accuracy:.3f}, {one.rows:,} rows"
            radius = 2.0 + 5.0 * (one.rows / most) ** 0.5
            parts.append(svg.element("circle", svg.element("title", hint), cx=x, cy=y, r=radius, class_=f"s{place}"))
    return svg.picture(frame.height, f"Reliability of {name}", parts)


def mass_chart(masses: Sequence[float]) -> Markup | None:
    """How many rows have how much label mass; None if none has any."""
    import numpy as np

    if not len(masses):
        return None
    place = np.searchsorted(_MASSES, np.asarray(masses, dtype=float), side="right")
    names = [f"below {_MASSES[0]}", *(f"{low} to {high}" for low, high in pairwise(_MASSES)), f"{_MASSES[-1]} or more"]
    counts = np.bincount(place, minlength=len(names))
    bars = [
        svg.Bar(name, [float(count)], [f"{count:,}"]) for name, count in reversed(list(zip(names, counts, strict=True)))
    ]
    return svg.bar_chart(bars, "Rows by label mass: " + "; ".join(f"{bar.label} {bar.texts[0]}" for bar in bars))


def slice_chart(slices: Sequence[SliceFigures], *, middle: float) -> Markup:
    """The log loss of each slice with its interval, beside that of all rows."""
    return svg.whisker_chart([_whisker(one) for one in slices], f"Log loss by {slices[0].by}", middle=middle)


def _whisker(one: SliceFigures) -> svg.Whisker:
    loss = one.log_loss
    # A slice that most samples of the rows miss has no interval.
    known = math.isfinite(loss.low) and math.isfinite(loss.high)
    return svg.Whisker(
        label=f"{one.name} ({one.rows:,})",
        value=loss.value,
        low=min(loss.low, loss.value) if known else loss.value,
        high=max(loss.high, loss.value) if known else loss.value,
        text=f"{loss.value:.3f}",
        hint=f"{one.name}, {one.rows:,} rows: log loss {loss}, accuracy {one.accuracy}",
    )
