"""A question is answered where nothing can be written: on a full disk, without a home, without streams."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kaggle_kit.files import mount_of

MEMORY = ("--ro-bind-try", "/dev/shm", "/dev/shm")
"""Tests may write there: a new /dev would hide it."""
KIT = Path(sys.executable).with_name("kit")
QUESTIONS = [
    ["status", "answer"],
    ["logs", "answer"],
    ["logs", "answer", "--follow"],
    ["history"],
    ["history", "--json"],
    ["plan", "answer", "--unproved"],
    ["pull", "answer"],
    ["quota", "--json"],
    ["targets"],
    ["allow"],
    ["model", "inspect", "model"],
    ["submit", "answer"],
]
WITHOUT_PROJECT = ("quota", "targets", "model")
ASK = """
import contextlib, io, json, os, shutil, sys
from pathlib import Path
from kaggle_kit.cli.main import run
disk, root, questions = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
if disk:
    root = Path(shutil.copytree(root, Path(disk) / "project"))
    for name in ("HOME", "TMPDIR", "KIT_CACHE_DIR"):
        os.environ[name] = disk
    os.chdir(root)
    with contextlib.suppress(OSError), open(Path(disk) / "filler", "wb", buffering=0) as filler:
        while filler.write(bytes(4096)):
            pass
answers = []
for words in questions:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run([str(root) if word == "ROOT" else word for word in words])
    answers.append((code, out.getvalue().replace(str(root), "ROOT"), err.getvalue()))
print(json.dumps(answers))
"""


@pytest.fixture
def pushed(desk):
    """A desk whose notebook was pushed and submitted."""
    assert desk.push("--submit").code == 0
    return desk


def asked(desk, *, disk: Path | None = None):
    """The answers to all questions where nothing can be written, or on a full disk that is mounted at `disk`."""
    command = ["bwrap", "--ro-bind", "/", "/", "--dev", "/dev", *MEMORY, "--proc", "/proc"]
    if disk:
        disk.mkdir()
        command += ["--size", str(4 << 20), "--tmpfs", str(disk)]
    else:
        command += ["--setenv", "KIT_CACHE_DIR", "/nonexistent/cache", "--setenv", "HOME", "/nonexistent"]
    words = json.dumps([with_project(each) for each in QUESTIONS])
    command += ["--chdir", str(desk.root), sys.executable, "-c", ASK, str(disk or ""), str(desk.root), words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def with_project(words):
    return words if words[0] in WITHOUT_PROJECT else [*words, "--project", "ROOT"]


@pytest.mark.parametrize("kind", ["read-only", "full"])
def test_every_question_is_answered_where_nothing_can_be_written(pushed, tmp_path, monkeypatch, kind):
    """As elsewhere, letter for letter; what could not be noted beside it is a warning that names the disk."""
    monkeypatch.chdir(pushed.root)
    place = tmp_path / "disk" if kind == "full" else mount_of(pushed.root)
    answers = asked(pushed, disk=place if kind == "full" else None)
    for words, (code, out, err) in zip(QUESTIONS, answers, strict=True):
        expected = pushed.kit_alone(*[str(pushed.root) if word == "ROOT" else word for word in with_project(words)])
        assert "Traceback" not in out + err, words
        if words[0] == "quota":
            assert json.loads(out)["account"] == "ada"
        else:
            assert out == expected.out.replace(str(pushed.root), "ROOT"), words
        assert code == (1 if words[0] == "submit" else expected.code), (words, err)
        for warning in [line for line in err.splitlines() if "could not be written" in line]:
            assert f"the disk mounted at {place} " in warning


def test_a_page_that_cannot_be_written_keeps_no_answer_back(pushed):
    """kit report says how the run ended, and then that its page has no place."""
    folder = pushed.root / "runs" / "answer-v1"
    (folder / "report.html").mkdir()
    told = pushed.kit_alone("report", str(folder))
    assert told.code == 1
    assert told.out.startswith("OK: the run is complete")
    assert f"{folder / 'report.html'}: " in told.err


COMMANDS = [["history"], ["plan", "answer", "--unproved"], ["nonsense"]]


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_no_stream_and_no_home_gives_a_traceback(pushed, words):
    """A full output is an error that names it; a closed one costs nothing; ASCII is written as escapes."""
    words = words if words[0] == "nonsense" else [*words, "--project", str(pushed.root)]

    def run(*before, environment=None, **streams):
        done = subprocess.run(
            [*before, str(KIT), *words],
            env=dict(os.environ) | (environment or {}),
            stderr=subprocess.PIPE,
            check=False,
            text=True,
            **streams,
        )
        assert "Traceback" not in done.stderr
        assert "Exception ignored" not in done.stderr
        assert done.returncode in (0, 1, 2)
        return done

    with Path("/dev/full").open("wb") as full:
        done = run(stdout=full)
        if words[0] != "nonsense":
            assert (done.returncode, done.stderr.splitlines()[-1][:12]) == (1, "error: /dev/")
    closed = ["sh", "-c", 'exec "$0" "$@" >&-']
    assert run(*closed).returncode == (2 if words[0] == "nonsense" else 0)
    assert run("sh", "-c", 'exec "$0" "$@" >&- <&- 2>&1').returncode in (0, 1, 2)
    for environment in ({"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}):
        done = run(environment=environment, stdout=subprocess.PIPE)
        assert done.stdout.isascii()
    nobody = [
        "bwrap",
        "--bind",
        "/",
        "/",
        "--dev",
        "/dev",
        *MEMORY,
        "--proc",
        "/proc",
        "--unshare-user",
        "--uid",
        "4321",
    ]
    without = ["--unsetenv", "HOME", "--unsetenv", "KIT_CACHE_DIR", "--unsetenv", "XDG_CACHE_HOME"]
    done = run(*nobody, *without, stdout=subprocess.PIPE)
    assert done.returncode == (2 if words[0] == "nonsense" else 0), done.stderr
