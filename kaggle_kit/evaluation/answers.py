"""The answers of a scores file as arrays, with passes averaged and calibrated as the runtime does both.

Slices are parts of the rows that have something in common; folds are parts that a fit has not seen.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

from kaggle_kit.errors import DataError
from kaggle_kit.evaluation.scores import LOGP
from kaggle_kit.runtime.journal import PLAIN, SWAPPED

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

    from kaggle_kit.evaluation.metrics import Array, Whole
    from kaggle_kit.evaluation.scores import Scores
    from kaggle_kit.runtime.combine import Bin, Calibration

    Mask = NDArray[np.bool_]


_LEAST = -700.0
"""Below this, e to the power of it is 0; a log-probability of minus infinity becomes it."""
LENGTHS = (128, 256, 512, 1024, 2048, 4096)
TURNS = (1, 2, 3)
CUTS = (0.0, 0.25, 0.5)
LEAST_ROWS = 10
"""Scripts with fewer rows are shown together."""
OTHER = "other"
FOLDS = 10
_COPY = "copy of "


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

        values = self.averaged.copy()
        for two_passes in (False, True):
            chosen = self.by_model & (self.in_both == two_passes)
            bins = calibration.bins_of(passes=2 if two_passes else 1)
            values[chosen] = apply_bins(bins, values[chosen], tokens=self.tokens[chosen], columns=self.columns)
        return np.where(self.by_model[:, None], values, self.averaged)


def apply_bins(bins: Sequence[Bin], values: Array, *, tokens: Whole, columns: Sequence[str]) -> Array:
    """[N, K] log-probabilities, calibrated by the bin of each row's length: `Calibration.apply` for arrays."""
    import numpy as np

    place = np.minimum(np.searchsorted([one.up_to_tokens for one in bins], tokens, side="left"), len(bins) - 1)
    temperature = np.array([one.temperature for one in bins])[place]
    bias = np.array([[one.bias.get(column, 0.0) for column in columns] for one in bins])[place]
    return normalise(values / temperature[:, None] + bias)


def answers_of(scores: Scores, path: Path | str = "the scores file") -> Answers:
    """The answers of a scores file. Raises DataError if an outcome is no column, or an id is there twice in a pass."""
    import numpy as np

    plain, swapped = scores.of_pass(PLAIN), scores.of_pass(SWAPPED)
    columns = scores.columns
    for part in (plain, swapped):
        if part["id"].n_unique() < len(part):
            raise DataError(f"{path} has two lines of a pass with the same id; make it again with `kit eval`")

    place = {column: number for number, column in enumerate(columns)}
    unknown = set(plain["outcome"].to_list()) - set(columns)
    if plain.is_empty() or unknown:
        raise DataError(f"{path} has outcomes that are no column of its labels: {sorted(map(str, unknown))}")

    logs = [f"{LOGP}{column}" for column in columns]
    joined = plain.select("id").join(swapped.select("id", *logs), on="id", how="left", maintain_order="left")
    return Answers(
        lines=plain,
        columns=columns,
        pairs=tuple((place[one], place[other]) for one, other in scores.evaluation.swap.items()),
        plain=np.maximum(plain.select(logs).to_numpy().astype(float), _LEAST),
        swapped=np.maximum(joined.select(logs).to_numpy().astype(float), _LEAST),
        outcome=np.array([place[one] for one in plain["outcome"].to_list()], dtype=np.int64),
        tokens=plain["tokens"].to_numpy(),
        by_model=(plain["answered"] == "model").to_numpy(),
    )


@dataclass(frozen=True)
class Slice:
    """A part of the rows: what it is cut by, its name there, and [N] whether a row is in it."""

    by: str
    name: str
    mask: Mask

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return int(self.mask.sum())


def slices_of(answers: Answers) -> list[Slice]:
    """The slices that have rows. Length and cut are of rows that a model answered."""
    slices = [*_lengths(answers), *_turns(answers), *_scripts(answers), *_cuts(answers), *_labels(answers)]
    return [part for part in slices if part.rows]


def length_masks(tokens: Whole) -> dict[str, Mask]:
    """By range of prompt lengths, [N]: whether a row is in it."""
    import numpy as np

    place = np.searchsorted(LENGTHS, tokens, side="left")
    names = [f"up to {LENGTHS[0]:,}", *(f"{low + 1:,} to {high:,}" for low, high in pairwise(LENGTHS))]
    names.append(f"above {LENGTHS[-1]:,}")
    return {name: place == number for number, name in enumerate(names)}


def _lengths(answers: Answers) -> list[Slice]:
    masks = length_masks(answers.tokens)
    return [Slice("prompt tokens", name, answers.by_model & mask) for name, mask in masks.items()]


def _turns(answers: Answers) -> list[Slice]:
    turns = answers.lines["turns"].to_numpy()
    known = [Slice("turns", str(count), turns == count) for count in TURNS]
    return [*known, Slice("turns", f"{TURNS[-1] + 1} or more", turns > TURNS[-1])]


def _scripts(answers: Answers) -> list[Slice]:
    """The most frequent first."""
    import numpy as np

    scripts = answers.lines["script"].to_numpy()
    names, counts = np.unique(scripts.astype(str), return_counts=True)
    ordered = sorted(zip(names.tolist(), counts.tolist(), strict=True), key=lambda pair: (-pair[1], pair[0]))
    large = [name for name, count in ordered if count >= LEAST_ROWS]
    small = [name for name, count in ordered if count < LEAST_ROWS]
    if len(small) == 1:
        large, small = [*large, *small], []
    slices = [Slice("script", name, scripts == name) for name in large]
    return [*slices, Slice("script", OTHER, np.isin(scripts.astype(str), small))]


def _cuts(answers: Answers) -> list[Slice]:
    import numpy as np

    whole = np.maximum(answers.lines["whole_tokens"].to_numpy(), 1)
    share = np.clip(1 - answers.tokens / whole, 0, 1)
    was_cut = (answers.lines["cut"] != "").to_numpy()
    slices = [Slice("cut", "nothing", answers.by_model & ~was_cut)]
    for low, high in zip(CUTS, [*CUTS[1:], np.inf], strict=True):
        name = f"{low:.0%} to {high:.0%}" if np.isfinite(high) else f"above {low:.0%}"
        name = f"up to {high:.0%}" if low == 0 else name
        inside = (share > low) & (share <= high) if low else share <= high
        slices.append(Slice("cut", name, answers.by_model & was_cut & inside))
    return slices


def _labels(answers: Answers) -> list[Slice]:
    return [Slice("outcome", column, answers.outcome == k) for k, column in enumerate(answers.columns)]


def folds_of(answers: Answers, *, seed: int, folds: int = FOLDS) -> Iterator[tuple[Whole, Whole]]:
    """Pairs of the rows to fit on and the rows to test on, by number; each row is tested once.

    Rows with the same prompt stay together: a copy of a row that was fitted on would not be new.
    """
    import numpy as np

    names, group = np.unique(_groups(answers), return_inverse=True)
    fold = np.random.default_rng([seed, len(names)]).permutation(len(names)) % folds
    place = fold[group]
    for number in range(min(folds, len(names))):
        yield np.flatnonzero(place != number), np.flatnonzero(place == number)


def _groups(answers: Answers) -> list[str]:
    """Each row's id, or that of the row whose copy it is."""
    groups = []
    for row_id, flags in zip(answers.ids, answers.lines["flags"].to_list(), strict=True):
        _, mark, original = str(flags).rpartition(_COPY)
        groups.append(original if mark else row_id)
    return groups
