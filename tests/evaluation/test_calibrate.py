"""A calibration is judged on rows that it did not see, is refused for too few, and is what the runtime applies."""

import json
import math

import numpy as np
import pytest
from evaluation.made_scores import COLUMNS, LABELS, blurred, made, scores_of, truth
from evaluation.test_fit import best_temperature

from kaggle_kit.errors import DataError
from kaggle_kit.evaluation.answers import answers_of, folds_of, normalise
from kaggle_kit.evaluation.calibrate import (
    BIN_ROWS,
    calibrate,
    cross_fitted,
    length_limits,
    write_calibration,
)
from kaggle_kit.evaluation.metrics import losses
from kaggle_kit.runtime.combine import CALIBRATION, Calibration, read_calibration


@pytest.mark.parametrize("kind", ["temperature", "bias", "lengths"])
def test_an_over_confident_model_is_brought_back(kind):
    """Logits times 3: every kind gains, beyond noise, on rows that it did not see."""
    found = calibrate(made(1200, scale=3), kind=kind)
    assert found.gain.over_same.high < -0.1
    assert found.gain.over_plain.value < found.gain.over_same.value


def test_its_temperature_is_the_best_one_within_0_005():
    """Of both orders and of one pass, as scipy finds them."""
    answers = made(3000, scale=3)
    found = calibrate(answers, kind="temperature")
    assert found.bins[0].temperature == pytest.approx(best_temperature(answers.averaged, answers.outcome), abs=0.005)
    assert found.one_pass[0].temperature == pytest.approx(best_temperature(answers.plain, answers.outcome), abs=0.005)
    assert found.one_pass[0].temperature > found.bins[0].temperature


@pytest.mark.parametrize("kind", ["bias", "lengths"])
def test_the_gain_is_that_on_new_rows(kind):
    """Of 20 fits on 600 rows, nearly all intervals hold what the calibration brings on 20,000 others.

    Measured over 100 fits on 1,000 rows: 97 ("bias") and 94 ("lengths"), as 95 % should.
    """
    new = made(20_000, seed=9999, scale=1.6)
    inside = 0
    for number in range(20):
        found = calibrate(made(600, seed=10 + 3 * number, scale=1.6), kind=kind)
        after = losses(new.calibrated(Calibration(found.bins, found.one_pass)), new.outcome)
        gain = (after - losses(new.averaged, new.outcome)).mean()
        inside += found.gain.over_same.low < gain < found.gain.over_same.high
    assert inside >= 17


def test_each_row_is_judged_by_a_fit_that_has_not_seen_it():
    """Another outcome of one row changes nothing of that row's own calibrated answer."""
    logs, outcome = truth(300)
    changed = outcome.copy()
    changed[5] = (changed[5] + 1) % 3
    one, other = (cross_fitted(answers_of(scores_of(2 * logs, true)), "bias", seed=0) for true in (outcome, changed))
    np.testing.assert_array_equal(one[5], other[5])
    assert not np.array_equal(one, other)


def test_copies_of_a_row_are_judged_together():
    """A prompt that was fitted on is not new, whatever its id."""
    flags = ["", *(["copy of r0"] * 20), *([""] * 79)]
    for _, judged in folds_of(made(100, flags=flags), seed=0):
        inside = set(judged.tolist())
        assert inside >= set(range(21)) or not inside & set(range(21))


def test_each_row_is_judged_once():
    """The folds part the rows; with fewer rows than folds each is a fold."""
    for count in (100, 3):
        judged = np.concatenate([judged for _, judged in folds_of(made(count), seed=1)])
        assert sorted(judged.tolist()) == list(range(count))


def test_a_sound_model_gains_nothing_beyond_noise():
    """True probabilities need no calibration, and the richer kinds are not taken."""
    logs, outcome = truth(2000)
    found = calibrate(answers_of(scores_of(logs, outcome)))
    assert found.kind == "temperature"
    assert found.in_noise
    assert found.bins[0].temperature == pytest.approx(1, abs=0.1)
    assert found.one_pass == ()


def test_the_richer_kind_is_taken_where_it_is_better():
    """A tie that is far too likely needs a bias; long prompts that are far too sure need bins."""
    logs, outcome = truth(3000)
    leaning = answers_of(scores_of(normalise(logs + np.array([0, 0, 0.8])), outcome))
    assert calibrate(leaning).kind == "bias"
    tokens = [100 if number % 2 else 900 for number in range(3000)]
    sure = np.where((np.array(tokens) == 900)[:, None], 3 * logs, 0.7 * logs)
    found = calibrate(answers_of(scores_of(normalise(sure), outcome, tokens=tokens)))
    assert found.kind == "lengths"
    short, *_, long = found.bins
    assert short.temperature < 0.9 < 2 < long.temperature


