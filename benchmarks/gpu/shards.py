"""Whether an engine over two cards starts sooner from weights that were cut for each card beforehand.

    python3 benchmarks/gpu/shards.py --work /tmp/shards --out OUT [--layers 60]
    ENV/bin/python benchmarks/gpu/shards.py --work /tmp/shards --out OUT --processor   # two processes, no cards

Two models of Yi-34B's shape and random weights, 4-bit AWQ and 16 bits (a third of the layers), each started by vLLM
over two cards from its usual files and from its sharded state (`load_format = "sharded_state"`), with the files in the
page cache and out of it; on a processor one of Qwen2.5-1.5B's shape in 16 bits. One process a start. The seconds are
vLLM's own for the weights, and all of `vllm.LLM(...)`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

import alone

HERE = Path(__file__).parent
OPTIONS: dict[str, Any] = {
    "tensor_parallel_size": 2,
    "max_model_len": 1024,
    "max_num_batched_tokens": 4096,
    "max_num_seqs": 16,
    "enforce_eager": True,
    "dtype": "half",
    "gpu_memory_utilization": 0.5,
    "skip_tokenizer_init": True,
}
PROCESSOR = {"VLLM_CPU_KVCACHE_SPACE": "1", "TORCH_COMPILE_DISABLE": "1", "SHARDS_DTYPE": "bfloat16"}
PROMPT = list(range(3, 203))
_TOOK = re.compile(r"Loading weights took ([0-9.]+) seconds")


def main() -> None:
    """Make the models, start each in its ways, print a table and write `shards.json`."""
    if sys.argv[1:2] == ["ask"]:
        start(json.loads(sys.argv[2]))
        return
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--layers", type=int, default=60)
    parser.add_argument("--processor", action="store_true")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    found = []
    os.environ.update(PROCESSOR if given.processor else {})
    for form in ("small",) if given.processor else ("awq", "half"):
        usual, cut = given.work / form, given.work / f"{form}-cut"
        make(usual, form, {"awq": given.layers, "half": given.layers // 3, "small": 28}[form])
        found.append(asked({"model": str(usual), "save": str(cut)}, form, "usual files, then saved in parts"))
        for cold in (True, False):
            for format_, folder in (("auto", usual), ("sharded_state", cut)):
                if cold:
                    evict(folder)
                where = "out of the cache" if cold else "in the cache"
                found.append(asked({"model": str(folder), "load_format": format_}, form, f"{format_}, {where}"))
        (given.out / "shards.json").write_text(json.dumps(found, indent=1), encoding="utf-8")


def make(folder: Path, form: str, layers: int) -> None:
    """Write the model, packed or in 16 bits."""
    import torch
    from model34 import SHAPES, YI_34B, finish, unquantised
    from model34 import make as make_awq
    from safetensors.torch import save_file

    if form == "awq":
        make_awq(folder, shape=YI_34B, layers=layers)
        return
    shape = SHAPES["1.5b"] if form == "small" else YI_34B
    device = "cpu" if form == "small" else "cuda"
    folder.mkdir(parents=True)
    index = {}
    for number in range(layers):
        tensors = unquantised(shape, number, device=device)
        for part, matrices in shape.matrices.items():
            for name, (inputs, outputs) in matrices.items():
                weight = torch.randn(outputs, inputs, device=device) * 0.01
                tensors[f"model.layers.{number}.{part}.{name}.weight"] = weight.half().cpu()
        save_file(tensors, folder / f"model-{number:05d}.safetensors", metadata={"format": "pt"})
        index.update(dict.fromkeys(tensors, f"model-{number:05d}.safetensors"))
    finish(folder, shape.config(layers=layers), index)


def evict(folder: Path) -> None:
    """Take the folder's files out of the page cache."""
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def asked(job: dict[str, Any], form: str, what: str) -> dict[str, Any]:
    """One start in a process of its own."""
    found, text = alone.ask(__file__, job)
    loads = [float(seconds) for seconds in _TOOK.findall(text)]
    result = {"form": form, "start": what, "weights": max(loads, default=None), **found}
    print(json.dumps(result), flush=True)
    return result


def start(job: dict[str, Any]) -> None:
    """Start the engine, answer one prompt, and save its parts if asked."""
    from vllm import LLM, SamplingParams

    begun = time.monotonic()
    options = OPTIONS | ({"dtype": os.environ["SHARDS_DTYPE"]} if "SHARDS_DTYPE" in os.environ else {})
    llm = LLM(model=job["model"], load_format=job.get("load_format", "auto"), **options)
    took = time.monotonic() - begun
    sampling = SamplingParams(temperature=0.0, max_tokens=1, logprobs=5, detokenize=False)
    output = llm.generate([{"prompt_token_ids": PROMPT}], sampling, use_tqdm=False)[0].outputs[0]
    answer = {str(token): round(one.logprob, 4) for token, one in output.logprobs[0].items()}
    if save := job.get("save"):
        folder = Path(save)
        folder.mkdir()
        llm.llm_engine.engine_core.save_sharded_state(path=str(folder))
        for path in Path(job["model"]).iterdir():
            if path.suffix != ".safetensors" and "index" not in path.name:
                (folder / path.name).write_bytes(path.read_bytes())
    alone.answer({"engine": round(took, 1), "answer": answer})


if __name__ == "__main__":
    sys.path.insert(0, str(HERE))
    main()
