"""The deadline governor: how long prompts may be, how many still fit, and what the time that is left can buy.

It decides and does nothing else: no files, no engine, and the clock is handed in, so that a simulation drives the
very same code. The worker's loop:

1. Score the probe (`probe`), and give `observe` what each chunk took, from its start to its rows' being on disk.
2. Before each further chunk, ask `budget` with all lengths that remain, in their order (ascending). Cut the chunk's
   prompts to `tokens`, take no more than `rows` of them, and of these as many as are `affordable` (one chunk's noise
   is larger than the average of many); if that is 0, the rest get the prior.
3. After the first pass, ask `affordable` before each chunk with the lengths of the swapped passes not yet bought, in
   the order of `swap_order`; stop at 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kaggle_kit.errors import UsageError
from kaggle_kit.runtime.cost_model import CostModel, Load, load_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from kaggle_kit.runtime.cost_model import Lengths

STALL_SHARE = 0.03
"""Reserve for stalls: this share of the work ahead (a ten-minute stall in five and a half hours) ..."""
STALL_SECONDS = 600.0
"""... but never more than one such stall."""
LEAST_TOKENS = 128
LEAST_SHARE = 1 / 8
"""Least useful budget: this share of the full one, LEAST_TOKENS at least. Low on purpose: the first tokens kept say the
most, so many short prompts beat few long ones and the prior for the rest. A long template wants a higher `floor`."""


@dataclass(frozen=True)
class Allowance:
    """What the first pass may do: `tokens` of a prompt at most, and the first `rows` of the rows that remain."""

    tokens: int
    rows: int


@dataclass(frozen=True)
class Finish:
    """When the work would end, on the governor's clock (seconds)."""

    expected: float
    p95: float


def deadline(
    *, started: float, session_seconds: float, competition_seconds: float | None = None, margin_seconds: float
) -> float:
    """When scoring must have ended: the nearer of the two limits after `started`, less the margin.

    The margin has to hold what the governor cannot know beforehand: a stall in the very last chunk, that chunk's own
    overrun, and the writing of the submission. Raises UsageError if nothing is left.
    """
    limit = session_seconds if competition_seconds is None else min(session_seconds, competition_seconds)
    if margin_seconds < 0:
        raise UsageError(f"the margin is {margin_seconds:g} s; it must be 0 or more")
    if not margin_seconds < limit:
        raise UsageError(f"a margin of {margin_seconds:g} s leaves nothing of a limit of {limit:g} s; lower the margin")
    return started + limit - margin_seconds


