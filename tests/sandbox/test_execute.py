"""What a run says as it says it, its time limit, and what its log and notebook tell afterwards."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from kaggle_kit.sandbox.execute import cell_names, cell_started, execute, failed_cell
from kaggle_kit.sandbox.mounts import Sandbox
from kaggle_kit.sandbox.seal import SealedProcess
from kaggle_kit.sandbox.watch import SpaceWatch

SANDBOX = Sandbox(mounts=(), working_bytes=None, environment={}, workdir="/")
STARTS = "Executing Cell 2---------------------------------------"


@dataclass
class OpenSeal:
    """A seal that seals nothing and runs a Python program of its own instead of the command it is given."""

    program: str
    name: str = "open"
    unsealed: tuple[str, ...] = ()
    left_open: tuple[str, ...] = ()
    command: tuple[str, ...] = ()

    def start(self, _sandbox, command, *, stdout, stderr, **_) -> SealedProcess:
        self.command = tuple(command)
        argv = [sys.executable, "-c", self.program]
        return SealedProcess(subprocess.Popen(argv, stdout=stdout, stderr=stderr, start_new_session=True), depth=0)


@pytest.fixture
def ran(tmp_path):
    """A function: run a program as a notebook; returns how it ended, what was shown, and the log's lines."""

    def run(program: str, limit: float = 60.0, space: SpaceWatch | None = None):
        shown: list[str] = []
        log = tmp_path / "log.txt"
        seal = OpenSeal(program)
        ended = execute(
            seal,
            SANDBOX,
            python=Path("/venv/bin/python"),
            results=tmp_path,
            log=log,
            limit_seconds=limit,
            show=shown.append,
            space=space,
        )
        return ended, shown, log.read_text(encoding="utf-8").splitlines(), seal

    return run


def test_every_line_is_shown_and_logged(ran):
    """Each line of both streams is shown, and logged with the seconds since the start."""
    ended, shown, log, _ = ran("import sys; print('a'); print('b  ', flush=True); print('c', file=sys.stderr)")
    assert shown == ["a", "b  ", "c"]
    assert [line.split("  ", 1)[1].split(maxsplit=1)[-1].strip() for line in log] == ["a", "b", "c"]
    assert all(0 <= float(line.split()[0]) <= ended.seconds + 0.01 for line in log)
    assert (ended.exit_code, ended.limit_reached) == (0, False)


def test_bytes_that_are_no_text(ran):
    """A line that is not UTF-8 is shown as far as it can be."""
    _, shown, _, _ = ran(r"import sys; sys.stdout.buffer.write(b'caf\xe9\n')")
    assert shown == ["caf\ufffd"]


def test_an_exit_code(ran):
    """The command's exit code is kept."""
    ended, _, _, _ = ran("raise SystemExit(3)")
    assert (ended.exit_code, ended.limit_reached) == (3, False)


def test_the_limit_ends_it(ran):
    """When the session's time is up, the run is ended, and said to have been."""
    ended, shown, _, _ = ran("import time; print('begun', flush=True); time.sleep(60)", limit=0.5)
    assert ended.limit_reached
    assert shown == ["begun"]
    assert 0.5 <= ended.seconds < 10


def test_a_full_disk_ends_it(ran, tmp_path):
    """A run that leaves this machine no room is ended, and said why."""
    program = "import time; print('begun', flush=True); time.sleep(60)"
    ended, shown, _, _ = ran(program, space=SpaceWatch(tmp_path, most_bytes=1 << 40, kept_free=1 << 60))
    assert "make room on it" in str(ended.stopped)
    assert not ended.limit_reached
    assert shown == ["begun"]


def test_papermill_runs_the_notebook(ran):
    """The command is papermill, with the notebook's output told live, in /kaggle/working."""
    *_, seal = ran("")
    words = " ".join(seal.command)
    assert "-m papermill /kit/notebook.ipynb /kit/out/executed.ipynb" in words
    assert "--log-output" in words
    assert "--cwd /kaggle/working" in words


@pytest.mark.parametrize(
    ("line", "name"),
    [
        (STARTS, "b"),
        (f"    1.20  {STARTS}", "b"),
        ("Executing Cell 3---", None),
        ("Executing Cell 0---", None),
        ("x", None),
    ],
)
def test_which_cell_starts(line, name):
    """Papermill's line gives the cell's name; a number beyond the cells, or another line, gives none."""
    assert cell_started(line, ["a", "b"]) == name


def notebook(path: Path, *cells: dict[str, object]) -> Path:
    path.write_text(json.dumps({"cells": list(cells)}), encoding="utf-8")
    return path


def test_cell_names(tmp_path):
    """A cell without a name is called by its id: papermill's banner is such a one."""
    path = notebook(tmp_path / "a.ipynb", {"metadata": {"name": "a"}}, {"metadata": {}, "id": "x1"}, {"metadata": {}})
    assert cell_names(path) == ["a", "x1", ""]


def error(name: str, value: str) -> dict[str, object]:
    return {"output_type": "error", "ename": name, "evalue": value, "traceback": []}


def test_the_cell_that_failed(tmp_path):
    """The first cell with an error is named, its message in one line."""
    path = notebook(
        tmp_path / "a.ipynb",
        {"metadata": {"name": "a"}, "outputs": [{"output_type": "stream", "text": "x"}]},
        {"metadata": {"name": "b"}, "outputs": [error("ValueError", "one\n  two")]},
    )
    assert failed_cell(path) == ("b", "ValueError: one two")


def test_an_early_end_is_no_failure(tmp_path):
    """The frame ends a hidden run with SystemExit: that is no failed cell."""
    assert failed_cell(notebook(tmp_path / "a.ipynb", {"metadata": {}, "outputs": [error("SystemExit", "0")]})) is None


@pytest.mark.parametrize("text", [None, "", "{"])
def test_no_notebook_was_left(tmp_path, text):
    """A notebook that is missing or cut off names no failed cell."""
    path = tmp_path / "a.ipynb"
    if text is not None:
        path.write_text(text)
    assert failed_cell(path) is None


@pytest.mark.parametrize(
    "body",
    [
        [],
        5,
        {"cells": 5},
        {"cells": [5, [], {"outputs": 5}, {"outputs": [5, {"output_type": []}]}]},
        {"cells": [{"outputs": [{"output_type": "error"}], "metadata": 5}]},
        {"cells": [{"outputs": [{"output_type": "error", "ename": {}, "evalue": [[]]}], "metadata": {"name": []}}]},
    ],
)
def test_a_notebook_of_another_shape(tmp_path, body):
    """What the notebook wrote in place of itself raises nothing."""
    path = tmp_path / "executed.ipynb"
    path.write_text(json.dumps(body))
    assert failed_cell(path) is None or isinstance(failed_cell(path), tuple)


@pytest.mark.parametrize("text", ["[" * 200_000, '{"cells": ' * 200_000])
def test_a_notebook_nested_without_end(tmp_path, text):
    """Two hundred thousand levels are no notebook, and no crash."""
    path = tmp_path / "executed.ipynb"
    path.write_text(text)
    assert failed_cell(path) is None
