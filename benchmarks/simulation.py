"""What the deadline governor would do in many sessions, and what it costs against an oracle that knew the future.

The loss model, in log loss (nats a row). Its figures are assumptions, chosen for their order of magnitude: a good model
has 0.95 where the class priors have 1.097 (LMSYS 2024: good single models 0.90 to 0.95, the winner 0.969), so a row
with the prior costs GAP. A row of which the share k of its tokens (at the full budget) is kept costs GAP · (1 - k)²:
the caller cuts what says least first, so the first cuts cost little. All rows swapped gain 0.01 together, each in
proportion to the rule of `swap_order`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sessions import RATES, START_SECONDS, Trace, draw_trace, read_recording

from kaggle_kit.runtime.cost_model import load_of
from kaggle_kit.runtime.governor import Governor, deadline, probe, swap_gain, swap_order

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from kaggle_kit.runtime.cost_model import Lengths

    Array = NDArray[np.float64]

MODEL_LOSS = 0.95
PRIOR_LOSS = 1.097
GAP = PRIOR_LOSS - MODEL_LOSS
SWAP_GAIN = 0.01
WRITE_SECONDS = 60.0
"""For the submission: whoever still scores less than this before the limit has missed it."""


@dataclass(frozen=True)
class Options:
    """What is simulated.

    `hours`: the limit of a session; `budget`: the full one, tokens; `rate`: tokens a second, None draws it; `trace`: a
    recorded session. `supervised`: whether the notebook ends a worker that still scores when the submission must be
    written, as the real one does; without, such a run has missed its deadline.
    """

    rows: int = 25_000
    hours: float = 9.0
    rate: float | None = None
    budget: int = 1024
    margin_seconds: float = 900.0
    chunk_rows: int = 64
    trace: Path | None = None
    supervised: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise ValueError if the margin leaves nothing of the session."""
        if self.margin_seconds >= self.limit:
            raise ValueError(f"a margin of {self.margin_seconds:g} s leaves nothing of {self.hours:g} h")

    @property
    def limit(self) -> float:
        """The session's seconds."""
        return self.hours * 3600

    @property
    def writable(self) -> float:
        """When scoring must have ended for the submission to be written."""
        return self.limit - WRITE_SECONDS


@dataclass(frozen=True)
class Rows:
    """The rows of a session in ascending length: tokens at the full budget, gain of each one's swapped pass, order."""

    lengths: NDArray[np.int64]
    gains: Array
    order: NDArray[np.int64]


@dataclass(frozen=True)
class Run:
    """One simulated session. Losses in nats a row, shares of all rows, times in seconds.

    `oracle` works up to the limit, `oracle_margin` up to the governor's own deadline. `late`: the worker went on beyond
    that deadline, into the margin; `missed`: beyond the limit; `ended`: the notebook had to end it. `unguarded`: the
    full budget throughout; `fixed`: a careful fixed one; `_killed`: it was not done at the limit.
    """

    events: tuple[str, ...]
    loss: float
    oracle: float
    oracle_margin: float
    cut: float
    prior: float
    swapped: float
    slack: float
    late: bool
    missed: bool
    ended: bool
    unguarded: float
    unguarded_killed: bool
    fixed: float
    fixed_killed: bool

    @property
    def lost(self) -> float:
        """What the governor lost against the oracle."""
        return self.loss - self.oracle


def draw_rows(rng: np.random.Generator, *, rows: int, budget: int) -> Rows:
    """LMSYS-like rows: lengths log-normal with mean 1,000 and a long tail, cut at `budget`; three labels."""
    import numpy as np

    sigma = 0.8
    lengths = rng.lognormal(math.log(1000) - sigma**2 / 2, sigma, rows)
    cut = np.sort(np.clip(np.round(lengths), 40, budget)).astype(np.int64)
    logits = rng.normal([0.0, 0.0, -0.2], [0.7, 0.7, 0.4], (rows, 3))
    odds = np.exp(logits)
    probabilities = odds / odds.sum(axis=1, keepdims=True)
    gains = swap_gain(probabilities)
    order = swap_order(probabilities, costs=cut)
    return Rows(cut, gains * (SWAP_GAIN / float(gains.mean())), order)


class _EndedError(Exception):
    """The notebook ended the worker."""


