"""A notebook that measures its machine first: the real engine, sealed, with the project's own prompts."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOK = """
[notebooks.bench]
source = "notebooks_src/lmsys.py"
template = "bench.py.j2"
title = "LMSYS bench of kernels"
model = "demo"
target = "kaggle-t4x2"
data = "tests/demo/data"
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """This project with one notebook more; its wheelhouse is the one that was fetched."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("notebooks_src", "templates", "tests", "wheels"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "kit.toml").write_text((ROOT / "kit.toml").read_text(encoding="utf-8") + NOTEBOOK, encoding="utf-8")
    return folder


def test_the_bench_notebook_measures_and_then_scores(project):
    """Each trial has a rate, all answer alike, the rates file is in the output, and the submission is whole."""
    done = subprocess.run(
        [sys.executable, "-m", "kaggle_kit.cli.main", "dryrun", "bench", "--rows", "20", "--json"],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    out = project / json.loads(done.stdout)["out"]
    body = json.loads((out / "rates-local-cpu.json").read_text(encoding="utf-8"))
    assert [trial["problem"] for trial in body["trials"]] == [None] * len(body["trials"])
    assert {trial["name"] for trial in body["trials"]} >= {"as planned", "no prefix cache"}
    assert all(trial["apart"] < 0.02 for trial in body["trials"][1:])
    # A CPU has no 4-bit kernels to choose among.
    assert body["kernels"] == {}
