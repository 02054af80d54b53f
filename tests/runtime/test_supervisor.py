"""The supervisor, over real processes: ends them, starts them again, and gives up when nothing helps."""

from __future__ import annotations

import os
import signal
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from kaggle_kit.errors import RunError
from kaggle_kit.runtime.journal import SWAPPED, Entry, Journal
from kaggle_kit.runtime.launch import log_tail
from kaggle_kit.runtime.supervisor import Outcome, Worker, _together, read_entries, run_job, share, supervise

HEAD = """
import json, os, signal, subprocess, sys, time
from pathlib import Path
folder = Path(sys.argv[1])
def send(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)
def score(rows):
    with (folder / "rows").open("a") as stream:
        stream.write("x" * rows)
life = len(list(folder.glob("life-*")))
(folder / f"life-{life}").write_text(str(os.getpid()))
"""


class Run:
    """Supervises a worker that is a few lines of Python, in a folder of its own."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.environment = environment
        self.events = []

    def __call__(self, body: str, *, seconds: float = 30, on_event=None, keep=lambda _: False, **options):
        script = self.folder / "worker.py"
        script.write_text(HEAD + textwrap.dedent(body), encoding="utf-8")
        command = [sys.executable, str(script), str(self.folder)]
        return supervise(
            Worker(command, environment=self.environment, log=self.folder / "log", keep=keep),
            deadline=time.time() + seconds,
            count=self.count,
            on_event=on_event or self.events.append,
            **options,
        )

    def count(self) -> int:
        rows = self.folder / "rows"
        return rows.stat().st_size if rows.exists() else 0

    def lives(self) -> int:
        return len(list(self.folder.glob("life-*")))


@pytest.fixture
def run(tmp_path, bare_environment):
    return Run(tmp_path, bare_environment)


def alive(pid: int) -> bool:
    """Whether a process runs; one that is dead and not yet collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until_dead(pid: int) -> bool:
    for _ in range(100):
        if not alive(pid):
            return True
        time.sleep(0.05)
    return False


def test_a_worker_that_is_done_is_started_once(run):
    """Done is told with the peak memory, and every event reached the notebook in its order."""
    outcome = run('send("stage", name="prepare"); score(3); send("done", peak_bytes=7)')
    assert (outcome.ended, outcome.starts, outcome.peak_bytes, outcome.deaths) == ("done", 1, 7, [])
    assert [event["event"] for event in run.events] == ["stage", "done"]


def test_a_failure_that_cannot_be_helped_is_not_tried_again(run):
    """Exit code 2 ends it at once, with the worker's own words."""
    outcome = run('send("error", message="two labels are one token"); sys.exit(2)')
    assert (outcome.ended, outcome.starts) == ("failed", 1)
    assert outcome.message == "two labels are one token"


def test_a_worker_that_crashes_after_progress_is_started_again(run):
    """Four crashes, each after some rows, are four restarts; the fifth life ends the work."""
    outcome = run("""
        score(1)
        if life < 4:
            raise SystemExit(1)
        send("done", peak_bytes=1)
    """)
    assert (outcome.ended, outcome.starts) == ("done", 5)
    assert len(outcome.deaths) == 4
    assert [event["event"] for event in run.events].count("restart") == 4


def test_a_worker_that_crashes_four_times_for_nothing_is_given_up(run):
    """Without a new answer, four lives are enough; the last words are kept."""
    outcome = run('send("error", message=f"life {life}"); sys.exit(1)')
    assert (outcome.ended, outcome.starts, outcome.message) == ("failed", 4, "life 3")


def test_a_row_that_kills_the_engine_is_found(run):
    """It dies over it beside others and twice alone, before it has answered anything: the fourth life may go on."""
    outcome = run("""
        if life < 3:
            sys.exit(1)
        score(1)
        send("done", peak_bytes=1)
    """)
    assert (outcome.ended, outcome.starts) == ("done", 4)


def test_progress_forgives_earlier_crashes(run):
    """Two idle crashes, one with progress, then four idle ones: only the last four count."""
    outcome = run("""
        if life == 2:
            score(1)
        sys.exit(1)
    """)
    assert (outcome.ended, outcome.starts) == ("failed", 7)


