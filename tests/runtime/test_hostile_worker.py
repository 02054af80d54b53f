"""A worker that runs a hostile model: whatever it says and does, the notebook's side ends with a sentence, not with it.

The attacker is a module in the worker's place; the job, the journal and the supervisor are the real ones.
"""

import json
import os
import sys
import textwrap
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kaggle_kit.errors import RunError
from kaggle_kit.runtime import launch as launching
from kaggle_kit.runtime.events import MEASURED, MOST_LINE, WORKER, WorkerError, parse_event
from kaggle_kit.runtime.journal import Entry, Journal, JournalWriter
from kaggle_kit.runtime.launch import Log, log_tail
from kaggle_kit.runtime.supervisor import read_entries, run_job

GOOD = '["a river"]'
ROWS = [["1", GOOD, GOOD, GOOD], ["2", GOOD, GOOD, GOOD]]
ANSWER = ["1", 5, [], [-1.0, -1.5, -0.5], 0.9, None, []]
HEAD = """
import json, os, signal, sys, time
out = os.fdopen(os.dup(1), "w")
def send(event, **fields):
    out.write(json.dumps({"event": event, **fields}) + "\\n")
    out.flush()
def answer(*row):
    send("answers", **{"pass": "plain", "rows": [row]})
"""


@pytest.fixture
def attack(tmp_path, make_job):
    """A function: run a job over two rows whose worker is these lines; its outcome, its events, and its journal."""
    package = tmp_path / "evil" / "kaggle_kit" / "runtime"
    package.mkdir(parents=True)
    for folder in (package, package.parent):
        (folder / "__init__.py").write_text("")

    def attack(body, *, seconds=60.0, **changes):
        (package / "worker.py").write_text(HEAD + textwrap.dedent(body))
        job = make_job(ROWS, environment={"PYTHONPATH": str(tmp_path / "evil")}, deadline=time.time() + seconds)
        told = []
        outcome = run_job(job, workers=1, python=sys.executable, scratch=tmp_path, on_event=told.append, **changes)
        return outcome, told, read_entries(job, workers=1)

    return attack


SAYS = {
    "a line without an end": 'block = "x" * (1 << 20)\nwhile True: out.write(block)',
    "a row that is not there": "answer('3', 5, [], [-1, -1, -1], 0.9, None, [])",
    "a number that is none": "answer('1', 5, [], [1e999, -1, -1], 1, None, [])",
    "another number of labels": "answer('1', 5, [], [-1.0], 0.9, None, [])",
    "no probability": "answer('1', 5, [], [3.0, -1, -1], 0.9, None, [])",
    "another field": "answer('1', 5, ['x'], [-1, -1, -1], 1, None, [])",
    "another pass": 'send("answers", **{"pass": "other", "rows": []})',
    "answers that are no list": 'send("answers", **{"pass": "plain", "rows": {"1": 2}})',
    "tokens below zero": "answer('1', -5, [], [-1, -1, -1], 1, None, [])",
    "an id that is a list": "answer(['1'], 5, [], [-1, -1, -1], 1, None, [])",
    "a flight of other rows": 'send("begun", ids=["1", "9"])',
    "a flight that is no list": 'send("begun", ids=7)',
    "a stage without a name": 'send("stage")',
    "a stage that is an object": 'send("stage", name={"a": 1})',
    "memory that is a text": 'send("done", peak_bytes="much")',
    "memory without end": 'send("done", peak_bytes=10 ** 300)',
    "rows that are half": 'send("rows", total=1.5, todo=1, tokens=1)',
    "an end that is infinite": 'send("progress", rows=1, all_rows=1, tokens=1, budget=1, p95=1e999)',
    "stages without end": 'for i in range(5000): send("stage", name=str(i))',
}


@pytest.mark.parametrize("case", SAYS)
def test_what_no_worker_says_ends_it(attack, case):
    """Each ends the work at once with a sentence, starts no second life, and leaves nothing in the journal."""
    since = time.monotonic()
    outcome, told, entries = attack(SAYS[case])
    assert (outcome.ended, outcome.starts) == ("failed", 1)
    assert "the worker" in outcome.message
    assert "installed" not in outcome.message
    assert entries == {}
    assert len(told) <= 1000
    assert time.monotonic() - since < 40


def test_what_is_no_event_is_passed_over(attack):
    """JSON nested 200,000 deep, integers of 10,000 digits and lists are noise; what follows counts."""
    outcome, told, entries = attack(
        f"""
        out.write("[" * 200_000 + "\\n" + '{{"event":' * 100_000 + "\\n" + "1" * 10_000 + "\\n[1]\\n")
        out.write('{{"event": []}}\\n')
        send("restart", message="never mine to say")
        send("answers", **{{"pass": "plain", "rows": [{json.dumps(ANSWER).replace("null", "None")}]}})
        send("done", peak_bytes=1)
        """
    )
    assert outcome.ended == "done"
    assert [event["event"] for event in told] == ["done"]
    assert entries == {"1": Entry("1", 5, (), (-1.0, -1.5, -0.5), 0.9)}


