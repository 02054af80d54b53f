"""Whatever fails, a valid submission stands and the report's first line says what happened."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

DEMO = Path(__file__).parents[1] / "demo"
ROWS = 700
"""Enough that the worker is still at them when it is killed at its first progress."""
MANY = 15_000
"""More than any machine scores in half a minute, however short it cuts them."""


def _workers(parent: int) -> list[int]:
    """The scoring workers below a process, by their command line."""
    from kaggle_kit.sandbox.seal_driver import descendants

    found = []
    for pid in descendants(parent):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if b"kaggle_kit.runtime.worker" in command:
            found.append(pid)
    return found


def _big_data(folder, rows: int):
    """A sample that takes a while: made by the demo's generator."""
    subprocess.run(
        [
            sys.executable,
            str(DEMO / "rows.py"),
            "--rows",
            str(rows),
            "--train-rows",
            "0",
            "--seed",
            "7",
            "--out",
            folder,
        ],
        check=True,
    )
    return folder


def _rows(path) -> list[dict[str, str]]:
    with path.open() as stream:
        return list(csv.DictReader(stream))


def test_the_network_is_closed_to_a_cell(workshop, seal):
    """A connection attempt in a cell fails, and the machine's own files are not to be seen."""
    workshop.add_cell(
        "probe",
        "import os, socket\n"
        "for address in [('1.1.1.1', 443), ('127.0.0.1', 22)]:\n"
        "    try:\n"
        "        socket.create_connection(address, timeout=3)\n"
        "        print('CONNECTED', address)\n"
        "    except OSError as error:\n"
        "        print('refused:', error)\n"
        "print('home:', os.listdir(os.path.expanduser('~')))\n"
        "try:\n"
        "    open(DATA / 'new.txt', 'w')\n"
        "    print('WRITTEN')\n"
        "except OSError as error:\n"
        "    print('read-only:', error)\n"
        "raise SystemError('enough')",
    )
    run = workshop.dryrun("--seal", seal)
    printed = run.printed("probe")
    assert "Network is unreachable" in printed
    assert "CONNECTED" not in printed
    assert "read-only:" in printed
    assert run.code == 1


def test_labels_that_the_model_never_says_are_no_good_end(workshop):
    """Tokens that are no answer of this model: a submission stands, the first line says what it is worth, and it ends
    with 1."""
    for column, label, other in (("model_a", "A", "X"), ("model_b", "B", "Q"), ("tie", "tie", "Z")):
        workshop.edit("notebooks_src/lmsys.py", f'"winner_{column}": "{label}"', f'"winner_{column}": "{other}"')
    run = workshop.dryrun("--rows", "6")
    assert run.code == 1
    assert run.report["outcome"].startswith("LOW LABEL MASS: the labels have 0.0")
    assert run.report["submission_valid"]
    assert "LOW LABEL MASS" in run.printed("summary")


def test_a_failing_cell_leaves_the_fallback_and_a_banner(workshop):
    """A cell that raises: exit code 1, the cell's name and error in the first line, a valid submission, a banner."""
    workshop.add_cell("broken", "1 / 0")
    run = workshop.dryrun("--rows", "30")
    assert run.code == 1
    first = run.report["outcome"]
    assert first.startswith("FAILED in the cell 'broken': ZeroDivisionError: division by zero")
    assert "submission.csv is valid: 0 of 30 rows scored by the model, the prior for 30" in first
    assert len(_rows(run.results / "submission.csv")) == 30
    assert "An Exception was encountered" in json.dumps(run.notebook)


def test_a_killed_worker_is_started_again_and_no_row_is_lost(workshop, tmp_path, why_not):
    """kill -9 in mid-run: the rows scored so far are kept, the rest follow, and the first line says so.

    In the seal that is not chosen by itself, where it works: the engine runs in either.
    """
    data = _big_data(tmp_path / "big", ROWS)
    seal = () if why_not("unshare") else ("--seal", "unshare")
    said = []
    with workshop.start("--data", str(data), "--solution", str(data / "solution.csv"), *seal) as process:
        for line in process.stdout:
            said.append(line)
            if "rows/s" in line:
                for pid in _workers(process.pid):
                    os.kill(pid, signal.SIGKILL)
                break
        said += list(process.stdout)
    assert process.returncode == 0, "".join(said)
    report = json.loads((workshop.results / "report.json").read_text())
    assert report["worker_starts"] == 2
    assert "SIGKILL" in report["outcome"]
    assert (report["scored_rows"], report["prior_rows"]) == (ROWS, 0)
    assert report["log_loss"] < 0.80
    assert f"{ROWS} rows to score" in "".join(said)
    assert len({row["id"] for row in _rows(workshop.results / "submission.csv")}) == ROWS


