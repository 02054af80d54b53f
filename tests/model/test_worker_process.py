"""What the worker said, and how it ended."""

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
