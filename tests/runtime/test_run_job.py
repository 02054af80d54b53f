"""A job in several parts: shares, journals, and one outcome; the workers are the real ones."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from kaggle_kit.errors import RunError
from kaggle_kit.runtime.journal import SWAPPED, Entry, Journal
from kaggle_kit.runtime.run_job import _together, read_entries, run_job, share
from kaggle_kit.runtime.supervisor import Outcome

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
