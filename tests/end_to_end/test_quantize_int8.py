"""Weights in eight bits by the real llm-compressor: each the nearest there is, and vLLM's answers nearly the same."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "tests" / "demo"
sys.path.insert(0, str(ROOT / "tests" / "model"))

from full_precision import full_demo  # noqa: E402

KIT = Path(sys.executable).with_name("kit")
MOST_INT8_KL = 0.001


def kit(*arguments) -> subprocess.CompletedProcess[str]:
    """`kit` on the reference project."""
    command = [str(KIT), *map(str, arguments), "--project", str(ROOT)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """The demo model in fp16."""
    return full_demo(tmp_path_factory.mktemp("quantize") / "base")


@pytest.fixture(scope="module")
def int8(base) -> Path:
    """The base in w8a8 by the real llm-compressor, and four of its rows scored in vLLM."""
    out = base.parent / "int8"
    run = kit("model", "quantize", base, out, "--method", "llm-compressor", "--scheme", "w8a8", "--rows", 4, "--json")
    assert run.returncode == 0, run.stderr
    said = json.loads(run.stdout)
    assert said["proof"]["rows"] == 4
    assert said["proof"]["label_mass_mean"] > 0.99
    return out


def test_int8_weights_are_the_nearest(int8, base):
    """Each within half a step of its output's scale; the scales are float32, and all else is as it was."""
    import numpy as np
    from safetensors.numpy import load_file

    before, after = load_file(base / "model.safetensors"), load_file(int8 / "model.safetensors")
    layers = [name for name in before if after[name].dtype == np.int8]
    assert len(layers) == 28
    for name in layers:
        scale = after[f"{name}_scale"]
        assert scale.dtype == np.float32
        assert (np.abs(after[name] * scale - before[name].astype(np.float32)) <= 0.501 * scale).all()
    assert all((after[name] == before[name]).all() for name in set(before) - set(layers))


def test_int8_loses_hardly_anything(int8):
    """Mean KL to the fp16 model below 0.001 over all rows: none calibrated it, and its manifest says so."""
    run = kit("model", "compare", DEMO / "full", int8, "--rows", 300, "--limit", MOST_INT8_KL, "--json")
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert (found["rows"], found["calibration_rows_left_out"]) == (300, 0)
    assert found["kl_mean"]["value"] < MOST_INT8_KL
