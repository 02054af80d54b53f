"""`kit rehearse`: a whole release through the official client's protocol, with a real run of what was pushed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kaggle_kit.remote.diagnosis import decode
from kaggle_kit.runtime.manifest import dump_manifest, make_manifest

ROOT = Path(__file__).parents[2]
MODEL = "dataset your-kaggle-name/kit-demo-model"
# The command itself, in a process that afterwards writes down what its Kaggle was asked.
WATCHED = """
import json, sys
from kaggle_kit.cli.main import run
from kaggle_kit.loopback.server import LoopbackKaggle
servers, start = [], LoopbackKaggle.start
def watched(self):
    servers.append(self)
    start(self)
LoopbackKaggle.start = watched
code = run(sys.argv[2:])
if not servers:
    sys.exit(code)
(kaggle,) = servers
seen = kaggle.traffic
told = {"hosts": sorted(seen.hosts), "strangers": sorted(seen.strangers), "uploaded": seen.uploaded,
        "requests": dict(seen.requests), "fired": dict(kaggle.faults.fired)}
json.dump(told, open(sys.argv[1], "w"))
sys.exit(code)
"""


@dataclass(frozen=True)
class Rehearsal:
    """What one `kit rehearse lmsys` left: exit code, what it said, what its Kaggle was asked, its receipts."""

    code: int
    out: str
    err: str
    asked: dict[str, Any]
    receipts: dict[str, Any]


@pytest.fixture(scope="module")
def rehearse(tmp_path_factory):
    """A function: `kit rehearse lmsys WORDS` in a copy of the project, which `change` may edit before."""
    folder = tmp_path_factory.mktemp("rehearsed")
    for name in ("kit.toml", "notebooks_src/lmsys.py", "wheels/pylock.local-cpu.toml"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)
    for name in ("model", "data"):
        shutil.copytree(ROOT / "tests" / "demo" / name, folder / "tests" / "demo" / name)

    def rehearse(*words: str, change=lambda _: None) -> Rehearsal:
        change(folder)
        asked = folder / "asked.json"
        asked.unlink(missing_ok=True)
        command = [sys.executable, "-c", WATCHED, "asked.json", "rehearse", "lmsys", *words]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
        receipts = (folder / "runs" / "rehearsal-lmsys" / "receipts").glob("*.json")
        return Rehearsal(
            done.returncode,
            done.stdout,
            done.stderr,
            json.loads(asked.read_text()) if asked.is_file() else {},
            {path.name: json.loads(path.read_text()) for path in receipts},
        )

    rehearse.records = folder / "runs" / "rehearsal-lmsys"
    return rehearse


@pytest.fixture(scope="module")
def first(rehearse):
    """The first rehearsal, at a Kaggle that answers 403 for what is not there yet."""
    return rehearse("--world", "absence-403")


@pytest.fixture(scope="module")
def again(first, rehearse):  # noqa: ARG001
    """The same once more, with nothing changed."""
    return rehearse("--again")


@pytest.fixture(scope="module")
def lost(again, rehearse):  # noqa: ARG001
    """Once more with another model, whose version's answer is lost."""

    def change(folder: Path) -> None:
        model = folder / "tests" / "demo" / "model"
        with (model / "generation_config.json").open("a") as stream:
            stream.write("\n")
        (model / "manifest.json").write_text(dump_manifest(make_manifest(model, kind="model", name="demo")))

    words = ("--again", "--rows", "20", "--fault", "version-reply-lost", "--world", "owner-capitals")
    return rehearse(*words, change=change)


def test_a_release_goes_through_to_its_score(first):
    """Exit code 0, and the receipt has a run that completed and a score as good as the dry run's."""
    assert first.code == 0, first.out + first.err
    receipt = first.receipts["lmsys-v1.json"]
    assert receipt["run"]["state"] == "COMPLETE"
    assert 0.576 < receipt["submission"]["public_score"] < 0.80
    last = first.out.splitlines()[-1]
    assert last.startswith("rehearsed: your-kaggle-name/lmsys-preference-with-vllm version 1, score 0.")


def test_kaggle_has_what_was_asked(first):
    """Every check of the receipt agrees, and each input has its version and content."""
    receipt = first.receipts["lmsys-v1.json"]
    assert [check for check in receipt["checks"] if not check["agrees"]] == []
    assert {one["version"] for one in receipt["inputs"]} == {1}
    assert len(receipt["inputs"]) == 3
    assert "submission.csv" in {file["path"] for file in receipt["output"]}


def test_a_good_log_shows_no_failure(first, rehearse):
    """Nothing in the log of a run that went well is taken for a known failure."""
    assert first.code == 0
    assert decode((rehearse.records / "runs" / "lmsys-v1" / "log.txt").read_text()) == []


def test_nothing_leaves_this_machine(first):
    """Every request named this machine, and none was for another host."""
    hosts = {host.rsplit(":", 1)[0] for host in first.asked["hosts"]}
    assert hosts <= {"localhost", "127.0.0.1"}
    assert first.asked["strangers"] == []


def test_an_unchanged_release_sends_nothing(first, again):
    """Again, no byte is uploaded, no version and no submission is made, and the score is the same."""
    assert again.code == 0, again.out + again.err
    assert again.asked["uploaded"] == 0
    made = {route.rpartition("/")[2] for route in again.asked["requests"]}
    assert not made & {"CreateDataset", "CreateDatasetVersion", "SaveKernel", "CreateCodeSubmission"}
    assert again.receipts == first.receipts
    assert again.out.splitlines()[-1] == first.out.splitlines()[-1]


def test_a_lost_answer_makes_one_version(lost):
    """The model's second version is made once although its answer was lost, and the new run uses it."""
    assert lost.code == 0, lost.out + lost.err
    assert lost.asked["fired"] == {"version-reply-lost": 1}
    routes = {route.rpartition("/")[2]: count for route, count in lost.asked["requests"].items()}
    assert routes["CreateDatasetVersion"] == 1
    assert f"{MODEL}: version 2 is made" in lost.err
    inputs = {one["reference"]: one["version"] for one in lost.receipts["lmsys-v2.json"]["inputs"]}
    assert inputs[MODEL.split()[1]] == 2
    assert lost.receipts["lmsys-v2.json"]["submission"]["public_score"] is not None


def test_only_the_changed_model_is_sent_again(lost):
    """Of 632 MB, the files of the changed model are uploaded and nothing else."""
    assert lost.asked["uploaded"] < 3_000_000
