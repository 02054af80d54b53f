"""A release while Kaggle does not answer, files do not come, or the disk is full: what counts is done first."""

import json
import threading
import time

import pytest
from desk import NOTEBOOK, SUBMISSION, Slow, completes, fails, goes_on

from kaggle_kit.loopback.faults import KERNELS, Fault, setting, status
from kaggle_kit.loopback.runs import RunOutcome
from kaggle_kit.remote import push as pushing
from kaggle_kit.remote import receipt as receipts

STATUS = KERNELS + "GetKernelSessionStatus"
OUTPUT = KERNELS + "ListKernelSessionOutput"


def leaves_more(asked):
    """A run that leaves a file of no use beside its submission."""
    (asked.out / "cache.bin").write_text("x")
    return completes(asked)


def leaves_nothing(_asked):
    """A run that says that it went well, and wrote nothing."""
    return RunOutcome("COMPLETE", log=("end",))


class Disk:
    """A disk that takes no receipt any more, nor the state, while it is full."""

    def __init__(self, patch):
        self.patch = patch

    def fill(self, *, state=False):
        """No receipt can be written from now on, nor the state after something was made."""

        def full(*_):
            raise OSError(28, "No space left on device", "/full")

        self.patch.setattr(receipts, "save_receipt", full)
        if state:
            real, calls = pushing.save_state, []

            def first_only(*given):
                calls.append(1)
                return real(*given) if len(calls) == 1 else full()

            self.patch.setattr(pushing, "save_state", first_only)

    def free(self):
        """There is room again."""
        self.patch.undo()


@pytest.fixture
def disk():
    """The disk of the project."""
    with pytest.MonkeyPatch.context() as patch:
        yield Disk(patch)


@pytest.mark.parametrize("code", [429, 500, 503])
def test_an_outage_during_the_run_ends_no_wait(desk, code):
    """More refusals than attempts while the run goes on: the wait goes on too, says so, and the run is submitted."""
    desk.runner = slow = Slow()
    outage = Fault("away", "Kaggle is away", STATUS, status(code, "away"), times=25)
    desk.kaggle.faults.add(outage)
    timer = threading.Timer(0.5, slow.go_on.set)
    timer.start()
    told = desk.push("--submit")
    timer.join()
    assert told.code == 0
    assert desk.submissions == 1
    assert "goes on asking" in told.err
    assert "the answers are back" in told.err


def test_an_outage_before_the_submission_ends_nothing(desk):
    """Refusals between the run's end and its submission are waited out as well."""
    desk.kaggle.faults.add(Fault("away", "Kaggle is away", OUTPUT, status(503, "away"), times=15))
    assert desk.push("--submit").code == 0
    assert desk.submissions == 1


def test_a_file_that_does_not_come_keeps_no_submission_back(desk):
    """An output file that cannot be fetched is a warning and exit code 1; the version is submitted all the same."""
    desk.runner = leaves_more
    other = {"files": [{"fileName": "submission.csv", "url": "http://10.0.0.1/a"}]}
    desk.kaggle.faults.add(Fault("gone", "addresses that lead nowhere", OUTPUT, setting(**other), times=1000))
    told = desk.push("--submit")
    assert told.code == 1
    assert desk.submissions == 1
    assert "not fetched: submission.csv" in told.err
    assert "score" in told.out


@pytest.mark.parametrize("state", [False, True])
def test_a_full_disk_keeps_no_submission_back(desk, disk, state):
    """Receipt and state that cannot be written are warnings that name the disk; the submission is made and told."""
    disk.fill(state=state)
    told = desk.push("--submit")
    assert told.code == 1
    assert desk.submissions == 1
    assert "submission 10" in told.err
    assert "/full: No space left" in told.err


def test_after_a_full_disk_nothing_is_made_twice(desk, disk):
    """The next push finds what the first could not note: no second version, no second submission."""
    disk.fill(state=True)
    assert desk.push("--submit").code == 1
    disk.free()
    told = desk.push("--submit")
    assert told.code == 0, told.err
    assert desk.submissions == 1
    assert "version 2" not in told.out + told.err


