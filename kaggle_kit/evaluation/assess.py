"""How good a scores file's answers are: every metric with its interval, slices, swap consistency, differences."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import DataError
from kaggle_kit.evaluation.answers import slices_of
from kaggle_kit.evaluation.bootstrap import REPLICATES, SEED, Estimate, Resampled, resample
from kaggle_kit.evaluation.metrics import brier, chance_error, class_gaps, hits, losses, top_gaps

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from kaggle_kit.evaluation.answers import Answers, Slice
    from kaggle_kit.runtime.combine import Calibration

    Array = NDArray[np.float64]

PLAIN, BOTH, CALIBRATED = "plain", "both orders", "calibrated"
LOG_LOSS, ACCURACY, BRIER = "log loss", "accuracy", "Brier"
MEANS: Mapping[str, Callable[..., Array]] = {LOG_LOSS: losses, ACCURACY: hits, BRIER: brier}
TOP_ERROR, CLASS_ERROR = "ECE", "ECE by label"
_ROWS = "rows"


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
    """What is known of a scores file.

    `figures`: kind of answer ("plain", "both orders", "calibrated") → metric → estimate; the last kind is `final`.
    `gains`: kind → its log loss less the plain answers', paired. `swap`: how the two passes agree, over the rows that
    have both (empty without a swapped pass). `chance_ece`: what the final answers' ECE would be by chance alone.
    """

    rows: int
    final: str
    figures: Mapping[str, Mapping[str, Estimate]]
    gains: Mapping[str, Estimate]
    slices: Sequence[SliceFigures]
    chance_ece: float
    swap: Mapping[str, Estimate] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {
            "rows": self.rows,
            "final": self.final,
            "figures": {kind: _json(found) for kind, found in self.figures.items()},
            "difference_to_plain": _json(self.gains),
            "swap": _json(self.swap),
            "chance_ece": self.chance_ece,
            "slices": [
                {"by": one.by, "name": one.name, "rows": one.rows}
                | _json({"log_loss": one.log_loss, "accuracy": one.accuracy})
                for one in self.slices
            ],
        }


def _json(estimates: Mapping[str, Estimate]) -> dict[str, Any]:
    return {name: one.to_json() for name, one in estimates.items()}


class _Table:
    """Columns of figures that are resampled together, by name."""

    def __init__(self) -> None:
        self._columns: list[NDArray[Any]] = []
        self._places: dict[tuple[Any, str], slice] = {}
        self._found: Resampled | None = None

    def add(self, group: Any, name: str, columns: NDArray[Any]) -> None:
        """Add [N] or [N, M] figures."""
        block = columns[:, None] if columns.ndim == 1 else columns
        start = sum(one.shape[1] for one in self._columns)
        self._columns.append(block)
        self._places[group, name] = slice(start, start + block.shape[1])

    def resample(self, *, seed: int, replicates: int) -> None:
        """Draw the samples that all estimates are made of."""
        import numpy as np

        self._found = resample(np.concatenate(self._columns, axis=1), seed=seed, replicates=replicates)

    def mean(self, group: Any, name: str, *, less: Any = None) -> Estimate:
        """A column's mean; less that of the same column of another group, paired."""
        found, value, samples = self._of(group, name)
        if less is not None:
            _, base, base_samples = self._of(less, name)
            value, samples = value - base, samples - base_samples
        return found.estimate(float(value[0]), samples[:, 0])

    def gaps(self, group: Any, name: str) -> Estimate:
        """The sum of the absolute means of columns."""
        found, value, samples = self._of(group, name)
        return found.estimate(float(abs(value).sum()), abs(samples).sum(axis=1), biased=True)

    def ratio(self, group: Any, name: str, *, to: str, rows: int) -> Estimate:
        """The mean over a slice, as the ratio of two means; a replicate without a row of it has none."""
        import numpy as np

        found, top, top_samples = self._of(group, name)
        _, bottom, bottom_samples = self._of(group, to)
        with np.errstate(invalid="ignore", divide="ignore"):
            samples = top_samples[:, 0] / bottom_samples[:, 0]
        return found.estimate(float(top[0] / bottom[0]), samples, rows=rows)

    def _of(self, group: Any, name: str) -> tuple[Resampled, Array, Array]:
        assert self._found is not None, "resample first"  # noqa: S101
        place = self._places[group, name]
        return self._found, self._found.value[place], self._found.samples[:, place]


def kinds_of(answers: Answers, calibration: Calibration | None) -> dict[str, Array]:
    """The answers that the file allows, each [N, K]: plain, both orders, calibrated."""
    found = {PLAIN: answers.plain}
    if answers.in_both.any():
        found[BOTH] = answers.averaged
    if calibration is not None:
        found[CALIBRATED] = answers.calibrated(calibration)
    return found


