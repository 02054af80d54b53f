"""From labelled rows to a scores file, as far as no engine is needed: ruled and unreadable rows."""

import sys
from pathlib import Path

import pytest

from kaggle_kit.errors import DataError, RunError
from kaggle_kit.evaluation.evaluate import Names, evaluate, labelled_table
from kaggle_kit.evaluation.score_file import Scoring
from kaggle_kit.evaluation.scores import read_scores
from kaggle_kit.evaluation.tables import write_table
from kaggle_kit.files import sha256_file
from kaggle_kit.runtime.engine_plan import EngineSetup
from kaggle_kit.runtime.job import Task
from kaggle_kit.runtime.progress import ProgressLine

MODEL = Path(__file__).parents[1] / "demo" / "model"
TASK = Task(
    labels={"first": "A", "second": "B"},
    prior={"first": 0.75, "second": 0.25},
    fields={"left": 1, "right": 1},
    template="{left}\n{right}\nA or B?\n",
    row_format="text",
    swap={"left": "right", "first": "second"},
    rules={"identical": {"first": 0.5, "second": 0.5}},
)
RULED = {"id": "b", "left": "то же", "right": "то же", "first": 1, "second": 0}
BAD = {"id": "a", "left": " ", "right": "", "first": 0, "second": 1}
NEEDS_ENGINE = {"id": "c", "left": "x", "right": "y", "first": 0, "second": 1}


@pytest.fixture
def run(tmp_path):
    """A function: evaluate these rows in an environment that has no engine."""

    def run(rows, *, ending=".jsonl", count=None):
        source = tmp_path / f"in{ending}"
        write_table(source, rows)
        scoring = Scoring(TASK, MODEL, Path(sys.executable), EngineSetup(version=(0, 32, 0)), 100)
        return evaluate(
            source,
            tmp_path / "out.parquet",
            scoring=scoring,
            names=Names("answer", "demo", "local-cpu"),
            id_column=None,
            rows=count,
            line=ProgressLine(deadline=float("inf"), write=lambda _: None),
        )

    return run


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_every_row_has_its_line(run, tmp_path, ending):
    """A ruled row and an unreadable one have their distribution, outcome, reason, and what is known of their text."""
    scores = run([RULED, BAD], ending=ending)
    assert scores.lines.equals(read_scores(tmp_path / "out.parquet").lines)
    ruled, bad = scores.lines.to_dicts()
    assert (ruled["id"], ruled["answered"], ruled["flags"]) == ("b", "rule", "rule: identical")
    assert (ruled["outcome"], ruled["turns"], ruled["script"], ruled["characters"]) == ("first", 1, "Cyrillic", 10)
    assert (ruled["tokens"], ruled["mass"], ruled["prompt"]) == (0, None, None)
    assert (bad["id"], bad["answered"], bad["outcome"], bad["problem"]) == (
        "a",
        "prior",
        "second",
        "no text in left, right",
    )
    assert [bad["logp_first"], bad["logp_second"]] == pytest.approx([-0.2877, -1.3863], abs=1e-4)
    assert not (tmp_path / "out.parquet.kit").exists()


def test_the_file_says_where_it_comes_from(run, tmp_path):
    """Names, hashes, versions and the machine."""
    facts = run([RULED], ending=".csv").facts
    assert (facts["notebook"], facts["model"], facts["target"], facts["engine"]) == (
        "answer",
        "demo",
        "local-cpu",
        "vllm",
    )
    assert facts["columns"] == {"first": "A", "second": "B"}
    assert facts["swap"] == {"first": "second"}
    assert facts["hashes"]["data"] == sha256_file(tmp_path / "in.csv")
    assert facts["hashes"]["model"] == sha256_file(MODEL / "manifest.json")
    assert facts["versions"]["engine"] == "0.32.0"
    assert facts["calibration"] is None
    assert facts["figures"]["rows"]["ruled"] == 1


def test_only_the_first_rows_are_taken(run):
    """--rows N."""
    assert run([RULED, BAD], count=1).lines["id"].to_list() == ["b"]


@pytest.mark.parametrize("outcome", [{"first": 0}, {"second": 1}, {"first": 2}])
def test_a_row_without_one_outcome_is_told_before_anything_is_scored(run, tmp_path, outcome):
    """Hours of scoring do not end in this error."""
    with pytest.raises(DataError, match=r"the row 'b' has . outcomes that are 1; it needs exactly one"):
        run([BAD, RULED | outcome])
    assert not (tmp_path / "out.parquet.kit").exists()


def test_a_table_without_outcomes_is_told(run):
    """A test.csv is no train.csv."""
    with pytest.raises(DataError, match="has no column 'second': labelled rows say with a 1 which of first, second"):
        run([{"id": "1", "left": "x", "right": "y", "first": 1}])


def test_a_run_that_stops_is_kept_for_the_next(run, tmp_path):
    """The journal of what was scored stands, and no file."""
    with pytest.raises(RunError, match="scoring stopped"):
        run([RULED, NEEDS_ENGINE])
    assert (tmp_path / "out.parquet.kit" / "journal.sqlite").is_file()
    assert not (tmp_path / "out.parquet").exists()


def test_a_folder_means_its_train_csv(tmp_path):
    """A table means itself."""
    with pytest.raises(DataError, match=r"has no train\.csv; name a folder with one"):
        labelled_table(tmp_path)
    (tmp_path / "train.csv").touch()
    assert labelled_table(tmp_path) == tmp_path / "train.csv"
    assert labelled_table(tmp_path / "own.parquet") == tmp_path / "own.parquet"
