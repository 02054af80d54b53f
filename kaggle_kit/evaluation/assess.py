"""How good answers are: every metric with its interval, slices, swap consistency, differences between two runs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from kaggle_kit.errors import DataError
from kaggle_kit.evaluation.answers import Answers, slices_of
from kaggle_kit.evaluation.bootstrap import REPLICATES, SEED, Estimate, Resampled, json_of, resample
from kaggle_kit.evaluation.metrics import brier, chance_error, class_gaps, hits, losses, reliability, top_gaps

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from kaggle_kit.evaluation.answers import Slice
    from kaggle_kit.evaluation.metrics import Array, Reliability, Whole
    from kaggle_kit.runtime.combine import Calibration


PLAIN, BOTH, CALIBRATED, SUBMITTED = "plain", "both orders", "calibrated", "submission"
LOG_LOSS, ACCURACY, BRIER = "log loss", "accuracy", "Brier"
MEANS: Mapping[str, Callable[..., Array]] = {LOG_LOSS: losses, ACCURACY: hits, BRIER: brier}
TOP_ERROR, CLASS_ERROR = "ECE", "ECE by label"
LIKELIEST = "the likeliest label"
_ROWS = "rows"
_FEW = 2


@dataclass(frozen=True)
class Predictions:
    """[N, K] log-probabilities of rows by label column; `outcome` [N] is the index of the column that came true."""

    ids: Sequence[str]
    columns: tuple[str, ...]
    logs: Array
    outcome: Whole | None = None

    def take(self, index: Whole) -> Predictions:
        """The rows of these numbers, in their order."""
        outcome = None if self.outcome is None else self.outcome[index]
        return replace(self, ids=[self.ids[place] for place in index], logs=self.logs[index], outcome=outcome)


_Rows = TypeVar("_Rows", Answers, Predictions)


@dataclass(frozen=True)
class SliceFigures:
    """A slice's rows, and the log loss and accuracy of the final answers there."""

    by: str
    name: str
    rows: int
    log_loss: Estimate
    accuracy: Estimate


@dataclass(frozen=True)
class Assessment:
    """What is known of answers whose outcomes are known.

    `figures`: kind of answer ("plain", "both orders", "calibrated"; or "submission") → metric → estimate; the last
    kind is `final`. `diagrams`: name → the final answers' reliability. `chance_ece`: what their ECE would be by chance
    alone. `gains`: kind → its log loss less the plain answers', paired. `swap`: how the two passes agree, over the rows
    that have both (empty without a swapped pass).
    """

    rows: int
    final: str
    figures: Mapping[str, Mapping[str, Estimate]]
    diagrams: Mapping[str, Sequence[Reliability]]
    chance_ece: float
    gains: Mapping[str, Estimate] = field(default_factory=dict)
    slices: Sequence[SliceFigures] = ()
    swap: Mapping[str, Estimate] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {
            "rows": self.rows,
            "final": self.final,
            "figures": json_of(self.figures),
            "difference_to_plain": json_of(self.gains),
            "swap": json_of(self.swap),
            "chance_ece": self.chance_ece,
            "slices": json_of(self.slices),
        }


