"""Predictions against what came true, as a page shows them: metrics by kind of answer, reliability, differences."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from kaggle_kit.errors import DataError
from kaggle_kit.evaluation.assess import MEANS, TOP_ERROR
from kaggle_kit.evaluation.bootstrap import Estimate, resample
from kaggle_kit.evaluation.metrics import chance_error, losses, reliability, top_gaps

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from kaggle_kit.evaluation.assess import SliceFigures
    from kaggle_kit.evaluation.metrics import Reliability

    Array = NDArray[np.float64]
    Whole = NDArray[np.int64]

SUBMITTED = "submission"
LIKELIEST = "the likeliest label"
_FEW = 2


@dataclass(frozen=True)
class Predictions:
    """[N, K] log-probabilities of rows by label column; `outcome` [N] is the index of the column that came true."""

    ids: Sequence[str]
    columns: Sequence[str]
    logs: Array
    outcome: Whole | None = None


@dataclass(frozen=True)
class Judged:
    """Metrics by kind of answer (the last kind is `final`), and what belongs to the final one.

    `gains`: kind → its log loss less the first kind's, paired. `diagrams`: name → bins.
    """

    final: str
    rows: int
    figures: Mapping[str, Mapping[str, Estimate]]
    diagrams: Mapping[str, Sequence[Reliability]]
    chance_ece: float
    gains: Mapping[str, Estimate] = field(default_factory=dict)
    swap: Mapping[str, Estimate] = field(default_factory=dict)
    slices: Sequence[SliceFigures] = ()


@dataclass(frozen=True)
class Apart:
    """How two runs' answers differ over the rows of both, the second less the first.

    `figures`: metric → paired difference, empty where outcomes are not known. `mean`: the mean absolute difference of
    a label's probability; `changed`: the share of rows whose likeliest label differs.
    """

    rows: int
    left_out: int
    mean: float
    changed: float
    figures: Mapping[str, Estimate]


def diagrams(predictions: Predictions) -> dict[str, Sequence[Reliability]]:
    """The reliability of the likeliest label, and of each label's own probability."""
    if predictions.outcome is None:
        return {}
    found: dict[str, Sequence[Reliability]] = {LIKELIEST: reliability(predictions.logs, predictions.outcome)}
    for number, column in enumerate(predictions.columns):
        found[column] = reliability(predictions.logs, predictions.outcome, column=number)
    return found


def judge(predictions: Predictions, *, seed: int = 0) -> Judged | None:
    """The metrics of one kind of answer; None where the outcomes are not known, or of fewer than two rows."""
    import numpy as np

    outcome = predictions.outcome
    if outcome is None or len(outcome) < _FEW:
        return None
    means = [metric(predictions.logs, outcome) for metric in MEANS.values()]
    table = np.concatenate([np.stack(means, axis=1), top_gaps(predictions.logs, outcome)], axis=1)
    found = resample(table, seed=seed)
    figures = {name: found.mean(number) for number, name in enumerate(MEANS)}
    gaps, samples = found.value[len(MEANS) :], found.samples[:, len(MEANS) :]
    figures[TOP_ERROR] = found.estimate(float(abs(gaps).sum()), abs(samples).sum(axis=1), biased=True)
    return Judged(
        final=SUBMITTED,
        rows=len(outcome),
        figures={SUBMITTED: figures},
        diagrams=diagrams(predictions),
        chance_ece=chance_error(predictions.logs, seed=seed),
    )


def greatest_losses(predictions: Predictions, *, most: int) -> list[tuple[int, float]]:
    """The rows of the greatest loss, as (number, loss), the greatest first; of equals the earlier."""
    import numpy as np

    if predictions.outcome is None:
        return []
    found = losses(predictions.logs, predictions.outcome)
    order = np.argsort(-found, kind="stable")[:most]
    return [(int(number), float(found[number])) for number in order]


def apart(first: Predictions, second: Predictions, *, seed: int = 0) -> Apart | None:
    """How the answers of two runs differ; None where they share no row or have other labels.

    Raises DataError where they disagree on what came true.
    """
    import numpy as np

    places = [{row_id: place for place, row_id in enumerate(one.ids)} for one in (first, second)]
    shared = [row_id for row_id in first.ids if row_id in places[1]]
    if not shared or tuple(first.columns) != tuple(second.columns):
        return None
    one, other = (
        _take(whole, [place[row_id] for row_id in shared]) for whole, place in zip((first, second), places, strict=True)
    )
    figures: dict[str, Estimate] = {}
    if one.outcome is not None and other.outcome is not None:
        if (one.outcome != other.outcome).any():
            raise DataError("the two runs disagree on what came true; compare runs over the same labelled rows")
        table = [metric(other.logs, other.outcome) - metric(one.logs, one.outcome) for metric in MEANS.values()]
        found = resample(np.stack(table, axis=1), seed=seed)
        figures = {name: found.mean(number) for number, name in enumerate(MEANS)}
    return Apart(
        rows=len(shared),
        left_out=len(first.ids) + len(second.ids) - 2 * len(shared),
        mean=float(np.abs(np.exp(one.logs) - np.exp(other.logs)).mean()),
        changed=float((one.logs.argmax(axis=1) != other.logs.argmax(axis=1)).mean()),
        figures=figures,
    )


def _take(whole: Predictions, places: list[int]) -> Predictions:
    outcome = None if whole.outcome is None else whole.outcome[places]
    return replace(whole, ids=[whole.ids[place] for place in places], logs=whole.logs[places], outcome=outcome)