def test_the_deadline_leaves_what_was_scored(workshop, tmp_path):
    """At the notebook's own deadline the rows scored so far are handed in, the prior for the rest."""
    data = _big_data(tmp_path / "big", MANY)
    run = workshop.dryrun("--data", str(data), "-p", "time_limit_hours=0.008", "-p", "margin_minutes=0")
    assert run.code == 1
    assert run.report["outcome"].startswith("DEADLINE")
    assert run.report["submission_valid"]
    assert run.report["scored_rows"] < MANY
    assert run.report["seconds"]["whole notebook"] < 75


def test_the_session_limit_leaves_the_fallback(workshop):
    """A session ended from outside, in the middle of a cell, still leaves a valid submission."""
    workshop.add_cell("slow", "import time\ntime.sleep(600)")
    run = workshop.dryrun("--rows", "30", "--limit", "6")
    assert run.code == 1
    assert run.report["outcome"].startswith("TIME LIMIT: the session was ended after 0:0")
    assert "in the cell 'slow'" in run.report["outcome"]
    assert run.report["submission_valid"]


def test_a_full_working_folder_is_said(workshop):
    """A full /kaggle/working: the submission that stood there is kept, and the error says what is full."""
    shipped = (DEMO.parents[1] / "kaggle_kit/targets/local-cpu.toml").read_text()
    target = workshop.folder / "targets" / "local-cpu.toml"
    target.parent.mkdir()
    target.write_text(shipped.replace("working_bytes = 20_957_446_144", "working_bytes = 200_000"))
    workshop.add_cell(
        "fill",
        "with contextlib.suppress(OSError), (WORKING / 'big.bin').open('wb', buffering=0) as stream:\n"
        "    while True:\n"
        "        stream.write(bytes(1024))",
    )
    run = workshop.dryrun("--rows", "20")
    assert run.code == 1
    assert "No space left on device" in run.report["outcome"]
    assert "submission.csv is valid: " in run.report["outcome"]


def test_a_label_known_only_at_run_time_is_checked_by_the_worker(workshop):
    """A label that the source computes escapes the check before the run, and is refused before the engine starts.

    This is the hidden run: where the visible one fails loudly, it ends without an error, which would score nothing,
    and the submission stands.
    """
    workshop.edit("notebooks_src/lmsys.py", '"winner_tie": "tie"}', '"winner_tie": "undecided".strip()}')
    run = workshop.dryrun("--rows", "5", "--hidden")
    assert run.code == 1
    assert "FAILED in the stage 'score'" in run.report["outcome"]
    assert "the label 'undecided' is" in run.report["outcome"]
    assert run.report["submission_valid"]
    assert run.report["worker_starts"] == 1
    assert "An Exception was encountered" not in json.dumps(run.notebook)


@pytest.mark.parametrize("moment", ["seal:", "in a sealed Kaggle", "engine start"])
@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_leaves_nothing_half_written(workshop, moment):
    """Ctrl-C at any stage: exit code 130, no results folder, no process left, and the last run's files untouched."""
    workshop.results.mkdir(parents=True)
    for name in ("report.json", "report.txt"):
        (workshop.results / name).write_text("the last run\n")
    with workshop.start() as process:
        for line in process.stdout:
            if moment in line:
                break
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
    assert process.returncode == 130, rest
    assert "Traceback" not in rest
    assert [path.name for path in workshop.results.parent.iterdir()] == ["lmsys"]
    assert (workshop.results / "report.json").read_text() == "the last run\n"
    mine = f"{workshop.folder}".encode()
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                assert mine not in Path(f"/proc/{entry.name}/cmdline").read_bytes()
            except OSError:
                continue


def _truncate(path) -> None:
    with path.open("r+b") as stream:
        stream.truncate(path.stat().st_size - 1000)


def test_a_truncated_model_is_refused_at_once(workshop):
    """A truncated safetensors file is named with both sizes, before anything starts."""
    _truncate(workshop.folder / "tests/demo/model/model.safetensors")
    run = workshop.dryrun()
    assert run.code == 1
    assert "model.safetensors" in run.err
    assert "bytes" in run.err
    assert not workshop.results.exists()


def test_a_label_of_two_tokens_is_refused_at_once(workshop):
    """A label that is several tokens is shown in its pieces, before anything starts."""
    workshop.edit("notebooks_src/lmsys.py", '"winner_tie": "tie"}', '"winner_tie": "undecided"}')
    run = workshop.dryrun()
    assert run.code == 2
    assert "tokens after the prompt, not one" in run.err
    assert not workshop.results.exists()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda data: (data / "test.csv").unlink(), "test.csv is missing"),
        (lambda data: (data / "sample_submission.csv").unlink(), "sample_submission.csv is missing"),
        (
            lambda data: (data / "test.csv").write_text((data / "test.csv").read_text().replace("response_b", "b", 1)),
            "has no column 'response_b'",
        ),
    ],
)
def test_wrong_data_is_refused_at_once(workshop, damage, said):
    """A missing file or a missing column: exit code 2, said, nothing written."""
    damage(workshop.folder / "tests/demo/data")
    run = workshop.dryrun()
    assert run.code == 2
    assert said in run.err
    assert "Traceback" not in run.err
    assert not workshop.results.exists()
