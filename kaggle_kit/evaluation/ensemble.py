"""Which models earn their time: weights by cross-fitted log loss, correlations, and what each member adds."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import DataError
from kaggle_kit.evaluation.answers import apply_bins, folds_of, normalise
from kaggle_kit.evaluation.assess import common_rows
from kaggle_kit.evaluation.bootstrap import SEED, Estimate, json_of, mean_estimate
from kaggle_kit.evaluation.calibrate import TEMPERATURE, fit_bins
from kaggle_kit.evaluation.fit import best_weights, mix
from kaggle_kit.evaluation.metrics import losses

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kaggle_kit.evaluation.answers import Answers
    from kaggle_kit.evaluation.metrics import Array, Whole
    from kaggle_kit.runtime.combine import Calibration


LEAST_ROWS = 100
"""For each weight: as in `evaluation.calibrate`."""
LEAST_WEIGHT = 0.01
"""A member with less adds nothing that its minutes would not outweigh; kit.toml's lines leave it out."""


@dataclass(frozen=True)
class Member:
    """A model's answers, its name, the calibration that the runtime would apply, and its minutes on the target."""

    name: str
    answers: Answers
    calibration: Calibration | None = None
    minutes: float | None = None


@dataclass(frozen=True)
class Share:
    """What is known of a member: `weight` of all rows' fit, `weight_over_folds` its least and greatest there.

    `log_loss`: its own. `gain`: the ensemble's log loss less that of the ensemble without it; below 0, it helps.
    """

    name: str
    weight: float
    weight_over_folds: tuple[float, float]
    log_loss: Estimate
    gain: Estimate
    minutes: float | None

    @property
    def gain_per_hour(self) -> float | None:
        """The gain of an hour on the target; below 0, it helps."""
        return None if not self.minutes else self.gain.value / (self.minutes / 60)

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {**json_of(self), "gain_per_hour": self.gain_per_hour}


@dataclass(frozen=True)
class Ensemble:
    """What the members are together, over `rows` rows that all have.

    `log_loss` is cross-fitted: each row by weights that did not see it; `over_best`: less that of the best member
    alone. `correlation` [M][M]: of the members' errors (1 or 0, less the probability) over all rows and labels: what
    two members get wrong together, averaging does not fix.
    """

    rows: int
    members: tuple[Share, ...]
    log_loss: Estimate
    over_best: Estimate
    best: str
    correlation: tuple[tuple[float, ...], ...]

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {**json_of(self), "members": [one.to_json() for one in self.members], "kit_toml": self.kit_toml()}

    def kit_toml(self) -> str:
        """The lines of a notebook's table in kit.toml: the heaviest member is `model`, whose weight is always 1."""
        first, *rest = sorted((one for one in self.members if one.weight >= LEAST_WEIGHT), key=lambda one: -one.weight)
        pairs = ", ".join(f"{_key(one.name)} = {one.weight / first.weight:.3g}" for one in rest)
        return f"model = {json.dumps(first.name)}" + (f"\nensemble = {{ {pairs} }}" if pairs else "")


