"""The answers of a scores file as arrays: passes averaged in log space and calibrated, as the runtime does both."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from kaggle_kit.errors import DataError
from kaggle_kit.evaluation.scores import LOGP
from kaggle_kit.runtime.journal import PLAIN, SWAPPED

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

    from kaggle_kit.evaluation.scores import Scores
    from kaggle_kit.runtime.combine import Bin, Calibration

    Array = NDArray[np.float64]
    Whole = NDArray[np.int64]
    Mask = NDArray[np.bool_]

_LEAST = -700.0
"""Below this, e to the power of it is no number any more; a log-probability of minus infinity becomes it."""


def normalise(values: Array) -> Array:
    """Each row of [N, K] shifted so that its probabilities sum to 1: `runtime.combine.normalised` for arrays."""
    import numpy as np

    top = values.max(axis=1, keepdims=True)
    shifted: Array = values - top - np.log(np.exp(values - top).sum(axis=1, keepdims=True))
    return shifted


@dataclass(frozen=True)
class Answers:
    """N labelled rows with K label columns.

    `plain` and `swapped` are [N, K] log-probabilities, by the row's own columns; `swapped` is NaN for a row without
    that pass. `outcome` [N] is the index of the column that came true; `tokens` [N] the prompt's; `by_model` [N]
    whether a model answered. `pairs` are the columns' indices that a swapped pass exchanges. `lines` are the plain
    pass's lines of the file.
    """

    lines: pl.DataFrame
    columns: tuple[str, ...]
    pairs: tuple[tuple[int, int], ...]
    plain: Array
    swapped: Array
    outcome: Whole
    tokens: Whole
    by_model: Mask

    def __len__(self) -> int:
        """N."""
        return len(self.outcome)

    @property
    def ids(self) -> list[str]:
        """The rows' ids."""
        return [str(one) for one in self.lines["id"].to_list()]

    @cached_property
    def in_both(self) -> Mask:
        """[N]: whether the row has both passes."""
        import numpy as np

        return np.asarray(np.isfinite(self.swapped).all(axis=1))

    @cached_property
    def averaged(self) -> Array:
        """[N, K]: the mean of each row's passes, in log space."""
        import numpy as np

        mean = normalise((self.plain + np.where(self.in_both[:, None], self.swapped, self.plain)) / 2)
        return np.where(self.in_both[:, None], mean, normalise(self.plain))

    def take(self, index: Whole) -> Answers:
        """The rows of these numbers, in their order."""
        return replace(
            self,
            lines=self.lines[index.tolist()],
            plain=self.plain[index],
            swapped=self.swapped[index],
            outcome=self.outcome[index],
            tokens=self.tokens[index],
            by_model=self.by_model[index],
        )

    def calibrated(self, calibration: Calibration) -> Array:
        """[N, K]: `averaged`, calibrated where a model answered."""
        import numpy as np

        found = self.averaged.copy()
        for two_passes in (False, True):
            chosen = self.by_model & (self.in_both == two_passes)
            bins = calibration.bins_of(passes=2 if two_passes else 1)
            found[chosen] = apply_bins(bins, found[chosen], tokens=self.tokens[chosen], columns=self.columns)
        return np.where(self.by_model[:, None], found, self.averaged)


def apply_bins(bins: Sequence[Bin], values: Array, *, tokens: Whole, columns: Sequence[str]) -> Array:
    """[N, K] log-probabilities, calibrated by the bin of each row's length: `Calibration.apply` for arrays."""
    import numpy as np

    place = np.minimum(np.searchsorted([one.up_to_tokens for one in bins], tokens, side="left"), len(bins) - 1)
    temperature = np.array([one.temperature for one in bins])[place]
    bias = np.array([[one.bias.get(column, 0.0) for column in columns] for one in bins])[place]
    return normalise(values / temperature[:, None] + bias)


def answers_of(scores: Scores, path: Path | str = "the scores file") -> Answers:
    """The answers of a scores file. Raises DataError where an outcome is no column, or an id stands twice in a pass."""
    import numpy as np

    plain, swapped = scores.of_pass(PLAIN), scores.of_pass(SWAPPED)
    columns = scores.columns
    for part in (plain, swapped):
        if part["id"].n_unique() < len(part):
            raise DataError(f"{path} has two lines of a pass with the same id; make it anew with `kit eval`")
    place = {column: number for number, column in enumerate(columns)}
    unknown = set(plain["outcome"].to_list()) - set(columns)
    if plain.is_empty() or unknown:
        raise DataError(f"{path} has outcomes that are no column of its labels: {sorted(map(str, unknown))}")
    logs = [f"{LOGP}{column}" for column in columns]
    joined = plain.select("id").join(swapped.select("id", *logs), on="id", how="left", maintain_order="left")
    return Answers(
        lines=plain,
        columns=columns,
        pairs=tuple((place[one], place[other]) for one, other in scores.facts["swap"].items()),
        plain=np.maximum(plain.select(logs).to_numpy().astype(float), _LEAST),
        swapped=np.maximum(joined.select(logs).to_numpy().astype(float), _LEAST),
        outcome=np.array([place[one] for one in plain["outcome"].to_list()], dtype=np.int64),
        tokens=plain["tokens"].to_numpy(),
        by_model=(plain["answered"] == "model").to_numpy(),
    )
