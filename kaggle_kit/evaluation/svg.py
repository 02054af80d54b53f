"""Charts as SVG of our own: plain shapes whose colours a page's style sheet decides, readable 300 px wide.

Each chart is `WIDTH` units wide and scales with its place; a shape's exact figures are in its title. Classes:
`s0`, `s1` a series' shapes, `l0`, `l1` its lines, `ax` axes, `gr` grid, `mk` a mark, `end` a text that ends where it
stands, `mid` one around it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

WIDTH = 320.0
_LETTERS = 16
"""Of a label at most, beside a chart."""
_LABEL = 106.0
_WIDE_LETTERS, _WIDE_LABEL = 21, 132.0
_VALUE = 52.0


@dataclass(frozen=True)
class Axis:
    """From values (`low` to `high`) to places (`start` to `end`)."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """The place of a value, kept inside."""
        share = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.0
        return self.start + (self.end - self.start) * min(max(share, 0.0), 1.0)


@dataclass(frozen=True)
class Bar:
    """A row of bars: its label, and for each series a value (None if it has none) with its text."""

    label: str
    values: Sequence[float | None]
    texts: Sequence[str]


@dataclass(frozen=True)
class Whisker:
    """A row with a value, its interval, and what a pointer over it is told."""

    label: str
    value: float
    low: float
    high: float
    text: str
    hint: str


def element(name: str, content: Markup | str = "", /, **attributes: float | str) -> Markup:
    """One element; `class_` means class, other underscores are hyphens, `view_box` is viewBox."""
    written = "".join(f' {_attribute(key)}="{_value(value)}"' for key, value in attributes.items())
    return Markup(f"<{name}{written}>{escape(content)}</{name}>")  # noqa: S704  every part is escaped


def _attribute(key: str) -> str:
    return {"class_": "class", "view_box": "viewBox"}.get(key, key.replace("_", "-"))


def _value(value: float | str) -> str:
    return str(escape(value)) if isinstance(value, str) else number(value)


def number(value: float) -> str:
    """A place: one digit after the point, none where it is 0."""
    return f"{value:.1f}".removesuffix(".0")


def picture(height: float, title: str, parts: Sequence[Markup]) -> Markup:
    """A whole SVG; `title` is what a screen reader says."""
    body = Markup("").join([element("title", title), *parts])
    return element("svg", body, view_box=f"0 0 {number(WIDTH)} {number(height)}", role="img")


def text(x: float, y: float, content: str, *, kind: str = "") -> Markup:
    """A text whose baseline begins at x, y; `kind`: "end" or "mid" for another anchor."""
    return element("text", content, x=x, y=y, **({"class_": kind} if kind else {}))


def line(x1: float, y1: float, x2: float, y2: float, *, kind: str) -> Markup:
    """A straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=kind)


def polyline(points: Sequence[tuple[float, float]], *, kind: str) -> Markup:
    """A line through points."""
    return element("polyline", points=" ".join(f"{number(x)},{number(y)}" for x, y in points), class_=kind)


def box(x: float, y: float, width: float, height: float, *, kind: str, hint: str = "") -> Markup:
    """A filled rectangle; `hint` is told to a pointer over it."""
    inner = element("title", hint) if hint else ""
    return element("rect", inner, x=x, y=y, width=max(width, 0.0), height=max(height, 0.0), class_=kind)


def short(label: str, *, letters: int = _LETTERS) -> str:
    """A label that fits beside a chart."""
    return label if len(label) <= letters else f"{label[: letters - 1]}…"


def ticks(high: float, *, most: int = 5) -> list[float]:
    """Round numbers from 0, of which the last is not below `high`; at most `most` steps."""
    if not (0 < high < math.inf):
        return [0.0, 1.0]
    power = 10.0 ** math.floor(math.log10(high / most))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor * most >= high * (1 - 1e-9))
    return [step * count for count in range(math.ceil(high / step - 1e-9) + 1)]


def brief(value: float) -> str:
    """A number on an axis: `1,500`, `12k`, `3.5M`."""
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            return f"{value / (1e3 if letter == 'k' else limit):.4g}{letter}"
    return f"{value:,.4g}" if value < 1000 else f"{value:,.0f}"


