"""`kit model fit` against the real engine on this CPU: weights, and room for keys and values."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from kaggle_kit.model.inspect import inspect_model
from kaggle_kit.model.memory import CPU_BLOCK, cache_tokens
from kaggle_kit.targets import load_target
from kaggle_kit.wheelhouse.environments import ready_environment
from kaggle_kit.wheelhouse.folder import ready_wheelhouse

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "tests" / "demo" / "model"
SPACE = 1 << 30
ENGINE = """
import json, os, sys
from vllm import LLM
llm = LLM(sys.argv[1], dtype="bfloat16", enforce_eager=True, max_model_len=1024, skip_tokenizer_init=True)
model = llm.llm_engine.engine_core.engine_core.model_executor.driver_worker.worker.model_runner.model
seen = {}
for tensor in [*model.parameters(), *model.buffers()]:
    seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
cache = llm.llm_engine.vllm_config.cache_config
print("FOUND " + json.dumps({"weights": sum(seen.values()), "blocks": cache.num_gpu_blocks, "block": cache.block_size}))
sys.stdout.flush()
os._exit(0)
"""


@pytest.fixture(scope="module")
def reported():
    """What vLLM holds of the demo model's weights in bytes, and its blocks of keys and values in 1 GiB."""
    target = load_target("local-cpu")
    python = ready_environment(ready_wheelhouse(target, project=ROOT).folder)
    environment = os.environ | target.worker_environment | {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [str(python), "-c", ENGINE, str(DEMO)], env=environment, capture_output=True, text=True, check=False
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("FOUND ")]
    assert lines, done.stderr[-3000:]
    return json.loads(lines[0].removeprefix("FOUND "))


def test_weights_are_what_vllm_holds(reported):
    """Within 10 percent, packed layers and tied embeddings included."""
    told = inspect_model(DEMO).checkpoint().weight_bytes
    assert told == pytest.approx(reported["weights"], rel=0.10)


def test_keys_and_values_are_what_vllm_keeps(reported):
    """Tokens in 1 GiB, in the CPU's blocks."""
    model = inspect_model(DEMO).checkpoint().architecture
    assert reported["block"] == CPU_BLOCK
    assert cache_tokens(model, SPACE, block=CPU_BLOCK) == pytest.approx(
        reported["blocks"] * reported["block"], rel=0.10
    )
