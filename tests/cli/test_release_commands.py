"""`kit plan`, `push`, `status`, `logs`, `output`, `submit`, `quota`, `history`: what scripts and people get of them."""

import json
import subprocess
import sys
import threading
import time

import pytest
from desk import LEAKED, NOTEBOOK, SUBMISSION, Slow, fails, goes_on, leaks

from kaggle_kit.loopback.faults import FAULTS, KERNELS, Fault, setting

COMMANDS = ("plan", "push", "status", "logs", "output", "submit", "quota", "history", "pull", "rehearse")
UNWANTED = {"kaggle", "kagglesdk", "starlette", "uvicorn", "requests", "pydantic", "rich", "jupytext", "nbformat"}


def test_help_of_a_release_imports_no_client():
    """The help of no command that speaks to Kaggle loads a client, a server or another slow library."""
    code = (
        "import sys\nfrom kaggle_kit.cli.main import run\n"
        f"for name in {COMMANDS}: assert run([name, '--help']) == 0\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {name.split(".")[0] for name in done.stderr.split()} & UNWANTED == set()


def test_a_plan_for_a_script(desk):
    """`kit plan --json` holds whether a push may begin, what it would send, and a step for each thing."""
    told = desk.kit("plan", "answer", "--unproved", "--json")
    assert told.code == 0
    assert told.json["allowed"] is True
    actions = {step["reference"]: step["action"] for step in told.json["steps"]}
    assert actions == {
        "ada/wheels-t4": "attached",
        "ada/wheels-t4-kit": "attached",
        "ada/small-model": "create",
        NOTEBOOK: "create",
    }
    assert told.json["send_bytes"] > 0


def test_a_forbidden_plan_for_a_script(desk):
    """Where a push may not begin, the exit code is 1 and the JSON has the reasons with their ways out."""
    told = desk.kit("plan", "answer", "--json")
    assert (told.code, told.json["allowed"]) == (1, False)
    problem = next(one for one in told.json["problems"] if not one["warning"])
    assert "kit wheels" in problem["what"] + problem["next_step"]


def test_a_piped_plan_breaks_no_reference(desk):
    """Without a terminal each row is one line, however long its references are."""
    lines = desk.kit("plan", "answer", "--unproved").out.splitlines()
    assert {line.split()[1] for line in lines[1:4]} == {"ada/wheels-t4", "ada/wheels-t4-kit", "ada/small-model"}
    assert (lines[4].split()[1], lines[5]) == (NOTEBOOK, "")


def test_the_status_of_a_complete_run(desk):
    """Complete is exit code 0, in words and in JSON."""
    assert desk.push("--wait").code == 0
    told = desk.kit("status", "answer")
    assert (told.code, told.out) == (0, f"{NOTEBOOK} version 1: complete\n")
    told = desk.kit("status", "answer", "--json")
    assert told.code == 0
    assert told.json == {"notebook": NOTEBOOK, "version": 1, "state": "COMPLETE", "failure": None}


def test_the_status_of_a_failed_run(desk):
    """Failed is exit code 1, with Kaggle's own words."""
    desk.runner = fails
    assert desk.push("--wait").code == 1
    told = desk.kit("status", "answer", "--json")
    assert (told.code, told.json["state"], told.json["failure"]) == (1, "ERROR", "Notebook Threw Exception")


def test_the_status_of_a_running_run(desk):
    """Queued and running are exit code 3."""
    desk.runner = goes_on
    assert desk.push().code == 0
    told = desk.kit("status", "answer", "--json")
    assert told.code == 3
    assert told.json["state"] in {"QUEUED", "RUNNING"}


def test_an_unknown_status(desk):
    """A word that nobody knows is exit code 4, never taken for one that is known."""
    assert desk.push("--wait").code == 0
    desk.kaggle.faults.add(FAULTS["run-status-unknown"])
    told = desk.kit("status", "answer", "--json")
    assert (told.code, told.json["state"]) == (4, "UNKNOWN")


def test_the_status_is_of_the_pushed_version(desk):
    """A newer version of the browser's is not spoken of."""
    assert desk.push("--wait").code == 0
    desk.edit_in_browser("Best answer", "Better answer")
    assert "version 1: complete" in desk.kit("status", "answer").out


def test_a_log_with_a_token(desk):
    """`kit logs` prints what the run printed, secrets masked."""
    desk.runner = leaks
    assert desk.push("--wait").code == 0
    told = desk.kit("logs", "answer")
    assert told.code == 0
    assert told.out.splitlines()[1:] == ["begin", "end"]
    assert told.out.startswith("logging in with ")
    assert LEAKED not in told.out


def test_a_log_is_followed(desk):
    """`kit logs --follow` begins while the run goes on, prints each line once, and ends with the run."""
    desk.runner = slow = Slow()
    assert desk.push().code == 0
    timer = threading.Timer(0.3, slow.go_on.set)
    timer.start()
    since = time.monotonic()
    told = desk.kit("logs", "answer", "--follow")
    timer.join()
    assert (told.code, told.out.splitlines()) == (0, ["first line", "second line", "begin", "end"])
    assert time.monotonic() - since >= 0.3


@pytest.mark.parametrize("words", [["logs", "answer"], ["logs", "answer", "--follow"], ["output", "answer"]])
def test_a_failed_run_is_explained(desk, words):
    """Of a failed run logs and output tell the cause and the next step, with exit code 1."""
    desk.runner = fails
    desk.push("--wait")
    told = desk.kit(*words)
    assert told.code == 1
    assert "cause: " in told.err
    assert "next: " in told.err
    assert "GPU" in told.err


def test_output_goes_over_newer_files(desk):
    """A local file of the same name, newer and larger, is replaced whole."""
    assert desk.push("--wait").code == 0
    file = desk.root / "runs" / "answer-v1" / "submission.csv"
    file.write_text("something else\n" * 1000)
    told = desk.kit("output", "answer")
    assert told.code == 0
    assert file.read_text() == SUBMISSION
    assert f"{file}  {len(SUBMISSION)} bytes" in told.out


def test_the_output_of_a_failed_run(desk):
    """What a failed run left is fetched too."""
    desk.runner = fails
    assert desk.push().code == 0
    while desk.kit("status", "answer").code == 3:
        time.sleep(0.01)
    assert desk.kit("output", "answer", "-o", str(desk.root / "out")).code == 1
    assert (desk.root / "out" / "submission.csv").read_text() == SUBMISSION


def test_a_run_of_low_label_mass_is_no_good_end(desk):
    """What the run says of itself is told, and the exit code is 1; its submission is made and scored all the same."""
    runner = desk.runner

    def mumbles(asked):
        (asked.out / "kit-run.json").write_text('{"label_mass": {"mean": 0.25, "lowest": 0.0}}')
        return runner(asked)

    desk.runner = mumbles
    told = desk.push("--submit")
    assert (told.code, desk.submissions) == (1, 1)
    assert "LOW LABEL MASS: the labels have 0.2500" in told.err
    told = desk.kit("output", "answer")
    assert told.code == 1
    assert "LOW LABEL MASS" in told.err
    assert "LOW LABEL MASS" in desk.kit("report", str(desk.root / "runs" / "answer-v1")).out


def test_a_file_of_the_runs_own_is_not_taken_for_its_log(desk):
    """A log.txt of the output lands whole, the log stands beside it, and the cause is found in that."""

    def writes_log(asked):
        (asked.out / "log.txt").write_text("mine\n")
        return fails(asked)

    desk.runner = writes_log
    told = desk.push("--wait")
    folder = desk.root / "runs" / "answer-v1"
    assert told.code == 1
    assert "GPU" in told.err
    assert (folder / "log.txt").read_text() == "mine\n"
    assert "no kernel image" in (folder / "kaggle-log.txt").read_text()
    assert desk.kit("report", str(folder)).code == 0
    assert "no kernel image" in (folder / "report.html").read_text()


@pytest.mark.parametrize("words", [["push", "answer", "--unproved", "--wait"], ["logs", "answer"]])
def test_half_a_character_in_the_log_is_shown_replaced(desk, words):
    """Half of a surrogate pair ends nothing."""
    if words[0] != "push":
        assert desk.push("--wait").code == 0
    log = json.dumps([{"stream_name": "stdout", "time": 1, "data": "x \ud83d y\n"}])
    route = KERNELS + "ListKernelSessionOutput"
    desk.kaggle.faults.add(Fault("half", "half a character", route, setting(log=log), times=1000))
    told = desk.kit(*words)
    assert told.code == 0
    shown = told.out if words[0] == "logs" else (desk.root / "runs" / "answer-v1" / "log.txt").read_text()
    assert shown == "x ? y\n"


def test_some_of_the_output(desk):
    """--pattern chooses files by name."""
    assert desk.push("--wait").code == 0
    desk.kit("output", "answer", "--pattern", "*.json", "-o", str(desk.root / "out"))
    assert [path.name for path in (desk.root / "out").iterdir()] == ["log.txt"]


def test_handed_in_twice_is_one_submission(desk):
    """The same version and message makes one submission, and both commands tell its score."""
    assert desk.push("--wait").code == 0
    first, second = (desk.kit("submit", "answer", "--wait") for _ in range(2))
    assert (first.code, second.code) == (0, 0)
    assert first.out == second.out == "answer version 1: score 0.75\n"
    assert desk.submissions == 1


def test_each_state_of_a_submission_is_said_once(desk):
    """No line is repeated while a submission waits for its score."""
    assert desk.push("--wait").code == 0
    lines = desk.kit("submit", "answer", "--wait").err.splitlines()
    assert len(set(lines)) == len(lines) > 0


def test_a_running_version_is_not_handed_in(desk):
    """Before its end a version cannot be handed in, and nothing is."""
    desk.runner = goes_on
    assert desk.push().code == 0
    told = desk.kit("submit", "answer")
    assert told.code == 1
    assert "cannot be handed in" in told.err
    assert desk.submissions == 0


def test_the_quota(desk):
    """GPU time used and allowed, in hours for people and in seconds for scripts."""
    told = desk.kit_alone("quota")
    assert (told.code, told.out.splitlines()[0]) == (0, "GPU: 0.0 h of 30.0 h used")
    found = desk.kit_alone("quota", "--json").json
    assert (found["account"], found["gpu_used_s"], found["gpu_allowed_s"]) == ("ada", 0, 30 * 3600)


def test_a_history_without_pushes(desk):
    """Where nothing was pushed, that is said, and the JSON is an empty list."""
    assert desk.kit("history").out == "nothing was pushed from here yet\n"
    assert desk.kit("history", "--json").json == []


def test_a_history(desk):
    """Each version with its run and score, in words and in JSON; neither asks Kaggle."""
    assert desk.push("--submit").code == 0
    desk.kaggle.traffic.reset()
    _, line = desk.kit("history", "answer").out.splitlines()
    assert line.split()[:2] == ["answer", "1"]
    assert line.split()[-2:] == ["complete", "0.75"]
    (receipt,) = desk.kit("history", "--json").json
    assert receipt["submission"]["public_score"] == 0.75
    assert receipt["run"]["state"] == "COMPLETE"
    assert all(check["agrees"] for check in receipt["checks"])
    assert not desk.kaggle.traffic.requests


@pytest.mark.parametrize("name", ["status", "logs", "output", "submit", "pull"])
def test_what_was_never_pushed(desk, name):
    """Before a push these are wrong use, and the error names the command to come."""
    told = desk.kit(name, "answer")
    assert told.code == 2
    assert "kit push answer" in told.err


@pytest.mark.parametrize("name", ["plan", "push", "status", "logs", "output", "submit", "history", "pull"])
def test_a_notebook_that_is_not_there(desk, name):
    """A wrong name is told with a near one, and Kaggle is not asked."""
    told = desk.kit(name, "answr")
    assert told.code == 2
    assert "did you mean 'answer'?" in told.err


@pytest.mark.parametrize("words", [["plan"], ["push", "answer"], ["quota"]])
def test_without_a_login(desk, monkeypatch, words):
    """Without a login it is wrong use, and the ways to log in are named."""
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    told = desk.kit_alone(*words) if words == ["quota"] else desk.kit(*words)
    assert told.code == 2
    assert "kaggle auth login" in told.err


def test_what_is_written_holds_no_token(desk):
    """State, receipts, log and output hold nothing of the login."""
    assert desk.push("--submit").code == 0
    written = [path.read_text() for path in desk.root.rglob("*") if path.is_file()]
    assert len(written) > 5
    assert not [text for text in written if desk.kaggle.settings.token in text]
    assert json.loads((desk.root / "kit.state.json").read_text())["notebooks"][NOTEBOOK]["version"] == 1
