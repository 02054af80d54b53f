"""What every engine gives: for each prompt the log-probabilities of the labels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from kaggle_kit.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class LabelScores:
    """One row's answer.

    `log_probabilities`: one for each label, renormalised over the labels (nats). `mass`: the probability that the
    model gives to all labels together before that; None where the engine cannot tell it.
    """

    log_probabilities: tuple[float, ...]
    mass: float | None


class Engine(Protocol):
    """A model, loaded and ready."""

    def score(self, prompts: Sequence[Sequence[int]]) -> list[LabelScores]:
        """Score token-id prompts, each within the length that the engine was started for; one answer a prompt."""


def renormalise(raw: Sequence[float], *, with_mass: bool) -> LabelScores:
    """Label log-probabilities as the engine gives them, made to sum to 1 over the labels.

    Raises RunError where one is not a finite number: a label without a probability is never guessed.
    """
    if not all(math.isfinite(value) for value in raw):
        raise RunError(f"the engine gave the label log-probabilities {list(raw)}: not all are finite")
    top = max(raw)
    total = top + math.log(sum(math.exp(value - top) for value in raw))
    return LabelScores(tuple(value - total for value in raw), min(math.exp(total), 1.0) if with_mass else None)