def test_a_text_without_end_is_cut(attack):
    """What is shown and kept of a text is a few thousand letters, each of which can be written."""
    outcome, told, entries = attack(
        """
        send("stage", name="x" * 100_000)
        send("answers", **{"pass": "plain", "rows": [["1", 5, [], None, None, "\\ud800" + "y" * 100_000, []]]})
        send("done", peak_bytes=1)
        """
    )
    assert outcome.ended == "done"
    assert len(told[0]["name"]) == 4000
    assert len(entries["1"].problem) < 5000


def test_what_stands_in_its_folder_is_not_read(attack):
    """A journal, a job and a list of answers that the worker wrote over are not where the answers come from."""
    outcome, _, entries = attack(
        """
        folder = os.path.dirname(sys.argv[1])
        for name in ("job-0.json", "known-0.json"):
            os.remove(f"{folder}/{name}")
            os.mkfifo(f"{folder}/{name}")
        send("answers", **{"pass": "plain", "rows": [["1", 5, [], [-1.0, -1.5, -0.5], 0.9, None, []]]})
        send("done", peak_bytes=1)
        """
    )
    assert outcome.ended == "done"
    assert list(entries) == ["1"]


def test_an_error_stream_without_end_fills_no_disk(attack, tmp_path, monkeypatch):
    """The log stays within its bound, and ends with the last words."""
    monkeypatch.setattr(launching, "_MOST_LOG", 1 << 20)
    outcome, *_ = attack(
        """
        for _ in range(200):
            os.write(2, b"z" * (1 << 16) + b"\\n")
        os.write(2, b"the last words\\n")
        send("error", message="no")
        sys.exit(2)
        """
    )
    assert outcome.ended == "failed"
    assert outcome.log.endswith("the last words")
    assert (tmp_path / "worker-0.log").stat().st_size <= (1 << 20) + (1 << 19)


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_a_log_that_is_no_file_is_refused(tmp_path, kind):
    """Neither is what a link leads to written or shown, nor does a pipe hold anything up."""
    log, secret = tmp_path / "log", tmp_path / "secret"
    secret.write_text("made-up")
    match kind:
        case "link":
            log.symlink_to(secret)
        case "pipe":
            os.mkfifo(log)
        case _:
            log.mkdir()
    with pytest.raises(RunError, match="log"):
        Log(log)
    assert log_tail(log) == ""
    assert secret.read_text() == "made-up"


def test_answers_that_were_said_before_the_end_are_kept(attack):
    """What a worker had said when the deadline ended it is in the journal."""
    outcome, _, entries = attack(
        """
        def late(*_):
            send("answers", **{"pass": "plain", "rows": [["2", 5, [], [-1.0, -1.5, -0.5], 0.9, None, []]]})
            os._exit(0)
        signal.signal(signal.SIGTERM, late)
        send("answers", **{"pass": "plain", "rows": [["1", 5, [], [-1.0, -1.5, -0.5], 0.9, None, []]]})
        time.sleep(60)
        """,
        seconds=3,
    )
    assert outcome.ended == "deadline"
    assert sorted(entries) == ["1", "2"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=8,
)
FIELDS = st.sampled_from(sorted({name for kinds in (WORKER, MEASURED) for kind in kinds.values() for name in kind}))


@given(
    kind=st.sampled_from(sorted(WORKER)),
    fields=st.dictionaries(FIELDS, JSON, max_size=6),
    rows=st.lists(JSON, max_size=3),
)
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_event_is_taken_or_refused(make_job, kind, fields, rows):
    """Whatever stands in an event, it is written as an entry of the job's rows, or a WorkerError; never another."""
    job = make_job(ROWS)
    line = json.dumps({"event": kind, "pass": "plain", **fields, "rows": rows if kind == "answers" else 1}).encode()
    with Journal(job.journal, configuration=job.configuration()) as journal:
        try:
            event = parse_event(line, WORKER)
            assert event is not None
            JournalWriter(job, journal).take(event)
        except WorkerError:
            return
        assert set(journal.read()) <= {"1", "2"}


def test_a_line_has_room_for_a_real_chunk():
    """The bound is far above what a chunk of 2,048 rows takes."""
    assert len(json.dumps([ANSWER] * 2048)) * 20 < MOST_LINE


def test_the_working_folder_is_no_place_for_modules(make_job, tmp_path, monkeypatch):
    """A project's own kaggle_kit, or json.py, in the folder where kit is called, is not what the worker runs."""
    monkeypatch.chdir(tmp_path)
    for name in ("kaggle_kit/runtime/worker.py", "json.py", "numpy.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()")
    job = make_job([["1", "oops", GOOD, GOOD]])
    outcome = run_job(job, workers=1, python=sys.executable, scratch=tmp_path, on_event=lambda _: None)
    assert outcome.ended == "done"
    assert not (tmp_path / "ran").exists()
