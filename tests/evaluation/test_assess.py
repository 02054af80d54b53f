"""A scores file's metrics, slices and differences."""

import json
import math

import numpy as np
import pytest
from evaluation.made_scores import COLUMNS, blurred, made, scores_of, truth

from kaggle_kit.errors import DataError
from kaggle_kit.evaluation.answers import answers_of, normalise, slices_of
from kaggle_kit.evaluation.assess import (
    Predictions,
    assess,
    assess_submission,
    common_rows,
    difference,
    difference_if_any,
    greatest_losses,
    swap_consistency,
)
from kaggle_kit.evaluation.metrics import losses
from kaggle_kit.runtime.combine import Bin, Calibration


def test_each_kind_of_answer_has_its_figures():
    """Plain, both orders, calibrated: scikit-learn's log loss each, and the last is the final one."""
    from sklearn.metrics import log_loss

    answers = made(400, scale=2)
    found = assess(answers, calibration=Calibration((Bin(math.inf, 2.0),)))
    assert list(found.figures) == ["plain", "both orders", "calibrated"]
    assert found.final == "calibrated"
    for kind, values in (("plain", answers.plain), ("both orders", answers.averaged)):
        wanted = log_loss(answers.outcome, np.exp(values), labels=[0, 1, 2])
        assert found.figures[kind]["log loss"].value == pytest.approx(wanted, abs=1e-9)
    assert found.gains["calibrated"].high < 0


def test_without_a_swapped_pass_there_is_the_plain_answer_alone():
    """No figure is made up for what was not scored."""
    found = assess(made(50, swapped=False))
    assert (list(found.figures), found.final, found.gains, found.swap) == (["plain"], "plain", {}, {})


def test_the_gain_is_the_difference_of_the_log_losses():
    """Paired: far surer than either loss."""
    found = assess(made(500))
    gain, loss = found.gains["both orders"], found.figures["plain"]["log loss"]
    assert gain.value == pytest.approx(found.figures["both orders"]["log loss"].value - loss.value, abs=1e-12)
    assert gain.error < loss.error / 2


def test_slices_have_all_rows_and_their_own_means():
    """By each property the slices' rows are all rows, and a slice's loss is the mean over its rows."""
    answers = made(300)
    found = assess(answers)
    for by in ("prompt tokens", "turns", "script", "cut", "outcome"):
        parts = [one for one in found.slices if one.by == by]
        assert sum(one.rows for one in parts) == 300
        mean = sum(one.rows * one.log_loss.value for one in parts) / 300
        assert mean == pytest.approx(found.figures["both orders"]["log loss"].value, abs=1e-9)
    han = next(one for one in found.slices if one.name == "Han")
    loss = losses(answers.averaged, answers.outcome)[(answers.lines["script"] == "Han").to_numpy()]
    assert han.log_loss.value == pytest.approx(loss.mean(), abs=1e-9)


def test_rows_that_no_model_answered_are_in_no_length():
    """A rule's row has no prompt; it still counts for the metrics."""
    answered = ["model"] * 30 + ["prior"] * 10
    answers = made(40, swapped=False, answered=answered)
    by = {(one.by, one.name): one.rows for one in slices_of(answers)}
    assert sum(rows for (kind, _), rows in by.items() if kind == "prompt tokens") == 30
    assert sum(rows for (kind, _), rows in by.items() if kind == "outcome") == 40


def test_cut_rows_are_told_by_how_much_they_lost():
    """Nothing, up to a quarter, up to a half, more."""
    whole, cut = [100, 110, 180, 400], ["", "a", "a,b", "b"]
    answers = made(4, swapped=False, tokens=[100] * 4, whole_tokens=whole, cut=cut)
    found = [(one.name, one.rows) for one in slices_of(answers) if one.by == "cut"]
    assert found == [("nothing", 1), ("up to 25%", 1), ("25% to 50%", 1), ("above 50%", 1)]


def test_rare_scripts_are_shown_together():
    """Fewer than ten rows say nothing of a script."""
    scripts = ["Latin"] * 20 + ["Han"] * 12 + ["Thai"] * 5 + ["Greek"] * 3
    found = [(one.name, one.rows) for one in slices_of(made(40, script=scripts)) if one.by == "script"]
    assert found == [("Latin", 20), ("Han", 12), ("other", 8)]


def test_a_liking_for_the_first_place_is_seen():
    """A model that adds to whoever stands first: its passes are apart, and the sign says the first place."""
    logs, outcome = truth(300)
    push = np.array([0.5, 0.0, 0.0])
    first = normalise(logs + push)
    second = normalise(logs + push[[1, 0, 2]])
    found = swap_consistency(answers_of(scores_of(first, outcome, second)))
    assert found["first place"].low > 0.02
    assert found["apart"].value == pytest.approx(np.abs(np.exp(first) - np.exp(second))[:, :2].mean(), abs=1e-12)
    assert 0 < found["changed"].value < 0.5
    fair = swap_consistency(answers_of(scores_of(logs, outcome, logs)))
    assert (fair["apart"].value, fair["first place"].value, fair["changed"].value) == (0, 0, 0)


@pytest.mark.parametrize("count", [1, 10])
def test_few_rows_are_enough_for_figures(count):
    """A file of ten rows, or of one, has all its metrics, and they are JSON."""
    found = assess(made(count)).to_json()
    assert math.isfinite(found["figures"]["plain"]["log loss"]["value"])
    json.dumps(found, allow_nan=False)


