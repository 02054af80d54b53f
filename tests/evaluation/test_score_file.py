"""`kit score` before and beyond its worker: what is wrong with a table is told, and what was scored is kept."""

import os
import sys
from pathlib import Path

import pytest

from kaggle_kit.errors import DataError, RunError, UsageError
from kaggle_kit.evaluation.score_file import Scoring, score_file
from kaggle_kit.evaluation.tables import read_table, write_table
from kaggle_kit.runtime.engine_plan import EngineSetup
from kaggle_kit.runtime.job import Task

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


@pytest.fixture
def score(tmp_path):
    """A function: score these rows with this environment, which has no engine."""

    def run(rows, *, ending=".csv", out="out.csv", id_column=None, count=None, on_event=lambda _: None):
        source = tmp_path / f"in{ending}"
        write_table(source, rows)
        scoring = Scoring(TASK, MODEL, Path(sys.executable), EngineSetup(version=(0, 32, 0)), 100)
        return score_file(source, tmp_path / out, scoring=scoring, id_column=id_column, rows=count, on_event=on_event)

    return run


GOOD = {"id": "1", "left": "x", "right": "y"}


@pytest.mark.parametrize(
    ("rows", "id_column", "words"),
    [
        ([], None, "has no rows"),
        ([{"id": "1", "left": "x"}], None, "has no column 'right'; it has: id, left"),
        ([GOOD], "nr", "has no column 'nr'; it has: id, left, right"),
    ],
)
def test_a_table_that_does_not_fit_is_told(score, tmp_path, rows, id_column, words):
    """The error names what lacks, and nothing is left behind."""
    with pytest.raises(DataError, match=words):
        score(rows, id_column=id_column, ending=".jsonl")
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_a_wrong_ending_is_told_before_anything_is_read(score):
    """OUT must be a table that kit can write."""
    with pytest.raises(UsageError, match=r"out\.txt must end in one of"):
        score([GOOD], out="out.txt")


@pytest.mark.parametrize("ids", [["1", "2", "1"], ["", None, "x"], [None, None, None], ["1", "1", "1"]])
def test_a_repeated_id_or_none_costs_no_row(score, tmp_path, ids):
    """Each row is scored, keeps the id that it has, and the person who waits is told."""
    rows = [{"id": row_id, "left": str(number), "right": str(number)} for number, row_id in enumerate(ids)]
    events = []
    counts = score(rows, ending=".jsonl", on_event=events.append).counts
    assert counts.rows.ruled == len(rows)
    assert [line["id"] for line in read_table(tmp_path / "out.csv")] == [row_id or "" for row_id in ids]
    assert any("of a row before them" in event.get("text", "") for event in events)


def test_a_line_of_json_may_lack_a_field(score, tmp_path):
    """It is a row that cannot be read, and the others are scored: the first line too."""
    score([{"id": "1"}, {"id": "2", "left": "y", "right": "y"}], ending=".jsonl")
    bad, ruled = read_table(tmp_path / "out.csv")
    assert bad["problem"] == "no text in left, right"
    assert ruled["flags"] == "rule: identical"


def test_rows_that_need_no_engine_are_written(score, tmp_path):
    """Ruled and unreadable rows have their distribution, the reason, and their place in the input's order."""
    rows = [{"id": "b", "left": "same", "right": "same"}, {"id": "a", "left": " ", "right": ""}]
    counts = score(rows).counts
    assert (counts.rows.ruled, counts.rows.unreadable) == (1, 1)
    ruled, bad = read_table(tmp_path / "out.csv")
    assert (ruled["id"], float(ruled["first"]), ruled["flags"]) == ("b", pytest.approx(0.5), "rule: identical")
    assert (bad["id"], float(bad["first"]), bad["problem"]) == ("a", 0.75, "no text in left, right")
    assert not (tmp_path / "out.csv.kit").exists()


def test_rows_without_an_id_are_numbered(score, tmp_path):
    """Where there is no id column the row's number stands for it, and --rows takes the first."""
    score([{"left": "s", "right": "s"}] * 3, count=2)
    assert [row["row"] for row in read_table(tmp_path / "out.csv")] == ["0", "1"]


def test_a_run_that_stops_is_kept_for_the_next(score, tmp_path):
    """Without an engine the error says why and where the log is; nothing half stands as OUT."""
    with pytest.raises(RunError, match=r"scoring stopped: .*vllm.*the log is in .*out\.csv\.kit; call again"):
        score([GOOD, {"id": "2", "left": "s", "right": "s"}])
    assert not (tmp_path / "out.csv").exists()
    assert (tmp_path / "out.csv.kit" / "journal.sqlite").is_file()


def test_other_rows_of_the_same_size_do_not_get_the_scores_of_the_first(score, tmp_path):
    """A call that goes on from a run over other rows begins anew, though ids and sizes are the same."""
    with pytest.raises(RunError):
        score([GOOD, {"id": "2", "left": "s", "right": "s"}])
    score([{"id": "1", "left": "s", "right": "s"}, {"id": "2", "left": " ", "right": " "}])
    first, second = read_table(tmp_path / "out.csv")
    assert first["flags"] == "rule: identical"
    assert second["problem"]


@pytest.mark.parametrize("what", ["the folder", "the journal", "the log", "the journal's log", "a pipe"])
def test_what_a_clone_put_in_its_place_is_not_followed(score, tmp_path, what):
    """A link or a pipe where an earlier call's state should be is refused, and what it leads to is as it was."""
    state, secret = tmp_path / "out.csv.kit", tmp_path / "secret"
    secret.write_text("made-up")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    if what == "the folder":
        state.symlink_to(elsewhere)
    else:
        state.mkdir()
        names = {"the journal": "journal.sqlite", "the log": "worker-0.log", "the journal's log": "journal.sqlite-wal"}
        if what == "a pipe":
            os.mkfifo(state / "job-0.json")
        else:
            (state / names[what]).symlink_to(secret)
    with pytest.raises(DataError, match=r"was not left by an earlier call of kit: remove .*out\.csv\.kit"):
        score([{"left": "s", "right": "s"}])
    assert secret.read_text() == "made-up"
    assert list(elsewhere.iterdir()) == []
