"""How long prompts take: a law of their lengths from the first chunks, and a speed that follows the later ones.

Law: seconds of a chunk = speed factor × (a · rows + b · Σ length + c · Σ length²), with a, b, c ≥ 0. The linear part
is the matrix products, the quadratic part attention, the part per row whatever an engine does once a prompt. The
engine's start is not in it: whoever plans by the clock has paid that before the first chunk.

Rows are scored in ascending length, so a slower card and a steeper law look the same from then on. Hence the law is
fitted to the first chunks only (the probe, which spans all lengths within minutes), and later chunks move the speed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    Vector = NDArray[np.float64]
    Lengths = Sequence[int] | NDArray[np.int64] | NDArray[np.float64]

LAW_CHUNKS = 12
"""Chunks that shape the law: the probe's eight, and the first few after it."""
_DRIFT = 0.005**2
"""Variance by which the log speed may wander from one chunk to the next: at 5 % noise small changes are followed with a
half-life of about 7 chunks. Large ones do not wait for that (`_follow`)."""
_LEAST_NOISE = 0.01**2
_MOST_NOISE = 1.0
_USUAL_NOISE = 0.06**2
_FIRST_NOISE = 0.1**2
_FAR = 3.0
"""Standard deviations beyond which a chunk is a stall or a new speed, not noise."""
_DOUBT = math.log(4.0)
"""The largest change of speed, up or down, that one such chunk makes us reckon with."""
_RECENT = 0.2
"""Weight of the latest chunk in what recent chunks look like."""
_SHARE_SD = (0.2, 1.0, 0.5)
"""Prior: the parts' shares of a probe's time lie around 0, 1, 0 with these standard deviations."""
_REWEIGHTINGS = 12
Z95 = 1.645
"""The standard normal's 95th percentile."""


@dataclass(frozen=True)
class Load:
    """What costs time in a set of prompts."""

    rows: float
    tokens: float
    squares: float


@dataclass(frozen=True)
class Estimate:
    """Seconds that a load takes (median), and the standard deviation of their logarithm."""

    seconds: float
    spread: float

    @property
    def p95(self) -> float:
        """Seconds that suffice in 19 of 20 cases, stalls apart."""
        return self.seconds * math.exp(Z95 * self.spread)


def load_of(lengths: Lengths, *, tokens: int | None = None) -> Load:
    """The load of prompts of `lengths` tokens, each cut to `tokens` if given."""
    import numpy as np

    array = np.asarray(lengths, dtype=np.float64)
    if tokens is not None:
        array = np.minimum(array, tokens)
    # Not array @ array: BLAS threads cost a millisecond here if the other cores are busy.
    return Load(float(len(array)), float(array.sum()), float((array * array).sum()))


@dataclass
class CostModel:
    """Learns from chunk after chunk what the rest will take."""

    count: int = 0
    """Chunks observed."""
    level: float = 0.0
    """Logarithm of the time that work takes now over what the law says."""
    level_variance: float = _FIRST_NOISE
    noise: float = _FIRST_NOISE
    """Variance of one chunk's log time around the level."""
    chunk_seconds: float = 0.0
    """A recent chunk's usual time, for how many chunks lie ahead."""
    law: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Seconds per row, per token, per squared token."""
    _first: list[tuple[Load, float]] = field(default_factory=list)
    _covariance: Vector | None = None
    _recent: tuple[float, float, float] = (0.0, 0.0, 0.0)
    _followed: int = 0

    def observe(self, load: Load, seconds: float) -> None:
        """Learn that `load` took `seconds`; a chunk of no rows or no time teaches nothing."""
        if load.rows <= 0 or not 0 < seconds < math.inf:
            return
        self.count += 1
        if self.count <= LAW_CHUNKS:
            self._first.append((load, seconds))
            self._fit()
        else:
            self._follow(load, seconds)

    def estimate(self, load: Load, *, spread: float | None = None) -> Estimate:
        """What `load` will take; `spread`, if given, stands in for the model's own."""
        seconds = math.exp(self.level) * self.by_law(load)
        return Estimate(seconds, self._spread(load, seconds) if spread is None else spread)

    def row_seconds(self, lengths: Lengths) -> Vector:
        """Median seconds of each row. Shape (rows,)."""
        import numpy as np

        array = np.asarray(lengths, dtype=np.float64)
        a, b, c = (math.exp(self.level) * part for part in self.law)
        return a + array * (b + c * array)

    def by_law(self, load: Load) -> float:
        """Seconds of `load` at the speed of the first chunks."""
        a, b, c = self.law
        return a * load.rows + b * load.tokens + c * load.squares

    def _spread(self, load: Load, seconds: float) -> float:
        """The doubt about the speed now, its wandering and the noise on the way, and the law's own doubt."""
        chunks = max(1.0, seconds / self.chunk_seconds) if self.chunk_seconds else 1.0
        variance = self.level_variance + _DRIFT * chunks / 3 + self.noise / chunks
        return math.sqrt(variance + self._law_variance(load))

    def _law_variance(self, load: Load) -> float:
        """Variance of the log ratio between what the law says of `load` and of recent chunks.

        The level is measured on recent chunks: if the work ahead looks like them, the law's errors cancel.
        """
        total = self.by_law(load)
        if self._covariance is None or total <= 0:
            return 0.0
        ahead = (load.rows / total, load.tokens / total, load.squares / total)
        slope = [there - here for there, here in zip(ahead, self._recent, strict=True)]
        rows: list[list[float]] = self._covariance.tolist()
        variance = sum(slope[i] * slope[j] * rows[i][j] for i in range(3) for j in range(3))
        # Linear in the errors, so without sense if they are large: lengths far from all that was seen.
        return min(max(0.0, variance), _DOUBT**2)

    def _fit(self) -> None:
        """Fit the law to the first chunks, robustly, then follow them in their order."""
        self.law, self._covariance, noise = _fit_law(self._first)
        self.level, self.level_variance, self.noise = 0.0, noise, noise
        self.chunk_seconds, self._recent, self._followed = 0.0, (0.0, 0.0, 0.0), 0
        for load, seconds in self._first:
            self._follow(load, seconds)
        # What the law was fitted to lies nearer to it than the next chunk will: its own reckoning of the noise stands.
        self.noise = noise

    def _follow(self, load: Load, seconds: float) -> None:
        """Move the level (a scalar Kalman filter) towards what a chunk says.

        A chunk far out is a stall or a new speed, and alone it cannot show which: it moves the level by no more than
        noise could, and opens the doubt so far that the next chunk decides.
        """
        expected = self.by_law(load)
        innovation = math.log(seconds / expected) - self.level

        before = self.level_variance + _DRIFT
        total = before + self.noise
        far = _FAR * math.sqrt(total)
        step = min(max(innovation, -far), far)
        gain = before / total
        self.level += gain * step
        self.level_variance = before * (1 - gain)
        noise = self.noise * (0.9 + 0.1 * step * step / total)
        self.noise = min(max(noise, _LEAST_NOISE), _MOST_NOISE)
        if abs(innovation) > far:
            self.level_variance = min(abs(innovation), _DOUBT) ** 2

        self._followed += 1
        weight = max(_RECENT, 1 / self._followed)
        # A stall's seconds say nothing about a usual chunk's.
        usual = min(seconds, math.exp(self.level + far) * expected)
        self.chunk_seconds += weight * (usual - self.chunk_seconds)
        here = (load.rows / expected, load.tokens / expected, load.squares / expected)
        mixed = [old + weight * (new - old) for old, new in zip(self._recent, here, strict=True)]
        self._recent = (mixed[0], mixed[1], mixed[2])


