"""Arrays say what the runtime says: passes averaged, then calibrated."""

import math

import numpy as np
import polars as pl
import pytest
from evaluation.made_scores import COLUMNS, LABELS, made, scores_of, truth

from kaggle_kit.errors import DataError
from kaggle_kit.evaluation.answers import answers_of
from kaggle_kit.evaluation.scores import Scores
from kaggle_kit.runtime.combine import Bin, Calibration, answers
from kaggle_kit.runtime.job import Task
from kaggle_kit.runtime.journal import Entry

TASK = Task(
    labels=LABELS,
    prior=dict.fromkeys(COLUMNS, 1 / 3),
    fields={"left": 1, "right": 1},
    template="{left}{right}.",
    swap={"left": "right", "win_a": "win_b"},
)
BINS = (Bin(200, 1.3, {"win_tie": 0.2}), Bin(500, 0.8), Bin(math.inf, 2.0, {"win_a": 0.1, "win_b": 0.1}))


@pytest.mark.parametrize("one_pass", [(), (Bin(math.inf, 0.5, {"win_tie": -0.3}),)], ids=["alike", "apart"])
def test_they_agree_with_the_runtime(one_pass):
    """Rows with both passes, with one, and with a rule's answer are what `runtime.combine.answers` makes of them."""
    calibration = Calibration(BINS, one_pass)
    logs, outcome = truth(60)
    other, _ = truth(60, seed=1)
    answered = ["rule" if number % 7 == 0 else "model" for number in range(60)]
    tokens = [0 if one == "rule" else 17 * number for number, one in enumerate(answered)]
    scores = scores_of(logs, outcome, other, answered=answered, tokens=tokens)
    keep = [place for place in range(120) if place < 60 or place % 3]
    found = answers_of(Scores(scores.lines[keep], scores.facts))
    plain = {f"r{n}": Entry(f"r{n}", tokens[n], (), tuple(logs[n])) for n in range(60)}
    back = {f"r{n - 60}": Entry(f"r{n - 60}", 9, (), TASK.mirrored(tuple(other[n - 60]))) for n in keep if n >= 60}
    wanted = answers(TASK, plain, back, calibration=calibration)
    np.testing.assert_allclose(found.calibrated(calibration), [wanted[row_id] for row_id in found.ids], atol=1e-12)
    uncalibrated = answers(TASK, plain, back, calibration=None)
    np.testing.assert_allclose(found.averaged, [uncalibrated[row_id] for row_id in found.ids], atol=1e-12)
    assert found.in_both.sum() == len(back)


def test_rows_are_taken_with_all_that_belongs_to_them():
    """A part of the rows has their ids, figures and outcomes, in the order asked for."""
    whole = made(9)
    part = whole.take(np.array([7, 2]))
    assert part.ids == ["r7", "r2"]
    np.testing.assert_array_equal(part.averaged, whole.averaged[[7, 2]])
    np.testing.assert_array_equal(part.outcome, whole.outcome[[7, 2]])


def test_a_probability_of_zero_is_a_very_small_one():
    """Minus infinity spoils no figure."""
    logs, outcome = truth(1)
    logs[0] = [0.0, -np.inf, -np.inf]
    found = answers_of(scores_of(logs, outcome, logs))
    assert np.isfinite(found.averaged).all()
    np.testing.assert_allclose(np.exp(found.averaged), [[1, 0, 0]], atol=1e-200)


def test_a_repeated_id_is_told():
    """A row counted twice would be weighed twice."""
    logs, outcome = truth(2)
    with pytest.raises(DataError, match="two lines of a pass with the same id"):
        answers_of(scores_of(logs, outcome, id=["x", "x"]))


def test_an_unknown_outcome_is_told():
    """What came true is one of the labels' columns."""
    logs, outcome = truth(1)
    scores = scores_of(logs, outcome)
    lines = scores.lines.with_columns(outcome=pl.lit("nobody"))
    with pytest.raises(DataError, match=r"outcomes that are no column of its labels: \['nobody'\]"):
        answers_of(Scores(lines, scores.facts))