def probe(lengths: Lengths, *, rows: int = 256, chunks: int = 8) -> list[list[int]]:
    """Rows to score first: `chunks` lists of indices into `lengths`, each from its own stratum of length.

    The strata come in a mixed order (bit reversal), so that a card that slows down during the probe does not look like
    a law of length. A probe of more than a quarter of the rows is made smaller; below 4 rows a chunk, there is none.
    """
    import numpy as np

    each = min(rows, len(lengths) // 4) // chunks
    if each < 4:
        return []

    order = np.argsort(np.asarray(lengths), kind="stable")
    strata = np.array_split(order, chunks)
    bits = max(1, (chunks - 1).bit_length())
    turns = sorted(range(chunks), key=lambda number: int(f"{number:0{bits}b}"[::-1], 2))
    chunks_of_rows = (strata[turn][np.linspace(0, len(strata[turn]) - 1, each).round().astype(int)] for turn in turns)
    return [[int(index) for index in chunk] for chunk in chunks_of_rows]


def swap_order(
    probabilities: NDArray[np.float64] | Sequence[Sequence[float]],
    *,
    exchanged: tuple[int, int] = (0, 1),
    costs: Sequence[float] | Lengths | None = None,
) -> NDArray[np.int64]:
    """The rows in the order in which to buy their swapped passes: the largest expected gain first. Shape (N,).

    `probabilities`: shape (N, K), of the first pass. `exchanged`: the two labels that trade places. `costs`: seconds or
    tokens of each row's pass, if the gain should be counted per cost.

    Rule: gain = m - d², with m = p_a + p_b and d = p_a - p_b. Averaging a pass with its mirror image in log space
    moves the log-odds of a against b by some z (a's logit by z/2, b's by -z/2), and leaves the other labels' logits.
    For small z the first pass then lies KL ≈ ½ (z/2)² [m - d²] behind the average: the bracket is the variance of
    1[a] - 1[b] under p. Assumptions: the average is the better answer, and z² (position bias and noise, in log-odds)
    is the same for all rows in expectation. So an undecided row (d = 0) gains most; a row that is sure of one of the
    two, or of a tie, gains nothing.
    """
    import numpy as np

    array = np.asarray(probabilities, dtype=np.float64)
    if array.size == 0:
        return np.zeros(0, dtype=np.int64)
    gain = swap_gain(array, exchanged=exchanged)
    if costs is not None:
        gain = gain / np.maximum(np.asarray(costs, dtype=np.float64), 1e-12)
    return np.argsort(-gain, kind="stable")


def swap_gain(probabilities: NDArray[np.float64], *, exchanged: tuple[int, int] = (0, 1)) -> NDArray[np.float64]:
    """The rule of `swap_order`, up to a constant: 0 (sure) to 1 (undecided between the two). Shape (N,)."""
    a, b = (probabilities[:, label] for label in exchanged)
    difference = a - b
    return a + b - difference * difference


@dataclass
class Governor:
    """Keeps a run inside its deadline.

    `deadline`: on `clock`'s scale (seconds). `full`: tokens of a prompt at most when time does not matter. `floor`: the
    least budget that is of use (default: an eighth of `full`, at least 128, never above `full`).
    """

    deadline: float
    full: int
    clock: Callable[[], float]
    floor: int | None = None
    model: CostModel = field(default_factory=CostModel)
    _ahead: float = 0.0

    def __post_init__(self) -> None:
        """Raise UsageError if the budgets make no sense."""
        if self.full < 1:
            raise UsageError(f"a full budget of {self.full} tokens leaves no prompt; it must be 1 or more")
        if self.floor is not None and not 1 <= self.floor <= self.full:
            raise UsageError(f"the least budget is {self.floor} tokens; it must lie between 1 and {self.full}")

    @property
    def least(self) -> int:
        """The least budget that is of use, in tokens."""
        if self.floor is not None:
            return self.floor
        return min(self.full, max(LEAST_TOKENS, int(self.full * LEAST_SHARE)))

    @property
    def left(self) -> float:
        """Seconds until the deadline, less those of the work that the engine already has."""
        return self.deadline - self.clock() - self._ahead

    def ahead(self, lengths: Lengths, *, since: float) -> None:
        """Reckon with prompts of `lengths` tokens that the engine has been at for `since` seconds."""
        known = len(lengths) > 0 and self.model.count > 0
        self._ahead = max(0.0, self.model.estimate(load_of(lengths)).seconds - since) if known else 0.0

    def observe(self, lengths: Lengths, seconds: float) -> None:
        """Learn that a chunk of prompts of `lengths` tokens took `seconds`, its writing to disk included."""
        self.model.observe(load_of(lengths), seconds)

    def budget(self, lengths: Lengths) -> Allowance:
        """The largest budget with which all remaining rows end before the deadline in 19 of 20 cases.

        `lengths`: of the remaining rows at the full budget, in the order in which they will be scored. If even the
        least budget is too much: how many rows, in this order, still fit. Before the first observation nothing is
        known, and everything is allowed until the deadline has passed.
        """
        left = self.left
        if left <= 0 or self.model.count == 0 or len(lengths) == 0:
            return Allowance(self.full, len(lengths) if left > 0 else 0)

        whole = load_of(lengths, tokens=self.full)
        spread = self.model.estimate(whole).spread
        if self._p95(whole, spread) <= left:
            return Allowance(self.full, len(lengths))
        loads = _CutLoads(lengths)
        if self._p95(loads.at(self.least), spread) > left:
            return Allowance(self.least, self._fitting(lengths, tokens=self.least, left=left))
        tokens = largest(self.least, self.full, lambda tokens: self._p95(loads.at(tokens), spread) <= left)
        return Allowance(tokens, len(lengths))

    def finish(self, lengths: Lengths, *, tokens: int | None = None) -> Finish | None:
        """When the rows of `lengths` would be done, each cut to `tokens` (default: the full budget).

        None before the first observation.
        """
        if self.model.count == 0:
            return None
        now = self.clock()
        spread = self.model.estimate(load_of(lengths, tokens=self.full)).spread
        load = load_of(lengths, tokens=tokens or self.full)
        expected = self.model.estimate(load, spread=spread).seconds
        return Finish(now + expected, now + self._p95(load, spread))

    def affordable(self, lengths: Lengths) -> int:
        """How many of the passes over `lengths`, in this order, end before the deadline in 19 of 20 cases."""
        left = self.left
        if left <= 0 or self.model.count == 0:
            return 0
        return self._fitting(lengths, tokens=self.full, left=left)

    def must_stop(self, lengths: Lengths) -> bool:
        """Whether a next chunk of `lengths` would not end before the deadline in 19 of 20 cases."""
        left = self.left
        if left <= 0:
            return True
        if self.model.count == 0:
            return False
        return self._p95(load_of(lengths)) > left

    def _p95(self, load: Load, spread: float | None = None) -> float:
        """Seconds in which `load` is done in 19 of 20 cases, the reserve for stalls included."""
        seconds = self.model.estimate(load, spread=spread).p95
        return seconds + min(STALL_SECONDS, STALL_SHARE * seconds) if math.isfinite(seconds) else math.inf

    def _fitting(self, lengths: Lengths, *, tokens: int, left: float) -> int:
        """How many rows from the first on fit into `left` seconds."""
        import numpy as np

        array = np.minimum(np.asarray(lengths, dtype=np.float64), tokens)
        # What does not fit by the median does not fit at all: no need to look beyond.
        most = int(np.searchsorted(np.cumsum(self.model.row_seconds(array)), left, side="right"))
        array = array[:most]
        sums, squares = np.cumsum(array), np.cumsum(array * array)

        def in_time(rows: int) -> bool:
            return self._p95(Load(float(rows), float(sums[rows - 1]), float(squares[rows - 1]))) <= left

        return largest(0, most + 1, in_time)


def largest(fits: int, fails: int, test: Callable[[int], bool]) -> int:
    """The largest number that passes `test`, from `fits`, which does, to below `fails`, which does not."""
    while fails - fits > 1:
        middle = (fits + fails) // 2
        if test(middle):
            fits = middle
        else:
            fails = middle
    return fits


class _CutLoads:
    """The loads of the same prompts under any budget, each in the time of a binary search."""

    def __init__(self, lengths: Lengths) -> None:
        import numpy as np

        array = np.asarray(lengths, dtype=np.float64)
        self._sorted = array if bool((array[1:] >= array[:-1]).all()) else np.sort(array)
        self._tokens = np.cumsum(self._sorted)
        self._squares = np.cumsum(self._sorted * self._sorted)

    def at(self, tokens: int) -> Load:
        """The load when no prompt is longer than `tokens`."""
        whole = int(self._sorted.searchsorted(tokens))
        cut = len(self._sorted) - whole
        uncut = (float(self._tokens[whole - 1]), float(self._squares[whole - 1])) if whole else (0.0, 0.0)
        return Load(float(len(self._sorted)), uncut[0] + cut * tokens, uncut[1] + cut * tokens * tokens)
