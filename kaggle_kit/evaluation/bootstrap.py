"""Intervals by resampling rows: the multinomial bootstrap, all figures at once.

Each replicate draws N rows with replacement, the plain bootstrap of Efron. The Poisson bootstrap would only save what
is cheap here: counting N drawn numbers is faster than drawing N Poisson numbers, and with ten rows a sample that is
always of ten rows is worth having. All figures of a call see the same samples, so that differences are paired; the
same seed draws the same samples, whatever figures are asked for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kaggle_kit.evaluation.metrics import Array


REPLICATES = 1000
SEED = 0
LEVEL = 0.95
_NORMAL = 1.959964
"""Standard errors to each side of a normal variable's mean that hold 95 % of it."""
_CHUNK = 32
"""Replicates whose weights are in memory at once."""


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval; `error` is its standard error, `rows` how many it was made of."""

    value: float
    low: float
    high: float
    error: float
    rows: int

    def __str__(self) -> str:
        """`0.6310 (0.6012 to 0.6608)`."""
        return f"{self.value:.4f} ({self.low:.4f} to {self.high:.4f})"

    @property
    def signed(self) -> str:
        """The same with a sign, for a difference."""
        return f"{self.value:+.4f} ({self.low:+.4f} to {self.high:+.4f})"

    @property
    def in_noise(self) -> bool:
        """Whether the interval of a difference holds 0."""
        return not (self.low > 0 or self.high < 0)


def json_of(value: Any) -> Any:
    """A figure, or a record, table or list of figures, as JSON has it: None for what is no number."""
    if is_dataclass(value):
        return {field.name: json_of(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {name: json_of(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [json_of(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@dataclass(frozen=True)
class Resampled:
    """Means of M columns: `value` [M] over all N rows, `samples` [R, M] over each replicate."""

    value: Array
    samples: Array
    rows: int

    def estimate(self, value: float, samples: Array, *, rows: int | None = None, biased: bool = False) -> Estimate:
        """The estimate of a figure made of the columns: once of `value`, and [R] times of `samples`.

        The interval is the percentile one. With `biased`, for a figure above 0 that chance makes greater, and a
        replicate greater still, it is the value and 1.96 standard errors to both sides, cut at 0. Replicates without a
        row of a slice are left out.
        """
        import numpy as np

        sound = samples[np.isfinite(samples)]
        if not len(sound) or not np.isfinite(value):
            return Estimate(float(value), float("nan"), float("nan"), float("nan"), 0)
        low, high = np.quantile(sound, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        error = float(sound.std(ddof=1)) if len(sound) > 1 else float("nan")
        if biased:
            low, high = max(value - _NORMAL * error, 0.0), value + _NORMAL * error
        return Estimate(float(value), float(low), float(high), error, self.rows if rows is None else rows)

    def mean(self, column: int) -> Estimate:
        """The mean of a column."""
        return self.estimate(float(self.value[column]), self.samples[:, column])


def resample(table: Array, *, seed: int = SEED, replicates: int = REPLICATES) -> Resampled:
    """The means of the columns of `table` [N, M], and over `replicates` samples of its rows."""
    import numpy as np

    rows = len(table)
    rng = np.random.default_rng(seed)
    samples = np.empty((replicates, table.shape[1]))
    for start in range(0, replicates, _CHUNK):
        count = min(_CHUNK, replicates - start)
        weights = np.empty((count, rows))
        for number in range(count):
            weights[number] = np.bincount(rng.integers(0, rows, rows), minlength=rows)
        samples[start : start + count] = weights @ table / rows
    return Resampled(table.mean(axis=0), samples, rows)


def mean_estimate(figures: Array, *, seed: int = SEED, replicates: int = REPLICATES) -> Estimate:
    """The mean of [N] figures with its interval."""
    return resample(figures[:, None], seed=seed, replicates=replicates).mean(0)