def test_an_end_without_a_word_is_no_success(run):
    """Exit code 0 without the event "done" is a crash like another."""
    outcome = run("sys.exit(0)", tries_without_progress=1)
    assert (outcome.ended, outcome.message) == ("failed", "the worker was ended by exit code 0")


def test_kill_9_is_named_and_mended(run):
    """A worker that is killed in the middle goes on in its next life, and the signal is told."""
    outcome = run("""
        score(1)
        if life == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        send("done", peak_bytes=1)
    """)
    assert (outcome.ended, outcome.starts) == ("done", 2)
    assert outcome.deaths == ["the worker was ended by SIGKILL"]


def test_a_killed_worker_whose_child_holds_its_output_is_noticed(run):
    """A forked engine that outlives the worker, with its output open, does not hide the worker's death."""
    since = time.monotonic()
    outcome = run(
        """
        child = os.fork()
        if child == 0:
            (folder / f"child-{life}").write_text(str(os.getpid()))
            time.sleep(60)
            os._exit(0)
        while not (folder / f"child-{life}").exists() or not (folder / f"child-{life}").read_text():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        tries_without_progress=1,
    )
    assert (outcome.ended, outcome.message) == ("failed", "the worker was ended by SIGKILL")
    assert time.monotonic() - since < 15
    assert wait_until_dead(int((run.folder / "child-0").read_text()))


def test_the_deadline_ends_the_worker_and_all_that_it_started(run):
    """At the deadline neither the worker nor its child runs on, and the rows so far are kept."""
    since = time.monotonic()
    outcome = run(
        """
        score(2)
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        (folder / "child").write_text(str(child.pid))
        send("stage", name="scoring")
        time.sleep(60)
        """,
        seconds=1.5,
    )
    assert (outcome.ended, outcome.message, outcome.starts) == ("deadline", "the deadline was reached", 1)
    assert time.monotonic() - since < 5
    assert run.count() == 2
    assert outcome.stages["scoring"] > 0
    for name in ("life-0", "child"):
        assert wait_until_dead(int((run.folder / name).read_text()))


def test_a_worker_that_does_not_listen_is_killed(run, monkeypatch):
    """Whoever ignores SIGTERM has a grace time, then is ended all the same."""
    monkeypatch.setattr("kaggle_kit.runtime.supervisor.GRACE_SECONDS", 0.3)
    outcome = run(
        """
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        send("stage", name="scoring")
        time.sleep(60)
        """,
        seconds=1,
    )
    assert outcome.ended == "deadline"
    assert wait_until_dead(int((run.folder / "life-0").read_text()))


def test_a_process_that_left_the_group_does_not_hold_up_the_notebook(run):
    """Even a stray process of its own session, with the worker's output open, costs no time at the deadline."""
    since = time.monotonic()
    run(
        """
        stray = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(8)"], start_new_session=True)
        (folder / "stray").write_text(str(stray.pid))
        time.sleep(60)
        """,
        seconds=1,
    )
    spent = time.monotonic() - since
    os.kill(int((run.folder / "stray").read_text()), signal.SIGKILL)
    assert spent < 5


def test_a_deadline_that_is_past_scores_nothing(run):
    """With no time left the end is the deadline, not an error."""
    assert run("time.sleep(60)", seconds=-1).ended == "deadline"


def test_done_at_the_last_moment_is_done(run):
    """A worker that said done and then dawdles beyond the deadline is done."""
    outcome = run('send("done", peak_bytes=1); time.sleep(60)', seconds=1)
    assert outcome.ended == "done"


def test_seconds_of_a_stage_are_added_up_over_all_lives(run):
    """A stage that ran in two lives has the seconds of both, and the stages do not overlap."""
    since = time.monotonic()
    outcome = run("""
        send("stage", name="prepare")
        time.sleep(0.4)
        send("stage", name="scoring")
        score(1)
        time.sleep(0.4)
        if life == 0:
            sys.exit(1)
        send("done", peak_bytes=1)
    """)
    # Taken when an event comes, not when it was sent: a little less than was slept is right, not the half.
    assert outcome.stages["prepare"] > 0.5
    assert outcome.stages["scoring"] > 0.5
    assert sum(outcome.stages.values()) < time.monotonic() - since


def test_noise_among_the_events_is_passed_over(run):
    """Lines that are no event (text, broken JSON, bytes of any kind) are ignored."""
    outcome = run(r"""
        sys.stdout.buffer.write(b"INFO loading\n\xff\xfe\n{\"event\n[1]\n{}\n12\n\n")
        sys.stdout.flush()
        send("done", peak_bytes=3)
    """)
    assert (outcome.ended, outcome.peak_bytes) == ("done", 3)
    assert [event["event"] for event in run.events] == ["done"]


def test_what_the_worker_says_on_its_error_stream_is_in_the_log(run):
    """The log holds the words of every life, and its tail the last lines."""
    run('print(f"words of life {life}", file=sys.stderr); score(life == 0); sys.exit(1)')
    log = (run.folder / "log").read_text(encoding="utf-8")
    assert [f"words of life {i}" in log for i in range(5)] == [True] * 5
    assert log_tail(run.folder / "log").endswith("words of life 4")
    assert log_tail(run.folder / "nothing") == ""


def test_an_interrupt_of_the_notebook_ends_the_worker(run):
    """Where showing an event fails, as Ctrl-C does, no worker is left behind."""

    def interrupted(_event):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run('send("stage", name="scoring"); time.sleep(60)', on_event=interrupted)
    assert wait_until_dead(int((run.folder / "life-0").read_text()))


def test_a_stop_ends_the_worker(run):
    """Whoever set it: the worker is ended, is not started again, and the outcome says so."""
    stop = threading.Event()
    outcome = run('send("stage", name="scoring"); time.sleep(60)', stop=stop, on_event=lambda _event: stop.set())
    assert (outcome.ended, outcome.message, outcome.starts) == ("failed", "it was interrupted", 1)
    assert wait_until_dead(int((run.folder / "life-0").read_text()))


def test_a_flood_of_events_is_read_whole(run):
    """Ten thousand events, longer together than a pipe holds, arrive in their order."""
    run(
        '[send("progress", rows=i, all_rows=10_000, tokens=0, budget=9) for i in range(10_000)]\n'
        'send("done", peak_bytes=1)'
    )
    assert [event["rows"] for event in run.events[:-1]] == list(range(10_000))


def test_no_thread_is_left(run):
    """Each life's reader ends with it."""
    before = threading.active_count()
    run('send("done", peak_bytes=1)')
    for _ in range(100):
        if threading.active_count() <= before:
            break
        time.sleep(0.02)
    assert threading.active_count() <= before


GOOD = '["a river"]'


def test_one_worker_has_the_whole_job(make_job):
    """Nothing changes where there is nothing to share."""
    job = make_job([])
    assert share(job, 0, 1) is job


def test_each_worker_has_a_journal_and_a_configuration_of_its_own(make_job):
    """No two parts could take each other's rows for theirs."""
    job = make_job([["1", GOOD, GOOD, GOOD]])
    parts = [share(job, number, 3) for number in range(3)]
    assert len({part.journal for part in parts} | {job.journal}) == 4
    assert len({part.configuration() for part in parts} | {job.configuration()}) == 4


def test_the_entries_of_all_workers_are_read(make_job):
    """Each pass is the union of the workers'."""
    job = make_job([["1", GOOD, GOOD, GOOD], ["2", GOOD, GOOD, GOOD]])
    for number, row_id in enumerate("12"):
        part = share(job, number, 2)
        with Journal(part.journal, configuration=part.configuration()) as journal:
            journal.write([Entry(row_id, 5)])
            journal.write([Entry(row_id, 6)], pass_name=SWAPPED)
    assert read_entries(job, workers=2) == {"1": Entry("1", 5), "2": Entry("2", 5)}
    assert read_entries(job, workers=2, pass_name=SWAPPED) == {"1": Entry("1", 6), "2": Entry("2", 6)}


def test_two_workers_do_their_shares_side_by_side(make_job, tmp_path):
    """Two real workers settle every row of a table that needs no engine, and each event tells whose it is."""
    job = make_job([[str(i), "oops", GOOD, GOOD] for i in range(7)])
    told = []
    outcome = run_job(job, workers=2, python=sys.executable, scratch=tmp_path, on_event=told.append)
    assert outcome.ended == "done"
    assert {event["worker"] for event in told} == {0, 1}
    assert sorted(read_entries(job, workers=2)) == [str(i) for i in range(7)]
    assert outcome.peak_bytes > 0


def test_a_worker_that_fails_leaves_its_log(make_job, tmp_path):
    """Where there is no engine, the outcome says so, with the end of the log."""
    job = make_job([["1", GOOD, GOOD, GOOD], ["2", "oops", GOOD, GOOD]])
    outcome = run_job(job, workers=2, python=sys.executable, scratch=tmp_path, on_event=lambda _: None)
    assert outcome.ended == "failed"
    assert "vllm" in outcome.message
    assert "Traceback" in outcome.log


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("error", [KeyboardInterrupt, RunError])
def test_two_workers_end_with_the_notebooks_call(make_job, tmp_path, error):
    """Ctrl-C, or an error while one tells something, ends both at once instead of at the deadline."""
    program = tmp_path / "python"
    body = f'echo $$ >> {tmp_path}/pids\necho \'{{"event": "stage", "name": "x"}}\'\nexec sleep 600'
    program.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    program.chmod(0o755)

    def interrupted(event):
        while len((tmp_path / "pids").read_text().split()) < 2:
            time.sleep(0.01)
        if event["worker"] == 1:
            return
        if error is KeyboardInterrupt:
            os.kill(os.getpid(), signal.SIGINT)
        else:
            raise error("no space left")

    job = make_job([], deadline=time.time() + 60)
    with pytest.raises(error):
        run_job(job, workers=2, python=program, scratch=tmp_path, on_event=interrupted)
    for pid in (tmp_path / "pids").read_text().split():
        assert not Path(f"/proc/{pid}").exists()


def test_the_workers_environment_is_offline_and_its_own(make_job, tmp_path, monkeypatch):
    """Nothing of the image's Python reaches the worker; hubs are offline; what is given comes last."""
    monkeypatch.setenv("PYTHONPATH", "/image")
    monkeypatch.setenv("MPLBACKEND", "inline")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\nenv > $(dirname $0)/seen\n", encoding="utf-8")
    program.chmod(0o755)
    given = {"VLLM_CPU_KVCACHE_SPACE": "1", "USE_TF": "1"}
    job = make_job([], environment=given)
    run_job(job, workers=1, python=program, scratch=tmp_path, on_event=lambda _: None)
    seen = dict(line.split("=", 1) for line in (tmp_path / "seen").read_text().splitlines() if "=" in line)
    assert not {"PYTHONPATH", "MPLBACKEND", "CUDA_VISIBLE_DEVICES"} & set(seen)
    assert seen["HF_HUB_OFFLINE"] == "1"
    assert seen["USE_TF"] == "1"
    assert seen["VLLM_CPU_KVCACHE_SPACE"] == "1"
    assert seen["HF_HOME"] == str(tmp_path / "cache")


def test_the_worst_end_is_the_jobs():
    """Failed is worse than the deadline, that is worse than done; times are the longest, deaths and memory the sum."""
    one = Outcome(ended="done", starts=1, stages={"prepare": 1.0, "scoring": 9.0}, peak_bytes=5)
    two = Outcome(ended="failed", message="x", starts=3, deaths=["y"], stages={"prepare": 2.0}, peak_bytes=7, log="z")
    three = Outcome(ended="deadline", starts=1, peak_bytes=1)
    both = _together([one, two, three])
    assert (both.ended, both.message, both.log) == ("failed", "x", "z")
    assert (both.starts, both.deaths, both.peak_bytes) == (3, ["y"], 13)
    assert both.stages == {"prepare": 2.0, "scoring": 9.0}
    assert _together([one, three]).ended == "deadline"
    assert _together([one, one]).ended == "done"
