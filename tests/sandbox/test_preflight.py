"""What is known to fail before anything starts, and a competition cut to a few rows."""

import csv
import re
import shutil
from pathlib import Path

import pytest

from kaggle_kit.errors import DataError, KitError, LabelError, ModelError
from kaggle_kit.notebook.build import build
from kaggle_kit.project import load_project
from kaggle_kit.sandbox.preflight import check, check_competition, cut_competition
from kaggle_kit.targets import load_target

pytestmark = pytest.mark.usefixtures("guarded_here", "filled_here")

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


TEST = 'id,question,extra\n1,"one, or ""two""",x\n2,"a\nb",y\n3,é,z\n'
SAMPLE = "id,first,second\n3,0.5,0.5\n1,0.5,0.5\n2,0.5,0.5\n"


@pytest.fixture
def data(tmp_path):
    """A function: a folder with these two files."""

    def make(test: str | None = TEST, sample: str | None = SAMPLE):
        folder = tmp_path / "data"
        folder.mkdir()
        for name, text in (("test.csv", test), ("sample_submission.csv", sample)):
            if text is not None:
                (folder / name).write_text(text, encoding="utf-8")
        return folder

    return make


def checked_competition(folder):
    return check_competition(folder, fields=["question"], columns=["first", "second"])


def read(path):
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.reader(stream))


def test_a_good_folder(data):
    """Ids may stand in another order in the two files; the sample's order counts."""
    assert checked_competition(data()).sample.ids == ("3", "1", "2")


def test_columns_in_another_order(data):
    """The sample's columns may stand in another order than the labels."""
    assert checked_competition(data(sample=SAMPLE.replace("first,second", "second,first"))).sample.columns == (
        "second",
        "first",
    )


def test_what_is_not_known_is_not_checked(data):
    """A task that is only known when it runs leaves fields and columns unchecked."""
    assert check_competition(data(), fields=[], columns=[]).sample.id_column == "id"


WRONG = {
    "no test.csv": (None, SAMPLE, r"data/test\.csv is missing: a data folder holds test\.csv and sample_submission"),
    "no sample": (TEST, None, r"data/sample_submission\.csv is missing"),
    "no field": (TEST.replace("question", "querry"), SAMPLE, "has no column 'question'; it has: id, querry, extra"),
    "no id": (TEST.replace("id,", "row,"), SAMPLE, "has no column 'id'"),
    "empty test.csv": ("", SAMPLE, r"test\.csv has no column 'id'"),
    "empty sample": (TEST, "", r"sample_submission\.csv cannot be read as a sample submission"),
    "no rows": (TEST, "id,first,second\n", r"sample_submission\.csv has no rows"),
    "other columns": (
        TEST,
        "id,first,third\n1,0,1\n",
        "the columns first, third; the notebook's labels are for",
    ),
    "only an id": (TEST, "id\n1\n", "only the columns"),
    "no id of test.csv": (TEST, "id,first,second\n7,0,1\n", r"data: no id of sample_submission\.csv is in test\.csv"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_folder(data, case):
    """Each mistake names the file, and the column or id."""
    test, sample, message = WRONG[case]
    with pytest.raises(DataError, match=message):
        checked_competition(data(test, sample))


ODD = {
    "an id twice in test.csv": (TEST + "1,x,y\n", SAMPLE, ("3", "1", "2"), "1 ids of test.csv stand more than once"),
    "an id twice in the sample": (TEST, SAMPLE + "1,0,1\n", ("3", "1", "2", "1"), ""),
    "too few in the sample": (TEST, SAMPLE.replace("2,", "9,"), ("3", "1", None), "1 rows of test.csv are not scored"),
    "too few in test.csv": (TEST, SAMPLE + "9,0,1\n8,0,1\n", ("3", "1", "2", None, None), "2 ids of sample_submission"),
    "numbers as floats": (TEST, SAMPLE.replace(",0.5,", ".0,0.5,"), ("3", "1", "2"), "3 ids .* matched by value"),
}


@pytest.mark.parametrize("case", ODD)
def test_ids_that_differ_are_said_and_cost_no_other_row(data, tmp_path, case):
    """The rows that stand in both files can be rehearsed, whole and cut."""
    test, sample, keys, note = ODD[case]
    found = checked_competition(data(test, sample))
    assert found.match.keys == keys
    assert re.search(note, "\n".join(found.match.notes))
    for rows in range(1, len(keys)):
        cut = cut_competition(found, rows=rows, out=tmp_path / "cut" / str(rows))
        assert cut.match.keys == keys[:rows]
        assert len(read(cut.folder / "test.csv")) == 1 + len({key for key in keys[:rows] if key})
        assert checked_competition(cut.folder) == cut


def test_a_folder_that_does_not_exist(tmp_path):
    """A missing folder is an error that says what one holds."""
    with pytest.raises(DataError, match=r"nope does not exist; name one that holds test\.csv and sample_submission"):
        checked_competition(tmp_path / "nope")


def test_a_cut_keeps_the_samples_first_rows(data, tmp_path):
    """The copy holds the sample's first rows, whole, and each file keeps its order and columns."""
    cut = cut_competition(checked_competition(data()), rows=2, out=tmp_path / "cut")
    assert cut.sample.ids == ("3", "1")
    assert read(tmp_path / "cut" / "test.csv") == [
        ["id", "question", "extra"],
        ["1", 'one, or "two"', "x"],
        ["3", "é", "z"],
    ]
    assert [line[0] for line in read(tmp_path / "cut" / "sample_submission.csv")] == ["id", "3", "1"]


def test_a_cut_is_a_competition(data, tmp_path):
    """The copy passes the same checks."""
    cut = cut_competition(checked_competition(data()), rows=1, out=tmp_path / "cut")
    assert checked_competition(cut.folder) == cut


def test_a_cut_leaves_the_original(data, tmp_path, listing):
    """The folder that is cut does not change."""
    folder = data()
    before = listing(folder)
    cut_competition(checked_competition(folder), rows=1, out=tmp_path / "cut")
    assert listing(folder) == before


def test_a_cut_with_a_line_that_is_too_long(data, tmp_path):
    """A line with more cells than the header is cut to the header's, and stops nothing."""
    cut_competition(checked_competition(data(TEST.replace("é,z", "é,z,more,still"))), rows=1, out=tmp_path / "cut")
    assert read(tmp_path / "cut" / "test.csv")[1] == ["3", "é", "z"]


def test_a_cut_to_more_rows_than_there_are(data, tmp_path):
    """Without a wish, or with one for more rows than the sample has, it is the competition itself, and no copy."""
    competition = checked_competition(data())
    assert cut_competition(competition, rows=None, out=tmp_path / "cut") is competition
    assert cut_competition(competition, rows=3, out=tmp_path / "cut") is competition
    assert not (tmp_path / "cut").exists()
