"""The report of a run that made a model, from what it left behind."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from kaggle_kit.evaluation.run import RunContext, read_run
from kaggle_kit.notebook.build import build
from kaggle_kit.project import load_project
from kaggle_kit.runtime.manifest import MANIFEST, dump_manifest, make_manifest
from kaggle_kit.sandbox.execute import Execution
from kaggle_kit.sandbox.model_report import make_model_report
from kaggle_kit.sandbox.report import Ran, write_report
from kaggle_kit.targets import load_target

pytestmark = pytest.mark.usefixtures("guarded_here", "filled_here")

ROOT = Path(__file__).parents[2]
CALIBRATION = {"rows": 8, "table": "train.csv", "tokens": 1234}
PROVENANCE = {
    "adapter": {"name": "liking", "layers": 28, "rank": 4},
    "quantisation": {"calibration": CALIBRATION},
}
RECORD = {
    "stages": {"kit": 0.1, "install": 7.0, "quantize": 20.0, "result": 0.1},
    "make": {"seconds": {"merging the adapter": 5.0, "layers": 12.0}},
}


@dataclass(frozen=True)
class Seal:
    """What a report needs of a seal."""

    name: str = "bwrap"
    unsealed: tuple[str, ...] = ()
    left_open: tuple[str, ...] = ()


@pytest.fixture
def results(tmp_path):
    """What a good run leaves."""
    folder = tmp_path / "results"
    model = Path(shutil.copytree(ROOT / "tests" / "demo" / "model", folder / "new"))
    (model / MANIFEST).unlink()
    manifest = make_manifest(model, kind="model", name="new", extra=PROVENANCE)
    (model / MANIFEST).write_text(dump_manifest(manifest))
    (folder / "kit-run.json").write_text(json.dumps(RECORD))
    (folder / "log.txt").write_text("")
    (folder / "executed.ipynb").write_text('{"cells": []}')
    return folder


@pytest.fixture
def report(results, tmp_path):
    """A function: the report of the run that left the results."""
    built = build(load_project(ROOT), "quantize", target=load_target("local-cpu"), out=tmp_path / "built")

    def make(*, code: int = 0, limit: bool = False):
        execution = Execution(code, 30.0, limit, 2_000_000_000)
        return make_model_report(built, results, Ran(Seal(), execution, 1.0, ()))

    return make


def test_a_whole_model(report):
    """The first line names it and its size; what it is and where it is from follow, then each stage."""
    found = report()
    assert found.complete
    lines = found.lines()
    assert lines[0].startswith("OK: new is a whole model of 2.")
    assert "new: LlamaForCausalLM, 4 layers, 2.9 M parameters, 4 bits, groups of 128" in lines[2]
    assert lines[3].split(maxsplit=2)[2] == "8 rows of train.csv, 1,234 tokens"
    assert lines[4].split(maxsplit=1)[1] == "liking: 28 layers, rank 4, merged"
    assert [*found.seconds][1:6] == ["kit", "install", "quantize", "  merging the adapter", "  layers"]


@pytest.mark.parametrize(
    "provenance",
    [{}, {"quantisation": {"calibration": None}, "adapter": None}, {"quantisation": {"calibration": {"rows": "8"}}}],
    ids=["none", "int8", "another's"],
)
def test_a_model_that_does_not_say(report, results, provenance):
    """What a manifest does not tell has no line, and the run counts."""
    (results / "new" / MANIFEST).unlink()
    manifest = make_manifest(results / "new", kind="model", name="new", extra=provenance)
    (results / "new" / MANIFEST).write_text(dump_manifest(manifest))
    found = report()
    assert found.complete
    assert not [line for line in found.lines() if line.startswith(("calibrated on", "adapter"))]


def test_a_padded_model_says_so(report, results):
    """Both sizes, and for how many cards."""
    padding = {"intermediate_size": 29_696, "unpadded_intermediate_size": 29_568, "split": 4}
    (results / "new" / MANIFEST).unlink()
    manifest = make_manifest(results / "new", kind="model", name="new", extra={"quantisation": {"padding": padding}})
    (results / "new" / MANIFEST).write_text(dump_manifest(manifest))
    line = next(line for line in report().lines() if line.startswith("padded"))
    assert line.split(maxsplit=1)[1] == "MLPs from 29,568 to 29,696, for 4 cards"


def test_the_json_says_what_kind_of_report_it_is(report):
    """It is told from that of a submission, and holds the model's origin."""
    found = json.loads(json.dumps(report().to_json()))
    assert (found["kind"], found["model"]["provenance"]["adapter"]["layers"]) == ("model", 28)


def spoil_weights(model: Path) -> None:
    (model / "model.safetensors").write_bytes(b"x" * (model / "model.safetensors").stat().st_size)


def rename(model: Path) -> None:
    model.rename(model.with_name("other"))


def second(model: Path) -> None:
    shutil.copytree(model, model.with_name("other"))


def unsound(model: Path) -> None:
    (model / "tokenizer.json").unlink()
    (model / MANIFEST).write_text(dump_manifest(make_manifest(model, kind="model", name="new", extra=PROVENANCE)))


WRONG = {
    "none": (shutil.rmtree, "NO model: the notebook left 0 folders with a manifest.json"),
    "two": (second, "NO model: the notebook left 2 folders with a manifest.json (new, other)"),
    "another name": (rename, "NO model: other has the manifest of the model 'new'"),
    "corrupt": (spoil_weights, "it is corrupt"),
    "unsound": (unsound, "NO model: new is not sound: "),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_model(report, results, case):
    """A run that ended well and left anything else is not complete, and the first line says why."""
    spoil, words = WRONG[case]
    spoil(results / "new")
    found = report()
    assert not found.complete
    assert found.model is None
    assert words in found.outcome


def test_a_run_that_failed(report, results):
    """The cell and its error come first, even where a model of it is there."""
    error = {"output_type": "error", "ename": "ModelError", "evalue": "too bad"}
    cell = {"metadata": {"name": "quantize"}, "outputs": [error]}
    (results / "executed.ipynb").write_text(json.dumps({"cells": [cell]}))
    found = report(code=1)
    assert not found.complete
    assert found.outcome.startswith("FAILED in the cell 'quantize': ModelError: too bad; ")


def test_a_run_that_was_ended(report):
    """The session's time was up."""
    assert report(limit=True).outcome.startswith("TIME LIMIT: the session was ended after 0:30")


def test_a_report_page_is_made_of_it(report, results):
    """`kit report` reads such a run too: its outcome and its stages, and nothing about a submission."""
    write_report(report(), results)
    run = read_run(results, RunContext())
    assert run.good
    assert run.outcome.startswith("OK: new is a whole model")
    assert run.checks == ()
