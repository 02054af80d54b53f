"""An ensemble says which model earns its time."""

import tomllib

import numpy as np
import pytest
from evaluation.made_scores import blurred, scores_of, truth

from kaggle_kit.errors import DataError
from kaggle_kit.evaluation.answers import answers_of, normalise
from kaggle_kit.evaluation.ensemble import Member, weigh
from kaggle_kit.runtime.combine import Bin, Calibration


def member(name, by, *, rows=1500, scale=1.0, seed=1, minutes=None, calibration=None):
    """A model that sees the truth through noise."""
    logs, outcome = truth(rows)
    values = normalise(scale * blurred(logs, seed=seed, by=by))
    return Member(name, answers_of(scores_of(values, outcome, model=name)), calibration, minutes)


def test_members_that_err_apart_help_each_other():
    """Two models as good as each other, with errors of their own, are better together, beyond noise."""
    found = weigh([member("one", 0.6, seed=1), member("two", 0.6, seed=2)])
    assert found.over_best.high < 0
    assert [one.weight for one in found.members] == pytest.approx([0.5, 0.5], abs=0.15)
    assert all(one.gain.high < 0 for one in found.members)
    assert all(one.weight_over_folds[0] <= one.weight <= one.weight_over_folds[1] for one in found.members)


def test_a_useless_member_is_seen():
    """It has no weight, no gain, and no place in kit.toml."""
    found = weigh([member("good", 0.3), member("noise", 30.0, seed=2)])
    assert found.members[1].weight < 0.01
    assert found.members[1].gain.in_noise
    assert found.kit_toml() == 'model = "good"'
    assert found.best == "good"


def test_the_gain_is_set_against_the_minutes():
    """The same gain in half the time is twice the gain an hour."""
    found = weigh([member("slow", 0.6, minutes=120), member("fast", 0.6, seed=2, minutes=60)])
    slow, fast = found.members
    assert slow.gain_per_hour == pytest.approx(slow.gain.value / 2)
    assert fast.gain_per_hour == pytest.approx(fast.gain.value)
    assert weigh([member("slow", 0.6), member("fast", 0.6, seed=2)]).members[0].gain_per_hour is None


def test_the_lines_are_toml_with_the_heaviest_first():
    """Its weight is 1, those of the others are in proportion; a name that is no bare key is quoted."""
    found = weigh([member("qwen2.5", 0.8), member("big-model", 0.4, seed=2)])
    lines = tomllib.loads(found.kit_toml())
    small, big = (one.weight for one in found.members)
    assert lines == {"model": "big-model", "ensemble": {"qwen2.5": pytest.approx(small / big, rel=0.01)}}


def test_errors_correlate_as_numpy_says():
    """A member correlates with itself fully, and with a noisier view of the same truth less."""
    members = [member("one", 0.4), member("two", 0.4, seed=2), member("far", 1.5, seed=3)]
    table = np.array(weigh(members).correlation)
    np.testing.assert_allclose(np.diag(table), 1)
    np.testing.assert_allclose(table, table.T)
    assert table[0, 1] > table[0, 2]
    true = np.eye(3)[members[0].answers.outcome]
    errors = [(true - np.exp(one.answers.averaged)).ravel() for one in members[:2]]
    assert table[0, 1] == pytest.approx(np.corrcoef(*errors)[0, 1])


def test_calibrated_members_are_weighed_by_what_they_know():
    """An over-confident model gets too little weight as it is, and its due at its own temperature."""
    members = [member("sure", 0.3, scale=4), member("plain", 0.9, seed=2)]
    raw, calibrated = weigh(members), weigh(members, calibrate=True)
    assert raw.members[0].weight < 0.5 < 0.7 < calibrated.members[0].weight
    assert calibrated.log_loss.value < raw.log_loss.value


def test_a_calibration_that_a_model_brings_is_applied():
    """As the runtime does: with its own temperature of 4 the over-confident model is itself again."""
    brought = member("sure", 0.3, scale=4, calibration=Calibration((Bin(float("inf"), 4.0),)))
    found = weigh([brought, member("plain", 0.9, seed=2)])
    assert found.members[0].weight > 0.7


def test_only_common_rows_count():
    """Rows that one file lacks, or that no model answered there, are left out."""
    long, short = member("long", 0.5, rows=500), member("short", 0.5, rows=500, seed=2)
    part = Member("short", short.answers.take(np.arange(100, 500)))
    logs, outcome = truth(500)
    ruled = ["rule" if number < 150 else "model" for number in range(500)]
    other = Member("ruled", answers_of(scores_of(logs, outcome, answered=ruled)))
    assert weigh([long, part, other]).rows == 350


def test_too_few_rows_or_members_are_refused():
    """100 rows for each weight, and two files or more."""
    with pytest.raises(DataError, match="199 rows that all 3 models answered are too few to weigh them: it takes 200"):
        weigh([member(str(k), 0.5, rows=199, seed=k) for k in range(3)])
    with pytest.raises(DataError, match="two scores files or more"):
        weigh([member("one", 0.5)])
