"""Models by name: what they weigh and need, asked before they are downloaded. Numbers of their own config.json."""

from __future__ import annotations

from kaggle_kit.errors import UsageError
from kaggle_kit.runtime.architecture import FAMILIES, Architecture
from kaggle_kit.runtime.checkpoint import Checkpoint
from kaggle_kit.runtime.quantisation import Quantisation
from kaggle_kit.suggest import did_you_mean

GROUP = 128
"""The usual group size of 4-bit checkpoints."""
_AWQ = Quantisation("awq", 4, GROUP, zero_points=True)
_PACKED = {
    "": _AWQ,
    "4": _AWQ,
    "8": Quantisation("compressed-tensors", 8, None, zero_points=False, activations="int8"),
}
_WIDTHS = {"": "4-bit AWQ", "4": "4-bit AWQ", "8": "8 bits, int8 activations", "16": "16 bits"}


def _shape(name: str, sizes: tuple[int, ...], *, tied: bool = False, most: int = 32_768) -> Architecture:
    """`sizes`: layers, hidden, intermediate, heads, key/value heads, head size, vocabulary."""
    family = FAMILIES[name]
    layers, hidden, intermediate, heads, kv_heads, head_dim, vocabulary = sizes
    return Architecture(
        name=name,
        model_type=family.model_type,
        family=family,
        layers=layers,
        hidden=hidden,
        intermediate=intermediate,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        vocabulary=vocabulary,
        tied=tied or family.tied,
        most_tokens=most,
        window=4096 if name == "Gemma2ForCausalLM" else None,
        dtype="bfloat16",
    )


SHAPES = {
    "qwen3-4b": _shape("Qwen3ForCausalLM", (36, 2560, 9728, 32, 8, 128, 151_936), tied=True, most=40_960),
    "qwen2.5-7b": _shape("Qwen2ForCausalLM", (28, 3584, 18_944, 28, 4, 128, 152_064)),
    "llama-3-8b": _shape("LlamaForCausalLM", (32, 4096, 14_336, 32, 8, 128, 128_256), most=8192),
    "qwen3-8b": _shape("Qwen3ForCausalLM", (36, 4096, 12_288, 32, 8, 128, 151_936), most=40_960),
    "gemma-2-9b": _shape("Gemma2ForCausalLM", (42, 3584, 14_336, 16, 8, 256, 256_000), most=8192),
    "qwen2.5-14b": _shape("Qwen2ForCausalLM", (48, 5120, 13_824, 40, 8, 128, 152_064)),
    "mistral-small-24b": _shape("MistralForCausalLM", (40, 5120, 32_768, 32, 8, 128, 131_072)),
    "gemma-2-27b": _shape("Gemma2ForCausalLM", (46, 4608, 36_864, 32, 16, 128, 256_000), most=8192),
    "qwen2.5-32b": _shape("Qwen2ForCausalLM", (64, 5120, 27_648, 40, 8, 128, 152_064)),
    "yi-34b": _shape("LlamaForCausalLM", (60, 7168, 20_480, 56, 8, 128, 64_000), most=4096),
    "llama-3-70b": _shape("LlamaForCausalLM", (80, 8192, 28_672, 64, 8, 128, 128_256), most=8192),
    "qwen2-72b": _shape("Qwen2ForCausalLM", (80, 8192, 29_568, 64, 8, 128, 152_064)),
}


def named_shape(name: str) -> Checkpoint:
    """A model by name, in 4 bits (AWQ, groups of 128), in 8 as `NAME:8` (w8a8), or in 16 as `NAME:16`.

    Raises UsageError for an unknown one.
    """
    base, _, bits = name.partition(":")
    if base not in SHAPES or bits not in _WIDTHS:
        raise UsageError(
            f"{name} is neither a folder nor a model that kit knows{did_you_mean(base, SHAPES)}; known: "
            f"{', '.join(SHAPES)} (4-bit AWQ; NAME:8 for int8, NAME:16 for 16 bits)"
        )
    shape = SHAPES[base]
    quantisation = _PACKED.get(bits)
    vectors = shape.layers * sum(length for _, length in shape.layer_vectors()) * 2
    vectors += shape.layers * sum(matrix.outputs for matrix in shape.layer_matrices() if matrix.bias) * 2
    vectors += shape.position_numbers * 2
    matrices = shape.layer_parameters
    # Packed in 4 bits: half a byte a number, and in memory a scale and a zero point of two bytes each a group.
    weights = matrices // 2 + matrices // GROUP * 4 if bits in {"", "4"} else matrices * (1 if bits == "8" else 2)
    if bits == "8":
        weights += shape.layers * sum(matrix.outputs for matrix in shape.layer_matrices()) * 4
    return Checkpoint(
        name=f"{base}, {_WIDTHS[bits]}",
        architecture=shape,
        method=quantisation.method if quantisation else None,
        quantisation=quantisation,
        weight_bytes=weights + vectors + shape.end_bytes,
        layer_parameters=matrices,
        end_bytes=shape.end_bytes,
    )
