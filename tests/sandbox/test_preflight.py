"""What is known to fail before anything starts."""

import shutil
from pathlib import Path

import pytest

from kaggle_kit.errors import DataError, KitError, LabelError, ModelError
from kaggle_kit.notebook.build import build
from kaggle_kit.project import load_project
from kaggle_kit.sandbox.preflight import check
from kaggle_kit.targets import load_target

DEMO = Path(__file__).parents[1] / "demo" / "model"


@pytest.fixture
def checked(minimal, tmp_path):
    """A function: check the minimal project's notebook with the demo's model and two rows."""
    data, model = tmp_path / "data", tmp_path / "weights"
    data.mkdir()
    (data / "test.csv").write_text("id,question\n1,x\n2,y\n")
    (data / "sample_submission.csv").write_text("id,first,second\n1,0.5,0.5\n2,0.5,0.5\n")
    shutil.copytree(DEMO, model)

    def make(*, solution: str | None = None, model_name: str = "demo", spoil=None):
        if spoil:
            spoil(model)
        truth = None
        if solution is not None:
            truth = data / "solution.csv"
            truth.write_text(solution)
        built = build(load_project(minimal), "answer", target=load_target("local-cpu"), out=tmp_path / "built")
        return check(built, models={model_name: model}, data=data, solution=truth)

    return make


@pytest.fixture
def change(minimal, edit):
    """A function: change the notebook's source."""
    return lambda new, old: edit(minimal / "notebooks_src" / "answer.py", new, old)


def test_all_is_well(checked):
    """Task, data and solution are read."""
    found = checked(solution="id,first,second\n1,1,0\n2,0,1\n")
    assert dict(found.task.labels) == {"first": "A", "second": "B"}
    assert found.competition.sample.ids == ("1", "2")
    assert found.solution.outcomes == {"1": "first", "2": "second"}


def test_a_solution_is_not_needed(checked):
    """Without a solution there is none."""
    assert checked().solution is None


def test_a_computed_part_is_left_to_the_run(checked, change):
    """A prior that the author computes cannot be checked before."""
    change("prior = dict(first=0.75, second=0.25)", 'prior = {"first": 0.75, "second": 0.25}')
    assert checked().task is None


def test_a_solution_that_lacks_a_row(checked):
    """A solution must know every row of the sample."""
    with pytest.raises(DataError, match=r"solution\.csv lacks the id '2' of the sample submission \(1 such rows\)"):
        checked(solution="id,first,second\n1,1,0\n")


TASKS = {
    "a label of several tokens": ('"second": "B"', '"second": "unlikely"', LabelError, "the label 'unlikely' is"),
    "two labels alike": ('"second": "B"', '"second": "A"', DataError, "two columns share a label"),
    "labels as a list": ('labels = {"first": "A", "second": "B"}', 'labels = ["A"]', DataError, "labels"),
    "labels as a number": ('labels = {"first": "A", "second": "B"}', "labels = 3", DataError, "labels"),
    "a prior of texts": ('"first": 0.75', '"first": "much"', DataError, "prior"),
    "a prior of other columns": ('"first": 0.75', '"third": 0.75', DataError, "prior has the columns"),
    "a prior that sums to more": ('"first": 0.75', '"first": 0.85', DataError, "sum to 1"),
    "other columns than the sample's": ('{"first": "A"', '{"third": "A"', DataError, "columns"),
    "a field that is not there": ('{"question": 1}', '{"querry": 1}', KitError, "querry"),
    "a field that the template lacks": ('"{question}\\n"', '"x\\n"', KitError, "question"),
    "a template that ends in a space": ('"{question}\\n"', '"{question} "', LabelError, "joins|token"),
    "an unknown row format": ('"text"', '"lines"', DataError, "row_format = 'lines'; use one of turns, text"),
}


@pytest.mark.parametrize("case", TASKS)
def test_a_wrong_task(checked, change, case):
    """Each mistake in the author's cells is an error that shows the part."""
    old, new, kind, message = TASKS[case]
    change(new, old)
    with pytest.raises(kind, match=message):
        checked()


def test_a_model_without_a_manifest(checked):
    """A folder without a manifest cannot be checked."""
    with pytest.raises(KitError, match=r"manifest\.json is missing"):
        checked(spoil=lambda model: (model / "manifest.json").unlink())


def test_a_truncated_model(checked):
    """A weights file that was cut is named with both sizes."""

    def cut(model: Path) -> None:
        weights = model / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1])

    with pytest.raises(ModelError, match=r"model\.safetensors of the model demo .* has [\d,]+ bytes, its manifest"):
        checked(spoil=cut)


def test_a_missing_file_of_the_model(checked):
    """A file that the manifest names and the folder lacks is named."""
    with pytest.raises(ModelError, match=r"tokenizer\.json is missing from the model demo"):
        checked(spoil=lambda model: (model / "tokenizer.json").unlink())


def test_a_model_of_another_name(checked):
    """A model whose manifest has another name than kit.toml would not be found: it is refused here."""
    with pytest.raises(ModelError, match=r"the model 'demo', but kit\.toml calls the model 'small'.*models\.demo"):
        checked(model_name="small")
