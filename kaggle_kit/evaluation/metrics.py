"""What came true, and the metrics of answers against it.

Metrics are of [N, K] log-probabilities against [N] outcomes, as figures of each row whose means they are; the log loss
of a submission is Kaggle's own.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import DataError
from kaggle_kit.runtime.rows import read_records

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Whole = NDArray[np.int64]

LEAST = 1e-15
"""The log loss takes no probability for smaller: Kaggle's rule, and scikit-learn's until version 1.3."""
BINS = 15
"""Of equal width, each with its upper edge: as in Guo et al., On Calibration of Modern Neural Networks, 2017."""


@dataclass(frozen=True)
class Solution:
    """The column that came true, by row id."""

    outcomes: Mapping[str, str]


def read_solution(path: Path, *, columns: Sequence[str]) -> Solution:
    """Read a CSV whose first column is the id and in which one of `columns` is 1 in each row (train.csv serves too).

    Raises DataError if the file or a column is missing, a row has not exactly one 1, or an id is there twice.
    """
    outcomes: dict[str, str] = {}
    for record in read_records(path, columns=columns):
        row_id = next(iter(record.values())) or ""
        true = outcome_of(record, columns=columns, row_id=row_id, source=path)
        if row_id in outcomes:
            raise DataError(f"{path} has two rows with the id {row_id!r}; ids must differ")
        outcomes[row_id] = true
    return Solution(outcomes)


def outcome_of(record: Mapping[str, Any], *, columns: Sequence[str], row_id: str, source: Path) -> str:
    """The one of `columns` that is 1 in a row of the table `source`. Raises DataError if not exactly one is."""
    true = [column for column in columns if _is_one(record.get(column))]
    if len(true) != 1:
        raise DataError(f"{source}: the row {row_id!r} has {len(true)} outcomes that are 1; it needs exactly one")
    return true[0]


def _is_one(cell: Any) -> bool:
    return cell.strip() in ("1", "1.0") if isinstance(cell, str) else cell == 1


def log_loss(submission: Path, solution: Solution) -> float:
    """The mean of -ln p(outcome) over the rows of a submission (nats; uniform over three is 1.0986).

    Rows are renormalised first, as Kaggle does. Raises DataError if a row has no outcome.
    """
    with submission.open(newline="", encoding="utf-8") as stream:
        header, *lines = list(csv.reader(stream)) or [[]]
    losses = []
    for row_id, *cells in lines:
        if row_id not in solution.outcomes:
            raise DataError(f"the solution has no row {row_id!r} of {submission}")
        values = dict(zip(header[1:], map(float, cells), strict=True))
        share = values[solution.outcomes[row_id]] / sum(values.values())
        losses.append(-math.log(min(max(share, LEAST), 1.0)))
    if not losses:
        raise DataError(f"{submission} has no rows to score")
    return math.fsum(losses) / len(losses)


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

    spread = np.zeros((len(gaps), width))
    spread[np.arange(len(gaps)), places] = gaps
    return spread


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
    errors = []
    for _ in range(draws):
        gaps = confidence - (rng.random(len(confidence)) < confidence)
        errors.append(np.abs(np.bincount(place, weights=gaps, minlength=bins)).sum() / len(confidence))
    return float(np.mean(errors))
