"""Adapter, merge, AWQ, vLLM, for real: AutoAWQ and peft in their own environment, the answers through the worker.

The base is the demo model as it was trained, in fp16; the adapter is trained on it with peft for a few steps.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "tests" / "demo"
sys.path.insert(0, str(ROOT / "tests" / "model"))

from full_precision import full_demo  # noqa: E402

KIT = Path(sys.executable).with_name("kit")
MOST_DIFFERENCE = 0.02
MOST_KL = 0.05
MOST_PADDED_KL = 1e-4


@dataclass(frozen=True)
class Made:
    """The folders, and what `kit model quantize --json` said."""

    base: Path
    adapter: Path
    merged: Path
    awq: Path
    said: dict


def kit(*arguments) -> subprocess.CompletedProcess[str]:
    """`kit` on the reference project."""
    command = [str(KIT), *map(str, arguments), "--project", str(ROOT)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """The demo model in fp16."""
    return full_demo(tmp_path_factory.mktemp("quantize") / "base")


@pytest.fixture(scope="module")
def made(base) -> Made:
    """All of it, once."""
    from kaggle_kit.wheelhouse.environments import quantizer_environment

    folder = base.parent
    python = quantizer_environment("autoawq")
    paths = os.pathsep.join(map(str, (ROOT, DEMO)))
    command = [str(python), str(DEMO / "make_adapter.py"), str(base), str(folder / "adapter")]
    subprocess.run(
        command, env=os.environ | {"PYTHONPATH": paths, "OMP_WAIT_POLICY": "PASSIVE"}, check=True, capture_output=True
    )
    run = kit(
        *("model", "quantize", base, folder / "awq", "--adapter", folder / "adapter"),
        *("--keep-merged", folder / "merged", "--rows", 16, "--json"),
    )
    assert run.returncode == 0, run.stderr
    return Made(base, folder / "adapter", folder / "merged", folder / "awq", json.loads(run.stdout))


def test_the_model_is_proved_in_vllm(made):
    """The rows of the proof have nearly all probability on the labels, and the manifest says so."""
    assert made.said["proof"]["label_mass_mean"] > 0.99
    assert json.loads((made.awq / "manifest.json").read_text())["proof"] == made.said["proof"]


def test_the_origin_is_told(made):
    """Source, adapter, calibration and versions stand in the manifest."""
    manifest = json.loads((made.awq / "manifest.json").read_text())
    assert manifest["adapter"]["layers"] == 28
    assert manifest["quantisation"]["versions"]["autoawq"] == "0.2.9"
    assert manifest["quantisation"]["versions"]["transformers"] == "4.51.3"
    assert manifest["quantisation"]["calibration"]["rows"] == 16


def test_the_adapter_is_in_the_merged_model(made):
    """Each layer of the merged model has its weights changed by B A · alpha / r."""
    import numpy as np
    from safetensors.numpy import load_file

    before, after = (load_file(folder / "model.safetensors") for folder in (made.base, made.merged))
    lora = load_file(made.adapter / "adapter_model.safetensors")
    layer = "model.layers.2.mlp.up_proj"
    a, b = (lora[f"base_model.model.{layer}.lora_{part}.weight"] for part in "AB")
    change = after[f"{layer}.weight"].astype(np.float32) - before[f"{layer}.weight"].astype(np.float32)
    assert np.abs(change - b @ a * 2).max() < 1e-3
    assert np.abs(change).max() > 1e-3


@pytest.fixture(scope="module")
def compared(made) -> subprocess.CompletedProcess[str]:
    """Both models over the rows that did not calibrate, with a limit that no quantised model keeps."""
    return kit("model", "compare", made.merged, made.awq, "--rows", 300, "--limit", 1e-6, "--record", "--json")


def test_little_is_lost(compared):
    """Log loss within 0.02 of the fp16 reference's, over all rows of train.csv but the 16 that calibrated."""
    found = json.loads(compared.stdout)
    assert (found["rows"], found["calibration_rows_left_out"]) == (284, 16)
    assert abs(found["log_loss_difference"]["value"]) < MOST_DIFFERENCE
    assert found["kl_mean"]["value"] < MOST_KL


