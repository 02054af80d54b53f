"""Passes and models become one answer."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaggle_kit.errors import ModelError
from kaggle_kit.runtime.combine import Bin, Calibration, answers, average, ensemble, normalised, read_calibration
from kaggle_kit.runtime.job import Task
from kaggle_kit.runtime.journal import Entry

COLUMNS = ["a", "b", "tie"]


def logs(*probabilities):
    return tuple(map(math.log, probabilities))


def shares(values):
    return [math.exp(value) for value in values]


def pair_task(count, pairs):
    names = [f"c{i}" for i in range(count)]
    return Task(
        labels={name: name.upper() for name in names},
        prior=dict.fromkeys(names, 1 / count),
        fields={"left": 1, "right": 1},
        template="{left}{right}.",
        swap={"left": "right"} | {names[one]: names[other] for one, other in pairs},
    )


@st.composite
def tasks(draw):
    """Tasks of 2 to 7 labels, any of which are paired."""
    count = draw(st.integers(2, 7))
    order = draw(st.permutations(range(count)))
    pairs = draw(st.integers(0, count // 2))
    return pair_task(count, [(order[2 * i], order[2 * i + 1]) for i in range(pairs)])


@st.composite
def tasks_and_scores(draw):
    task = draw(tasks())
    size = len(task.labels)
    score = st.lists(st.floats(-30, 0), min_size=size, max_size=size).map(normalised)
    return task, draw(score), draw(score)


def test_the_mean_is_taken_in_log_space():
    """(0.8, 0.2) and (0.5, 0.5) give √(0.8·0.5) : √(0.2·0.5) = 2 : 1."""
    assert shares(average([logs(0.8, 0.2), logs(0.5, 0.5)])) == pytest.approx([2 / 3, 1 / 3])


def test_weights_are_exponents():
    """With weights 3 and 1, (0.8, 0.2) and (0.5, 0.5) give 4^(3/4) : 1."""
    odds = 4**0.75
    found = shares(average([logs(0.8, 0.2), logs(0.5, 0.5)], weights=[3, 1]))
    assert found == pytest.approx([odds / (1 + odds), 1 / (1 + odds)])


@given(both=tasks_and_scores())
def test_mirrored_twice_is_the_identity(both):
    """Mapping back what was mapped back changes nothing, for any labels and pairs."""
    task, values, _ = both
    assert task.mirrored(task.mirrored(values)) == values


@given(both=tasks_and_scores())
def test_exchanged_data_give_exchanged_probabilities(both):
    """Where the data's two sides trade places, so do the passes, and the answer is the first one's mirror image."""
    task, one, other = both
    straight = answers(task, {"1": Entry("1", 9, (), one)}, {"1": Entry("1", 9, (), other)}, calibration=None)
    turned = answers(task, {"1": Entry("1", 9, (), other)}, {"1": Entry("1", 9, (), one)}, calibration=None)
    assert turned["1"] == pytest.approx(task.mirrored(straight["1"]), abs=1e-9)


@given(both=tasks_and_scores())
def test_an_answer_is_a_distribution(both):
    """Whatever the passes say, the answer's probabilities sum to 1."""
    task, one, other = both
    found = answers(task, {"1": Entry("1", 9, (), one)}, {"1": Entry("1", 9, (), other)}, calibration=None)
    assert math.fsum(shares(found["1"])) == pytest.approx(1)


def test_labels_that_are_not_paired_stay_in_place():
    """A tie is a tie from both sides."""
    task = pair_task(3, [(0, 2)])
    assert task.mirrored((1.0, 2.0, 3.0)) == (3.0, 2.0, 1.0)


def test_rows_without_scores_are_left_out():
    """A row with a problem has no answer, and a failed swapped pass leaves the plain one as it is."""
    task = pair_task(2, [(0, 1)])
    plain = {"1": Entry("1", problem="x"), "2": Entry("2", 9, (), logs(0.7, 0.3))}
    found = answers(task, plain, {"2": Entry("2", 9, problem="refused")}, calibration=None)
    assert list(found) == ["2"]
    assert shares(found["2"]) == pytest.approx([0.7, 0.3])


def test_calibration_divides_and_adds_by_length():
    """(0.8, 0.2) at temperature 2 is 2 : 1; a bias of log 2 doubles a label; the bin is the prompt's length's."""
    task = pair_task(2, [])
    calibration = Calibration((Bin(100, 2.0), Bin(math.inf, 1.0, {"c1": math.log(2)})))
    plain = {name: Entry(name, tokens, (), logs(0.8, 0.2)) for name, tokens in (("short", 100), ("long", 101))}
    found = answers(task, plain, {}, calibration=calibration)
    assert shares(found["short"]) == pytest.approx([2 / 3, 1 / 3])
    assert shares(found["long"]) == pytest.approx([2 / 3, 1 / 3])


