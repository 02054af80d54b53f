"""The kept facts about the engine against the engine itself."""

import subprocess
from pathlib import Path

from kaggle_kit.targets import load_target
from kaggle_kit.wheelhouse.environments import ready_environment
from kaggle_kit.wheelhouse.folder import ready_wheelhouse

ROOT = Path(__file__).parents[2]


def test_the_engine_says_the_same():
    """Asked again, the engine of local-cpu gives the kept file, byte for byte."""
    python = ready_environment(ready_wheelhouse(load_target("local-cpu", project=ROOT), project=ROOT).folder)
    program = ROOT / "benchmarks" / "model_types.py"
    done = subprocess.run([python, program], capture_output=True, text=True, check=True)
    assert done.stdout == (ROOT / "kaggle_kit" / "runtime" / "model_types.json").read_text()
