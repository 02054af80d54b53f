"""A competition's files: checked before anything starts, and cut to a few rows."""

import csv

import pytest

from kaggle_kit.errors import DataError
from kaggle_kit.sandbox.competition import check_competition, cut_competition

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


def check(folder):
    return check_competition(folder, fields=["question"], columns=["first", "second"])


def read(path):
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.reader(stream))


def test_a_good_folder(data):
    """Ids may stand in another order in the two files; the sample's order counts."""
    assert check(data()).sample.ids == ("3", "1", "2")


def test_columns_in_another_order(data):
    """The sample's columns may stand in another order than the labels."""
    assert check(data(sample=SAMPLE.replace("first,second", "second,first"))).sample.columns == ("second", "first")


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
    "an id twice in test.csv": (TEST + "1,x,y\n", SAMPLE, r"test\.csv has two rows with the id '1'; ids must differ"),
    "an id twice in the sample": (TEST, SAMPLE + "1,0,1\n", r"sample_submission\.csv has two rows with the id '1'"),
    "too few in the sample": (TEST, SAMPLE.replace("2,", "9,"), r"sample_submission\.csv lacks the id '2' \(1 such"),
    "too few in test.csv": (TEST, SAMPLE + "9,0,1\n8,0,1\n", r"test\.csv lacks the id '8' \(2 such rows\)"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_folder(data, case):
    """Each mistake names the file, and the column or id."""
    test, sample, message = WRONG[case]
    with pytest.raises(DataError, match=message):
        check(data(test, sample))


def test_a_folder_that_does_not_exist(tmp_path):
    """A missing folder is an error that says what one holds."""
    with pytest.raises(DataError, match=r"nope does not exist; name one that holds test\.csv and sample_submission"):
        check(tmp_path / "nope")


def test_a_cut_keeps_the_samples_first_rows(data, tmp_path):
    """The copy holds the sample's first rows, whole, and each file keeps its order and columns."""
    cut = cut_competition(check(data()), rows=2, out=tmp_path / "cut")
    assert cut.sample.ids == ("3", "1")
    assert read(tmp_path / "cut" / "test.csv") == [
        ["id", "question", "extra"],
        ["1", 'one, or "two"', "x"],
        ["3", "é", "z"],
    ]
    assert [line[0] for line in read(tmp_path / "cut" / "sample_submission.csv")] == ["id", "3", "1"]


def test_a_cut_is_a_competition(data, tmp_path):
    """The copy passes the same checks."""
    cut = cut_competition(check(data()), rows=1, out=tmp_path / "cut")
    assert check(cut.folder) == cut


def test_a_cut_leaves_the_original(data, tmp_path, listing):
    """The folder that is cut does not change."""
    folder = data()
    before = listing(folder)
    cut_competition(check(folder), rows=1, out=tmp_path / "cut")
    assert listing(folder) == before


def test_a_cut_with_a_line_that_is_too_long(data, tmp_path):
    """A line with more cells than the header is cut to the header's, and stops nothing."""
    cut_competition(check(data(TEST.replace("é,z", "é,z,more,still"))), rows=1, out=tmp_path / "cut")
    assert read(tmp_path / "cut" / "test.csv")[1] == ["3", "é", "z"]
