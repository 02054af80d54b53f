"""Every command of the README does what a reader expects of it: it ends with exit code 0."""

from __future__ import annotations

import csv
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kaggle_kit.loopback.runs import RunOutcome
from kaggle_kit.loopback.server import LoopbackKaggle
from kaggle_kit.loopback.service import Settings
from kaggle_kit.project import load_project

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COPIED = ("kit.toml", "notebooks_src", "templates", "wheels/pylock.local-cpu.toml", "tests/demo")
ELSEWHERE = {
    "kit dryrun quantize -p rows=8 -p token_budget=256": "test_quantize_notebook",
}
"""Commands that another module runs as they stand, and looks at what they leave."""
SPEAK_TO_KAGGLE = {"plan", "push", "status", "logs", "output", "submit", "quota", "pull"}


def commands() -> list[str]:
    """The lines of the README's code blocks that begin with kit, without their comments."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    lines = [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("kit ")]


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """One reader's copy of the project, in which the commands follow each other."""
    folder = tmp_path_factory.mktemp("reader")
    for name in COPIED:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile)(ROOT / name, target)
    return folder


def _prior(asked):
    """A run that hands in the sample: the real run of what was pushed is that of `kit rehearse`, on the same page."""
    data = next(one.folder for one in asked.inputs if one.kind == "competition")
    asked.say("begin")
    shutil.copyfile(data / "sample_submission.csv", asked.out / "submission.csv")
    return RunOutcome("COMPLETE")


@pytest.fixture(scope="module")
def at_kaggle(reader, tmp_path_factory):
    """The environment of a login at a Kaggle on this machine, whose user is the project's owner."""
    project, folder = load_project(reader), tmp_path_factory.mktemp("kaggle")
    settings = Settings(username=project.owner)
    with LoopbackKaggle(folder / "kaggle", runner=_prior, judge=lambda *_: 1.0, settings=settings) as kaggle:
        kaggle.add_competition(project.competition, reader / "tests" / "demo" / "data")
        for name in ("home", "tmp"):
            (folder / name).mkdir()
        yield kaggle.environment(folder / "home", folder / "tmp")
        assert kaggle.mistakes == ()
        assert not kaggle.traffic.strangers


@pytest.mark.parametrize("line", [line for line in commands() if line not in ELSEWHERE])
def test_a_command_of_the_readme_works(reader, line, request):
    """Run in the README's order in a copy of the project, it ends with exit code 0 and no traceback."""
    program = Path(sys.executable).with_name("kit")
    words = shlex.split(line)[1:]
    environment = request.getfixturevalue("at_kaggle") if words[0] in SPEAK_TO_KAGGLE else None
    done = subprocess.run(
        [program, *words], cwd=reader, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert (done.stdout + done.stderr).strip()
    if words[0] == "dryrun" and "--json" in words:
        _check_cut(json.loads(done.stdout), rows=int(words[words.index("--rows") + 1]))


def test_the_sample_is_scored_well_and_whole(reader):
    """Every row is scored by the model, the log loss is below 0.80, and all figures and files are there.

    This is what `kit dryrun lmsys` left: in the seal that is chosen by itself, with a dataset's checkpoint.
    """
    results = reader / "runs" / "lmsys"
    report = json.loads((results / "report.json").read_text())
    assert report["outcome"].startswith("OK: submission.csv is valid: 300 of 300 rows scored by the model")
    assert (report["scored_rows"], report["prior_rows"], report["unreadable_count"]) == (300, 0, 0)
    assert report["log_loss"] < 0.80
    assert report["label_mass_mean"] > 0.99
    assert report["integrity"]["model demo"].startswith("all 5 files as its manifest says")
    assert report["unsealed"] == []
    for stage in ("install", "engine start", "scoring", "whole notebook"):
        assert report["seconds"][stage] > 0
    assert report["rows_per_second"] > 0
    assert report["tokens_per_second"] > 0
    assert report["peak_bytes"] > 500e6
    assert report["projected_seconds"] > report["seconds"]["whole notebook"]
    with (results / "submission.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    with (reader / "tests/demo/data/sample_submission.csv").open() as stream:
        sample = list(csv.DictReader(stream))
    assert [row["id"] for row in rows] == [row["id"] for row in sample]
    assert {path.name for path in results.iterdir()} - {"report.html"} == {  # which `kit report lmsys` adds
        "executed.ipynb",
        "kit-run.json",
        "log.txt",
        "report.json",
        "report.txt",
        "submission.csv",
    }


@pytest.mark.parametrize(("line", "module"), ELSEWHERE.items())
def test_a_command_of_the_readme_is_run_elsewhere(line, module):
    """It stands in the README, and word for word in the module that runs it."""
    assert line in commands()
    assert f'"{line}"' in Path(__file__).with_name(f"{module}.py").read_text(encoding="utf-8")


def _check_cut(report, *, rows):
    """--rows cuts the sample, and its solution with it."""
    assert (report["scored_rows"], report["prior_rows"]) == (rows, 0)
    assert report["log_loss"] is not None


def test_make_demo_is_a_dry_run_of_the_readme():
    """`make demo` is `kit dryrun lmsys`, which a reader runs above, with what make has set up."""
    done = subprocess.run(["make", "--dry-run", "demo"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ".venv/bin/kit dryrun lmsys" in done.stdout.splitlines()
    assert "kit dryrun lmsys" in commands()


def test_every_command_is_in_the_readme():
    """No command of kit is left out of the README."""
    from kaggle_kit.cli.main import kit

    names = {f"kit {name}" for name in kit.commands if name != "wheels"}
    names |= {f"kit wheels {name}" for name in kit.commands["wheels"].commands}
    assert {name for name in names if not any(line.startswith(name) for line in commands())} == set()