def _key(name: str) -> str:
    """A name as a key of TOML."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name)


def weigh(members: Sequence[Member], *, calibrate: bool = False, seed: int = SEED) -> Ensemble:
    """Weigh two members or more by their log loss over the rows that all have.

    With `calibrate` each member gets a temperature of its own, cross-fitted with the weights; else the calibration that
    it brings. Raises DataError if the files do not fit together or the rows are too few.
    """
    import numpy as np

    if len(members) < 2:
        raise DataError("an ensemble needs two scores files or more")
    answers = common_rows([one.answers for one in members])
    answered = np.flatnonzero(np.all([one.by_model for one in answers], axis=0))
    answers = [one.take(answered) for one in answers]

    needed = LEAST_ROWS * (len(members) - 1)
    if len(answered) < needed:
        raise DataError(
            f"{len(answered):,} rows that all {len(members)} models answered are too few to weigh them: it takes "
            f"{needed:,}, {LEAST_ROWS} for each weight; score more rows with `kit eval`"
        )

    fitted = _CrossFit(answers, [one.calibration for one in members], calibrate=calibrate, seed=seed)
    outcome = answers[0].outcome
    everyone = list(range(len(members)))
    together, weights_by_fold = fitted.losses(everyone)
    alone = [losses(one, outcome) for one in fitted.unseen]
    best = int(np.argmin([one.mean() for one in alone]))

    weights = best_weights(fitted.all_rows, outcome)
    return Ensemble(
        rows=len(answered),
        members=tuple(
            Share(
                name=member.name,
                weight=float(weights[m]),
                weight_over_folds=(float(weights_by_fold[:, m].min()), float(weights_by_fold[:, m].max())),
                log_loss=mean_estimate(alone[m], seed=seed),
                gain=mean_estimate(together - fitted.losses([k for k in everyone if k != m])[0], seed=seed),
                minutes=member.minutes,
            )
            for m, member in enumerate(members)
        ),
        log_loss=mean_estimate(together, seed=seed),
        over_best=mean_estimate(together - alone[best], seed=seed),
        best=members[best].name,
        correlation=_correlation(fitted.unseen, outcome),
    )


class _CrossFit:
    """The members' answers [M, N, K]: `unseen` by fits on other folds, `all_rows` by fits on all rows."""

    def __init__(
        self, answers: Sequence[Answers], calibrations: Sequence[Calibration | None], *, calibrate: bool, seed: int
    ) -> None:
        import numpy as np

        self._answers = answers
        self._calibrate = calibrate
        self._outcome = answers[0].outcome
        self._folds = list(folds_of(answers[0], seed=seed))
        self._brought = [
            one.averaged if calibration is None else one.calibrated(calibration)
            for one, calibration in zip(answers, calibrations, strict=True)
        ]

        everything = np.arange(len(self._outcome))
        self.all_rows = self._of(everything, seen=everything)
        self._parts = [(self._of(seen, seen=seen), self._of(unseen, seen=seen)) for seen, unseen in self._folds]
        self.unseen = np.empty_like(self.all_rows)
        for (_, unseen), (_, values) in zip(self._folds, self._parts, strict=True):
            self.unseen[:, unseen] = values

    def _of(self, rows: Whole, *, seen: Whole) -> Array:
        """[M, rows, K]: the members' answers for `rows`, by a fit on `seen` where they are calibrated here."""
        import numpy as np

        if self._calibrate:
            return np.stack([_tempered(one, seen, rows) for one in self._answers])
        return np.stack([values[rows] for values in self._brought])

    def losses(self, chosen: Sequence[int]) -> tuple[Array, Array]:
        """[N]: each row's loss by the chosen members, weighed on the other folds; [folds, members]: these weights."""
        import numpy as np

        loss = np.empty(len(self._outcome))
        weights = []
        for (seen, unseen), (before, values) in zip(self._folds, self._parts, strict=True):
            weights.append(best_weights(before[list(chosen)], self._outcome[seen]))
            loss[unseen] = losses(mix(values[list(chosen)], weights[-1]), self._outcome[unseen])
        return loss, np.stack(weights)


def _tempered(answers: Answers, seen: Whole, rows: Whole) -> Array:
    """The answers of `rows` at the temperature that is best for `seen`."""
    values = normalise(answers.averaged)
    bins = fit_bins(
        TEMPERATURE,
        values[seen],
        answers.outcome[seen],
        answers.tokens[seen],
        columns=answers.columns,
        pairs=answers.pairs,
    )
    return apply_bins(bins, values[rows], tokens=answers.tokens[rows], columns=answers.columns)


def _correlation(members: Array, outcome: Whole) -> tuple[tuple[float, ...], ...]:
    import numpy as np

    true = np.eye(members.shape[2])[outcome]
    errors = (true - np.exp(members)).reshape(len(members), -1)
    table = np.atleast_2d(np.corrcoef(errors))
    return tuple(tuple(map(float, row)) for row in table)
