"""The true outcomes, and the log loss against them."""

import math

import pytest

from kaggle_kit.errors import DataError
from kaggle_kit.evaluation.solution import Solution, log_loss, read_solution

COLUMNS = ("a", "b", "tie")


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