def test_a_length_with_few_rows_is_pulled_toward_all_rows():
    """Where no length differs, the bins' temperatures differ less than those of fits without a pull."""
    answers = made(4 * BIN_ROWS, scale=2)
    found = calibrate(answers, kind="lengths")
    ends = [one.up_to_tokens for one in found.bins]
    place = np.searchsorted(ends, answers.tokens)
    apart = [best_temperature(answers.averaged[place == k], answers.outcome[place == k]) for k in range(len(ends))]
    assert np.std([one.temperature for one in found.bins]) < 0.75 * np.std(apart)


def test_bins_are_of_many_rows():
    """Never fewer than BIN_ROWS; equal lengths make one bin."""
    tokens = np.random.default_rng(0).integers(20, 1000, 1100)
    limits = length_limits(tokens)
    assert limits[-1] == math.inf
    assert np.bincount(np.searchsorted(limits, tokens)).min() >= BIN_ROWS
    assert length_limits(np.full(5000, 512)) == [math.inf]
    assert length_limits(np.arange(300)) == [math.inf]


def test_exchanged_labels_are_treated_alike():
    """A calibration of exchanged answers is the exchanged calibration."""
    logs, outcome = truth(800)
    model = blurred(2 * logs, seed=1, by=0.5)
    turned = np.array([1, 0, 2])
    straight = calibrate(answers_of(scores_of(model, outcome)), kind="bias")
    mirrored = calibrate(answers_of(scores_of(model[:, turned], turned[outcome])), kind="bias")
    assert straight.bins[0].temperature == pytest.approx(mirrored.bins[0].temperature, abs=1e-6)
    assert straight.bins[0].bias["win_tie"] == pytest.approx(mirrored.bins[0].bias["win_tie"], abs=1e-6)
    assert straight.bins[0].bias["win_a"] == straight.bins[0].bias["win_b"]


@pytest.mark.parametrize(
    ("rows", "kind", "words"),
    [
        (99, "temperature", "99 rows that the model answered are too few for the kind 'temperature', which needs 100"),
        (99, "auto", "too few for the kind 'temperature', which needs 100"),
        (199, "bias", "199 rows .* needs 200"),
        (499, "lengths", "499 rows .* needs 500"),
    ],
)
def test_too_few_rows_are_refused(rows, kind, words):
    """The error says how many it takes, and how to get them."""
    with pytest.raises(DataError, match=rf"{words}.*score more rows with `kit eval`"):
        calibrate(made(rows), kind=kind)


def test_rows_of_rules_do_not_count():
    """Only what the model answered can say how sure the model is."""
    answered = ["model"] * 99 + ["rule"] * 500
    with pytest.raises(DataError, match="99 rows that the model answered"):
        calibrate(made(599, answered=answered), kind="temperature")


def test_a_label_that_hardly_came_true_gets_no_bias():
    """Its bias would be a guess; a temperature alone is still fitted."""
    logs, outcome = truth(400)
    rare = np.where((outcome == 2) & (np.arange(400) > 30), 0, outcome)
    answers = answers_of(scores_of(logs, rare))
    with pytest.raises(DataError, match=r"win_tie came true in \d+ rows, which are too few for a bias"):
        calibrate(answers, kind="bias")
    found = calibrate(answers)
    assert (found.kind, sorted(found.refused)) == ("temperature", ["bias", "lengths"])


def test_the_runtime_reads_what_is_written(tmp_path):
    """The file is a calibration of the runtime's form, and says where it comes from."""
    answers = made(1200, scale=2)
    found = calibrate(answers, kind="lengths")
    write_calibration(tmp_path / CALIBRATION, found.body(model="demo"))
    read = read_calibration(tmp_path, columns=list(LABELS))
    assert read is not None
    assert len(read.bins) == len(found.bins) == len(read.one_pass) == 4
    loss = losses(answers.calibrated(read), answers.outcome).mean()
    assert loss < losses(answers.averaged, answers.outcome).mean() - 0.02
    body = json.loads((tmp_path / CALIBRATION).read_text())
    assert body["fitted"]["model"] == "demo"
    assert body["fitted"]["over_same"]["high"] < 0
    assert set(body["bins"][0]["bias"]) <= set(COLUMNS)
