"""Metrics of [N, K] log-probabilities against [N] outcomes, as figures of each row whose means they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Whole = NDArray[np.int64]

LEAST = 1e-15
"""The log loss takes no probability for smaller: Kaggle's rule, and that of `evaluation.solution`."""
BINS = 15
"""Of equal width, each with its upper edge: as in Guo et al., On Calibration of Modern Neural Networks, 2017."""


def losses(values: Array, outcome: Whole) -> Array:
    """[N]: -ln p(outcome), in nats."""
    import numpy as np

    return np.asarray(-np.clip(values[np.arange(len(outcome)), outcome], np.log(LEAST), 0.0))


def hits(values: Array, outcome: Whole) -> Array:
    """[N]: 1 where the likeliest column came true (the first of equals), else 0."""
    import numpy as np

    return np.asarray(values.argmax(axis=1) == outcome, dtype=float)


def brier(values: Array, outcome: Whole) -> Array:
    """[N]: the sum over all columns of (p - 1 or 0)²: between 0 and 2."""
    import numpy as np

    errors = np.exp(values)
    errors[np.arange(len(outcome)), outcome] -= 1
    return np.asarray((errors**2).sum(axis=1))


def bin_of(probabilities: Array, *, bins: int = BINS) -> Whole:
    """The number of the bin in which each probability falls; one on an edge falls below it."""
    import numpy as np

    edges = np.linspace(0, 1, bins + 1)[1:-1]
    return np.searchsorted(edges, probabilities, side="left").astype(np.int64)


def top_gaps(values: Array, outcome: Whole, *, bins: int = BINS) -> Array:
    """[N, bins]: in the bin of a row's greatest probability that probability less the hit, else 0.

    The expected calibration error of the likeliest label is the sum over the bins of the mean's absolute value: the
    sum of (rows in bin / N) · |mean confidence - accuracy|.
    """
    import numpy as np

    confidence = np.exp(values.max(axis=1))
    return _spread(confidence - hits(values, outcome), bin_of(confidence, bins=bins), bins)


def class_gaps(values: Array, outcome: Whole, *, bins: int = BINS) -> Array:
    """[N, K · bins]: the same for each column's own probability.

    The class-wise error is the sum of the means' absolute values over all, divided by K (Kull et al., Beyond
    temperature scaling, 2019).
    """
    import numpy as np

    columns = []
    for k in range(values.shape[1]):
        probability = np.exp(values[:, k])
        columns.append(_spread(probability - (outcome == k), bin_of(probability, bins=bins), bins))
    return np.concatenate(columns, axis=1)


def _spread(gaps: Array, places: Whole, width: int) -> Array:
    import numpy as np

    found = np.zeros((len(gaps), width))
    found[np.arange(len(gaps)), places] = gaps
    return found


@dataclass(frozen=True)
class Reliability:
    """One bin of a reliability diagram: its edges, its rows, their mean confidence and the share that came true."""

    low: float
    high: float
    rows: int
    confidence: float
    accuracy: float


def reliability(values: Array, outcome: Whole, *, column: int | None = None, bins: int = BINS) -> list[Reliability]:
    """The bins that have rows: of the likeliest column, or of the column with this number."""
    import numpy as np

    confidence = np.exp(values.max(axis=1) if column is None else values[:, column])
    true = hits(values, outcome) if column is None else (outcome == column).astype(float)
    place = bin_of(confidence, bins=bins)
    rows, sums, trues = (np.bincount(place, weights=w, minlength=bins) for w in (None, confidence, true))
    return [
        Reliability(b / bins, (b + 1) / bins, int(rows[b]), float(sums[b] / rows[b]), float(trues[b] / rows[b]))
        for b in range(bins)
        if rows[b]
    ]


def chance_error(values: Array, *, seed: int, draws: int = 100, bins: int = BINS) -> float:
    """What `top_gaps` makes of a perfectly calibrated model, on average: outcomes drawn by the model's own word.

    With few rows an expected calibration error is far from 0 by chance alone; a figure near this one says nothing.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    confidence = np.exp(values.max(axis=1))
    place = bin_of(confidence, bins=bins)
    found = []
    for _ in range(draws):
        gaps = confidence - (rng.random(len(confidence)) < confidence)
        found.append(np.abs(np.bincount(place, weights=gaps, minlength=bins)).sum() / len(confidence))
    return float(np.mean(found))
