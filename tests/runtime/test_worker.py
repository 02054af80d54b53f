"""The worker: rows prepared, scored in chunks, and one row's fault kept to that row."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from kaggle_kit.errors import DataError, LabelError, ModelError, RunError
from kaggle_kit.runtime import worker
from kaggle_kit.runtime.engine import LabelScores
from kaggle_kit.runtime.journal import Entry, Journal
from kaggle_kit.runtime.prompts import Prompt
from kaggle_kit.runtime.task import Task

REFUSAL = ValueError("longer than max_model_len")


class PickyEngine:
    """Scores by a prompt's length; refuses a whole batch in which one of the prompts `refused` is."""

    def __init__(self, *refused, error=REFUSAL):
        self.refused = set(refused)
        self.error = error
        self.batches = []

    def score(self, prompts):
        self.batches.append(len(prompts))
        if any(tuple(prompt) in self.refused for prompt in prompts):
            raise self.error
        return [LabelScores((-float(prompt[0]), -0.5), 0.9) for prompt in prompts]


def prompts(count):
    return [(str(i), Prompt((i, 7), f"text {i}")) for i in range(count)]


@pytest.fixture
def journal(tmp_path):
    with Journal(tmp_path / "journal.sqlite", configuration="c") as opened:
        yield opened


def score(engine, todo, journal):
    told = []
    worker.score_rows(engine, todo, journal=journal, report=lambda rows, tokens: told.append((rows, tokens)))
    return told


def test_rows_are_scored_in_chunks_and_each_has_its_own_score(journal):
    """Every row is in the journal with the score of its own prompt; progress counts rows and tokens."""
    engine = PickyEngine()
    assert score(engine, prompts(150), journal) == [(64, 128), (128, 256), (150, 300)]
    assert engine.batches == [64, 64, 22]
    assert journal.read() == {str(i): Entry(str(i), 2, (), (-float(i), -0.5), 0.9) for i in range(150)}


@pytest.mark.parametrize("error", [ValueError("too long"), RunError("no probability")])
@pytest.mark.parametrize("refused", [(0,), (63,), (5, 6), (0, 31, 32, 63, 64, 99), tuple(range(100))])
def test_a_refused_row_costs_only_itself(journal, refused, error):
    """Wherever the rows at fault stand, they alone have a problem, and every other row is scored."""
    score(PickyEngine(*((i, 7) for i in refused), error=error), prompts(100), journal)
    entries = journal.read()
    assert len(entries) == 100
    assert {int(e.id) for e in entries.values() if e.problem} == set(refused)
    assert {int(e.id) for e in entries.values() if e.log_probabilities is None} == set(refused)
    assert entries[str(refused[0])].problem == f"the engine refused it: {error}"


def test_one_bad_row_of_a_chunk_costs_few_calls(journal):
    """Halving finds one row among 64 in 13 calls, not in 65."""
    engine = PickyEngine((40, 7))
    score(engine, prompts(64), journal)
    assert len(engine.batches) == 13


def test_an_engine_that_dies_is_not_taken_for_bad_rows(journal):
    """Any other error ends the worker, with the chunks before it kept."""
    engine = PickyEngine((70, 7), error=RuntimeError("engine core died"))
    with pytest.raises(RuntimeError, match="died"):
        score(engine, prompts(100), journal)
    assert journal.count() == 64


def test_an_engine_that_answers_too_little_is_an_error(journal):
    """Fewer answers than prompts are never matched by guess."""

    class Short(PickyEngine):
        def score(self, prompts):
            return super().score(prompts)[1:]

    with pytest.raises(ValueError, match="zip"):
        score(Short(), prompts(10), journal)
    assert journal.count() == 0


GOOD = '["a river"]'


def test_prepare_gives_each_row_a_prompt_or_a_problem(make_job):
    """Rows that can be read have prompts within the budget; the others say why not; none is lost."""
    job = make_job(
        [
            ["1e5", GOOD, GOOD, GOOD],
            ["a,b", "oops", GOOD, GOOD],
            ['q"q', "[]", "[null]", '[""]'],
            ["", GOOD, '["\\ud83d"]', "[" + ",".join([GOOD[1:-1]] * 500) + "]"],
            ["5", GOOD],
        ]
    )
    prepared = worker.prepare(job)
    assert prepared.prompts.keys() == {"1e5", ""}
    assert prepared.problems.keys() == {"a,b", 'q"q', "5"}
    assert max(len(prompt.token_ids) for prompt in prepared.prompts.values()) <= job.token_budget
    assert prepared.prompts[""].cut == ("response_b",)


def test_label_ids_are_in_the_order_of_the_labels(make_job, tokenizer):
    """The first score is the first label's, whatever its column is called."""
    prepared = worker.prepare(make_job([]))
    assert tokenizer.pieces(list(prepared.label_ids)) == ["tie", "A", "B"]


@pytest.mark.parametrize(
    ("budget", "words"),
    [(2048, "lower token_budget to 2047"), (10, "a budget of 10 tokens is too small: the template alone takes")],
)
def test_a_budget_that_cannot_be_is_refused_before_the_engine_starts(make_job, model, budget, words):
    """Neither a budget above the model's own length nor one below the template reaches the engine."""
    limit = json.loads((model / "config.json").read_text(encoding="utf-8"))["max_position_embeddings"]
    job = make_job([["1", GOOD, GOOD, GOOD]], token_budget=limit if budget == 2048 else budget)
    with pytest.raises(DataError, match=words.replace("2047", str(limit - 1))):
        worker.prepare(job)


