"""Weights, and keys and values, as vLLM keeps them, beside what kit reckons: mixtures, latent and hybrid attention.

    python benchmarks/model_memory.py

In the engine's own environment transformers gives each model's tensors by name and shape, of which a sparse checkpoint
is made; vLLM builds the model on torch's meta device, where it takes no memory, and says what each layer keeps of a
token. The table goes to `benchmarks/results/model_memory.md`, what vLLM said to `tests/model/engine_memory.json`.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SHAPES = ROOT / "benchmarks" / "model_shapes.json"
KEPT = ROOT / "tests" / "model" / "engine_memory.json"
NUMBER_BYTES = 2


def main() -> None:
    """Ask the engine in its own Python, then kit in this one, and write the table."""
    sys.path[:0] = [str(ROOT)]
    from engines import machine
    from pipeline import engine_python

    from kaggle_kit.model.inspect import inspect_model

    python, environment = engine_python()
    lines = [
        "| model | weights, vLLM | kit | a token, vLLM | kit | a prompt, vLLM | kit |",
        "|---|---|---|---|---|---|---|",
    ]
    kept = {}
    with tempfile.TemporaryDirectory() as scratch:
        command = [str(python), __file__, "--ask", scratch]
        subprocess.run(command, check=True, env=os.environ | environment | {"VLLM_LOGGING_LEVEL": "ERROR"})
        for folder in sorted(Path(scratch).iterdir()):
            said = json.loads((folder / "engine.json").read_text())
            kept[folder.name] = {"config": json.loads((folder / "config.json").read_text()), **said}
            if "error" in said:
                lines.append(f"| {folder.name} | {said['error'][:80]} | | | | | |")
                continue
            found = inspect_model(folder, manifest=False, tokenizer=False)
            shape = found.checkpoint().architecture
            pairs = (
                (said["weights"], found.tally.memory_bytes),
                (said["token_bytes"], shape.kv_bytes_per_token),
                (said["prompt_bytes"], shape.state_bytes),
            )
            cells = [cell for theirs, ours in pairs for cell in (f"{theirs:,}", _beside(theirs, ours))]
            lines.append(f"| {folder.name} | {' | '.join(cells)} |")
    KEPT.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")
    text = f"# vLLM's memory and kit's word\n\n{machine()}\n\n" + "\n".join(lines) + "\n"
    (ROOT / "benchmarks" / "results" / "model_memory.md").write_text(text)


def _beside(theirs: int, ours: int) -> str:
    return "the same" if ours == theirs else f"{ours:,} ({ours / theirs - 1:+.1%})" if theirs else f"{ours:,}"


def ask(scratch: Path) -> None:
    """In the engine's Python: a sparse checkpoint for each shape, and what vLLM makes of it."""
    from vllm.config import set_current_vllm_config
    from vllm.distributed import ensure_model_parallel_initialized, init_distributed_environment

    first = True
    for name, config in json.loads(SHAPES.read_text()).items():
        folder = scratch / name
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(config))
        try:
            vllm_config = _engine_config(folder)
            with set_current_vllm_config(vllm_config):
                if first:
                    init_distributed_environment(1, 0, f"file://{scratch}.store", 0, "gloo")
                    ensure_model_parallel_initialized(1, 1)
                    first = False
                said = _memory(vllm_config)
            _sparse_checkpoint(folder)
        except Exception as error:  # noqa: BLE001 - whatever the engine says of this one
            said = {"error": f"{type(error).__name__}: {error}"}
        (folder / "engine.json").write_text(json.dumps(said))
        print(name, said, flush=True)


def _engine_config(folder: Path) -> Any:
    from vllm.engine.arg_utils import EngineArgs

    arguments = EngineArgs(
        model=str(folder), dtype="bfloat16", load_format="dummy", max_model_len=1024, skip_tokenizer_init=True
    )
    return arguments.create_engine_config()


def _memory(vllm_config: Any) -> dict[str, Any]:
    import torch
    from vllm.model_executor.model_loader.utils import initialize_model

    torch.set_default_dtype(torch.bfloat16)
    with torch.device("meta"):
        model = initialize_model(vllm_config)
    weights = sum(one.numel() * one.element_size() for one in (*model.parameters(), *model.buffers()))

    token = prompt = 0
    for layer in vllm_config.compilation_config.static_forward_context.values():
        spec = layer.get_kv_cache_spec(vllm_config) if hasattr(layer, "get_kv_cache_spec") else None
        if spec is None:
            continue
        if "Mamba" in type(spec).__name__:
            prompt += spec.page_size_bytes
        else:
            token += spec.page_size_bytes // spec.block_size
    return {"weights": weights, "token_bytes": token, "prompt_bytes": prompt}


def _sparse_checkpoint(folder: Path) -> None:
    """The model's tensors as transformers saves them: a true header, and weights that take no room on the disk."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(folder)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    tied = config.get_text_config().tie_word_embeddings
    header, end = {}, 0
    for name, tensor in model.state_dict().items():
        if tied and name.endswith("lm_head.weight"):
            continue
        begin, end = end, end + math.prod(tensor.shape) * NUMBER_BYTES
        header[name] = {"dtype": "BF16", "shape": list(tensor.shape), "data_offsets": [begin, end]}
    body = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(body).to_bytes(8, "little") + body)
        file.truncate(8 + len(body) + end)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--ask"]:
        ask(Path(sys.argv[2]))
    else:
        main()
