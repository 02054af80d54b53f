"""Slices of the rows: by prompt length, turns, script, what was cut, and what came true."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from kaggle_kit.evaluation.answers import Answers

    Mask = NDArray[np.bool_]

LENGTHS = (128, 256, 512, 1024, 2048, 4096)
TURNS = (1, 2, 3)
CUTS = (0.0, 0.25, 0.5)
LEAST_ROWS = 10
"""Scripts with fewer rows are shown together."""
OTHER = "other"


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
    found = [*_lengths(answers), *_turns(answers), *_scripts(answers), *_cuts(answers), *_labels(answers)]
    return [one for one in found if one.rows]


def _lengths(answers: Answers) -> list[Slice]:
    import numpy as np

    place = np.searchsorted(LENGTHS, answers.tokens, side="left")
    names = [f"up to {LENGTHS[0]:,}"]
    names += [f"{low + 1:,} to {high:,}" for low, high in pairwise(LENGTHS)]
    names.append(f"above {LENGTHS[-1]:,}")
    return [Slice("prompt tokens", name, answers.by_model & (place == k)) for k, name in enumerate(names)]


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
    found = [Slice("script", name, scripts == name) for name in large]
    return [*found, Slice("script", OTHER, np.isin(scripts.astype(str), small))]


def _cuts(answers: Answers) -> list[Slice]:
    import numpy as np

    whole = np.maximum(answers.lines["whole_tokens"].to_numpy(), 1)
    share = np.clip(1 - answers.tokens / whole, 0, 1)
    was_cut = (answers.lines["cut"] != "").to_numpy()
    found = [Slice("cut", "nothing", answers.by_model & ~was_cut)]
    for low, high in zip(CUTS, [*CUTS[1:], np.inf], strict=True):
        name = f"{low:.0%} to {high:.0%}" if np.isfinite(high) else f"above {low:.0%}"
        name = f"up to {high:.0%}" if low == 0 else name
        inside = (share > low) & (share <= high) if low else share <= high
        found.append(Slice("cut", name, answers.by_model & was_cut & inside))
    return found


def _labels(answers: Answers) -> list[Slice]:
    return [Slice("outcome", column, answers.outcome == k) for k, column in enumerate(answers.columns)]
