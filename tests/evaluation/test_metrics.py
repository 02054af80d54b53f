"""Metrics agree with scikit-learn to 1e-9, at the edges too; the true outcomes, and the log loss against them."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from evaluation.made_scores import truth

from kaggle_kit.errors import DataError
from kaggle_kit.evaluation.metrics import (
    BINS,
    LEAST,
    Solution,
    brier,
    chance_error,
    class_gaps,
    hits,
    log_loss,
    losses,
    read_solution,
    reliability,
    top_gaps,
)

CLOSE = 1e-9
COLUMNS = ("a", "b", "tie")


@pytest.fixture(scope="module")
def reference():
    """scikit-learn's figures. Its import takes a second: not of each process that collects these tests."""
    from sklearn import calibration, metrics

    figures = (metrics.accuracy_score, metrics.brier_score_loss, metrics.log_loss, calibration.calibration_curve)
    return SimpleNamespace(**{figure.__name__: figure for figure in figures})


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


def test_log_loss(case, reference):
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
            reference.log_loss(outcome, exact, labels=[0, 1, 2]), abs=CLOSE
        )


def test_a_certain_answer_that_is_wrong_costs_what_kaggle_takes():
    """A probability of 0 counts as 1e-15, and one of 1 costs nothing."""
    logs = np.array([[0.0, -np.inf, -np.inf], [0.0, -np.inf, -np.inf]])
    assert losses(logs, np.array([1, 0])) == pytest.approx([-np.log(1e-15), 0.0], abs=CLOSE)


def test_accuracy(case, reference):
    """The mean of the hits is scikit-learn's accuracy."""
    logs, outcome = case
    assert hits(logs, outcome).mean() == pytest.approx(
        reference.accuracy_score(outcome, logs.argmax(axis=1)), abs=CLOSE
    )


def test_brier(case, reference):
    """The mean is scikit-learn's multiclass Brier score, not halved."""
    logs, outcome = case
    shares = np.exp(logs)
    wanted = reference.brier_score_loss(
        outcome, shares / shares.sum(axis=1, keepdims=True), labels=[0, 1, 2], scale_by_half=False
    )
    assert brier(logs, outcome).mean() == pytest.approx(wanted, abs=CLOSE)


def _reference_error(reference, true, probability):
    """The expected calibration error by scikit-learn's reliability curve and numpy's counts."""
    shares, means = reference.calibration_curve(true, probability, n_bins=BINS, strategy="uniform")
    edges = np.linspace(0, 1, BINS + 1)[1:-1]
    counts = np.bincount(np.searchsorted(edges, probability), minlength=BINS)
    return float((counts[counts > 0] / len(true) * np.abs(shares - means)).sum())


def test_expected_calibration_error(case, reference):
    """The sum of the top label's gaps is the error that scikit-learn's reliability curve gives."""
    logs, outcome = case
    found = np.abs(top_gaps(logs, outcome).mean(axis=0)).sum()
    confidence = np.minimum(np.exp(logs.max(axis=1)), 1.0)
    assert found == pytest.approx(_reference_error(reference, logs.argmax(axis=1) == outcome, confidence), abs=CLOSE)


def test_class_wise_error(case, reference):
    """So is each label's, by its own probability."""
    logs, outcome = case
    gaps = np.abs(class_gaps(logs, outcome).mean(axis=0)).reshape(3, BINS).sum(axis=1)
    shares = np.clip(np.exp(logs), 0, 1)
    assert gaps == pytest.approx([_reference_error(reference, outcome == k, shares[:, k]) for k in range(3)], abs=CLOSE)


def test_reliability_is_scikit_learns_curve(reference):
    """Each bin's mean confidence and share of hits, for a label and for the likeliest one."""
    logs, outcome = truth(3000)
    found = reliability(logs, outcome, column=1)
    shares, means = reference.calibration_curve(outcome == 1, np.exp(logs[:, 1]), n_bins=BINS)
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


