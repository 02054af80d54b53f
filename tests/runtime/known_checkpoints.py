"""Checkpoints as their repositories give them: sizes in bytes, shapes of their config.json."""

import dataclasses

from kaggle_kit.runtime.architecture import Architecture
from kaggle_kit.runtime.checkpoint import Checkpoint
from kaggle_kit.runtime.quantisation import Quantisation

AWQ = Quantisation("awq", 4, 128, zero_points=True)


def checkpoint(weight_bytes, sizes, *, most_tokens, dtype="float16", quantisation=AWQ, model_type="llama"):
    """`sizes`: layers, hidden, intermediate, heads, key/value heads, head size, vocabulary."""
    names = ("layers", "hidden", "intermediate", "heads", "kv_heads", "head_dim", "vocabulary")
    architecture = Architecture(
        name="LlamaForCausalLM",
        model_type=model_type,
        family=None,
        tied=False,
        most_tokens=most_tokens,
        dtype=dtype,
        **dict(zip(names, sizes, strict=True)),
    )
    return Checkpoint(
        name="known",
        architecture=architecture,
        method=quantisation and quantisation.method,
        quantisation=quantisation,
        weight_bytes=int(weight_bytes),
        layer_parameters=architecture.layer_parameters,
        end_bytes=architecture.end_bytes,
    )


def saved_as(known, **changes):
    """The same checkpoint with other words in its config.json."""
    return dataclasses.replace(known, architecture=dataclasses.replace(known.architecture, **changes))


QWEN_7B = checkpoint(5.6e9, (28, 3584, 18944, 28, 4, 128, 152_064), most_tokens=32_768)
QWEN_32B = checkpoint(19.3e9, (64, 5120, 27_648, 40, 8, 128, 152_064), most_tokens=32_768)
YI_34B = checkpoint(19.2e9, (60, 7168, 20_480, 56, 8, 128, 64_000), most_tokens=4096)
LLAMA_70B = checkpoint(39.8e9, (80, 8192, 28_672, 64, 8, 128, 128_256), most_tokens=131_072)
GEMMA_9B = checkpoint(
    18.5e9, (42, 3584, 14_336, 16, 8, 256, 256_000), most_tokens=8192, dtype="bfloat16", quantisation=None
)