def test_a_label_of_two_tokens_is_refused_before_the_engine_starts(make_job, task):
    """The label check is part of preparing."""
    labels = dict(task.labels) | {"winner_tie": "neither"}
    with pytest.raises(LabelError, match="'neither' is"):
        worker.prepare(make_job([], task=Task(**task.to_json() | {"labels": labels})))


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_cut_file_of_the_model_is_named(make_job, model, tmp_path, name):
    """A model of which one file was cut in the upload is refused, by the file's name."""
    shutil.copytree(model, tmp_path / "model")
    path = tmp_path / "model" / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModelError, match=rf"{name} of the model demo .* was cut or changed"):
        worker.prepare(make_job([], model=tmp_path / "model"))


@pytest.mark.parametrize("content", [None, b"[]", b"{", b"\xff"])
def test_a_model_without_a_readable_configuration_is_a_model_error(make_job, model, tmp_path, content):
    """config.json that no manifest vouches for and nobody can read is told, not a crash that is tried again."""
    shutil.copytree(model, tmp_path / "model")
    manifest = tmp_path / "model" / "manifest.json"
    body = json.loads(manifest.read_text(encoding="utf-8"))
    body["files"] = [entry for entry in body["files"] if entry["path"] != "config.json"]
    manifest.write_text(json.dumps(body), encoding="utf-8")
    (tmp_path / "model" / "config.json").unlink()
    if content is not None:
        (tmp_path / "model" / "config.json").write_bytes(content)
    with pytest.raises(ModelError, match=r"config\.json cannot be read"):
        worker.prepare(make_job([], model=tmp_path / "model"))


def test_events_are_lines_of_json():
    """Each event is one line, whatever text it carries."""
    stream = io.StringIO()
    worker.Events(stream).send("error", message='two\nlines, "é"\ud800')
    (line,) = stream.getvalue().splitlines()
    assert json.loads(line)["message"] == 'two\nlines, "é"\ud800'


@pytest.fixture
def engine(monkeypatch):
    """The engine that `run` starts, and how many rows it was given."""
    picky = PickyEngine()
    monkeypatch.setattr(worker, "_start_engine", lambda *_: picky)
    return picky


def run(job):
    stream = io.StringIO()
    worker.run(job, worker.Events(stream))
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.mark.usefixtures("engine")
def test_a_run_tells_its_stages_and_scores_every_row(make_job):
    """From prepare to done, with the bad row in the journal under its problem."""
    job = make_job([["1", GOOD, GOOD, GOOD], ["2", "oops", GOOD, GOOD], ["3", GOOD, GOOD, GOOD]])
    events = run(job)
    assert [e.get("name", e["event"]) for e in events] == [
        "prepare",
        "rows",
        "engine start",
        "scoring",
        "progress",
        "done",
    ]
    assert (events[1]["total"], events[1]["todo"]) == (2, 2)
    with Journal(job.journal, configuration=job.configuration()) as journal:
        entries = journal.read()
    assert {row_id: bool(entry.log_probabilities) for row_id, entry in entries.items()} == {
        "2": False,
        "1": True,
        "3": True,
    }


def test_rows_of_the_journal_are_not_scored_again(make_job, engine):
    """A second life scores what is missing, and only that."""
    job = make_job([[str(i), GOOD, GOOD, GOOD] for i in range(10)])
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
    return subprocess.Popen(
        [sys.executable, "-m", "kaggle_kit.runtime.worker", str(tmp_path / "job.json")],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_a_job_that_cannot_be_done_ends_with_2_and_its_sentence(make_job, tmp_path, bare_environment):
    """Two equal ids end the real process with the exit code that no restart follows."""
    job = make_job([["1", GOOD, GOOD, GOOD]] * 2)
    with start(job, tmp_path, bare_environment) as process:
        events = [json.loads(line) for line in process.stdout]
        assert process.wait() == 2
    assert (events[-1]["event"], events[-1]["kind"]) == ("error", "DataError")
    assert "two rows with the id '1'" in events[-1]["message"]


def test_an_engine_that_does_not_start_is_told_with_its_cause(make_job, tmp_path, bare_environment):
    """Without vLLM in the environment the last event says so; the trace is on the error stream."""
    job = make_job([["1", GOOD, GOOD, GOOD]])
    with start(job, tmp_path, bare_environment) as process:
        events = [json.loads(line) for line in process.stdout]
        trace = process.stderr.read()
        assert process.wait() == 2
    assert "the engine did not start: ModuleNotFoundError: No module named 'vllm'" in events[-1]["message"]
    assert b"Traceback" in trace


@pytest.mark.parametrize("end", ["stdin", "parent"])
def test_the_worker_ends_with_its_notebook(bare_environment, end):
    """Where the notebook closes its end, or is killed, the worker is gone at once, in whatever stage."""
    slow = (
        "import sys, time\nfrom kaggle_kit.runtime import worker\n"
        "worker.read_job = lambda path: time.sleep(60)\nworker.main(['x'])\n"
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