def test_a_class_that_never_came_true_is_no_slice():
    """Metrics stand without it."""
    logs, outcome = truth(100)
    answers = answers_of(scores_of(logs, np.where(outcome == 2, 1, outcome)))
    assert "win_tie" not in {one.name for one in assess(answers).slices}


def _plain(answers):
    return Predictions(answers.ids, answers.columns, answers.plain, answers.outcome)


def two_files(*, seed=0):
    logs, outcome = truth(400, seed=seed)
    good, bad = (scores_of(blurred(logs, seed=1, by=by), outcome, model=str(by)) for by in (0.2, 0.9))
    return good, bad


def test_the_difference_of_two_files_is_paired():
    """The second less the first, over the rows that both have, whatever their order."""
    good, bad = map(answers_of, two_files())
    part = bad.take(np.random.default_rng(0).permutation(400)[:300])
    found = difference(_plain(good), _plain(part))
    assert (found.rows, found.left_out) == (300, 100)
    kept = [good.ids.index(row_id) for row_id in part.ids]
    wanted = losses(part.plain, part.outcome).mean() - losses(good.plain, good.outcome)[kept].mean()
    assert found.figures["log loss"].value == pytest.approx(wanted, abs=1e-12)
    assert found.figures["log loss"].low > 0


def test_a_file_does_not_differ_from_itself():
    """Zero, with an interval of no width."""
    answers = made(50)
    found = difference(_plain(answers), _plain(answers))
    assert all((one.value, one.low, one.high) == (0, 0, 0) for one in found.figures.values())


def test_files_that_do_not_fit_together_are_told():
    """Other rows, other labels, other outcomes."""
    good, bad = map(answers_of, two_files())
    _, outcome = truth(400)
    logs, _ = truth(400)
    other_ids = answers_of(scores_of(logs, outcome, id=[f"x{n}" for n in range(400)]))
    with pytest.raises(DataError, match="share no row id"):
        common_rows([good, other_ids])
    with pytest.raises(DataError, match="disagree on what came true"):
        common_rows([good, answers_of(scores_of(logs, (outcome + 1) % 3))])
    renamed = answers_of(scores_of(logs, outcome))
    object.__setattr__(renamed, "columns", tuple(reversed(COLUMNS)))
    with pytest.raises(DataError, match="other labels"):
        common_rows([bad, renamed])


def test_a_judged_submission_is_judged_as_an_evaluation_is():
    """The same rows give the same estimates as `assess`."""
    logs, outcome = truth(300)
    answers = answers_of(scores_of(logs, outcome))
    expected = assess(answers).figures["plain"]
    found = assess_submission(Predictions(answers.ids, answers.columns, answers.plain, answers.outcome))
    for name in ("log loss", "accuracy", "Brier", "ECE"):
        assert found.figures["submission"][name].value == pytest.approx(expected[name].value, abs=1e-12)
        assert found.figures["submission"][name].low == pytest.approx(expected[name].low, abs=1e-12)


def test_the_difference_of_two_runs_is_over_the_rows_of_both():
    """How far probabilities are apart, which rows have another favourite, and the losses' difference, all by hand."""
    logs, outcome = truth(300)
    files = [answers_of(scores_of(blurred(logs, seed=seed, by=0.4), outcome)) for seed in (1, 2)]
    one, other = files[0].plain[50:], files[1].plain[50:]
    files[1] = files[1].take(np.arange(50, 300)[::-1])
    found = difference_if_any(*map(_plain, files))
    assert (found.rows, found.left_out) == (250, 50)
    assert found.apart == pytest.approx(np.abs(np.exp(one) - np.exp(other)).mean())
    assert found.changed == pytest.approx((one.argmax(axis=1) != other.argmax(axis=1)).mean())
    wanted = losses(other, outcome[50:]).mean() - losses(one, outcome[50:]).mean()
    assert found.figures["log loss"].value == pytest.approx(wanted)


def test_runs_without_rows_in_common_are_not_paired():
    """Other ids or other labels."""
    logs, outcome = truth(10)
    one = Predictions([str(k) for k in range(10)], ("a", "b", "c"), logs, outcome)
    assert difference_if_any(one, Predictions([f"x{k}" for k in range(10)], ("a", "b", "c"), logs, outcome)) is None
    assert difference_if_any(one, Predictions(one.ids, ("a", "b", "d"), logs, outcome)) is None
    assert difference_if_any(one, Predictions(one.ids, one.columns, logs)).figures == {}


def test_runs_that_disagree_on_what_came_true_are_refused():
    """They are not over the same labelled rows."""
    logs, outcome = truth(10)
    one = Predictions([str(k) for k in range(10)], ("a", "b", "c"), logs, outcome)
    with pytest.raises(DataError, match="disagree"):
        difference_if_any(one, Predictions(one.ids, one.columns, logs, (outcome + 1) % 3))


def test_the_worst_rows_come_first():
    """By loss, of equals the earlier."""
    logs = np.log(np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.8, 0.1]]))
    rows = Predictions(["x", "y", "z"], ("a", "b", "c"), logs, np.zeros(3, dtype=np.int64))
    assert [place for place, _ in greatest_losses(rows, most=2)] == [1, 2]
