"""A Yi-34B-shaped AWQ checkpoint with random weights, made on a GPU in under a minute.

    python3 benchmarks/gpu/model34.py /dev/shm/m34 [--layers 60]

It has the demo model's tokenizer, and a manifest that calls it `demo`: the notebook that was built for the demo model
takes it as it is. The scales keep all activations finite: 4-bit numbers around the zero points 7 and 8.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
DEMO = ROOT / "tests" / "demo" / "model"
HIDDEN, INNER, KEYS, VOCABULARY, GROUP = 7168, 20480, 1024, 64_000, 128
ATTENTION = {"q_proj": (HIDDEN, HIDDEN), "k_proj": (HIDDEN, KEYS), "v_proj": (HIDDEN, KEYS), "o_proj": (HIDDEN, HIDDEN)}
MLP = {"gate_proj": (HIDDEN, INNER), "up_proj": (HIDDEN, INNER), "down_proj": (INNER, HIDDEN)}
LINEAR = sum(inputs * outputs for inputs, outputs in (*ATTENTION.values(), *MLP.values()))
"""Weights of the linear layers in one layer: 2 FLOP each for a token."""
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "num_attention_heads": 56,
    "num_key_value_heads": 8,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "rope_theta": 5_000_000.0,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "torch_dtype": "float16",
    "bos_token_id": 0,
    "eos_token_id": 1,
    "quantization_config": {
        "quant_method": "awq",
        "bits": 4,
        "group_size": GROUP,
        "zero_point": True,
        "version": "gemm",
    },
}


def _packed(name: str, inputs: int, outputs: int) -> dict[str, Any]:
    import torch

    numbers = torch.randint(-(2**31), 2**31 - 1, (inputs, outputs // 8), dtype=torch.int64, device="cuda")
    scales = torch.rand(inputs // GROUP, outputs, device="cuda") * 0.0015 + 0.0008
    return {
        f"{name}.qweight": numbers.int().cpu(),
        f"{name}.qzeros": torch.full((inputs // GROUP, outputs // 8), -2004318072, dtype=torch.int32),
        f"{name}.scales": scales.half().cpu(),
    }


def _layer(number: int) -> dict[str, Any]:
    import torch

    at = f"model.layers.{number}"
    tensors: dict[str, Any] = {
        f"{at}.{name}.weight": torch.ones(HIDDEN).half() for name in ("input_layernorm", "post_attention_layernorm")
    }
    for part, shapes in (("self_attn", ATTENTION), ("mlp", MLP)):
        for name, shape in shapes.items():
            tensors |= _packed(f"{at}.{part}.{name}", *shape)
    return tensors


def make(out: Path, *, layers: int) -> None:
    """Write it to `out`, in shards of ten layers."""
    import torch
    from safetensors.torch import save_file

    from kaggle_kit.runtime.manifest import MANIFEST, Manifest, dump_manifest, file_entry

    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    torch.manual_seed(1)
    shards = [range(first, min(first + 10, layers)) for first in range(0, layers, 10)]
    index: dict[str, str] = {}
    for number, shard in enumerate(shards):
        tensors = {name: one for layer in shard for name, one in _layer(layer).items()}
        if number == 0:
            tensors["model.norm.weight"] = torch.ones(HIDDEN).half()
            for name in ("model.embed_tokens", "lm_head"):
                tensors[f"{name}.weight"] = (torch.randn(VOCABULARY, HIDDEN, device="cuda") * 0.02).half().cpu()
        file = f"model-{number:05d}.safetensors"
        save_file(tensors, out / file, metadata={"format": "pt"})
        index.update(dict.fromkeys(tensors, file))
    (out / "config.json").write_text(json.dumps(CONFIG | {"num_hidden_layers": layers}), encoding="utf-8")
    body = {"metadata": {}, "weight_map": index}
    (out / "model.safetensors.index.json").write_text(json.dumps(body), encoding="utf-8")
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copy(DEMO / name, out / name)
    with ThreadPoolExecutor(8) as pool:
        entries = tuple(pool.map(lambda path: file_entry(path, out), sorted(out.iterdir())))
    (out / MANIFEST).write_text(dump_manifest(Manifest("model", "demo", entries, {})), encoding="utf-8")


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--layers", type=int, default=60)
    args = parser.parse_args()
    make(args.out, layers=args.layers)
    return 0


if __name__ == "__main__":
    sys.exit(main())
