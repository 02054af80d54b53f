"""What a decoder is made of, from its config.json: its numbers, and for known families its matrices by name.

Whoever made the file chose each number, so none is taken that could not be a model's.

The families' parts were read in vLLM 0.32's model_executor/models (llama.py, qwen2.py, qwen3.py, gemma.py, gemma2.py,
gemma3.py, phi3.py) and in the config classes of transformers 5.19.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import ModelError
from kaggle_kit.outside import shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_TWO_NORMS = ("input_layernorm", "post_attention_layernorm")
_FOUR_NORMS = (*_TWO_NORMS, "pre_feedforward_layernorm", "post_feedforward_layernorm")
EMBEDDINGS = "model.embed_tokens.weight"
HEAD = "lm_head.weight"
_MOST = {
    "num_hidden_layers": 10_000,
    "hidden_size": 1_000_000,
    "intermediate_size": 10_000_000,
    "num_attention_heads": 100_000,
    "num_key_value_heads": 100_000,
    "head_dim": 100_000,
    "vocab_size": 100_000_000,
    "max_position_embeddings": 1_000_000_000,
}
"""Far above every real model, and small enough to count with."""
_MOST_FACTOR = 1000
_MOST_WINDOW = 1 << 40
_LONGEST_WORD = 80
_VOCABULARY_STEP = 64
"""vLLM rounds the vocabulary up to a multiple of this (vocab_parallel_embedding.py, DEFAULT_VOCAB_PADDING_SIZE)."""
_NAME = re.compile(r"[A-Za-z_]\w{0,199}", re.ASCII)
_UNSCALED = (None, "default", "su", "longrope", "llama3", "yarn", "deepseek_yarn", "deepseek_llama_scaling", "mrope")
"""Kinds of `rope_scaling` whose configuration gives the lengthened number already."""


@dataclass(frozen=True)
class Family:
    """What the models of one architecture share."""

    model_type: str
    norms: tuple[str, ...] = _TWO_NORMS
    qkv_bias: bool = False
    head_norms: bool = False
    """Whether queries and keys are normalised head by head."""
    fused: bool = False
    """Whether the checkpoint holds query, key and value as one matrix, and gate and up as one."""
    tied: bool = False
    """Whether embeddings and LM head are one matrix where config.json says nothing of it."""


FAMILIES = {
    "LlamaForCausalLM": Family("llama"),
    "MistralForCausalLM": Family("mistral"),
    "Qwen2ForCausalLM": Family("qwen2", qkv_bias=True),
    "Qwen3ForCausalLM": Family("qwen3", head_norms=True),
    "GemmaForCausalLM": Family("gemma", tied=True),
    "Gemma2ForCausalLM": Family("gemma2", norms=_FOUR_NORMS, tied=True),
    "Gemma3ForCausalLM": Family("gemma3_text", norms=_FOUR_NORMS, head_norms=True, tied=True),
    "Phi3ForCausalLM": Family("phi3", fused=True),
}


@dataclass(frozen=True)
class Matrix:
    """A linear layer: its name without an ending, inputs, outputs, and whether it adds a bias."""

    name: str
    inputs: int
    outputs: int
    bias: bool = False


@dataclass(frozen=True)
class Architecture:
    """config.json's numbers. `family` is None for an architecture that kit does not know in detail."""

    name: str
    model_type: str
    family: Family | None
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    tied: bool
    attention_bias: bool = False
    mlp_bias: bool = False
    most_tokens: int | None = None
    window: int | None = None
    """Tokens that a layer with sliding attention looks back; None where every layer sees all."""
    dtype: str = "float16"

    def layer_matrices(self) -> Iterator[Matrix]:
        """The linear layers of one decoder layer, named below `model.layers.N.`."""
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        known = self.family or Family(self.model_type)
        qkv = known.qkv_bias or self.attention_bias
        if known.fused:
            yield Matrix("self_attn.qkv_proj", self.hidden, queries + 2 * keys)
            yield Matrix("mlp.gate_up_proj", self.hidden, 2 * self.intermediate)
        else:
            yield Matrix("self_attn.q_proj", self.hidden, queries, qkv)
            yield Matrix("self_attn.k_proj", self.hidden, keys, qkv)
            yield Matrix("self_attn.v_proj", self.hidden, keys, qkv)
            yield Matrix("mlp.gate_proj", self.hidden, self.intermediate, self.mlp_bias)
            yield Matrix("mlp.up_proj", self.hidden, self.intermediate, self.mlp_bias)
        yield Matrix("self_attn.o_proj", queries, self.hidden, self.attention_bias)
        yield Matrix("mlp.down_proj", self.intermediate, self.hidden, self.mlp_bias)

    def layer_vectors(self) -> Iterator[tuple[str, int]]:
        """The norms of one decoder layer, named below `model.layers.N.`, and their lengths."""
        known = self.family or Family(self.model_type)
        for name in known.norms:
            yield f"{name}.weight", self.hidden
        if known.head_norms:
            yield "self_attn.q_norm.weight", self.head_dim
            yield "self_attn.k_norm.weight", self.head_dim

    @property
    def layer_parameters(self) -> int:
        """Numbers in the matrices of all layers: what a token is multiplied with, embeddings and head left out."""
        return self.layers * sum(matrix.inputs * matrix.outputs for matrix in self.layer_matrices())

    @property
    def kv_bytes_per_token(self) -> int:
        """Keys and values of one token over all layers, at two bytes a number: 2 · layers · heads · size · 2."""
        return 2 * self.layers * self.kv_heads * self.head_dim * 2

    @property
    def end_bytes(self) -> int:
        """What embeddings, head and last norm weigh in an engine's memory, at two bytes a number."""
        return (padded(self.vocabulary) * (1 if self.tied else 2) + 1) * self.hidden * 2

    def attention_flops(self, tokens: float) -> float:
        """FLOP of causal attention over one prompt of so many tokens.

        2·L·H·D·n²: queries with keys and probabilities with values, 2·n² each a head and number, of which the mask
        leaves half. Layers with a sliding window see at most that many tokens back.
        """
        whole = 2 * self.heads * self.head_dim * tokens * tokens
        if self.window is None or tokens <= self.window:
            return self.layers * whole
        seen = whole * (1 - (1 - self.window / tokens) ** 2)
        # Families with a window use it in every other layer (Gemma 2), or in all: half is the safer estimate.
        return self.layers * (whole + seen) / 2

    @property
    def position_numbers(self) -> int:
        """Numbers of the table of cosines and sines that vLLM keeps beside the weights (rotary_embedding/base.py)."""
        return (self.most_tokens or 0) * self.head_dim

    @property
    def parameters(self) -> int:
        """All numbers of the model, as its makers count them."""
        vectors = self.layers * sum(length for _, length in self.layer_vectors()) + self.hidden
        biases = self.layers * sum(matrix.outputs for matrix in self.layer_matrices() if matrix.bias)
        ends = self.vocabulary * self.hidden * (1 if self.tied else 2)
        return self.layer_parameters + vectors + biases + ends