def test_rows_with_one_pass_may_have_bins_of_their_own():
    """A row in both orders takes the bins, one in a single order those of one pass."""
    task = pair_task(2, [(0, 1)])
    calibration = Calibration((Bin(math.inf, 1.0),), one_pass=(Bin(math.inf, 2.0),))
    plain = {name: Entry(name, 9, (), logs(0.8, 0.2)) for name in ("one", "both")}
    found = answers(task, plain, {"both": Entry("both", 9, (), logs(0.2, 0.8))}, calibration=calibration)
    assert shares(found["one"]) == pytest.approx([2 / 3, 1 / 3])
    assert shares(found["both"]) == pytest.approx([0.8, 0.2])


def test_a_rules_row_is_not_calibrated():
    """What the author wrote for a rule stands as it is."""
    task = pair_task(2, [])
    plain = {"1": Entry("1", log_probabilities=logs(0.8, 0.2), flags=("rule: empty",))}
    found = answers(task, plain, {}, calibration=Calibration((Bin(math.inf, 2.0),)))
    assert shares(found["1"]) == pytest.approx([0.8, 0.2])


def test_members_that_lack_a_row_leave_it_to_the_others():
    """Each row is the weighted mean of the models that have it."""
    one = {"1": logs(0.8, 0.2), "2": logs(0.9, 0.1)}
    other = {"1": logs(0.5, 0.5), "3": logs(0.4, 0.6)}
    found = ensemble([(one, 1.0), (other, 1.0)])
    assert shares(found["1"]) == pytest.approx([2 / 3, 1 / 3])
    assert shares(found["2"]) == pytest.approx([0.9, 0.1])
    assert shares(found["3"]) == pytest.approx([0.4, 0.6])


def calibrated(folder, body):
    text = body if isinstance(body, str) else json.dumps(body)
    (folder / "calibration.json").write_text(text, encoding="utf-8")
    return read_calibration(folder, columns=COLUMNS)


def test_a_model_without_a_calibration_has_none(tmp_path):
    """Most models carry none."""
    assert read_calibration(tmp_path, columns=COLUMNS) is None


def test_a_calibration_is_read(tmp_path):
    """Bins come with their lengths, temperatures and biases; the last has no end."""
    bins = [{"up_to_tokens": 512, "temperature": 1.2, "bias": {"a": 0.1}}, {"temperature": 1}]
    assert calibrated(tmp_path, {"bins": bins}).bins == (Bin(512, 1.2, {"a": 0.1}), Bin(math.inf, 1.0))


def test_bins_of_one_pass_and_where_they_come_from_are_read(tmp_path):
    """What `kit calibrate` writes beside the bins; a key that says something to people alone is passed over."""
    body = {"bins": [{"temperature": 1}], "one_pass_bins": [{"temperature": 2}], "fitted": {"rows": 9}}
    found = calibrated(tmp_path, body)
    assert found.bins_of(passes=2) == (Bin(math.inf, 1.0),)
    assert found.bins_of(passes=1) == (Bin(math.inf, 2.0),)


@pytest.mark.parametrize(
    "body",
    [
        {"bins": [{"temperature": 1}], "one_pass_bins": 1},
        {"bins": [{"temperature": 1}], "one_pass_bins": [{"temperature": 0}]},
        {"bins": [{"temperature": 1}], "one_pass_bins": [{"temperature": 1, "bias": {"c": 1}}]},
    ],
)
def test_bins_of_one_pass_are_checked_like_the_others(tmp_path, body):
    """They would spoil a submission as well."""
    with pytest.raises(ModelError, match=r"calibration\.json"):
        calibrated(tmp_path, body)


@pytest.mark.parametrize(
    "body",
    [
        "{",
        "[]",
        "1",
        {},
        {"bins": 1},
        {"bins": [1]},
        {"bins": "x"},
        {"bins": [{}]},
        {"bins": [{"temperature": "x"}]},
        {"bins": [{"temperature": 1, "bias": 5}]},
        {"bins": [{"temperature": 1, "bias": {"a": None}}]},
    ],
)
def test_a_file_that_is_no_calibration_is_named(tmp_path, body):
    """Any other content is an error with the file's path."""
    with pytest.raises(ModelError, match=r"calibration\.json is no calibration"):
        calibrated(tmp_path, body)


@pytest.mark.parametrize(
    ("bins", "words"),
    [
        ([], "bins of ascending length"),
        ([{"up_to_tokens": 9, "temperature": 1}, {"up_to_tokens": 5, "temperature": 1}], "ascending"),
        ([{"temperature": 1}, {"temperature": 1}], "ascending"),
        ([{"temperature": 0}], "must be above 0"),
        ([{"temperature": -1}], "must be above 0"),
        ([{"temperature": math.nan}], "must be above 0"),
        ([{"temperature": math.inf}], "must be above 0"),
        ([{"temperature": 1, "bias": {"c": 1}}], r"bias for \['c'\]"),
        ([{"temperature": 1, "bias": {"a": math.nan}}], "finite"),
    ],
)
def test_figures_that_make_no_calibration_are_named(tmp_path, bins, words):
    """Bins, temperatures and biases that could spoil a submission are refused."""
    with pytest.raises(ModelError, match=words):
        calibrated(tmp_path, {"bins": bins})
