"""Cross-fitting: each row is judged by a fit that has not seen it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from kaggle_kit.evaluation.answers import Answers

    Whole = NDArray[np.int64]

FOLDS = 10
_COPY = "copy of "


def folds_of(answers: Answers, *, seed: int, folds: int = FOLDS) -> Iterator[tuple[Whole, Whole]]:
    """Pairs of the rows to fit on and the rows to judge, by number; each row is judged once.

    Rows with the same prompt are judged together: a copy of a row that was fitted on would not be new.
    """
    import numpy as np

    names, group = np.unique(_groups(answers), return_inverse=True)
    fold = np.random.default_rng([seed, len(names)]).permutation(len(names)) % folds
    place = fold[group]
    for number in range(min(folds, len(names))):
        yield np.flatnonzero(place != number), np.flatnonzero(place == number)


def _groups(answers: Answers) -> list[str]:
    """Each row's id, or that of the row whose copy it is."""
    found = []
    for row_id, flags in zip(answers.ids, answers.lines["flags"].to_list(), strict=True):
        _, mark, original = str(flags).rpartition(_COPY)
        found.append(original if mark else row_id)
    return found
