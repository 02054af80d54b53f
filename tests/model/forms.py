"""Checkpoints in every form of weights, made of the tables of benchmarks/engine_matrix.py."""

from __future__ import annotations

import importlib.util
from pathlib import Path

_PROGRAM = Path(__file__).parents[2] / "benchmarks" / "engine_matrix.py"
_SPEC = importlib.util.spec_from_file_location("engine_matrix", _PROGRAM)
MATRIX = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(MATRIX)
NUMBERS = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 512,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
    "torch_dtype": "float16",
}
_LINEAR = {
    "self_attn.q_proj": [256, 256],
    "self_attn.k_proj": [128, 256],
    "self_attn.v_proj": [128, 256],
    "self_attn.o_proj": [256, 256],
    "mlp.gate_proj": [512, 256],
    "mlp.up_proj": [512, 256],
    "mlp.down_proj": [256, 512],
}


def plain(dtype="F16", layers=2):
    """A small Llama's tensors."""
    tensors = {"model.embed_tokens.weight": (dtype, [512, 256]), "model.norm.weight": (dtype, [256])}
    tensors["lm_head.weight"] = (dtype, [512, 256])
    for number in range(layers):
        above = f"model.layers.{number}"
        tensors |= {f"{above}.{name}.weight": (dtype, shape) for name, shape in _LINEAR.items()}
        tensors |= {f"{above}.{name}_layernorm.weight": (dtype, [256]) for name in ("input", "post_attention")}
    return tensors


def write_form(folder, packing, pack, *, key="quantization_config", layers=2, **more):
    """A small Llama whose layers `pack(name, outputs, inputs)` makes; None leaves a layer whole."""
    tensors = plain(layers=layers)
    for name, shape in MATRIX.linear_layers(tensors).items():
        parts = pack(name, *shape) if pack else None
        if parts is not None:
            del tensors[f"{name}.weight"]
            tensors |= parts
    config = NUMBERS | {"num_hidden_layers": layers} | more | ({key: packing} if packing is not None else {})
    MATRIX.write(folder, config, tensors)
    return folder


def packed_demo(header, pack):
    """The demo model's tensors, its packed layers made again by `pack`; None leaves them whole."""
    tensors = {}
    for name, told in header.items():
        layer, _, ending = name.rpartition(".")
        if ending == "qweight":
            inputs, outputs = told["shape"][0], told["shape"][1] * 8
            tensors |= pack(layer, outputs, inputs) if pack else {f"{layer}.weight": ("F16", [outputs, inputs])}
        elif ending not in {"qzeros", "scales"} and name != "__metadata__":
            tensors[name] = (told["dtype"], told["shape"])
    return tensors