def bar_chart(bars: Sequence[Bar], title: str) -> Markup:
    """Horizontal bars, a row for each label, with their texts behind them."""
    series = max(len(bar.values) for bar in bars)
    thick, gap = (14.0, 9.0) if series == 1 else (13.0, 8.0)
    axis = Axis(0, max((v for bar in bars for v in bar.values if v is not None), default=1.0) or 1, 0, WIDTH)
    scale = (WIDTH - _LABEL - _VALUE) / WIDTH
    parts: list[Markup] = []
    y = 2.0
    for bar in bars:
        middle = y + series * thick / 2 + 4
        parts.append(text(_LABEL - 8, middle, short(bar.label), kind="end"))
        for place, (value, said) in enumerate(zip(bar.values, bar.texts, strict=True)):
            top = y + place * thick
            width = axis.at(value) * scale if value is not None else 0.0
            if value is not None:
                parts.append(
                    box(_LABEL, top, max(width, 1.0), thick - 1, kind=f"s{place}", hint=f"{bar.label}: {said}")
                )
            parts.append(text(_LABEL + width + 5, top + thick / 2 + 4, said))
        y += series * thick + gap
    return picture(y - gap + 4, title, parts)


def whisker_chart(rows: Sequence[Whisker], title: str, *, middle: float) -> Markup:
    """A dot with its interval for each row, and a line down at `middle`."""
    low = min(middle, *(row.low for row in rows))
    high = max(middle, *(row.high for row in rows))
    axis = Axis(low, high, _WIDE_LABEL + 10, WIDTH - _VALUE + 8)
    height = 22.0 * len(rows)
    parts = [line(axis.at(middle), 0, axis.at(middle), height, kind="mk")]
    for place, row in enumerate(rows):
        y = 22.0 * place + 11
        parts.append(text(_WIDE_LABEL, y + 4, short(row.label, letters=_WIDE_LETTERS), kind="end"))
        parts.append(line(axis.at(row.low), y, axis.at(row.high), y, kind="l0"))
        dot = element("title", row.hint)
        parts.append(element("circle", dot, cx=axis.at(row.value), cy=y, r=4.0, class_="s0"))
        parts.append(text(WIDTH, y + 4, row.text, kind="end"))
    return picture(height, title, parts)


@dataclass(frozen=True)
class Plot:
    """A frame with two axes, the values' ticks at the left and below."""

    x: Axis
    y: Axis
    frame: list[Markup]
    height: float


def time_ticks(longest: float) -> list[float]:
    """Round times in seconds from 0 to `longest`, six at most."""
    steps = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800]
    step = next((step for step in steps if step * 5 >= longest), 21600)
    return [float(step * count) for count in range(int(longest / step) + 1)]


def plot(
    *,
    width: float,
    height: float,
    x_ticks: Sequence[float],
    y_ticks: Sequence[float],
    x_high: float | None = None,
    x_text: Callable[[float], str] = brief,
    y_text: Callable[[float], str] = brief,
    x_name: str = "",
) -> Plot:
    """A frame of this size (units of the picture), from the first to the last tick of each axis, or to `x_high`."""
    left, top, bottom = 44.0, 10.0, height - 34
    x = Axis(x_ticks[0], x_ticks[-1] if x_high is None else x_high, left, width - 20)
    y = Axis(y_ticks[0], y_ticks[-1], bottom, top)
    parts = [line(left, y.at(tick), x.end, y.at(tick), kind="gr") for tick in y_ticks[1:]]
    parts += [text(left - 6, y.at(tick) + 4, y_text(tick), kind="end") for tick in y_ticks]
    parts += [text(x.at(tick), bottom + 15, x_text(tick), kind="mid") for tick in x_ticks]
    parts += [line(left, bottom, x.end, bottom, kind="ax"), line(left, top, left, bottom, kind="ax")]
    if x_name:
        parts.append(text((left + x.end) / 2, height - 5, x_name, kind="mid"))
    return Plot(x, y, parts, height)
