"""The job file: what the worker reads is what the notebook meant."""

import dataclasses
import shutil

import pytest

from kaggle_kit.errors import DataError
from kaggle_kit.runtime.job import read_job
from kaggle_kit.runtime.task import Task


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
