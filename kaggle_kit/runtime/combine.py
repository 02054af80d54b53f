"""Passes and models become one answer: averaged in log space, then calibrated."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import ModelError, OutsideError
from kaggle_kit.outside import read_json, shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from kaggle_kit.runtime.job import Task
    from kaggle_kit.runtime.journal import Entry

CALIBRATION = "calibration.json"
_MOST_BYTES = 1 << 20
_MOST_FACTOR = 1000.0


def normalised(values: Sequence[float]) -> tuple[float, ...]:
    """Log-probabilities shifted so that their probabilities sum to 1."""
    top = max(values)
    total = top + math.log(sum(math.exp(value - top) for value in values))
    return tuple(value - total for value in values)


def average(answers: Sequence[Sequence[float]], *, weights: Sequence[float] | None = None) -> tuple[float, ...]:
    """The weighted mean of log-probabilities by label, renormalised: a weighted geometric mean of the answers.

    `answers`: one sequence of K log-probabilities for each pass or model; `weights`: as many positive numbers.
    """
    used = weights or [1.0] * len(answers)
    total = math.fsum(used)
    return normalised(
        [
            math.fsum(weight * value for weight, value in zip(used, column, strict=True)) / total
            for column in zip(*answers, strict=True)
        ]
    )


@dataclass(frozen=True)
class Bin:
    """The calibration of prompts of at most `up_to_tokens` tokens: divide by `temperature`, then add `bias`."""

    up_to_tokens: float
    temperature: float
    bias: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Calibration:
    """What is done to a row's log-probabilities, by its prompt's length; `bins` by ascending length.

    `one_pass`: the bins of rows that have one pass only, where these differ: the mean of two passes is less sure.
    """

    bins: tuple[Bin, ...]
    one_pass: tuple[Bin, ...] = ()

    def bins_of(self, *, passes: int) -> tuple[Bin, ...]:
        """The bins for rows with so many passes."""
        return self.one_pass if passes == 1 and self.one_pass else self.bins

    def apply(
        self, log_probabilities: Sequence[float], *, columns: Sequence[str], tokens: int, passes: int = 1
    ) -> tuple[float, ...]:
        """Calibrated log-probabilities by label; `columns` are the labels' columns, in the same order."""
        bins = self.bins_of(passes=passes)
        chosen = next((one for one in bins if tokens <= one.up_to_tokens), bins[-1])
        return normalised(
            [
                value / chosen.temperature + chosen.bias.get(column, 0.0)
                for column, value in zip(columns, log_probabilities, strict=True)
            ]
        )


def read_calibration(model: Path, *, columns: Sequence[str]) -> Calibration | None:
    """The calibration that a model folder carries, if it does.

    The file: `{"bins": [{"up_to_tokens": 512, "temperature": 1.2, "bias": {"column": 0.1}}, …]}`, the last bin without
    `up_to_tokens`. `one_pass_bins`, of the same form, may stand beside it for rows that have no swapped pass; other
    keys are passed over. Raises ModelError where it is not of that form or names another column.
    """
    path = model / CALIBRATION
    return read_calibration_file(path, columns=columns) if path.is_file() else None


def read_calibration_file(path: Path, *, columns: Sequence[str]) -> Calibration:
    """The calibration in a file of that form. Raises ModelError as `read_calibration` does."""
    try:
        body = read_json(path, most_bytes=_MOST_BYTES, follow=True)
    except OutsideError as error:
        raise ModelError(f"{path} is no calibration: {error}; fit it anew") from error
    return parse_calibration(body, columns=columns, where=str(path))


def parse_calibration(body: Any, *, columns: Sequence[str], where: str) -> Calibration:
    """The calibration that a JSON object of that form says. Raises ModelError as `read_calibration` does."""
    try:
        bins, one_pass = (tuple(map(_bin, part)) for part in (body["bins"], body.get("one_pass_bins", [])))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ModelError(f"{where} is no calibration: {shown(error)}; fit it anew") from error
    _check_bins(bins, where, columns=columns)
    if one_pass:
        _check_bins(one_pass, where, columns=columns)
    return Calibration(bins, one_pass)


def _check_bins(bins: Sequence[Bin], where: str, *, columns: Sequence[str]) -> None:
    limits = [one.up_to_tokens for one in bins]
    if not bins or limits != sorted(set(limits)):
        raise ModelError(f"{where} needs bins of ascending length; it has {shown(limits)}")
    for one in bins:
        # Far beyond what a fit finds; beyond these, products and sums of log-probabilities are no numbers any more.
        if not (1 / _MOST_FACTOR <= one.temperature <= _MOST_FACTOR):
            raise ModelError(f"{where} has the temperature {one.temperature}; it must be above 0, and near 1")
        if not all(abs(value) <= _MOST_FACTOR for value in one.bias.values()):
            raise ModelError(f"{where} has the bias {shown(dict(one.bias))}; each must be a finite number, near 0")
        if unknown := set(one.bias) - set(columns):
            raise ModelError(f"{where} has a bias for {shown(sorted(unknown))}; the columns are {', '.join(columns)}")


def _bin(body: Mapping[str, Any]) -> Bin:
    limit = body.get("up_to_tokens")
    bias = {str(name): float(value) for name, value in body.get("bias", {}).items()}
    return Bin(math.inf if limit is None else float(limit), float(body["temperature"]), bias)


def answers(
    task: Task, plain: Mapping[str, Entry], swapped: Mapping[str, Entry], *, calibration: Calibration | None
) -> dict[str, tuple[float, ...]]:
    """Each row's final log-probabilities by label: the mean of its passes, calibrated; rows without scores left out.

    A row that a rule answered is not calibrated: its distribution is the author's.
    """
    columns = list(task.labels)
    found: dict[str, tuple[float, ...]] = {}
    for row_id, entry in plain.items():
        if entry.log_probabilities is None:
            continue
        passes = [entry.log_probabilities]
        other = swapped.get(row_id)
        if other is not None and other.log_probabilities is not None:
            passes.append(task.mirrored(other.log_probabilities))
        answer = average(passes)
        if calibration is not None and entry.tokens:
            answer = calibration.apply(answer, columns=columns, tokens=entry.tokens, passes=len(passes))
        found[row_id] = answer
    return found


def ensemble(members: Sequence[tuple[Mapping[str, Sequence[float]], float]]) -> dict[str, tuple[float, ...]]:
    """Each row's answer: the weighted mean, in log space, of the members that have one.

    `members` pairs each model's answers (row id → log-probabilities by label) with its weight above 0.
    """
    ids = dict.fromkeys(row_id for answered, _ in members for row_id in answered)
    found = {}
    for row_id in ids:
        have = [(answered[row_id], weight) for answered, weight in members if row_id in answered]
        found[row_id] = average([values for values, _ in have], weights=[weight for _, weight in have])
    return found