class _Table:
    """Columns of figures that are resampled together, by name."""

    def __init__(self) -> None:
        self._columns: list[NDArray[Any]] = []
        self._places: dict[tuple[Any, str], slice] = {}
        self._samples: Resampled | None = None

    def add(self, group: Any, name: str, columns: NDArray[Any]) -> None:
        """Add [N] or [N, M] figures."""
        block = columns[:, None] if columns.ndim == 1 else columns
        start = sum(one.shape[1] for one in self._columns)
        self._columns.append(block)
        self._places[group, name] = slice(start, start + block.shape[1])

    def resample(self, *, seed: int, replicates: int) -> None:
        """Draw the samples that all estimates are made of."""
        import numpy as np

        self._samples = resample(np.concatenate(self._columns, axis=1), seed=seed, replicates=replicates)

    def mean(self, group: Any, name: str, *, less: Any = None) -> Estimate:
        """A column's mean; less that of the same column of another group, paired."""
        drawn, value, samples = self._of(group, name)
        if less is not None:
            _, base, base_samples = self._of(less, name)
            value, samples = value - base, samples - base_samples
        return drawn.estimate(float(value[0]), samples[:, 0])

    def add_kind(self, kind: str, values: Array, outcome: Whole) -> None:
        """Add the metrics of one kind of answer, [N, K] log-probabilities."""
        for name, metric in MEANS.items():
            self.add(kind, name, metric(values, outcome))
        self.add(kind, TOP_ERROR, top_gaps(values, outcome))

    def kind_figures(self, kind: str) -> dict[str, Estimate]:
        """The estimates of what `add_kind` added."""
        return {name: self.mean(kind, name) for name in MEANS} | {TOP_ERROR: self.gaps(kind, TOP_ERROR)}

    def add_slice(self, number: int, part: Slice, loss: Array, hit: Array) -> None:
        """Add a slice's rows, and each row's loss and hit within it."""
        self.add(number, _ROWS, part.mask * 1.0)
        self.add(number, LOG_LOSS, loss * part.mask)
        self.add(number, ACCURACY, hit * part.mask)

    def slice_figures(self, number: int, part: Slice) -> SliceFigures:
        """The estimates of what `add_slice` added."""
        loss, accuracy = (self.ratio(number, name, to=_ROWS, rows=part.rows) for name in (LOG_LOSS, ACCURACY))
        return SliceFigures(part.by, part.name, part.rows, loss, accuracy)

    def gaps(self, group: Any, name: str) -> Estimate:
        """The sum of the absolute means of columns."""
        drawn, value, samples = self._of(group, name)
        return drawn.estimate(float(abs(value).sum()), abs(samples).sum(axis=1), biased=True)

    def ratio(self, group: Any, name: str, *, to: str, rows: int) -> Estimate:
        """The mean over a slice, as the ratio of two means; a replicate without a row of it has none."""
        import numpy as np

        drawn, top, top_samples = self._of(group, name)
        _, bottom, bottom_samples = self._of(group, to)
        with np.errstate(invalid="ignore", divide="ignore"):
            samples = top_samples[:, 0] / bottom_samples[:, 0]
        return drawn.estimate(float(top[0] / bottom[0]), samples, rows=rows)

    def _of(self, group: Any, name: str) -> tuple[Resampled, Array, Array]:
        assert self._samples is not None, "resample first"  # noqa: S101
        place = self._places[group, name]
        return self._samples, self._samples.value[place], self._samples.samples[:, place]


def kinds_of(answers: Answers, calibration: Calibration | None) -> dict[str, Array]:
    """The answers that the file allows, each [N, K]: plain, both orders, calibrated."""
    kinds = {PLAIN: answers.plain}
    if answers.in_both.any():
        kinds[BOTH] = answers.averaged
    if calibration is not None:
        kinds[CALIBRATED] = answers.calibrated(calibration)
    return kinds


def assess(
    answers: Answers, *, calibration: Calibration | None = None, seed: int = SEED, replicates: int = REPLICATES
) -> Assessment:
    """Every metric of a scores file's answers, all over the same samples of its rows."""
    kinds = kinds_of(answers, calibration)
    final = list(kinds)[-1]
    parts = slices_of(answers)

    table = _Table()
    for kind, values in kinds.items():
        table.add_kind(kind, values, answers.outcome)
        table.add(kind, CLASS_ERROR, class_gaps(values, answers.outcome) / len(answers.columns))
    loss, hit = losses(kinds[final], answers.outcome), hits(kinds[final], answers.outcome)
    for number, part in enumerate(parts):
        table.add_slice(number, part, loss, hit)
    table.resample(seed=seed, replicates=replicates)

    return Assessment(
        rows=len(answers),
        final=final,
        figures={kind: table.kind_figures(kind) | {CLASS_ERROR: table.gaps(kind, CLASS_ERROR)} for kind in kinds},
        diagrams=_diagrams(answers.columns, kinds[final], answers.outcome),
        chance_ece=chance_error(kinds[final], seed=seed),
        gains={kind: table.mean(kind, LOG_LOSS, less=PLAIN) for kind in kinds if kind != PLAIN},
        slices=[table.slice_figures(number, part) for number, part in enumerate(parts)],
        swap=swap_consistency(answers, seed=seed, replicates=replicates),
    )


def assess_submission(predictions: Predictions, *, seed: int = SEED) -> Assessment | None:
    """The metrics of a submission; None if the outcomes are not known, or for fewer than two rows."""
    outcome = predictions.outcome
    if outcome is None or len(outcome) < _FEW:
        return None
    table = _Table()
    table.add_kind(SUBMITTED, predictions.logs, outcome)
    table.resample(seed=seed, replicates=REPLICATES)
    return Assessment(
        rows=len(outcome),
        final=SUBMITTED,
        figures={SUBMITTED: table.kind_figures(SUBMITTED)},
        diagrams=_diagrams(predictions.columns, predictions.logs, outcome),
        chance_ece=chance_error(predictions.logs, seed=seed),
    )


def _diagrams(columns: Sequence[str], values: Array, outcome: Whole) -> dict[str, Sequence[Reliability]]:
    """The reliability of the likeliest label, and of each label's own probability."""
    own = {column: reliability(values, outcome, column=number) for number, column in enumerate(columns)}
    return {LIKELIEST: reliability(values, outcome), **own}