def padded(vocabulary: int) -> int:
    """The vocabulary's size as vLLM holds it."""
    return math.ceil(vocabulary / _VOCABULARY_STEP) * _VOCABULARY_STEP


def whole_number(config: Mapping[str, Any], key: str, default: int | None = None) -> int:
    """The size `key` of a configuration, 1 or more and no larger than any model could be.

    Raises ModelError, with the key, if it is something else, or is missing and has no `default`.
    """
    value = config.get(key)
    if value is None and default is not None:
        value = default
    most = _MOST[key]
    if type(value) is not int or not 0 < value <= most:
        raise ModelError(f"{key!r} is {shown(value)}, and a number from 1 to {most:,} belongs there")
    return value


def word(value: Any, *, default: str) -> str:
    """A short word of a configuration, such as a type's name; `default` if it is not text. Raises ModelError."""
    if not isinstance(value, str) or not value:
        return default
    if len(value) > _LONGEST_WORD or not value.isprintable():
        raise ModelError(f"{shown(value)} is no name of a type")
    return value


def read_architecture(config: Mapping[str, Any]) -> Architecture:
    """The architecture that a config.json describes.

    Raises ModelError where a number is missing or is none; the text names the key.
    """
    names = config.get("architectures")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ModelError("'architectures' names no architecture, so no engine knows how to build the model")
    if odd := [name for name in names if not _NAME.fullmatch(name)]:
        raise ModelError(f"'architectures' has {shown(odd[0])}, which is no name of an architecture")
    kind = config.get("model_type")
    if not isinstance(kind, str):
        raise ModelError("'model_type' is missing, and the engine chooses the configuration by it")
    told: Mapping[str, Any] = config.get("text_config") or config
    if not isinstance(told, dict):
        raise ModelError(f"'text_config' is {shown(told)}, and a table belongs there")
    hidden, heads = whole_number(told, "hidden_size"), whole_number(told, "num_attention_heads")
    family = FAMILIES.get(names[0]) if told is config else None
    tied = told.get("tie_word_embeddings", config.get("tie_word_embeddings"))
    window = told.get("sliding_window") if told.get("use_sliding_window", True) else None
    return Architecture(
        name=names[0],
        model_type=word(kind, default=""),
        family=family,
        layers=whole_number(told, "num_hidden_layers"),
        hidden=hidden,
        intermediate=whole_number(told, "intermediate_size", 4 * hidden),
        heads=heads,
        kv_heads=whole_number(told, "num_key_value_heads", heads),
        head_dim=whole_number(told, "head_dim", hidden // heads),
        vocabulary=whole_number(told, "vocab_size"),
        tied=bool(family and family.tied) if tied is None else bool(tied),
        attention_bias=bool(told.get("attention_bias")),
        mlp_bias=bool(told.get("mlp_bias")),
        most_tokens=_most_tokens(told),
        window=window if type(window) is int and 0 < window < _MOST_WINDOW else None,
        dtype=_dtype(told, config),
    )


def _most_tokens(told: Mapping[str, Any]) -> int | None:
    """The longest text in tokens, the answer included: max_position_embeddings, times the factor of `rope_scaling`.

    As vLLM 0.32 derives it (config/model.py, `_get_and_verify_max_len`): the kinds in `_UNSCALED`, and Gemma 3, give
    the lengthened number already.
    """
    longest = told.get("max_position_embeddings")
    if type(longest) is not int or longest <= 0:
        return None
    longest = whole_number(told, "max_position_embeddings")

    scaling = told.get("rope_scaling") or told.get("rope_parameters")
    if not isinstance(scaling, dict) or "gemma3" in str(told.get("model_type")):
        return longest
    factor = scaling.get("factor")
    kind = scaling.get("rope_type", scaling.get("type"))
    if kind in _UNSCALED or not isinstance(factor, int | float):
        return longest
    return int(longest * factor) if 0 < factor < _MOST_FACTOR else longest


def _dtype(*tables: Mapping[str, Any]) -> str:
    """The type that the checkpoint was saved in; a nested text model may leave it to the table around it."""
    named = (table.get(key) for table in tables for key in ("dtype", "torch_dtype"))
    return word(next(filter(None, named), None), default="float16")