def test_status_answers_before_it_writes(desk, disk):
    """A question is answered on a disk that takes nothing."""
    assert desk.push("--wait").code == 0
    disk.fill()
    told = desk.kit("status", "answer")
    assert (told.code, told.out) == (0, f"{NOTEBOOK} version 1: complete\n")
    assert "warning" in told.err


@pytest.mark.parametrize("words", [["push", "answer", "--unproved", "--wait"], ["output", "answer"]])
def test_a_complete_run_that_left_nothing_is_no_success(desk, words):
    """No file at all is exit code 1, and said."""
    desk.runner = leaves_nothing
    if words[0] == "output":
        desk.push("--wait")
    told = desk.kit(*words)
    assert told.code == 1
    assert "left no file" in told.err


def test_a_kept_log_outlives_kaggles(desk):
    """A log that Kaggle does not have any more stays as it was brought here."""
    assert desk.push("--wait").code == 0
    log = desk.root / "runs" / "answer-v1" / "log.txt"
    kept = log.read_text()
    assert "begin" in kept
    desk.kaggle.faults.add(Fault("empty", "no log", OUTPUT, setting(log=""), times=1000))
    assert desk.kit("output", "answer").code == 0
    assert log.read_text() == kept


@pytest.mark.parametrize("code", [404, 503])
def test_a_stream_without_lines_shows_the_kept_log(desk, code):
    """--follow of a run that is over prints the log that Kaggle keeps where the stream has none."""
    assert desk.push("--wait").code == 0
    desk.kaggle.faults.add(Fault("away", "no stream", "GET log stream", status(code, "away"), times=1000))
    told = desk.kit("logs", "answer", "--follow")
    assert told.code == 0
    assert told.out.splitlines() == ["begin", "end"]


def test_no_log_at_all_is_said(desk):
    """A complete run without any log is exit code 1 with a word, not silence."""
    assert desk.push("--wait").code == 0
    desk.kaggle.faults.add(Fault("empty", "no log", OUTPUT, setting(log=""), times=1000))
    desk.kaggle.faults.add(Fault("away", "no stream", "GET log stream", status(404, "none"), times=1000))
    for words in (["logs", "answer"], ["logs", "answer", "--follow"]):
        told = desk.kit(*words)
        assert told.code == 1
        assert "no log" in told.err


@pytest.mark.parametrize(("runner", "code", "state"), [(fails, 1, "error"), (goes_on, 0, "running")])
def test_a_run_without_a_log_is_told_with_its_state(desk, runner, code, state):
    """Never silence: a failed run and one that goes on have no log for reasons of their own."""
    desk.runner = runner
    desk.push()
    desk.kaggle.faults.add(Fault("empty", "no log", OUTPUT, setting(log=""), times=1000))
    for _ in range(200):
        if f": {state}" in desk.kit("status", "answer").out:
            break
        time.sleep(0.02)
    told = desk.kit("logs", "answer")
    assert told.code == code
    assert f"{NOTEBOOK} version 1: the run is {state}, and Kaggle has no log of it (yet)" in told.err
    assert told.out == ""


def test_an_output_that_kaggle_lists_no_more_stays_in_the_receipt(desk):
    """What was brought here once is known, and the command that finds nothing ends with 1."""
    assert desk.push("--wait").code == 0
    path = desk.root / "receipts" / "answer-v1.json"
    kept = json.loads(path.read_text())["output"]
    assert [file["path"] for file in kept] == ["submission.csv"]
    desk.kaggle.faults.add(Fault("gone", "nothing", OUTPUT, setting(log="", files=[]), times=1000))
    assert desk.push("--wait").code == 1
    assert json.loads(path.read_text())["output"] == kept


def test_the_submission_comes_before_the_files(desk):
    """The version is submitted while its files are still to be fetched."""
    told = desk.push("--submit")
    assert told.err.index("submission 10") < told.err.index("log and output")
    assert (desk.root / "runs" / "answer-v1" / "submission.csv").read_text() == SUBMISSION
