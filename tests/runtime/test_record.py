"""A run's record: what its entries say in numbers, and its file, which a notebook could have written as it likes."""

import json
from dataclasses import asdict, fields
from math import log
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaggle_kit.runtime.journal import Entry
from kaggle_kit.runtime.progress import summary_lines
from kaggle_kit.runtime.record import (
    RECORD,
    CheckedModel,
    Failure,
    Installer,
    LabelMass,
    MadeModel,
    Rows,
    RunRecord,
    Workers,
    count_rows,
    known_parts,
    read_record,
)

SCORES = (log(0.5), log(0.5))
PLAIN = {
    "1": Entry("1", 10, (), SCORES, 0.9),
    "2": Entry("2", 30, ("a",), SCORES, 0.7, flags=("low-mass", "copy of 1")),
    "3": Entry("3", log_probabilities=SCORES, flags=("rule: empty",)),
    "4": Entry("4", problem="not JSON"),
}
SWAPPED = {"1": Entry("1", 11, (), SCORES, 0.9), "2": Entry("2", 30, problem="the engine refused it")}

GOOD = {
    "kit": "0.1.0",
    "hidden_run": False,
    "stages": {"inputs": 0.0, "score": 3},
    "worker": {"ended": "done", "starts": 1, "deaths": [], "peak_bytes": 5, "stages": {"scoring": 2.5}},
    "throughput": [[1.5, 10], [2.0, 20]],
    "rows": {"total": 3, "scored": 3, "unreadable_rows": {"7": "no text"}},
    "label_mass": {"mean": 0.9, "lowest": 0.5},
    "integrity": {
        "m": {"files": 1, "bytes": 2, "checked_files": 1, "checked_bytes": 2, "bad": [{"path": "w", "error": ""}]}
    },
}


def test_what_a_notebook_writes_is_read(tmp_path):
    """A good record is the same after reading, and whole when it is written again."""
    (tmp_path / RECORD).write_text(json.dumps(GOOD))
    record = read_record(tmp_path / RECORD)
    assert record.rows == Rows(total=3, scored=3, unreadable_rows={"7": "no text"})
    assert record.worker == Workers(ended="done", starts=1, peak_bytes=5, stages={"scoring": 2.5})
    assert record.label_mass == LabelMass(0.9, 0.5)
    assert str(record.integrity["m"]) == "CORRUPT: w (other SHA-256); 1 of 1 files hashed, 2 of 2 bytes"
    assert (record.kit, record.hidden_run, record.unread) == ("0.1.0", False, ())
    assert (record.stages, record.throughput) == (GOOD["stages"], ((1.5, 10), (2.0, 20)))
    (tmp_path / RECORD).write_text(json.dumps(record.to_json(GOOD)))
    assert read_record(tmp_path / RECORD) == record


WHOLE = RunRecord(
    kit="1",
    target="t4",
    hidden_run=True,
    engine="vllm 1",
    stages={"score": 2.0},
    failed=Failure("score", "RunError: x"),
    not_rewritten="no space",
    installer=Installer("uv", {"verify": 0.5}),
    plan={"m": ("max_model_len = 5",)},
    allowed={"demo": ("head: config.json: has none",)},
    worker=Workers("done", "", 2, ("it died",), 7, {"scoring": 1.5}),
    throughput=((0.5, 9),),
    rows=count_rows(["1", "2", "3", "4", "5"], PLAIN, SWAPPED).rows,
    prompt_tokens=51,
    longest_prompt=30,
    label_mass=LabelMass(0.8, 0.7),
    member_masses={"n": LabelMass(0.3, 0.1)},
    prompt={"chat": "true", "chat_variables": '{"enable_thinking": false}'},
    prompt_notes=("the chat template says today's date",),
    row_notes=("1 ids of test.csv stand more than once",),
    integrity={"m": CheckedModel(2, 9, 1, 5, (), 0.1)},
    make=MadeModel({"layers": 3.0}),
)


def test_every_field_comes_back(tmp_path):
    """Whatever a notebook writes of a run is read as it was: a new figure is one field."""
    names = [one.name for one in fields(RunRecord) if one.name != "unread"]
    assert all(getattr(WHOLE, name) != getattr(RunRecord(), name) for name in names)
    (tmp_path / RECORD).write_text(json.dumps(WHOLE.to_json(names)))
    assert read_record(tmp_path / RECORD) == WHOLE


def test_names_of_another_kit_are_passed_over():
    """A record of a newer or an older kit is read as far as this one knows it."""
    body = json.loads(json.dumps(GOOD | {"later": [1], "worker": GOOD["worker"] | {"later": 2}, "unread": ["no"]}))
    assert RunRecord.from_json(body) == RunRecord.from_json(json.loads(json.dumps(GOOD)))
    assert RunRecord.from_json({"rows": {"total": 2}}).rows == Rows(total=2)
    assert known_parts(Rows, {"total": 1, "cut": "x"}) == ({"total": 1}, ("cut",))


@pytest.mark.parametrize("name", [*GOOD, "failed", "plan", "installer", "make"])
@pytest.mark.parametrize(
    "value", [[[]], "x", 5.5, True, {"a": {"b": []}}, -1, float("nan"), float("inf"), 10**40, [1, 2], {"x": [1]}]
)
def test_a_part_of_another_shape_is_left_out_and_named(name, value):
    """Each part either fits or is left out; the others stay."""
    good, record = (asdict(RunRecord.from_json(body)) for body in (GOOD, GOOD | {name: value}))
    assert record["unread"] in ((), (name,))
    if record["unread"]:
        assert record[name] == asdict(RunRecord())[name]
    others = good.keys() - {name, "unread"}
    assert {key: record[key] for key in others} == {key: good[key] for key in others}