def assess(
    answers: Answers, *, calibration: Calibration | None = None, seed: int = SEED, replicates: int = REPLICATES
) -> Assessment:
    """Every metric of a scores file's answers, all over the same samples of its rows."""
    kinds = kinds_of(answers, calibration)
    final = list(kinds)[-1]
    parts = slices_of(answers)
    table = _table(kinds, parts, answers)
    table.resample(seed=seed, replicates=replicates)
    return Assessment(
        rows=len(answers),
        final=final,
        figures={
            kind: {name: table.mean(kind, name) for name in MEANS}
            | {name: table.gaps(kind, name) for name in (TOP_ERROR, CLASS_ERROR)}
            for kind in kinds
        },
        gains={kind: table.mean(kind, LOG_LOSS, less=PLAIN) for kind in kinds if kind != PLAIN},
        slices=[
            SliceFigures(
                one.by,
                one.name,
                one.rows,
                table.ratio(number, LOG_LOSS, to=_ROWS, rows=one.rows),
                table.ratio(number, ACCURACY, to=_ROWS, rows=one.rows),
            )
            for number, one in enumerate(parts)
        ],
        chance_ece=chance_error(kinds[final], seed=seed),
        swap=swap_consistency(answers, seed=seed, replicates=replicates),
    )


def _table(kinds: Mapping[str, Array], parts: Sequence[Slice], answers: Answers) -> _Table:
    """All that is resampled: each kind's metrics, and the last kind's within each slice (under its number)."""
    table = _Table()
    outcome = answers.outcome
    for kind, values in kinds.items():
        for name, metric in MEANS.items():
            table.add(kind, name, metric(values, outcome))
        table.add(kind, TOP_ERROR, top_gaps(values, outcome))
        table.add(kind, CLASS_ERROR, class_gaps(values, outcome) / len(answers.columns))
    final = list(kinds.values())[-1]
    loss, hit = losses(final, outcome), hits(final, outcome)
    for number, one in enumerate(parts):
        table.add(number, _ROWS, one.mask * 1.0)
        table.add(number, LOG_LOSS, loss * one.mask)
        table.add(number, ACCURACY, hit * one.mask)
    return table


def swap_consistency(answers: Answers, *, seed: int = SEED, replicates: int = REPLICATES) -> dict[str, Estimate]:
    """How far p(A | A first) is from p(A | B first), over the rows with both passes; empty where there are none.

    `apart`: the mean absolute difference of an exchanged column's probability; `first place`: the mean by which such a
    column is likelier where it stands as its own name says than where it stands in the other's place, with the sign
    of the first of each pair (above 0: the model likes the first place); `changed`: the share of rows whose likeliest
    column differs.
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
    found = resample(np.stack([apart, place, changed], axis=1), seed=seed, replicates=replicates)
    return {name: found.mean(number) for number, name in enumerate(("apart", "first place", "changed"))}


@dataclass(frozen=True)
class Difference:
    """The second file's metrics less the first's, over the `rows` that both have; `left_out` are in one only."""

    rows: int
    left_out: int
    figures: Mapping[str, Estimate]

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {"rows": self.rows, "left_out": self.left_out, "figures": _json(self.figures)}


def common_rows(members: Sequence[Answers]) -> list[Answers]:
    """The rows that all members have, in the first one's order.

    Raises DataError where they share none, or do not speak of the same columns and outcomes.
    """
    import numpy as np

    first = members[0]
    places = [{row_id: place for place, row_id in enumerate(one.ids)} for one in members]
    shared = [row_id for row_id in first.ids if all(row_id in place for place in places)]
    if not shared:
        raise DataError("the scores files share no row id; score the same labelled rows with both")
    found = [
        one.take(np.array([place[row_id] for row_id in shared], dtype=np.int64))
        for one, place in zip(members, places, strict=True)
    ]
    for one in found[1:]:
        if one.columns != first.columns:
            raise DataError(f"the scores files have other labels: {', '.join(first.columns)}; {', '.join(one.columns)}")
        if (one.outcome != found[0].outcome).any():
            raise DataError("the scores files disagree on what came true; score the same labelled rows with both")
    return found


def difference(
    first: tuple[Answers, Array], second: tuple[Answers, Array], *, seed: int = SEED, replicates: int = REPLICATES
) -> Difference:
    """The paired differences of two files' answers ([N, K] of each file's rows), second less first."""
    import numpy as np

    one, other = common_rows([first[0], second[0]])
    left, right = (values[_places(one.ids, whole.ids)] for whole, values in (first, second))
    table = [metric(right, other.outcome) - metric(left, one.outcome) for metric in MEANS.values()]
    found = resample(np.stack(table, axis=1), seed=seed, replicates=replicates)
    estimates = {name: found.mean(number) for number, name in enumerate(MEANS)}
    return Difference(len(one), len(first[0]) + len(second[0]) - 2 * len(one), estimates)


def _places(wanted: Sequence[str], ids: Sequence[str]) -> list[int]:
    place = {row_id: number for number, row_id in enumerate(ids)}
    return [place[row_id] for row_id in wanted]
