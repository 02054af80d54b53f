"""A task whose parts do not agree is refused where it is made."""

import json
import math

import pytest

from kaggle_kit.errors import DataError
from kaggle_kit.runtime.task import Task

GOOD = {
    "labels": {"a": "A", "b": "B"},
    "prior": {"a": 0.5, "b": 0.5},
    "fields": {"text": 1.0},
    "template": "{text}",
}


def test_a_task_comes_back_from_json_as_it_was():
    """to_json and back is the same task, its labels in the same order."""
    task = Task(**GOOD | {"labels": {"b": "B", "a": "A"}, "row_format": "text", "swap": {"b": "a"}, "chat": True})
    again = Task(**json.loads(json.dumps(task.to_json())))
    assert again == task
    assert list(again.labels) == ["b", "a"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"labels": {"a": "A"}}, "two labels or more"),
        ({"labels": {}}, "two labels or more"),
        ({"labels": {"a": "A", "b": "A"}}, "two columns share a label"),
        ({"prior": {"a": 0.5, "c": 0.5}}, r"prior has the columns \['a', 'c'\], labels has \['a', 'b'\]"),
        ({"prior": {"a": 1.0}}, "prior has the columns"),
        ({"prior": {"a": 0.5, "b": 0.4}}, "it sums to 0.9"),
        ({"prior": {"a": 1.0, "b": 0.0}}, "must be positive"),
        ({"prior": {"a": 1.5, "b": -0.5}}, "must be positive"),
        ({"prior": {"a": math.nan, "b": 0.5}}, "sum to 1"),
        ({"fields": {}}, "a finite share above 0"),
        ({"fields": {"text": 0}}, "a finite share above 0"),
        ({"fields": {"text": math.nan}}, "a finite share above 0"),
        ({"fields": {"text": math.inf}}, "a finite share above 0"),
        ({"row_format": "json"}, "use one of turns, text"),
        ({"swap": {"a": "text"}}, "swap pairs 'a' with 'text'; a pair is of two fields"),
        ({"swap": {"a": "nope"}}, "swap pairs 'a' with 'nope'"),
        ({"swap": {"a": "b", "b": "a"}}, "a name stands in two pairs"),
        ({"swap": {"a": "a"}}, "a name stands in two pairs"),
        ({"rules": {"long": {"a": 0.5, "b": 0.5}}}, "known rules: empty, identical"),
        ({"rules": {"empty": {"a": 0.5, "b": 0.5}}}, "swap pairs none"),
        (
            {"fields": {"x": 1, "y": 1}, "swap": {"x": "y"}, "rules": {"empty": {"a": 1.0}}},
            r"rules\['empty'\] has the columns",
        ),
    ],
)
def test_parts_that_do_not_agree_are_named(change, words):
    """Each wrong part is an error that says what was found and what is meant."""
    with pytest.raises(DataError, match=words):
        Task(**GOOD | change)


def test_a_prior_of_thirds_sums_to_one():
    """Three times 1/3 is taken as 1, whatever the last bit says."""
    thirds = dict.fromkeys("abc", 1 / 3)
    Task(**GOOD | {"labels": {name: name for name in "abc"}, "prior": thirds})
