"""A notebook that makes a model: rehearsed with real AutoAWQ and peft in the sealed Kaggle, and scored by vLLM.

The base is the demo model in fp16 with an adapter of small random changes; the reference of the answers is the base
with these added by hand.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "model"))

from full_precision import make_adapter  # noqa: E402

KIT = Path(sys.executable).with_name("kit")
MOST_DIFFERENCE = 0.02
ROWS = 120
COPIED = (
    "kit.toml",
    "notebooks_src",
    "wheels/pylock.local-cpu.toml",
    "tests/demo/full",
    "tests/demo/data",
    "tests/demo/model",
)


def kit(project: Path, *arguments) -> subprocess.CompletedProcess[str]:
    """`kit` on a project."""
    command = [str(KIT), *map(str, arguments), "--project", str(project)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """The reference project with an adapter, which its notebook merges."""
    folder = tmp_path_factory.mktemp("making") / "project"
    for name in COPIED:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile)(ROOT / name, target)
    make_adapter(folder / "adapter", folder / "tests" / "demo" / "full")
    text = (folder / "kit.toml").read_text()
    assert text.count('model = "demo-full"\n') == 1
    text = text.replace('model = "demo-full"\n', 'model = "demo-full"\nadapter = "liking"\n')
    (folder / "kit.toml").write_text(f'{text}\n[models.liking]\npath = "adapter"\ndataset = "ada/liking-adapter"\n')
    return folder


@dataclass(frozen=True)
class Made:
    """The folder of the run."""

    results: Path

    @property
    def report(self) -> dict[str, Any]:
        return json.loads((self.results / "report.json").read_text())

    @property
    def model(self) -> Path:
        return self.results / "demo-awq"

    @property
    def manifest(self) -> dict[str, Any]:
        return json.loads((self.model / "manifest.json").read_text())


@pytest.fixture(scope="module")
def made(project) -> Made:
    """The dry run, once."""
    run = kit(project, *shlex.split("kit dryrun quantize -p rows=8 -p token_budget=256")[1:])
    assert run.returncode == 0, run.stdout + run.stderr
    assert "Traceback" not in run.stderr
    return Made(project / "runs" / "quantize")


def test_the_run_is_complete(made):
    """The first line says what was made; the report tells the model and the stages."""
    report = made.report
    assert report["complete"]
    assert report["outcome"].startswith("OK: demo-awq is a whole model of ")
    assert report["kind"] == "model"
    assert (report["model"]["layers"], report["model"]["bits"], report["model"]["group_size"]) == (4, 4, 128)
    assert {"install", "quantize", "  merging the adapter", "  layers", "whole notebook"} <= report["seconds"].keys()
    assert not report["unsealed"]


def test_nothing_but_the_model_is_left(made):
    """Besides the run's own files the output holds the model's folder, and that what inference needs."""
    own = {"executed.ipynb", "kit-run.json", "log.txt", "report.json", "report.txt"}
    assert {path.name for path in made.results.iterdir()} == own | {"demo-awq"}
    files = {"config.json", "generation_config.json", "manifest.json", "model.safetensors"}
    assert {path.name for path in made.model.iterdir()} == files | {"tokenizer.json", "tokenizer_config.json"}


def test_it_is_sound(made, project):
    """`kit model inspect` finds nothing wrong."""
    run = kit(project, "model", "inspect", made.model)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "0 errors and 0 warnings" in run.stdout


def test_the_origin_is_told(made, project):
    """The manifest holds the hashes of base and adapter, and what it was calibrated on."""
    from kaggle_kit.files import sha256_file
    from kaggle_kit.model.inspect import inspect_model
    from kaggle_kit.model.merge import check_adapter

    base = project / "tests" / "demo" / "full"
    adapter = check_adapter(project / "adapter", inspect_model(base))
    assert made.manifest["source"]["manifest_sha256"] == sha256_file(base / "manifest.json")
    assert made.manifest["adapter"]["sha256"] == adapter.sha256
    assert made.manifest["adapter"]["layers"] == 28
    calibration = made.manifest["quantisation"]["calibration"]
    assert (calibration["rows"], calibration["token_budget"]) == (8, 256)
    assert made.manifest["quantisation"]["versions"]["autoawq"] == "0.2.9"


def test_the_notebook_is_the_one_that_is_built(made, project):
    """What was executed is what `kit build` makes, cell by cell, the packages and their hashes too."""
    arguments = ("-p", "rows=8", "-p", "token_budget=256")
    assert kit(project, "build", "quantize", "--target", "local-cpu", *arguments).returncode == 0
    files = (project / "build" / "quantize" / "quantize.ipynb", made.results / "executed.ipynb")
    built, executed = ([cell["source"] for cell in json.loads(file.read_text())["cells"]] for file in files)
    assert built == executed


def test_vllm_answers_as_before(made, project):
    """Log loss over many rows within 0.02 of that of the base with the adapter added by hand, in fp16."""
    merged = _merged(project)
    assert kit(project, "model", "inspect", merged, "--write").returncode == 0
    run = kit(project, "model", "compare", merged, made.model, "--rows", ROWS, "--json")
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert found["rows"] == ROWS
    assert abs(found["log_loss_difference"]["value"]) < MOST_DIFFERENCE


def _merged(project: Path) -> Path:
    base, out = project / "tests" / "demo" / "full", project / "merged"
    shutil.copytree(base, out, ignore=shutil.ignore_patterns("manifest.json"))
    tensors = load_file(base / "model.safetensors")
    lora = load_file(project / "adapter" / "adapter_model.safetensors")
    told = json.loads((project / "adapter" / "adapter_config.json").read_text())
    for key in [key for key in lora if key.endswith("lora_A.weight")]:
        name = key.removeprefix("base_model.model.").replace("lora_A.", "")
        change = lora[key.replace("lora_A", "lora_B")] @ lora[key] * (told["lora_alpha"] / told["r"])
        tensors[name] = (tensors[name].astype(np.float32) + change).astype(np.float16)
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    return out


def test_anything_else_of_the_network_fails(project, tmp_path):
    """A cell that asks an address in the net ends the rehearsal, though on Kaggle it would have internet."""
    other = Path(shutil.copytree(project, tmp_path / "other", ignore=shutil.ignore_patterns("runs", "build")))
    source = other / "notebooks_src" / "quantize.py"
    fetching = 'import urllib.request\n\nurllib.request.urlopen("https://pypi.org/", timeout=5)\n'
    source.write_text(f'{source.read_text()}\n# %% name="fetching"\n{fetching}')
    run = kit(other, "dryrun", "quantize", "--json")
    assert run.returncode == 1
    report = json.loads(run.stdout)
    assert report["outcome"].startswith("FAILED in the cell 'fetching': URLError")
    assert report["model"] is None