def _fit_law(chunks: Sequence[tuple[Load, float]]) -> tuple[tuple[float, float, float], Vector, float]:
    """The law (seconds per row, per token, per squared token), its covariance, and the variance of a chunk's log time.

    Minimises the relative errors by least squares under non-negativity, with a weak prior on the shares of the parts
    (so that one chunk is enough for a start), and Tukey's weights (so that a stall is left out).
    """
    import numpy as np

    parts = np.array([(load.rows, load.tokens, max(load.squares, 1e-9)) for load, _ in chunks])
    seconds = np.array([second for _, second in chunks])
    # In shares of a typical chunk's time: column j is 1 on average. The median, for a stall's sake.
    scale = np.median(parts / seconds[:, None], axis=0)
    # Real probes stay below 100; what is far beyond is nonsense, and would make the equations singular.
    shares = np.minimum(parts / seconds[:, None] / np.maximum(scale, 1e-300), 1e3)

    weights = np.ones(len(chunks))
    noise = _FIRST_NOISE
    beta = np.array([0.0, 1.0, 0.0])
    for _ in range(_REWEIGHTINGS):
        precision = noise / np.square(_SHARE_SD)
        beta = _non_negative(shares, weights, precision)
        errors = -np.log(np.maximum(shares @ beta, 1e-12))
        middle = _median(errors)
        # A handful of chunks says little about the noise: it begins as if three had shown 6 %.
        robust = (1.4826 * _median(np.abs(errors - middle))) ** 2
        free = len(chunks) / max(1, len(chunks) - int((beta > 0).sum()))
        noise = (len(chunks) * robust * free + 3 * _USUAL_NOISE) / (len(chunks) + 3)
        noise = min(max(noise, _LEAST_NOISE), _MOST_NOISE)
        weights = np.square(np.clip(1 - np.square(errors / (4.7 * math.sqrt(noise))), 0, None))
        if not weights.any():
            weights = np.ones(len(chunks))

    curvature = (shares * weights[:, None]).T @ shares / noise + np.diag(1 / np.square(_SHARE_SD))
    # Relative errors punish a forecast that is too high: take that lean out again.
    lean = math.exp(float(errors @ weights / weights.sum()))
    law = lean * beta / np.maximum(scale, 1e-300)
    covariance = np.linalg.inv(curvature) / np.outer(scale, scale)
    return (float(law[0]), float(law[1]), float(law[2])), covariance, noise


def _median(values: Vector) -> float:
    """As numpy's, which takes longer to look at its arguments than a few numbers take to be sorted."""
    ordered = sorted(values.tolist())
    return float(ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


def _non_negative(shares: Vector, weights: Vector, precision: Vector) -> Vector:
    """The ridge solution of `shares · β ≈ 1` around (0, 1, 0) with β ≥ 0: the best of the seven sets of parts.

    What is least with more parts is less than with some of them: where it is not negative, fewer are not tried.
    """
    import numpy as np

    centre = np.array([0.0, 1.0, 0.0])
    matrix = (shares * weights[:, None]).T @ shares + np.diag(precision)
    target = (shares * weights[:, None]).sum(axis=0) + precision * centre

    free = np.linalg.solve(matrix, target)
    if (free >= 0).all():
        return free

    best, least = centre, math.inf
    tried: set[int] = set()
    for parts in ([0, 1], [0, 2], [1, 2], [0], [1], [2]):
        if len(parts) == 1 and tried.issuperset(parts):
            continue
        beta = np.zeros(3)
        beta[parts] = np.linalg.solve(matrix[parts][:, parts], target[parts])
        if (beta < 0).any():
            continue

        tried.update(parts)
        cost = float(beta @ matrix @ beta - 2 * target @ beta)
        if cost < least:
            best, least = beta, cost
    return best
