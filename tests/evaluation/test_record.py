"""A run's own record, which a notebook could have written as it likes."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaggle_kit.evaluation.record import read_record, shaped_record
from kaggle_kit.evaluation.run_facts import row_text, stages_of, throughput_of
from kaggle_kit.runtime.integrity import corrupt, integrity_lines
from kaggle_kit.runtime.summary import RECORD, summary_lines

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
    """A good record is the same after reading."""
    (tmp_path / RECORD).write_text(json.dumps(GOOD))
    assert read_record(tmp_path / RECORD) == GOOD


@pytest.mark.parametrize("name", [*GOOD, "failed", "plan", "installer", "make"])
@pytest.mark.parametrize(
    "value", [[[]], "x", 5.5, True, {"a": {"b": []}}, -1, float("nan"), float("inf"), 10**40, [1, 2], {"x": [1]}]
)
def test_a_part_of_another_shape_is_left_out_and_named(name, value):
    """Each part either fits or is left out; the others stay."""
    record = shaped_record(GOOD | {name: value})
    if name not in record:
        assert record["unread"] == [name]
    assert {key: record[key] for key in GOOD if key != name} == {key: GOOD[key] for key in GOOD if key != name}


@pytest.mark.parametrize("text", ["", "[]", "null", "{", '{"rows": ' * 200_000, "[" * 200_000, '{"rows": 1e999}'])
def test_a_text_that_is_no_record(tmp_path, text):
    """What cannot be read is no record; nothing is raised."""
    (tmp_path / RECORD).write_text(text)
    assert set(read_record(tmp_path / RECORD)) <= {"unread"}


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
    assert list(read_record(path)) == ["unread"]


plain = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5))
values = st.recursive(
    plain, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3))
)
names = st.sampled_from([*GOOD, "failed", "plan", "installer", "make", "prompt_tokens", "longest_prompt"])


@given(st.dictionaries(names, values, max_size=6))
def test_readers_take_whatever_record(changes):
    """Everything that reads a record can read what is left of any."""
    record = shaped_record(GOOD | changes)
    stages_of(record), throughput_of(record), corrupt(record), integrity_lines(record)
    row_text(record.get("rows") or {})
    assert isinstance(summary_lines(record), list)
