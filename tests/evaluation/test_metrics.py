"""Metrics agree with scikit-learn to 1e-9, at the edges too."""

import numpy as np
import pytest
from evaluation.made_scores import truth
from sklearn.calibration import calibration_curve
from sklearn.metrics import accuracy_score, brier_score_loss
from sklearn.metrics import log_loss as reference_log_loss

from kaggle_kit.evaluation.metrics import (
    BINS,
    LEAST,
    brier,
    chance_error,
    class_gaps,
    hits,
    losses,
    reliability,
    top_gaps,
)

CLOSE = 1e-9


def _absent(logs, outcome):
    return logs, np.where(outcome == 2, 0, outcome)


def _extreme(logs, outcome):
    """Every other row has probabilities of 0 and 1 only, some of them wrong."""
    logs = logs.copy()
    logs[::2] = np.log(np.eye(3)[(outcome[::2] + (np.arange(len(outcome[::2])) % 3 == 0)) % 3] + 1e-300)
    return logs, outcome


CASES = {
    "usual": lambda: truth(2000),
    "ten rows": lambda: truth(10),
    "one row": lambda: truth(1),
    "a class absent": lambda: _absent(*truth(500)),
    "one class only": lambda: (truth(50)[0], np.zeros(50, dtype=int)),
    "probabilities 0 and 1": lambda: _extreme(*truth(300)),
    "100,000 rows": lambda: truth(100_000),
}


@pytest.fixture(params=CASES)
def case(request):
    """Log-probabilities and outcomes."""
    return CASES[request.param]()


def test_log_loss(case):
    """The mean of the rows' losses is scikit-learn's log loss of the clipped probabilities."""
    logs, outcome = case
    rows = np.arange(len(outcome))
    shares = np.exp(logs)
    clipped = np.clip(shares, LEAST, 1)
    # scikit-learn renormalises nothing and warns where a row does not sum to 1: only the outcome's share counts.
    wanted = -np.log(clipped[rows, outcome]).mean()
    assert losses(logs, outcome).mean() == pytest.approx(wanted, abs=CLOSE)
    if shares[rows, outcome].min() > LEAST:
        exact = shares / shares.sum(axis=1, keepdims=True)
        assert losses(logs, outcome).mean() == pytest.approx(
            reference_log_loss(outcome, exact, labels=[0, 1, 2]), abs=CLOSE
        )


def test_a_certain_answer_that_is_wrong_costs_what_kaggle_takes():
    """A probability of 0 counts as 1e-15, and one of 1 costs nothing."""
    logs = np.array([[0.0, -np.inf, -np.inf], [0.0, -np.inf, -np.inf]])
    assert losses(logs, np.array([1, 0])) == pytest.approx([-np.log(1e-15), 0.0], abs=CLOSE)


def test_accuracy(case):
    """The mean of the hits is scikit-learn's accuracy."""
    logs, outcome = case
    assert hits(logs, outcome).mean() == pytest.approx(accuracy_score(outcome, logs.argmax(axis=1)), abs=CLOSE)


def test_brier(case):
    """The mean is scikit-learn's multiclass Brier score, not halved."""
    logs, outcome = case
    shares = np.exp(logs)
    wanted = brier_score_loss(
        outcome, shares / shares.sum(axis=1, keepdims=True), labels=[0, 1, 2], scale_by_half=False
    )
    assert brier(logs, outcome).mean() == pytest.approx(wanted, abs=CLOSE)


def _reference_error(true, probability):
    """The expected calibration error by scikit-learn's reliability curve and numpy's counts."""
    shares, means = calibration_curve(true, probability, n_bins=BINS, strategy="uniform")
    edges = np.linspace(0, 1, BINS + 1)[1:-1]
    counts = np.bincount(np.searchsorted(edges, probability), minlength=BINS)
    return float((counts[counts > 0] / len(true) * np.abs(shares - means)).sum())


def test_expected_calibration_error(case):
    """The sum of the top label's gaps is the error that scikit-learn's reliability curve gives."""
    logs, outcome = case
    found = np.abs(top_gaps(logs, outcome).mean(axis=0)).sum()
    confidence = np.minimum(np.exp(logs.max(axis=1)), 1.0)
    assert found == pytest.approx(_reference_error(logs.argmax(axis=1) == outcome, confidence), abs=CLOSE)


def test_class_wise_error(case):
    """So is each label's, by its own probability."""
    logs, outcome = case
    gaps = np.abs(class_gaps(logs, outcome).mean(axis=0)).reshape(3, BINS).sum(axis=1)
    shares = np.clip(np.exp(logs), 0, 1)
    assert gaps == pytest.approx([_reference_error(outcome == k, shares[:, k]) for k in range(3)], abs=CLOSE)


def test_reliability_is_scikit_learns_curve():
    """Each bin's mean confidence and share of hits, for a label and for the likeliest one."""
    logs, outcome = truth(3000)
    found = reliability(logs, outcome, column=1)
    shares, means = calibration_curve(outcome == 1, np.exp(logs[:, 1]), n_bins=BINS)
    assert [one.accuracy for one in found] == pytest.approx(shares.tolist(), abs=CLOSE)
    assert [one.confidence for one in found] == pytest.approx(means.tolist(), abs=CLOSE)
    top = reliability(logs, outcome)
    assert sum(one.rows for one in top) == 3000
    assert all(one.low < one.confidence <= one.high for one in top)


def test_chance_makes_an_error_that_shrinks_with_the_rows():
    """A perfectly calibrated model has an error by chance, of the size of what its own outcomes give."""
    small, large = (chance_error(truth(count)[0], seed=1) for count in (100, 10_000))
    assert small > 3 * large
    logs, outcome = truth(10_000)
    assert np.abs(top_gaps(logs, outcome).mean(axis=0)).sum() == pytest.approx(large, rel=0.6)
