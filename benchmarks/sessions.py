"""Made-up and recorded sessions for the deadline simulator: how fast the card is, and when."""

from __future__ import annotations

import json
import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from kaggle_kit.errors import DataError
from kaggle_kit.runtime.cost_model import LAW_CHUNKS, CostModel, load_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np

    from kaggle_kit.runtime.cost_model import Load

RATES = (500.0, 700.0)
"""Prompt tokens a second of a 34B AWQ model on 2 x T4, both cards together: what to plan with, at 1,000 tokens."""
START_SECONDS = 1200.0
"""From the session's start to the first chunk: 15 to 20 minutes were seen for a 32B model there."""
STALL = 600.0
_MEAN_TOKENS = 1000.0


@dataclass(frozen=True)
class Trace:
    """One session's machine.

    `times`: seconds from the session's start at which the speed changes, the first one 0; `speeds`: what it is from
    then on (1: as the law says, 0: a stall), the last one above 0. `law`: seconds per row, token and squared token.
    `noise`: the standard deviation of a chunk's log time. `warm_seconds`: what the very first chunk takes on top.
    """

    start_seconds: float
    law: tuple[float, float, float]
    times: tuple[float, ...]
    speeds: tuple[float, ...]
    noise: float
    warm_seconds: float = 0.0
    events: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Sum up the work that is done by each change of speed."""
        spans = [end - start for start, end in zip(self.times, self.times[1:], strict=False)]
        work = accumulate((span * speed for span, speed in zip(spans, self.speeds, strict=False)), initial=0.0)
        object.__setattr__(self, "_work", tuple(work))

    def work_until(self, time: float) -> float:
        """Seconds of work at speed 1 that the machine does from the session's start to `time`."""
        index = bisect_right(self.times, time) - 1
        return self._done(index) + (time - self.times[index]) * self.speeds[index]

    def seconds(self, now: float, work: float) -> float:
        """How long `work` (seconds at speed 1) takes from `now` on."""
        if work <= 0:
            return 0.0
        goal = self.work_until(now) + work
        # The last change of speed before the goal is reached; never a stall, in which nothing is reached.
        index = bisect_left(self._sums(), goal) - 1
        return self.times[index] + (goal - self._done(index)) / self.speeds[index] - now

    def cost(self, load: Load) -> float:
        """Seconds of `load` at speed 1, without noise."""
        a, b, c = self.law
        return a * load.rows + b * load.tokens + c * load.squares

    def _sums(self) -> tuple[float, ...]:
        sums: tuple[float, ...] = self.__dict__["_work"]
        return sums

    def _done(self, index: int) -> float:
        return self._sums()[index]


def draw_trace(rng: np.random.Generator, *, rate: float | None = None, limit: float) -> Trace:
    """A made-up session: each mishap independent of the others, at a time that is uniform over the `limit`.

    `rate`: tokens a second at 1,000 tokens (default: uniform over RATES). In half of the sessions a card throttles to
    half its speed, in half of these for good, else for 10 minutes to 2 hours; in half of them all stands still for 10
    minutes once; in one of ten the start takes twice as long. Assumed, not measured: there is no public record.
    """
    law = _draw_law(rng, rate or float(rng.uniform(*RATES)))
    start = START_SECONDS * float(rng.lognormal(0.0, 0.15))
    events = []
    if rng.random() < 0.1:
        start *= 2
        events.append("slow start")
    changes: list[tuple[float, float, float]] = []
    if rng.random() < 0.5:
        begin = float(rng.uniform(0, limit))
        for_good = rng.random() < 0.5
        events.append("throttled for good" if for_good else "throttled for a while")
        changes.append((begin, math.inf if for_good else begin + float(rng.uniform(600, 7200)), 0.5))
    if rng.random() < 0.5:
        begin = float(rng.uniform(min(start, limit), limit))
        events.append("stall")
        changes.append((begin, begin + STALL, 0.0))
    times, speeds = _timeline(changes)
    noise, warm = float(rng.uniform(0.02, 0.08)), float(rng.uniform(0, 15))
    return Trace(start, law, times, speeds, noise, warm, tuple(events))


def _draw_law(rng: np.random.Generator, rate: float) -> tuple[float, float, float]:
    """5 ms a row, and attention a share of 2 to 20 % at 1,000 tokens (about 1 % by FLOPs; T4 kernels are poor)."""
    whole = _MEAN_TOKENS / rate
    row = 0.005
    attention = float(rng.uniform(0.02, 0.2)) * whole
    return row, (whole - row - attention) / _MEAN_TOKENS, attention / _MEAN_TOKENS**2


def _timeline(changes: Sequence[tuple[float, float, float]]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The times at which the speed changes, and the speeds: the product of all changes in force."""
    times = sorted({0.0, *(time for begin, end, _ in changes for time in (begin, end) if time < math.inf)})
    speeds = [math.prod(speed for begin, end, speed in changes if begin <= time < end) for time in times]
    return tuple(times), tuple(speeds)


def read_recording(path: Path, *, limit: float) -> Trace:
    """A recorded session: JSON lines `{"lengths": [...], "seconds": 81.5}`, one a chunk, in the order they ran.

    The law is fitted to the first chunks; the ratio of each chunk's seconds to it becomes the speed at that time. A
    record shorter than `limit` is repeated. A first line `{"start_seconds": 900}` may say how long the start took.
    Raises DataError where the file is missing or holds something else.
    """
    start, chunks = _read_chunks(path)
    model = CostModel()
    for load, seconds in chunks[:LAW_CHUNKS]:
        model.observe(load, seconds)
    times, speeds, now = [0.0], [1.0], start
    while now < 2 * limit:
        for load, seconds in chunks:
            times.append(now)
            speeds.append(model.by_law(load) / seconds)
            now += seconds
    return Trace(start, model.law, tuple(times), tuple(speeds), noise=0.0, events=("recorded",))


def _read_chunks(path: Path) -> tuple[float, list[tuple[Load, float]]]:
    start, chunks = START_SECONDS, []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as a recorded trace: {error}") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            if "start_seconds" in entry:
                start = float(entry["start_seconds"])
                continue
            load, seconds = load_of([int(length) for length in entry["lengths"]]), float(entry["seconds"])
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f'{path}, line {number}: not a chunk; write {{"lengths": [812, 790], "seconds": 2.4}} ({error!r})'
            ) from error
        if not load.rows or not 0 < seconds < math.inf:
            raise DataError(f"{path}, line {number}: a chunk needs rows and a time above 0")
        chunks.append((load, seconds))
    if not chunks:
        raise DataError(f"{path} holds no chunk")
    return start, chunks
