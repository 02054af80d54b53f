"""Two models over the same rows: how far a quantised one is from its reference, row by row.

KL is KL(reference || quantised), the sum over the labels of p_ref · ln(p_ref / p_quant), in nats (Kullback and Leibler,
1951): what the reference's own answers lose by being told in the other's words; 0 where both say the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import DataError, RunError
from kaggle_kit.evaluation.answers import length_masks
from kaggle_kit.evaluation.bootstrap import Estimate, json_of, mean_estimate
from kaggle_kit.evaluation.metrics import losses, outcome_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from kaggle_kit.evaluation.metrics import Array, Whole
    from kaggle_kit.evaluation.score_file import Scored


@dataclass(frozen=True)
class Pairs:
    """The rows that both models answered: [N, K] log-probabilities of each, prompt tokens, and outcomes (-1: unknown).

    `left_out` counts rows that a model did not answer: ruled, unreadable, failed.
    """

    reference: Array
    quantised: Array
    tokens: Whole
    outcome: Whole
    masses: tuple[float | None, float | None]
    left_out: int = 0

    def __len__(self) -> int:
        """How many rows."""
        return len(self.tokens)


@dataclass(frozen=True)
class Figures:
    """Of some rows: KL and its quantiles, decisions that changed, log loss of both and its paired difference.

    The log losses are None if no outcome is known.
    """

    name: str
    rows: int
    kl_mean: Estimate
    kl_median: float
    kl_p99: float
    kl_most: float
    changed: Estimate
    reference_log_loss: float | None = None
    quantised_log_loss: float | None = None
    log_loss_difference: Estimate | None = None


@dataclass(frozen=True)
class Comparison:
    """The figures over all rows and by prompt length, and the mean label mass of both models (None: not known)."""

    all: Figures
    by_length: Sequence[Figures]
    masses: tuple[float | None, float | None]
    left_out: int = 0

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {
            **json_of(self.all),
            "label_mass": {"reference": self.masses[0], "quantised": self.masses[1]},
            "left_out": self.left_out,
            "by_prompt_tokens": json_of(self.by_length),
        }


def pair(
    reference: Scored,
    quantised: Scored,
    *,
    records: Sequence[Mapping[str, Any]],
    columns: Sequence[str],
    source: Path,
) -> Pairs:
    """The rows that both models answered in the plain pass; `records` are the table's rows, in the order of the ids.

    Raises DataError if they read a row as prompts of different lengths (their tokenizers differ), RunError if no
    row is answered by both.
    """
    import numpy as np

    kept: list[tuple[Any, ...]] = []
    for row_id, record in zip(reference.ids, records, strict=True):
        one, other = reference.plain.get(row_id), quantised.plain.get(row_id)
        if one is None or other is None or not one.log_probabilities or not other.log_probabilities or not one.tokens:
            continue
        if one.tokens != other.tokens:
            raise DataError(
                f"the row {row_id!r} has {one.tokens} tokens for the reference and {other.tokens} for the other model: "
                f"their tokenizers differ, so these are not two forms of one model"
            )
        outcome = _outcome(record, columns, row_id, source)
        kept.append((one.log_probabilities, other.log_probabilities, one.tokens, outcome, one.mass, other.mass))
    if not kept:
        raise RunError(f"no row of {source} was answered by both models")
    first, second, tokens, outcomes, *masses = zip(*kept, strict=True)
    return Pairs(
        np.array(first, dtype=float),
        np.array(second, dtype=float),
        np.array(tokens, dtype=np.int64),
        np.array(outcomes, dtype=np.int64),
        (_mean(masses[0]), _mean(masses[1])),
        len(reference.ids) - len(kept),
    )


def compare(pairs: Pairs) -> Comparison:
    """The figures of `pairs`; lengths that no row has are left out."""
    import numpy as np

    parts = [_figures(name, pairs, mask) for name, mask in length_masks(pairs.tokens).items() if mask.any()]
    return Comparison(_figures("all", pairs, np.full(len(pairs), True)), parts, pairs.masses, pairs.left_out)


def divergence(reference: Array, quantised: Array) -> Array:
    """[N]: KL(reference || quantised) of [N, K] log-probabilities, in nats; never below 0."""
    import numpy as np

    return np.asarray(np.maximum((np.exp(reference) * (reference - quantised)).sum(axis=1), 0.0))


def _figures(name: str, pairs: Pairs, mask: NDArray[np.bool_]) -> Figures:
    import numpy as np

    one, other, outcome = pairs.reference[mask], pairs.quantised[mask], pairs.outcome[mask]
    kl = divergence(one, other)
    changed = (one.argmax(axis=1) != other.argmax(axis=1)).astype(float)
    median, p99, most = (float(np.quantile(kl, share)) for share in (0.5, 0.99, 1.0))
    figures = Figures(name, int(mask.sum()), mean_estimate(kl), median, p99, most, mean_estimate(changed))

    known = outcome >= 0
    if not known.any():
        return figures
    before, after = (losses(values[known], outcome[known]) for values in (one, other))
    return replace(
        figures,
        reference_log_loss=float(before.mean()),
        quantised_log_loss=float(after.mean()),
        log_loss_difference=mean_estimate(after - before),
    )


def _outcome(record: Mapping[str, Any], columns: Sequence[str], row_id: str, source: Path) -> int:
    try:
        return list(columns).index(outcome_of(record, columns=columns, row_id=row_id, source=source))
    except DataError:
        return -1


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


@dataclass(frozen=True)
class Proof:
    """That an engine scores with a model: rows answered, and the labels' share of the probability there."""

    rows: int
    label_mass_mean: float | None
    label_mass_least: float | None


def proof_of(scored: Scored) -> Proof:
    """What a run over a few rows proves. Raises RunError if the engine failed on a row, or saw none."""
    seen = [entry for entry in scored.plain.values() if entry.tokens]
    failed = next((entry for entry in seen if entry.log_probabilities is None), None)
    if failed is not None:
        raise RunError(f"the row {failed.id!r} has no answer: {failed.problem}")
    if not seen:
        raise RunError("no row was for the model: all are ruled or unreadable")
    masses = [entry.mass for entry in seen if entry.mass is not None]
    return Proof(len(seen), _mean(masses), min(masses, default=None))