@pytest.mark.parametrize(("name", "value"), [("rows", 5), ("failed", {"stage": "x"}), ("kit", True), ("stages", [1])])
def test_what_is_left_out_is_said(name, value):
    """In one line, for whoever shows the run."""
    text = "the run's own record does not hold what a notebook writes: "
    assert RunRecord.from_json({name: value}).unread_text == text + name
    assert RunRecord().unread_text == ""


@pytest.mark.parametrize("text", ["", "[]", "null", "{", '{"rows": ' * 200_000, "[" * 200_000, '{"rows": 1e999}'])
def test_a_text_that_is_no_record(tmp_path, text):
    """What cannot be read is no record; nothing is raised."""
    (tmp_path / RECORD).write_text(text)
    record = read_record(tmp_path / RECORD)
    assert record == RunRecord(unread=record.unread)


@pytest.mark.parametrize("kind", ["link", "folder", "large"])
def test_a_file_that_is_none(tmp_path, kind):
    """A link, a folder, and a file without end are not read."""
    path = tmp_path / RECORD
    if kind == "link":
        (tmp_path / "other").write_text(json.dumps(GOOD))
        path.symlink_to(tmp_path / "other")
    elif kind == "folder":
        path.mkdir()
    else:
        with path.open("wb") as stream:
            stream.truncate(1 << 40)
    record = read_record(path)
    assert record == RunRecord(unread=record.unread)
    assert len(record.unread) == 1


def test_without_a_file_nothing_is_known(tmp_path):
    """That is no fault."""
    assert read_record(tmp_path / RECORD) == RunRecord()


plain = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5))
values = st.recursive(
    plain, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3))
)
names = st.sampled_from([*GOOD, "failed", "plan", "installer", "make", "prompt_tokens", "longest_prompt"])


@given(st.dictionaries(names, values, max_size=6))
def test_readers_take_whatever_record(changes):
    """Everything that reads a record can read what is left of any."""
    record = RunRecord.from_json(GOOD | changes)
    assert isinstance(record.all_stages | record.models, dict)
    assert isinstance(record.corrupt + record.unread_text + str(record.rows), str)
    assert isinstance(summary_lines(record), list)


def test_the_workers_stages_stand_in_place_of_the_notebooks_score():
    """No second is counted twice."""
    stages = {"install": 1.0, "score": 9.0, "summary": 0.1}
    record = RunRecord(stages=stages, worker=Workers(stages={"scoring": 8.0}))
    assert record.all_stages == {"install": 1.0, "scoring": 8.0, "summary": 0.1}
    assert RunRecord(stages=stages).all_stages == stages


def test_each_row_is_counted_where_it_belongs():
    """Scored, ruled and prior rows make up the whole; a refused swapped pass is no second order."""
    rows = count_rows(["1", "2", "3", "4", "5"], PLAIN, SWAPPED).rows
    assert (rows.scored, rows.ruled, rows.prior, rows.total) == (2, 1, 2, 5)
    assert (rows.unreadable, rows.not_reached, rows.swapped, rows.copies) == (1, 1, 1, 1)
    assert rows.unreadable_rows == {"4": "not JSON"}
    assert rows.cut_fields == {"a": 1}


def test_rows_without_an_answer_are_counted_by_reason():
    """Unreadable ones, those that the engine did not take, those without a row of test.csv, and those not reached."""
    entries = [Entry("1", problem="a: not JSON: 'x'"), Entry("2", problem="the engine refused it: too long")]
    entries += [Entry("3", problem="the engine died over it"), Entry("4", problem="a: not JSON: 'y'")]
    keys = ["1", "2", "3", "4", None, None, "7"]
    missing = {"5": "test.csv has no row of this id", "6": "test.csv has no row of this id"}
    rows = count_rows(keys, {one.id: one for one in entries}, {}, missing=missing, unreached="no time").rows
    assert rows.unanswered == {
        "test.csv has no row of this id": 2,
        "it cannot be read": 2,
        "the engine refused it": 1,
        "the engine died over it": 1,
        "no time": 1,
    }
    assert sum(rows.unanswered.values()) == rows.prior == rows.total == 7
    assert (rows.unmatched, rows.not_reached) == (2, 1)


def test_tokens_of_both_passes_are_counted():
    """What the engine read is the sum of both passes; a rule's row has none and says nothing of the mass."""
    counts = count_rows(list("12345"), PLAIN, SWAPPED)
    assert counts.prompt_tokens == 51
    assert counts.longest_prompt == 30
    assert counts.label_mass == LabelMass(pytest.approx(0.8), 0.7)


def test_rows_outside_of_the_sample_do_not_count():
    """Only the sample's ids are looked at."""
    assert count_rows([], PLAIN, SWAPPED).rows.total == 0
    assert count_rows([], PLAIN, SWAPPED).label_mass is None


def test_rows_are_said_by_how_they_were_answered():
    """Only what there was."""
    rows = count_rows(["1", "2", "3", "4", "5"], PLAIN, SWAPPED).rows
    said = "2 by the model, 1 in both orders, 1 cut, 1 by a rule, 1 copies of another, 2 with the prior, 1 unreadable"
    assert str(rows) == f"{said}, 1 not reached"
    assert str(Rows(total=3)) == ""


def test_the_record_is_where_the_notebook_writes_it():
    """The frame of every notebook writes the file that the kit reads."""
    frame = Path(__file__).parents[2] / "templates" / "frame.py.j2"
    assert f'WORKING / "{RECORD}"' in frame.read_text()
