"""The job file: what the worker reads is what the notebook meant."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil

import pytest

from kaggle_kit.errors import DataError
from kaggle_kit.runtime.job import Task, read_job


def test_a_job_comes_back_as_it_was_written(make_job, tmp_path):
    """Every part of the job survives the file."""
    job = make_job([["1", "[]", "[]", "[]"]])
    job.write(tmp_path / "job.json")
    assert read_job(tmp_path / "job.json") == job


def test_the_labels_keep_their_order(make_job, tmp_path):
    """Scores are told apart by the labels' order alone: the file must not sort them."""
    job = make_job([])
    job.write(tmp_path / "job.json")
    read = read_job(tmp_path / "job.json")
    assert list(read.task.labels) == list(job.task.labels) == ["winner_tie", "winner_model_a", "winner_model_b"]
    assert list(read.task.fields) == list(job.task.fields)


def test_the_configuration_survives_the_file(make_job, tmp_path):
    """Notebook and worker open the journal under the same hash."""
    job = make_job([], engine_options={"z": 1, "a": {"y": 2.5, "b": None}})
    job.write(tmp_path / "job.json")
    assert read_job(tmp_path / "job.json").configuration() == job.configuration()


def test_labels_in_another_order_are_another_configuration(make_job, task):
    """A journal whose scores stand in another order of the labels is never gone on with."""
    parts = task.to_json()
    turned = Task(**parts | {"labels": dict(reversed(parts["labels"].items()))})
    assert make_job([]).configuration() != make_job([], task=turned).configuration()


@pytest.mark.parametrize(
    "change",
    [
        {"token_budget": 99},
        {"engine_options": {"dtype": "float16"}},
        {"environment": {"VLLM_MARLIN_INPUT_DTYPE": "int8"}},
    ],
)
def test_what_decides_the_scores_decides_the_configuration(make_job, change):
    """Another budget, other engine options or another kernel begin another journal."""
    job = make_job([])
    assert dataclasses.replace(job, **change).configuration() != job.configuration()


def test_other_rows_are_another_configuration(make_job):
    """A test.csv of another size begins another journal."""
    first = make_job([["1", "[]", "[]", "[]"]]).configuration()
    assert make_job([["1", "[]", "[]", "[]"], ["2", "[]", "[]", "[]"]]).configuration() != first


def test_another_model_is_another_configuration(make_job, model, tmp_path):
    """A model whose manifest says otherwise begins another journal."""
    job = make_job([])
    shutil.copytree(model, tmp_path / "model")
    manifest = tmp_path / "model" / "manifest.json"
    manifest.write_text(manifest.read_text(encoding="utf-8").replace("ed397b", "000000"), encoding="utf-8")
    assert dataclasses.replace(job, model=tmp_path / "model").configuration() != job.configuration()


def test_a_missing_test_file_is_a_data_error(make_job):
    """Without test.csv the error says what to attach."""
    job = make_job([])
    job.test.unlink()
    with pytest.raises(DataError, match=r"test\.csv is missing: attach"):
        job.configuration()


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


CHAT = {"chat": True}
BAD_CHAT = {
    "no dict": (CHAT | {"chat_variables": ["x"]}, "chat_variables = ['x']; it is a dict"),
    "no name": (CHAT | {"chat_variables": {"a b": 1}}, "'a b', and a variable"),
    "kit's own": (CHAT | {"chat_variables": {"messages": []}}, "'messages', which kit gives"),
    "no plain value": (CHAT | {"chat_variables": {"x": {1}}}, "no plain value"),
    "no number": (CHAT | {"chat_variables": {"x": float("nan")}}, "no plain value"),
    "too long": (CHAT | {"chat_variables": {"x": "y" * 70_000}}, "longer than 65,536 letters"),
    "no day": (CHAT | {"chat_date": "today"}, "chat_date = 'today'; write a day as YYYY-MM-DD"),
    "no text": (CHAT | {"chat_system": 5}, "chat_system = 5; it is a text"),
    "no prefix": ({"answer_prefix": False}, "answer_prefix = False; it is a text"),
    "no choice": ({"chat": "yes"}, "chat = 'yes'; it is True or False"),
    "not used": ({"chat_variables": {"x": 1}, "chat_system": "s"}, "chat_variables and chat_system is for the model's"),
    "a number": ({"labels": {"a": 1, "b": "B"}}, "a label is a text"),
    "nothing": ({"labels": {"a": "", "b": "B"}}, "and not an empty one"),
}


@pytest.mark.parametrize("case", BAD_CHAT)
def test_what_a_chat_template_cannot_be_given_is_refused(case):
    """The sentence names the name in the source, and what it should be."""
    change, words = BAD_CHAT[case]
    with pytest.raises(DataError) as caught:
        Task(**GOOD | change)
    assert words in str(caught.value)


def test_what_is_as_usual_leaves_the_task_as_it_was():
    """A task of an older version keeps its hash; what is said is written, and read again."""
    task = Task(**GOOD)
    assert not {"chat_variables", "chat_system", "chat_date", "answer_prefix"} & task.to_json().keys()
    assert task.prompt_settings == {}
    more = Task(**GOOD | CHAT | {"chat_variables": {"x": [1]}, "chat_system": "s", "answer_prefix": ""})
    assert Task(**json.loads(json.dumps(more.to_json()))) == more
    wanted = {"chat": "true", "chat_variables": '{"x": [1]}', "chat_system": '"s"', "answer_prefix": '""'}
    assert more.prompt_settings == wanted
