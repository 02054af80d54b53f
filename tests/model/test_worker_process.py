"""What the worker said, and how it ended."""

import os
import resource
import sys
from pathlib import Path

import pytest

from kaggle_kit.errors import ModelError
from kaggle_kit.model import worker_process
from kaggle_kit.model.worker_process import run_worker

LINGERS = """
import json, os, sys, time
with os.fdopen(int(sys.argv[2]), "w") as events:
    print(json.dumps({told!r}), file=events)
time.sleep(60)
"""


TELLS_WHERE = """
import json, os, resource, sys, time
with os.fdopen(int(sys.argv[2]), "w") as events:
    for _ in range(100):
        if not (core := resource.getrlimit(resource.RLIMIT_CORE)[0]):
            break
        time.sleep(0.1)
    print(json.dumps({"event": "done", "folder": os.getcwd(), "core": core}), file=events)
"""


@pytest.fixture
def cores_allowed():
    """This process may leave a core file of any size, where the machine lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


@pytest.fixture
def whereabouts(tmp_path, monkeypatch):
    """What a worker says of its folder and of its cores, all paths given as relative ones."""
    monkeypatch.chdir(tmp_path)
    Path("scratch").mkdir()
    Path("program.py").write_text(TELLS_WHERE)
    python = Path(os.path.relpath(sys.executable))
    return run_worker(
        python, {"do": "it"}, scratch=Path("scratch"), tell=lambda _event: None, program=Path("program.py")
    )


def test_the_worker_works_in_scratch(whereabouts, tmp_path):
    """What a library drops where it happens to be is not in the folder that a notebook saves."""
    assert Path(whereabouts["folder"]) == tmp_path / "scratch"


@pytest.mark.usefixtures("cores_allowed")
def test_a_crash_leaves_no_core(request):
    """Where cores are allowed, the worker alone may leave none: its memory is the whole model."""
    assert request.getfixturevalue("whereabouts")["core"] == 0


@pytest.fixture
def lingering(tmp_path, monkeypatch):
    """A function: run a program that tells its last word and then does not end."""
    monkeypatch.setattr(worker_process, "_PATIENCE_SECONDS", 0.2)

    def run(**told):
        program = tmp_path / "program.py"
        program.write_text(LINGERS.format(told=told))
        return run_worker(
            Path(sys.executable), {"do": "it"}, scratch=tmp_path, tell=lambda _event: None, program=program
        )

    return run


def test_what_is_done_is_kept(lingering):
    """A worker that takes long to go, after it said that it is done, has done it."""
    assert lingering(event="done", layers=28) == {"layers": 28}


def test_what_failed_is_told(lingering):
    """Its own words come through, however long it takes to go."""
    with pytest.raises(ModelError, match=r"^does not fit$"):
        lingering(event="failed", message="does not fit", foreseen=True)