@dataclass
class _Session:
    """The worker's loop on a simulated machine."""

    trace: Trace
    rows: Rows
    options: Options
    rng: np.random.Generator
    now: float = 0.0
    ended: bool = False
    kept: Array = field(init=False)
    swapped: NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        import numpy as np

        self.kept = np.zeros(len(self.rows.lengths))
        self.swapped = np.zeros(len(self.rows.lengths), dtype=bool)
        end = deadline(started=0.0, session_seconds=self.options.limit, margin_seconds=self.options.margin_seconds)
        self.governor = Governor(deadline=end, full=self.options.budget, clock=lambda: self.now)
        self.now = self.trace.start_seconds
        self._warm = self.trace.warm_seconds

    def run(self) -> None:
        """Both passes, until done or ended by the notebook."""
        try:
            self._first_pass()
            if self.kept.all():
                self._swapped_passes()
        except _EndedError:
            self.ended = True

    def _first_pass(self) -> None:
        import numpy as np

        lengths = self.rows.lengths
        todo = np.ones(len(lengths), dtype=bool)
        for chunk in probe(lengths):
            if self.governor.must_stop(lengths[chunk]):
                break
            self.kept[chunk] = self._score(lengths[chunk])
            todo[chunk] = False
        remaining = np.flatnonzero(todo)
        waiting = lengths[remaining]
        done = 0
        while done < len(remaining):
            allowed = self.governor.budget(waiting[done:])
            size = min(self.options.chunk_rows, allowed.rows)
            cut = np.minimum(waiting[done : done + size], allowed.tokens)
            size = self.governor.affordable(cut)
            if size == 0:
                break
            self.kept[remaining[done : done + size]] = self._score(cut[:size])
            done += size

    def _swapped_passes(self) -> None:
        lengths = self.kept[self.rows.order]
        done = 0
        while done < len(lengths):
            size = min(self.options.chunk_rows, self.governor.affordable(lengths[done:]))
            if size == 0:
                break
            self._score(lengths[done : done + size])
            self.swapped[self.rows.order[done : done + size]] = True
            done += size

    def _score(self, lengths: Lengths) -> Lengths:
        """Let a chunk's time pass; returns the tokens kept. Raises _EndedError where the notebook ends it: all lost."""
        work = self.trace.cost(load_of(lengths)) * float(self.rng.lognormal(0.0, self.trace.noise))
        seconds = self.trace.seconds(self.now, work) + self._warm
        self._warm = 0.0
        if self.options.supervised and self.now + seconds > self.options.writable:
            self.now = self.options.writable
            raise _EndedError
        self.now += seconds
        self.governor.observe(lengths, seconds)
        return lengths


def simulate_run(options: Options, index: int, *, recording: Trace | None = None) -> Run:
    """Run number `index` of the series that `options.seed` begins: the same whatever ran before."""
    import numpy as np

    rng = np.random.default_rng([options.seed, index])
    rows = draw_rows(rng, rows=options.rows, budget=options.budget)
    trace = recording or draw_trace(rng, rate=options.rate, limit=options.limit)
    session = _Session(trace, rows, options, rng)
    session.run()
    end, writable, least = session.governor.deadline, options.writable, session.governor.least
    unguarded, unguarded_killed = _without_governor(trace, rows, budget=options.budget, until=writable)
    fixed, fixed_killed = _without_governor(trace, rows, budget=_safe_budget(rows, options), until=writable)
    scored = session.kept > 0
    return Run(
        events=trace.events,
        loss=_loss(rows, session.kept, session.swapped),
        oracle=_oracle(trace, rows, least=least, until=writable),
        oracle_margin=_oracle(trace, rows, least=least, until=end),
        cut=float((scored & (session.kept < rows.lengths)).mean()),
        prior=float((~scored).mean()),
        swapped=float(session.swapped.mean()),
        slack=options.limit - session.now,
        late=session.now > end,
        missed=session.now > writable,
        ended=session.ended,
        unguarded=unguarded,
        unguarded_killed=unguarded_killed,
        fixed=fixed,
        fixed_killed=fixed_killed,
    )


def simulate(options: Options, *, runs: int, report: Callable[[int], None] = lambda _: None) -> list[Run]:
    """Simulate `runs` sessions; `report` is told how many are done.

    Raises DataError where a recorded trace cannot be read.
    """
    recording = read_recording(options.trace, limit=options.limit) if options.trace else None
    results = []
    for index in range(runs):
        results.append(simulate_run(options, index, recording=recording))
        report(index + 1)
    return results


def _loss(rows: Rows, kept: Array, swapped: NDArray[np.bool_]) -> float:
    """The log loss of the session's submission under the loss model."""
    missing = 1 - kept / rows.lengths
    return MODEL_LOSS + float((GAP * missing * missing - rows.gains * swapped).mean())


def _capacity(trace: Trace, *, until: float) -> float:
    """Seconds of work at speed 1 between the start of scoring and `until`, the noise's mean taken off."""
    done = trace.work_until(until) - trace.work_until(min(until, trace.start_seconds))
    return done / math.exp(trace.noise**2 / 2)


