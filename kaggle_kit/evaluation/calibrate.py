"""Calibration: how much surer or less sure a model should be, fitted on labelled rows, tested on rows it did not see.

Three kinds, each a special case of the next: one temperature; a temperature and a bias for each label; both by prompt
length, each length's pulled toward the fit of all rows by the worth of PULL_ROWS rows.

A fit of p figures on n rows costs about p / (2 n) nats on new rows (what Akaike's criterion charges), and a calibration
is worth about 0.005: with LEAST_ROWS rows for each figure the fit costs no more than it may bring, and below
that it is refused.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import DataError
from kaggle_kit.evaluation.answers import FOLDS, apply_bins, folds_of, normalise
from kaggle_kit.evaluation.bootstrap import SEED, Estimate, json_of, mean_estimate, resample
from kaggle_kit.evaluation.fit import Fit, Problem, Pull, minimise, orbits
from kaggle_kit.evaluation.metrics import losses
from kaggle_kit.files import write_atomic
from kaggle_kit.runtime.combine import Bin

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from kaggle_kit.evaluation.answers import Answers
    from kaggle_kit.evaluation.metrics import Array, Whole


TEMPERATURE, BIAS, LENGTHS = "temperature", "bias", "lengths"
KINDS = (TEMPERATURE, BIAS, LENGTHS)
AUTO = "auto"
LEAST_ROWS = 100
"""For each figure that is fitted."""
LEAST_OUTCOMES = 20
"""Rows in which a label with a bias of its own must have come true."""
BIN_ROWS = 250
"""A prompt length needs as many rows for bins of its own, and there are never more bins than MOST_BINS."""
MOST_BINS = 4
PULL_ROWS = 250.0


@dataclass(frozen=True)
class Gain:
    """The log loss of calibrated answers less that of others, each row tested on a fit that has not seen it.

    `over_same`: than the same answers uncalibrated; `over_plain`: than one pass, uncalibrated. Below 0 is better.
    """

    kind: str
    rows: int
    log_loss: Estimate
    over_same: Estimate
    over_plain: Estimate


@dataclass(frozen=True)
class Calibrated:
    """A calibration: what is written for the runtime, and what it brings.

    `bins` are for rows with as many passes as the file's have (`both`: two), `one_pass` for rows with one, if the
    two differ. `tried`: the gain of each kind that the rows allow; `refused`: why a kind was not tried.
    """

    kind: str
    both: bool
    bins: tuple[Bin, ...]
    one_pass: tuple[Bin, ...]
    gain: Gain
    tried: Mapping[str, Gain]
    refused: Mapping[str, str] = field(default_factory=dict)

    @property
    def in_noise(self) -> bool:
        """Whether the answers may be as good without it."""
        return self.gain.over_same.high >= 0

    def body(self, **more: Any) -> dict[str, Any]:
        """The object of calibration.json; `more` says where it comes from."""
        body: dict[str, Any] = {"bins": [_bin_json(one) for one in self.bins]}
        if self.one_pass:
            body["one_pass_bins"] = [_bin_json(one) for one in self.one_pass]
        return body | {"fitted": {**json_of(self.gain), **more}}


def write_calibration(path: Path, body: Mapping[str, Any]) -> None:
    """Write calibration.json."""
    write_atomic(path, json.dumps(body, indent=2, ensure_ascii=False) + "\n")


def _bin_json(one: Bin) -> dict[str, Any]:
    limit = {} if one.up_to_tokens == float("inf") else {"up_to_tokens": int(one.up_to_tokens)}
    bias = {name: round(value, 6) for name, value in one.bias.items() if value}
    return {**limit, "temperature": round(one.temperature, 6), **({"bias": bias} if bias else {})}


def fit_bins(
    kind: str, values: Array, outcome: Whole, tokens: Whole, *, columns: Sequence[str], pairs: Sequence[tuple[int, int]]
) -> tuple[Bin, ...]:
    """The bins of a kind, fitted on [N, K] log-probabilities, [N] outcomes and [N] prompt lengths."""
    import numpy as np

    whole = Problem(values, outcome, pairs=pairs, biased=kind != TEMPERATURE)
    point = minimise(whole)
    limits = length_limits(tokens) if kind == LENGTHS else [float("inf")]
    if len(limits) == 1:
        return (_bin(whole.fit_of(point), limits[0], columns),)

    place = np.searchsorted(limits, tokens, side="left")
    bins = []
    for number, limit in enumerate(limits):
        own = place == number
        part = Problem(values[own], outcome[own], pairs=pairs, biased=True)
        part.pull = Pull(point, part.slope(point)[1], PULL_ROWS)
        bins.append(_bin(part.fit_of(minimise(part)), limit, columns))
    return tuple(bins)


def _bin(fit: Fit, limit: float, columns: Sequence[str]) -> Bin:
    bias = {column: float(value) for column, value in zip(columns, fit.bias, strict=True)}
    return Bin(limit, fit.temperature, bias)


def length_limits(tokens: Whole) -> list[float]:
    """The upper ends of bins with about equal rows, each of BIN_ROWS or more; the last has none."""
    import numpy as np

    count = max(1, min(MOST_BINS, len(tokens) // BIN_ROWS))
    ends = np.quantile(tokens, np.arange(1, count) / count, method="lower")
    # A bin that ends at the longest prompt would leave none for the last one.
    inner = sorted({float(end) for end in ends if end < tokens.max()})
    return [*inner, float("inf")]


def calibrate(answers: Answers, *, kind: str = AUTO, seed: int = SEED) -> Calibrated:
    """Fit a calibration on the rows that a model answered, and say what it brings on rows that no fit saw.

    "auto" takes the simplest kind, and a richer one only if its gain over the simpler is beyond noise. Raises
    DataError if there are too few rows.
    """
    import numpy as np

    both = bool(answers.in_both.any())
    used = answers.take(np.flatnonzero(answers.by_model & (answers.in_both if both else True)))

    refused = {one: reason for one in KINDS if (reason := too_few(used, one))}
    wanted = KINDS if kind == AUTO else (kind,)
    if all(one in refused for one in wanted):
        raise DataError(f"{refused[wanted[0]]}; score more rows with `kit eval`")
    unseen = {one: cross_fitted(used, one, seed=seed) for one in wanted if one not in refused}
    chosen = _simplest(unseen, used.outcome, seed=seed)

    gains = {one: _gain(used, one, values, seed=seed) for one, values in unseen.items()}
    return Calibrated(
        kind=chosen,
        both=both,
        bins=_fit(used, chosen, used.averaged),
        one_pass=_fit(used, chosen, used.plain) if both else (),
        gain=gains[chosen],
        tried=gains,
        refused=refused,
    )


def _simplest(unseen: Mapping[str, Array], outcome: Whole, *, seed: int) -> str:
    """The first kind, or a later one that is better than it beyond noise."""
    chosen, *richer = unseen
    for kind in richer:
        gain = losses(unseen[kind], outcome) - losses(unseen[chosen], outcome)
        if mean_estimate(gain, seed=seed).high < 0:
            chosen = kind
    return chosen


def _fit(answers: Answers, kind: str, values: Array) -> tuple[Bin, ...]:
    return fit_bins(
        kind, normalise(values), answers.outcome, answers.tokens, columns=answers.columns, pairs=answers.pairs
    )


def too_few(answers: Answers, kind: str) -> str | None:
    """Why the rows are too few for a kind, or None."""
    import numpy as np

    groups = orbits(len(answers.columns), answers.pairs)
    figures = 1 if kind == TEMPERATURE else len(groups)
    needed = LEAST_ROWS * figures if kind != LENGTHS else max(LEAST_ROWS * figures, 2 * BIN_ROWS)
    if len(answers) < needed:
        return (
            f"{len(answers):,} rows that the model answered are too few for the kind {kind!r}, which needs {needed:,}: "
            f"with fewer its fit costs more on new rows than a calibration brings"
        )
    if kind == TEMPERATURE:
        return None

    counts = np.bincount(answers.outcome, minlength=len(answers.columns))
    for group in groups:
        if (count := int(counts[group].sum())) < LEAST_OUTCOMES:
            names = " or ".join(answers.columns[k] for k in group)
            return (
                f"{names} came true in {count} rows, which are too few for a bias (kind {kind!r}); it needs "
                f"{LEAST_OUTCOMES}"
            )
    return None


def cross_fitted(answers: Answers, kind: str, *, seed: int, folds: int = FOLDS) -> Array:
    """[N, K]: each row's calibrated answer, by a fit on the other folds."""
    import numpy as np

    values = answers.averaged
    calibrated = np.empty_like(values)
    for seen, tested in folds_of(answers, seed=seed, folds=folds):
        part = answers.take(seen)
        bins = _fit(part, kind, values[seen])
        calibrated[tested] = apply_bins(bins, values[tested], tokens=answers.tokens[tested], columns=answers.columns)
    return calibrated


def _gain(answers: Answers, kind: str, calibrated: Array, *, seed: int) -> Gain:
    import numpy as np

    loss = losses(calibrated, answers.outcome)
    same, plain = losses(answers.averaged, answers.outcome), losses(answers.plain, answers.outcome)
    means = resample(np.stack([loss, loss - same, loss - plain], axis=1), seed=seed)
    return Gain(kind, len(answers), log_loss=means.mean(0), over_same=means.mean(1), over_plain=means.mean(2))