def test_beyond_the_limit_the_command_ends_with_1(compared):
    """The figures are printed all the same."""
    assert compared.returncode == 1
    assert not json.loads(compared.stdout)["within"]
    assert "above the limit" in compared.stderr


def test_the_quality_stands_in_the_manifest(compared, made):
    """What a push can ask for: the figures, and for which files and which reference they hold."""
    from kaggle_kit.runtime.manifest import files_digest, read_manifest

    manifest = read_manifest(made.awq / "manifest.json")
    assert manifest.extra["quality"]["kl_mean"] == json.loads(compared.stdout)["kl_mean"]["value"]
    assert manifest.extra["quality"]["files_sha256"] == files_digest(manifest)


def test_the_result_is_inspected(made):
    """`kit model inspect` finds nothing wrong."""
    run = kit("model", "inspect", made.awq)
    assert run.returncode == 0, run.stdout + run.stderr


def test_an_unsupported_architecture_is_named(base):
    """The real library's list is in the message."""
    other = full_demo(base.parent / "other")
    config = json.loads((other / "config.json").read_text()) | {
        "model_type": "olmo",
        "architectures": ["OlmoForCausalLM"],
    }
    (other / "config.json").write_text(json.dumps(config))
    run = kit("model", "quantize", other, base.parent / "never")
    assert run.returncode == 1
    assert "'olmo'" in run.stderr
    assert "llama, " in run.stderr
    assert not (base.parent / "never").exists()


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_leaves_nothing(base):
    """Ctrl-C in the middle of AutoAWQ's work: no folder, no program left."""
    folder = base.parent / "interrupted"
    folder.mkdir()
    command = [str(KIT), "model", "quantize", str(base), str(folder / "awq"), "--rows", "16", "--project", str(ROOT)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        for line in process.stderr:
            if "layer 0/4" in line:
                break
        time.sleep(0.5)
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode == 130
    assert list(folder.iterdir()) == []


def test_llm_compressor_does_it_too(made):
    """The same merged model by the other method: read by vLLM, and its labels have nearly all probability."""
    out = made.base.parent / "compressed"
    run = kit(
        *("model", "quantize", made.base, out, "--adapter", made.adapter),
        *("--method", "llm-compressor", "--rows", 32, "--json"),
    )
    assert run.returncode == 0, run.stderr
    said = json.loads(run.stdout)
    assert said["proof"]["label_mass_mean"] > 0.99
    assert json.loads((out / "config.json").read_text())["quantization_config"]["quant_method"] == "compressed-tensors"
    assert said["quantisation"]["versions"]["llmcompressor"].startswith("0.14")


def test_padded_mlps_change_no_answer(tmp_path):
    """vLLM says the same of each row with half as many inner channels more, all of them zeros."""
    from kaggle_kit.model.inspect import inspect_model, write_manifest
    from kaggle_kit.model.padding import INNER, Padding, pad_model

    padded = Path(shutil.copytree(DEMO / "model", tmp_path / "padded"))
    (padded / "manifest.json").unlink()
    pad_model(padded, Padding(512, 768, 2, 128))
    config = json.loads((padded / "config.json").read_text())
    (padded / "config.json").write_text(json.dumps(config | {INNER: 768}))
    write_manifest(inspect_model(padded))
    run = kit("model", "compare", DEMO / "model", padded, "--rows", 32, "--json")
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert found["rows"] > 0
    assert found["kl_mean"]["value"] < MOST_PADDED_KL


def test_another_archive_is_refused():
    """A source archive with another SHA-256 is not built, and AutoAWQ's own environment stays as it is."""
    from kaggle_kit.errors import WheelhouseError
    from kaggle_kit.wheelhouse.environments import (
        SourceArchive,
        own_environment,
        quantizer_environment,
        quantizer_lock,
        quantizer_target,
    )

    python = quantizer_environment("autoawq")
    wrong = SourceArchive(name="autoawq", version="0.2.8", sha256="0" * 64)
    with pytest.raises(WheelhouseError, match=r"autoawq 0\.2\.8 cannot be installed"):
        own_environment(quantizer_target("autoawq"), lock=quantizer_lock("autoawq"), archives=[wrong])
    told = subprocess.run(
        [python, "-I", "-c", "import importlib.metadata as m; print(m.version('autoawq'))"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.strip() == "0.2.9"
