"""A notebook that measures its machine first: the real engine, sealed, with the project's own prompts."""

import json
import shutil
from pathlib import Path

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


def test_the_bench_notebook_measures_and_then_scores(workshop):
    """Each trial has a rate, all answer alike, the rates file is in the output, and the submission is whole."""
    kit_toml = workshop.folder / "kit.toml"
    kit_toml.write_text(kit_toml.read_text(encoding="utf-8") + NOTEBOOK, encoding="utf-8")
    template = workshop.folder / "templates" / "bench.py.j2"
    template.parent.mkdir()
    shutil.copyfile(ROOT / "templates" / "bench.py.j2", template)
    # A twentieth of it for each of three trials; the rest is for their engines' starts.
    workshop.edit("templates/bench.py.j2", "minutes=10.0", "minutes=4.0")
    done = workshop.kit("dryrun", "bench", "--rows", "20", "--json")
    assert done.code == 0, done.err[-2000:]
    out = Path(json.loads(done.out)["out"])
    body = json.loads((out / "rates-local-cpu.json").read_text(encoding="utf-8"))
    assert [trial["problem"] for trial in body["trials"]] == [None] * len(body["trials"])
    assert {trial["name"] for trial in body["trials"]} >= {"as planned", "no prefix cache"}
    assert all(trial["apart"] < 0.02 for trial in body["trials"][1:])
    # A CPU has no 4-bit kernels to choose among.
    assert body["kernels"] == {}