@pytest.fixture
def write(tmp_path):
    """A function: a file of this text."""

    def make(text: str, name: str = "file.csv"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return make


def test_the_outcome_is_the_column_that_is_one(write):
    """Each row's outcome is read, in whatever order the columns stand, other columns left alone."""
    path = write("id,tie,text,b,a\n7,0,x,0,1\n8,1,y,0,0\n9,0.0,z, 1.0 ,0\n")
    assert read_solution(path, columns=COLUMNS).outcomes == {"7": "a", "8": "tie", "9": "b"}


@pytest.mark.parametrize(("row", "count"), [("7,0,0,0", 0), ("7,1,1,0", 2), ("7", 0), ("7,x,y,z", 0)])
def test_a_row_without_one_outcome(write, row, count):
    """A row with no outcome, or several, is named."""
    with pytest.raises(DataError, match=f"the row '7' has {count} outcomes that are 1; it needs exactly one"):
        read_solution(write(f"id,a,b,tie\n{row}\n"), columns=COLUMNS)


def test_a_repeated_id(write):
    """Two rows of one id could disagree: they are refused."""
    with pytest.raises(DataError, match=r"file\.csv has two rows with the id '7'"):
        read_solution(write("id,a,b,tie\n7,1,0,0\n7,0,1,0\n"), columns=COLUMNS)


def test_a_missing_column(write):
    """A solution without one of the columns is refused, with those that it has."""
    with pytest.raises(DataError, match="has no column 'tie'; it has: id, a, b"):
        read_solution(write("id,a,b\n7,1,0\n"), columns=COLUMNS)


def test_a_missing_file(tmp_path):
    """A solution that does not exist is named."""
    with pytest.raises(DataError, match=r"nope\.csv is missing"):
        read_solution(tmp_path / "nope.csv", columns=COLUMNS)


def test_the_log_loss_by_hand(write):
    """The mean of the negative logarithms, computed by hand: (ln 2 + ln 4 + ln 10) / 3."""
    path = write("id,a,b,tie\n1,0.5,0.25,0.25\n2,0.5,0.25,0.25\n3,0.6,0.3,0.1\n")
    solution = Solution({"1": "a", "2": "b", "3": "tie"})
    assert log_loss(path, solution) == pytest.approx(math.log(80) / 3, abs=1e-12)


def test_the_order_of_columns_and_rows_does_not_matter(write):
    """Columns are found by name and rows by id."""
    one = write("id,a,b\n1,0.9,0.1\n2,0.2,0.8\n", "one.csv")
    other = write("id,b,a\n2,0.8,0.2\n1,0.1,0.9\n", "other.csv")
    solution = Solution({"1": "a", "2": "a"})
    assert log_loss(one, solution) == pytest.approx(log_loss(other, solution), abs=1e-15)


def test_uniform_is_the_logarithm_of_three(write):
    """A third everywhere costs ln 3 = 1.0986, whatever came true."""
    path = write("id,a,b,tie\n1,0.3333333333,0.3333333333,0.3333333333\n")
    assert log_loss(path, Solution({"1": "b"})) == pytest.approx(math.log(3))


def test_rows_are_renormalised(write):
    """A row that sums to 2 is read as shares."""
    assert log_loss(write("id,a,b\n1,1.5,0.5\n"), Solution({"1": "a"})) == pytest.approx(-math.log(0.75))


def test_certainty_that_was_wrong_costs_a_finite_amount(write):
    """A probability of 0 for what came true is clipped to 1e-15: 34.5."""
    assert log_loss(write("id,a,b\n1,0,1\n"), Solution({"1": "a"})) == pytest.approx(-math.log(1e-15))


def test_certainty_that_was_right_costs_nothing(write):
    """A probability of 1 for what came true costs 0, and no negative zero."""
    loss = log_loss(write("id,a,b\n1,1,0\n"), Solution({"1": "a"}))
    assert (loss, math.copysign(1, loss)) == (0, 1)


def test_outcomes_that_nobody_asked_for(write):
    """A solution may know more rows than the submission has."""
    assert log_loss(write("id,a,b\n1,0.5,0.5\n"), Solution({"1": "a", "2": "b"})) == pytest.approx(math.log(2))


def test_a_row_without_an_outcome(write):
    """A row that the solution does not know is named."""
    with pytest.raises(DataError, match="the solution has no row '2'"):
        log_loss(write("id,a,b\n2,0.5,0.5\n"), Solution({"1": "a"}))


@pytest.mark.parametrize("text", ["id,a,b\n", ""])
def test_nothing_to_score(write, text):
    """A submission without rows has no log loss."""
    with pytest.raises(DataError, match=r"file\.csv has no rows to score"):
        log_loss(write(text), Solution({"1": "a"}))
