"""An AWQ checkpoint of a known shape with random weights, made on a GPU in under a minute; Yi-34B's by default.

    python3 benchmarks/gpu/model34.py /dev/shm/m34 [--layers 60]
    python3 benchmarks/gpu/model34.py /dev/shm/m1 --shape 1.5b     # as Qwen2.5-1.5B, for what a small model meets

It has the demo model's tokenizer, and a manifest that calls it `demo`: the notebook that was built for the demo model
takes it as it is. The scales keep all activations finite: 4-bit numbers around the zero points 7 and 8.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
DEMO = ROOT / "tests" / "demo" / "model"
GROUP = 128


@dataclass(frozen=True)
class Shape:
    """The sizes of a Llama: its vocabulary is that of the whole model, of which only the first tokens are used."""

    hidden: int
    inner: int
    heads: int
    kv_heads: int
    layers: int
    vocabulary: int

    @property
    def matrices(self) -> dict[str, dict[str, tuple[int, int]]]:
        """The linear layers of one layer as (inputs, outputs), by their part."""
        keys = self.kv_heads * self.hidden // self.heads
        attention = {"q_proj": self.hidden, "k_proj": keys, "v_proj": keys, "o_proj": self.hidden}
        return {
            "self_attn": {name: (self.hidden, outputs) for name, outputs in attention.items()},
            "mlp": {
                "gate_proj": (self.hidden, self.inner),
                "up_proj": (self.hidden, self.inner),
                "down_proj": (self.inner, self.hidden),
            },
        }

    @property
    def linear(self) -> int:
        """Weights of the linear layers in one layer: 2 FLOP each for a token."""
        return sum(inputs * outputs for part in self.matrices.values() for inputs, outputs in part.values())

    def config(self, *, layers: int) -> dict[str, Any]:
        """Its config.json, in full precision."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": self.hidden,
            "intermediate_size": self.inner,
            "num_hidden_layers": layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "vocab_size": self.vocabulary,
            "max_position_embeddings": 4096,
            "rms_norm_eps": 1e-5,
            "rope_theta": 5_000_000.0,
            "hidden_act": "silu",
            "tie_word_embeddings": False,
            "torch_dtype": "float16",
            "bos_token_id": 0,
            "eos_token_id": 1,
        }


YI_34B = Shape(hidden=7168, inner=20480, heads=56, kv_heads=8, layers=60, vocabulary=64_000)
SHAPES = {
    "34b": YI_34B,
    "1.5b": Shape(hidden=1536, inner=8960, heads=12, kv_heads=2, layers=28, vocabulary=151_936),
}
"""Yi-34B and Qwen2.5-1.5B."""
AWQ = {"quant_method": "awq", "bits": 4, "group_size": GROUP, "zero_point": True, "version": "gemm"}


def _packed(name: str, inputs: int, outputs: int) -> dict[str, Any]:
    import torch

    numbers = torch.randint(-(2**31), 2**31 - 1, (inputs, outputs // 8), dtype=torch.int64, device="cuda")
    scales = torch.rand(inputs // GROUP, outputs, device="cuda") * 0.0015 + 0.0008
    return {
        f"{name}.qweight": numbers.int().cpu(),
        f"{name}.qzeros": torch.full((inputs // GROUP, outputs // 8), -2004318072, dtype=torch.int32),
        f"{name}.scales": scales.half().cpu(),
    }


def unquantised(shape: Shape, number: int, *, device: str = "cuda") -> dict[str, Any]:
    """What of layer `number` stays in 16 bits: its norms, and with the first layer the embeddings and the head."""
    import torch

    at = f"model.layers.{number}"
    norms = ("input_layernorm", "post_attention_layernorm")
    tensors: dict[str, Any] = {f"{at}.{name}.weight": torch.ones(shape.hidden).half() for name in norms}
    if number == 0:
        tensors["model.norm.weight"] = torch.ones(shape.hidden).half()
        for name in ("model.embed_tokens", "lm_head"):
            tensors[f"{name}.weight"] = (torch.randn(shape.vocabulary, shape.hidden, device=device) * 0.02).half().cpu()
    return tensors


def _layer(shape: Shape, number: int) -> dict[str, Any]:
    tensors = unquantised(shape, number)
    for part, matrices in shape.matrices.items():
        for name, sizes in matrices.items():
            tensors |= _packed(f"model.layers.{number}.{part}.{name}", *sizes)
    return tensors


def finish(out: Path, config: dict[str, Any], index: dict[str, str], *, tokenizer: Path = DEMO) -> None:
    """Write what stands beside the weights: `config`, the `index` (tensor → file), the tokenizer, the manifest."""
    from kaggle_kit.runtime.manifest import MANIFEST, Manifest, dump_manifest, file_entry

    (out / "config.json").write_text(json.dumps(config), encoding="utf-8")
    body = {"metadata": {}, "weight_map": index}
    (out / "model.safetensors.index.json").write_text(json.dumps(body), encoding="utf-8")
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copy(tokenizer / name, out / name)
    with ThreadPoolExecutor(8) as pool:
        entries = tuple(pool.map(lambda path: file_entry(path, out), sorted(out.iterdir())))
    (out / MANIFEST).write_text(dump_manifest(Manifest("model", "demo", entries, {})), encoding="utf-8")


def make(out: Path, *, shape: Shape, layers: int) -> None:
    """Write it to `out`, in shards of ten layers."""
    import torch
    from safetensors.torch import save_file

    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    torch.manual_seed(1)
    shards = [range(first, min(first + 10, layers)) for first in range(0, layers, 10)]
    index: dict[str, str] = {}
    for number, shard in enumerate(shards):
        tensors = {name: one for layer in shard for name, one in _layer(shape, layer).items()}
        file = f"model-{number:05d}.safetensors"
        save_file(tensors, out / file, metadata={"format": "pt"})
        index.update(dict.fromkeys(tensors, file))
    finish(out, {**shape.config(layers=layers), "quantization_config": AWQ}, index)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="34b")
    parser.add_argument("--layers", type=int, help="fewer than the shape has")
    args = parser.parse_args()
    shape = SHAPES[args.shape]
    make(args.out, shape=shape, layers=args.layers or shape.layers)
    return 0


if __name__ == "__main__":
    sys.exit(main())