def _row_costs(trace: Trace, lengths: Array) -> Array:
    a, b, c = trace.law
    costs: Array = a + lengths * (b + c * lengths)
    return costs


def _oracle(trace: Trace, rows: Rows, *, least: int, until: float) -> float:
    """The loss of whoever knows the speed of every minute, up to the limit without margin, under the same rules.

    One budget for all rows, as large as fits; else as many rows at the least one; with time left, swapped passes.
    """
    import numpy as np

    capacity = _capacity(trace, until=until)
    longest = int(rows.lengths[-1])
    fits, fails = min(least, longest), longest + 1
    while fails - fits > 1:
        middle = (fits + fails) // 2
        if trace.cost(load_of(rows.lengths, tokens=middle)) <= capacity:
            fits = middle
        else:
            fails = middle
    kept = np.minimum(rows.lengths, fits).astype(np.float64)
    costs = np.cumsum(_row_costs(trace, kept))
    kept[int(np.searchsorted(costs, capacity, side="right")) :] = 0
    swapped = np.zeros(len(kept), dtype=bool)
    if kept.all():
        passes = np.cumsum(_row_costs(trace, kept[rows.order]))
        swapped[rows.order[: int(np.searchsorted(passes, capacity - costs[-1], side="right"))]] = True
    return _loss(rows, kept, swapped)


def _without_governor(trace: Trace, rows: Rows, *, budget: int, until: float) -> tuple[float, bool]:
    """One budget to the end, shortest rows first: the loss if what was scored is kept, and whether it was killed."""
    import numpy as np

    kept = np.minimum(rows.lengths, budget).astype(np.float64)
    done = int(np.searchsorted(np.cumsum(_row_costs(trace, kept)), _capacity(trace, until=until), side="right"))
    kept[done:] = 0
    return _loss(rows, kept, np.zeros(len(kept), dtype=bool)), done < len(kept)


def _safe_budget(rows: Rows, options: Options) -> int:
    """The budget of a careful person without a governor: four fifths of the lowest planned rate, the usual start."""
    import numpy as np

    tokens = 0.8 * (options.rate or RATES[0]) * max(0.0, options.limit - START_SECONDS)
    fits, fails = 1, options.budget + 1
    while fails - fits > 1:
        middle = (fits + fails) // 2
        if np.minimum(rows.lengths, middle).sum() <= tokens:
            fits = middle
        else:
            fails = middle
    return fits


def figures(runs: Sequence[Run]) -> dict[str, float]:
    """Means, extremes and counts over the runs: what the benchmark reports.

    `lost_*`: against the oracle; of its mean, `lost_margin_mean` is the margin's price and `lost_future_mean` the price
    of not knowing the future. `*_lost_*` of the naive policies: against the same oracle, if what was scored is kept.
    """
    count = len(runs)
    lost = [run.lost for run in runs]
    margin = math.fsum(run.oracle_margin - run.oracle for run in runs) / count
    return {
        "runs": count,
        "missed": sum(run.missed for run in runs),
        "ended_by_notebook": sum(run.ended for run in runs),
        "late_into_margin": sum(run.late for run in runs),
        "loss_mean": math.fsum(run.loss for run in runs) / count,
        "oracle_mean": math.fsum(run.oracle for run in runs) / count,
        "lost_mean": math.fsum(lost) / count,
        "lost_margin_mean": margin,
        "lost_future_mean": math.fsum(lost) / count - margin,
        "lost_p95": _quantile(lost, 0.95),
        "lost_worst": max(lost),
        "cut_mean": math.fsum(run.cut for run in runs) / count,
        "cut_worst": max(run.cut for run in runs),
        "prior_mean": math.fsum(run.prior for run in runs) / count,
        "prior_worst": max(run.prior for run in runs),
        "swapped_mean": math.fsum(run.swapped for run in runs) / count,
        "slack_median": _quantile([run.slack for run in runs], 0.5),
        "slack_least": min(run.slack for run in runs),
        "unguarded_killed": sum(run.unguarded_killed for run in runs),
        "unguarded_lost_mean": math.fsum(run.unguarded - run.oracle for run in runs) / count,
        "unguarded_lost_worst": max(run.unguarded - run.oracle for run in runs),
        "fixed_killed": sum(run.fixed_killed for run in runs),
        "fixed_lost_mean": math.fsum(run.fixed - run.oracle for run in runs) / count,
        "fixed_lost_worst": max(run.fixed - run.oracle for run in runs),
    }


def _quantile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
