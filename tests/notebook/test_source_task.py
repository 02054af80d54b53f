"""A notebook's task, read from its source."""

from dataclasses import replace
from pathlib import Path

import pytest

from kaggle_kit.errors import DataError, KitError, SourceError
from kaggle_kit.notebook.source import notebook_task
from kaggle_kit.project import load_project


@pytest.fixture
def task_of(minimal):
    """A function: the task of the minimal project's notebook."""
    return lambda *assignments: notebook_task(load_project(minimal), "answer", assignments=assignments)


@pytest.fixture
def change(minimal, edit):
    """A function: change the notebook's source."""
    return lambda new, old=None: edit(minimal / "notebooks_src" / "answer.py", new, old)


def test_plain_values_make_the_task(task_of):
    """Labels, prior, fields and template are the source's; parameters have their defaults."""
    task, parameters = task_of()
    assert dict(task.labels) == {"first": "A", "second": "B"}
    assert (task.row_format, dict(task.swap), dict(task.rules), task.chat) == ("text", {}, {}, False)
    assert parameters["token_budget"] == 128


def test_optional_parts_are_taken(task_of, change):
    """swap and chat count where the source has them."""
    change('# %% name="more"\nswap = {"first": "second"}\nchat = True')
    task, _ = task_of()
    assert dict(task.swap) == {"first": "second"}
    assert task.chat


def test_assignments_go_before_kit_toml_before_defaults(task_of, minimal, edit):
    """A parameter is what the command line says, else kit.toml, else the source."""
    edit(minimal / "kit.toml", "parameters = { token_budget = 200, margin_minutes = 5.0 }")
    _, parameters = task_of("token_budget=300")
    assert (parameters["token_budget"], parameters["margin_minutes"], parameters["time_limit_hours"]) == (300, 5.0, 9.0)


@pytest.mark.parametrize(
    ("new", "old"),
    [
        ("prior = dict(first=0.75, second=0.25)", 'prior = {"first": 0.75, "second": 0.25}'),
        ('template = "".join(["{question}", "x"])', 'template = "{question}\\n"'),
        ('# %% name="more"\nswap = dict(first="second")', None),
        ('# %% name="more"\nchat = bool(1)', None),
    ],
)
def test_a_computed_part_is_refused(task_of, change, new, old):
    """What only a run could tell is told as such, by the source's path."""
    change(new, old)
    with pytest.raises(SourceError, match=r"answer\.py computes a part of its task"):
        task_of()


def test_parts_that_make_no_task_are_told(task_of, change):
    """Labels that are no dict are an error of the data, not a crash."""
    change('labels = ["A", "B"]', 'labels = {"first": "A", "second": "B"}')
    with pytest.raises(DataError, match="make no task"):
        task_of()


def test_an_unknown_parameter_is_told(task_of):
    """An assignment to what is no parameter is wrong use."""
    with pytest.raises(KitError, match="nope"):
        task_of("nope=1")


def test_a_source_without_a_budget_is_told(task_of, change):
    """token_budget is needed to cut prompts."""
    change("", "token_budget: int = 128\n")
    with pytest.raises(SourceError, match="no parameter token_budget"):
        task_of()


def test_the_model_is_calibrated_on_what_it_will_be_asked():
    """The repository's quantise notebook has the prompts and the labels of the one that will use the model."""
    project = load_project(Path(__file__).parents[2])
    made, given = notebook_task(project, "quantize", assignments=[])
    used, wanted = notebook_task(project, "lmsys", assignments=[])
    assert made == replace(used, swap={}, rules={})
    assert given["token_budget"] == wanted["token_budget"]