def greatest_losses(predictions: Predictions, *, most: int) -> list[tuple[int, float]]:
    """The rows of the greatest loss, as (number, loss), the greatest first; of equals the earlier."""
    import numpy as np

    if predictions.outcome is None:
        return []
    loss = losses(predictions.logs, predictions.outcome)
    order = np.argsort(-loss, kind="stable")[:most]
    return [(int(number), float(loss[number])) for number in order]


def swap_consistency(answers: Answers, *, seed: int = SEED, replicates: int = REPLICATES) -> dict[str, Estimate]:
    """How far p(A | A first) is from p(A | B first), over the rows with both passes; empty if there are none.

    `apart`: the mean absolute difference of an exchanged column's probability; `first place`: the mean by which such a
    column is likelier in the place of its own name than in the other's place, with the sign of the first of each pair
    (above 0: the model likes the first place); `changed`: the share of rows whose likeliest column differs.
    """
    import numpy as np

    both = answers.in_both & answers.by_model
    if not both.any() or not answers.pairs:
        return {}

    plain, swapped = np.exp(answers.plain[both]), np.exp(answers.swapped[both])
    exchanged = [column for pair in answers.pairs for column in pair]
    apart = np.abs(plain - swapped)[:, exchanged].mean(axis=1)
    ones, others = [one for one, _ in answers.pairs], [other for _, other in answers.pairs]
    difference = plain - swapped
    place = ((difference[:, ones] - difference[:, others]) / 2).mean(axis=1)
    changed = (plain.argmax(axis=1) != swapped.argmax(axis=1)).astype(float)

    means = resample(np.stack([apart, place, changed], axis=1), seed=seed, replicates=replicates)
    return {name: means.mean(number) for number, name in enumerate(("apart", "first place", "changed"))}


@dataclass(frozen=True)
class Difference:
    """How the second's answers differ from the first's, over the `rows` that both have; `left_out` are in one only.

    `figures`: metric → the second's less the first's, paired; empty if outcomes are not known. `apart`: the mean
    absolute difference of a label's probability; `changed`: the share of rows whose likeliest label differs.
    """

    rows: int
    left_out: int
    figures: Mapping[str, Estimate]
    apart: float
    changed: float

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {"rows": self.rows, "left_out": self.left_out, "figures": json_of(self.figures)}


def common_rows(members: Sequence[_Rows]) -> list[_Rows]:
    """The rows that all members have, in the first one's order.

    Raises DataError if they share none, or do not speak of the same columns and outcomes.
    """
    import numpy as np

    first = members[0]
    places = [{row_id: place for place, row_id in enumerate(one.ids)} for one in members]
    shared = [row_id for row_id in first.ids if all(row_id in place for place in places)]
    if not shared:
        raise DataError("the scores files share no row id; score the same labelled rows with both")
    common = [
        one.take(np.array([place[row_id] for row_id in shared], dtype=np.int64))
        for one, place in zip(members, places, strict=True)
    ]

    outcome = common[0].outcome
    for one in common[1:]:
        if one.columns != first.columns:
            raise DataError(f"the scores files have other labels: {', '.join(first.columns)}; {', '.join(one.columns)}")
        if outcome is not None and one.outcome is not None and (one.outcome != outcome).any():
            raise DataError("the answers disagree on what came true; compare answers to the same labelled rows")
    return common


def difference(
    first: Predictions, second: Predictions, *, seed: int = SEED, replicates: int = REPLICATES
) -> Difference:
    """The paired differences of two runs' answers, second less first. Raises DataError as `common_rows` does."""
    import numpy as np

    one, other = common_rows([first, second])
    figures: dict[str, Estimate] = {}
    if one.outcome is not None and other.outcome is not None:
        table = [metric(other.logs, other.outcome) - metric(one.logs, one.outcome) for metric in MEANS.values()]
        means = resample(np.stack(table, axis=1), seed=seed, replicates=replicates)
        figures = {name: means.mean(number) for number, name in enumerate(MEANS)}
    return Difference(
        rows=len(one.ids),
        left_out=len(first.ids) + len(second.ids) - 2 * len(one.ids),
        figures=figures,
        apart=float(np.abs(np.exp(one.logs) - np.exp(other.logs)).mean()),
        changed=float((one.logs.argmax(axis=1) != other.logs.argmax(axis=1)).mean()),
    )


def difference_if_any(first: Predictions | None, second: Predictions | None) -> Difference | None:
    """`difference`; None if one has no answers, they share no row, or have other labels."""
    if first is None or second is None or first.columns != second.columns or not set(first.ids) & set(second.ids):
        return None
    return difference(first, second)
