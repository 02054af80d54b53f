"""What a decoder is made of, from its config.json: its numbers, and for known families its matrices by name.

Whoever made the file chose each number, so none is taken that could not be a model's.

The families' parts were read in vLLM 0.32's model_executor/models (llama.py, qwen2.py, qwen3.py, gemma.py, gemma2.py,
gemma3.py, phi3.py) and in the config classes of transformers 5.19.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import ModelError
from kaggle_kit.outside import shown
from kaggle_kit.runtime.layer_kinds import WITHOUT_ATTENTION, read_layers
from kaggle_kit.runtime.model_types import settings, text_part
from kaggle_kit.runtime.score_head import SUFFIX, ScoreHead, read_score_head

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_TWO_NORMS = ("input_layernorm", "post_attention_layernorm")
_FOUR_NORMS = (*_TWO_NORMS, "pre_feedforward_layernorm", "post_feedforward_layernorm")
EMBEDDINGS = "model.embed_tokens.weight"
HEAD = "lm_head.weight"
SCORE = "score.weight"
"""The head for classes that transformers gives its decoders."""
_MOST = {
    "num_hidden_layers": 10_000,
    "hidden_size": 1_000_000,
    "intermediate_size": 10_000_000,
    "num_attention_heads": 100_000,
    "num_key_value_heads": 100_000,
    "head_dim": 100_000,
    "vocab_size": 100_000_000,
    "experts": 100_000,
    "tokens": 1_000_000_000,
    "numbers": 1_000_000_000,
}
"""Far above every real model, and small enough to count with."""
_MOST_FACTOR = 1000
_MOST_WINDOW = 1 << 40
_LONGEST_WORD = 80
_FLOATS = {"F16": "float16", "BF16": "bfloat16", "F32": "float32"}
"""From the narrowest: of several the widest counts."""
_VOCABULARY_STEP = 64
"""vLLM rounds the vocabulary up to a multiple of this (vocab_parallel_embedding.py, DEFAULT_VOCAB_PADDING_SIZE)."""
_NAME = re.compile(r"[A-Za-z_]\w{0,199}", re.ASCII)
_UNSCALED = ("su", "longrope", "llama3", "yarn", "deepseek_yarn", "deepseek_llama_scaling")
"""Kinds of `rope_scaling` whose configuration gives the lengthened number already."""
_LENGTHS = (
    *("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "model_max_length"),
    *("max_target_positions", "max_sequence_length", "max_seq_length", "seq_len"),
)
"""Keys of the longest prompt, of which the smallest counts (vLLM 0.32, model_arch_config_convertor.py)."""
_KV_HEADS = ("n_head_kv", "num_kv_heads", "num_key_value_heads", "multi_query_group_num", "num_attention_groups")
_EXPERTS = ("num_experts", "moe_num_experts", "n_routed_experts", "num_local_experts")
_EXPERTS_PER_TOKEN = ("num_experts_per_tok", "num_experts_per_token", "top_k_experts", "moe_topk", "moe_top_k")
"""As vLLM looks them up, in the same file and order."""


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
    """Whether embeddings and LM head are one matrix if config.json does not say."""


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
    """Tokens that a layer with sliding attention looks back; None if every layer sees all."""
    windowed: float | None = None
    """The share of the layers with attention that have the window; None if the configuration does not say."""
    dtype: str = "float16"
    attention_layers: int | None = None
    """Layers with attention, whose keys and values grow with a prompt; None if all have it."""
    kept_numbers: int | None = None
    """Numbers of keys and values that vLLM keeps of a token over all layers, where they are not 2 · heads · size."""
    latent: bool = False
    """Whether keys and values are one compressed vector (MLA), which every card keeps whole."""
    state_bytes: int = 0
    """What layers without attention keep of each prompt, whatever its length."""
    experts: int = 0
    experts_per_token: int = 0
    expert_inputs: int = 0
    """Of a mixture's layer, and inputs of an expert's last matrix; 0 if it is none."""
    later_layers: int = 0
    """Layers after the last one that predict further tokens, which no engine needs."""
    score_head: ScoreHead | None = None
    """The head for classes that it answers with; None if it says tokens."""

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
    def answer_tokens(self) -> int:
        """Tokens that it needs after a prompt for its answer: none, if its head answers with a class."""
        return 0 if self.score_head else 1

    @property
    def logits(self) -> int:
        """How many numbers it answers a prompt with: one a class of its head, else one a word."""
        return len(self.score_head.classes) if self.score_head else self.vocabulary

    def _ends(self, vocabulary: int) -> int:
        """Numbers of embeddings and head, with so many words."""
        head = self.logits if self.score_head else 0 if self.tied else vocabulary
        return (vocabulary + head) * self.hidden

    @property
    def layer_parameters(self) -> int:
        """Numbers in the matrices of all layers: what a token is multiplied with, embeddings and head left out."""
        return self.layers * sum(matrix.inputs * matrix.outputs for matrix in self.layer_matrices())

    @property
    def kv_bytes_per_token(self) -> int:
        """Keys and values of one token over all layers, at two bytes a number: 2 · layers · heads · size · 2."""
        if self.kept_numbers is not None:
            return self.kept_numbers * 2
        return 2 * self._attending * self.kv_heads * self.head_dim * 2

    def kv_bytes_on_card(self, parallel: int) -> float:
        """What one of `parallel` cards keeps of a token: heads that are fewer than the cards are kept by several."""
        return self.kv_bytes_per_token / (1 if self.latent else min(parallel, self.kv_heads))

    def part(self, layers: int) -> Architecture:
        """So many of its layers, with their even share of what the layers keep of a prompt."""
        share = layers / self.layers
        return replace(
            self,
            layers=layers,
            attention_layers=math.ceil(self._attending * share),
            kept_numbers=None if self.kept_numbers is None else math.ceil(self.kept_numbers * share),
            state_bytes=math.ceil(self.state_bytes * share),
        )

    @property
    def active_intermediate(self) -> int:
        """Numbers between an MLP's matrices for one token: of all its experts together, in a mixture."""
        return max(self.intermediate, self.expert_inputs * self.experts_per_token)

    @property
    def _attending(self) -> int:
        return self.layers if self.attention_layers is None else self.attention_layers

    @property
    def end_bytes(self) -> int:
        """What embeddings, head and last norm weigh in an engine's memory, at two bytes a number."""
        return (self._ends(padded(self.vocabulary)) + self.hidden) * 2

    def attention_flops(self, tokens: float) -> float:
        """FLOP of causal attention over one prompt of so many tokens.

        2·L·H·D·n²: queries with keys and probabilities with values, 2·n² each a head and number, of which the mask
        leaves half. Layers with a sliding window see at most that many tokens back.
        """
        whole = 2 * self.heads * self.head_dim * tokens * tokens
        if self.window is None or tokens <= self.window:
            return self._attending * whole
        seen = whole * (1 - (1 - self.window / tokens) ** 2)
        # Families with a window use it in every other layer (Gemma 2), or in all: half is the safer estimate.
        windowed = 0.5 if self.windowed is None else self.windowed
        return self._attending * (whole * (1 - windowed) + seen * windowed)

    @property
    def position_numbers(self) -> int:
        """Numbers of the table of cosines and sines that vLLM keeps beside the weights (rotary_embedding/base.py)."""
        return (self.most_tokens or 0) * self.head_dim

    @property
    def parameters(self) -> int:
        """All numbers of the model, as its makers count them."""
        vectors = self.layers * sum(length for _, length in self.layer_vectors()) + self.hidden
        biases = self.layers * sum(matrix.outputs for matrix in self.layer_matrices() if matrix.bias)
        return self.layer_parameters + vectors + biases + self._ends(self.vocabulary)


def padded(vocabulary: int) -> int:
    """The vocabulary's size as vLLM holds it."""
    return math.ceil(vocabulary / _VOCABULARY_STEP) * _VOCABULARY_STEP


def whole_number(config: Mapping[str, Any], key: str, default: int | None = None, *, kind: str = "") -> int:
    """The size `key` of a configuration, 1 or more and no larger than any model could be (of its `kind`).

    Raises ModelError, with the key, if it is something else, or is missing and has no `default`.
    """
    value = config.get(key)
    if value is None and default is not None:
        value = default
    most = _MOST[kind or key]
    if type(value) is not int or not 0 < value <= most:
        raise ModelError(f"{key!r} is {shown(value)}, and a number from 1 to {most:,} belongs there")
    return value


def word(value: Any, *, default: str) -> str:
    """A short word of a configuration, such as a type's name; `default` if it is not text. Raises ModelError."""
    if not isinstance(value, str) or not value:
        return default
    if len(value) > _LONGEST_WORD or not value.isprintable():
        raise ModelError(f"{shown(value)} is not the name of a type")
    return value


def read_architecture(config: Mapping[str, Any], *, stored: Iterable[str] = ()) -> Architecture:
    """The architecture that a config.json describes; `stored` are the types of the weights, in safetensors' names.

    Raises ModelError if a number is missing or wrong; the message names the key.
    """
    names = config.get("architectures")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ModelError("'architectures' names no architecture, so no engine knows how to build the model")
    if odd := [name for name in names if not _NAME.fullmatch(name)]:
        raise ModelError(f"'architectures' has {shown(odd[0])}, which is not the name of an architecture")
    kind = config.get("model_type")
    if not isinstance(kind, str):
        raise ModelError("'model_type' is missing, and the engine chooses the configuration by it")

    part, text_kind = text_part(config)
    inner = config.get("text_config")
    if inner is not None and not isinstance(inner, dict):
        raise ModelError(f"'text_config' is {shown(inner)}, and a table belongs there")
    text = settings(part, text_kind)

    layers, hidden = whole_number(text, "num_hidden_layers"), whole_number(text, "hidden_size")
    heads = whole_number(text, "num_attention_heads", 1 if text_kind in WITHOUT_ATTENTION else None)
    family = FAMILIES.get(_generating(names[0], text_kind)) if part is config else None
    tied = next((table["tie_word_embeddings"] for table in (part, config) if "tie_word_embeddings" in table), None)
    tied = text.get("tie_word_embeddings") if tied is None else tied
    window = text.get("sliding_window") if text.get("use_sliding_window", True) else None
    window = window if type(window) is int and 0 < window < _MOST_WINDOW else None

    experts = _experts(text)
    expert = _expert_inputs(text, experts)
    kv_heads, head_dim = _kv_heads(text, heads), _head_dim(text, hidden, heads)
    kept = read_layers(text, text_kind, layers=layers, kv_heads=kv_heads, head_dim=head_dim)

    return Architecture(
        name=names[0],
        model_type=word(kind, default=""),
        family=family,
        layers=layers,
        hidden=hidden,
        intermediate=_intermediate(text, hidden, expert),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        vocabulary=whole_number(text, "vocab_size"),
        tied=bool(family and family.tied) if tied is None else bool(tied),
        attention_bias=bool(text.get("attention_bias")),
        mlp_bias=bool(text.get("mlp_bias")),
        most_tokens=_most_tokens(text, text_kind),
        window=window,
        dtype=_dtype(part, config, stored=stored),
        experts=experts,
        experts_per_token=_first(text, _EXPERTS_PER_TOKEN, kind="experts", default=0) if experts else 0,
        expert_inputs=expert,
        later_layers=_first(text, ("num_nextn_predict_layers",), kind="num_hidden_layers", default=0),
        attention_layers=kept.attention if kept.attention < layers else None,
        windowed=kept.windowed,
        kept_numbers=kept.kept_numbers,
        latent=kept.latent,
        state_bytes=kept.state_bytes,
        score_head=read_score_head(config),
    )


def _generating(name: str, kind: str) -> str:
    """The class that says tokens, of an architecture that may have a head for classes in its place."""
    if not name.endswith(SUFFIX):
        return name
    return next((known for known, family in FAMILIES.items() if family.model_type == kind), name)


def _intermediate(text: Mapping[str, Any], hidden: int, expert: int) -> int:
    """Inputs of an MLP's last matrix: of an `expert`'s, if no layer is without experts."""
    wide = whole_number(text, "intermediate_size", 4 * hidden)
    steps = (text.get(key) for key in ("decoder_sparse_step", "interleave_moe_layer_step"))
    dense = text.get("first_k_dense_replace") or text.get("mlp_only_layers")
    dense = dense or any(type(step) is int and step > 1 for step in steps)
    return expert if expert and not dense else wide


def _expert_inputs(text: Mapping[str, Any], experts: int) -> int:
    if not experts:
        return 0
    return _first(text, ("moe_intermediate_size", "intermediate_size"), kind="intermediate_size", default=0)


def _experts(text: Mapping[str, Any]) -> int:
    """Experts of a mixture's layer; 0 for a model that has none, though its class would name a number."""
    pattern = text.get("hybrid_override_pattern")
    if isinstance(pattern, str) and "E" not in pattern:
        return 0
    blocks = text.get("block_configs")
    if isinstance(blocks, list):
        counts = [block.get("n_routed_experts") for block in blocks if isinstance(block, dict)]
        return max((count for count in counts if type(count) is int and 0 < count <= _MOST["experts"]), default=0)
    return _first(text, _EXPERTS, kind="experts", default=0)


def _first(text: Mapping[str, Any], keys: Iterable[str], *, kind: str, default: int) -> int:
    """The first of several keys that is there, of a list its greatest; 0 counts as nothing. Raises ModelError."""
    for key in keys:
        value = text.get(key)
        if isinstance(value, list) and value and all(type(one) is int for one in value):
            value = max(value)
        if value:
            return whole_number({key: value}, key, kind=kind)
    return default


def _kv_heads(text: Mapping[str, Any], heads: int) -> int:
    """Heads of keys and values, of the layer that has most."""
    attention = text.get("attn_config")
    if isinstance(attention, dict) and "kv_n_heads" in attention:
        return whole_number(attention, "kv_n_heads", kind="num_key_value_heads")
    if text.get("multi_query") and not text.get("new_decoder_architecture"):
        return 1
    return _first(text, _KV_HEADS, kind="num_key_value_heads", default=heads)


def _head_dim(text: Mapping[str, Any], hidden: int, heads: int) -> int:
    return _first(
        text,
        ("head_dim", "hidden_size_per_head", "attention_head_dim"),
        kind="head_dim",
        default=max(1, hidden // heads),
    )


def _most_tokens(text: Mapping[str, Any], kind: str) -> int | None:
    """The longest prompt in tokens, the answer included: what the configuration says, times rope's factor.

    As vLLM 0.32 derives it (config/model.py, `_get_and_verify_max_len`): the kinds in `_UNSCALED`, and Gemma 3, give
    the lengthened number already, and a model_max_length of its own stands above all.
    """
    given = [key for key in _LENGTHS if type(text.get(key)) is int and text[key] > 0]
    if not given:
        return None
    said = min(whole_number(text, key, kind="tokens") for key in given)
    own = text["model_max_length"] if "model_max_length" in given else 0
    longest = own or said
    if "gemma3" not in kind:
        longest = int(longest * _rope_factor(text))
    return max(longest, own)


def _rope_factor(text: Mapping[str, Any]) -> float:
    """By how much rope's scaling lengthens the prompt; of layers with their own, the last one's."""
    scaling = text.get("rope_scaling") or text.get("rope_parameters")
    if not isinstance(scaling, dict):
        return 1.0
    nested = [inner for inner in scaling.values() if isinstance(inner, dict)]
    factor = 1.0
    for inner in nested if len(nested) == len(scaling) else [scaling]:
        value = inner.get("factor")
        if inner.get("rope_type", inner.get("type")) in _UNSCALED or isinstance(value, bool):
            continue
        if isinstance(value, int | float) and 0 < value < _MOST_FACTOR:
            factor = float(value)
    return factor


def _dtype(*tables: Mapping[str, Any], stored: Iterable[str] = ()) -> str:
    """The type that the checkpoint was saved in; a nested text model may leave it to the table around it.

    Where neither says one it is the weights' own (`stored`, in safetensors' names), as vLLM takes it.
    """
    dtypes = (table.get(key) for table in tables for key in ("dtype", "torch_dtype"))
    if said := word(next(filter(None, dtypes), None), default=""):
        return said
    floats = {name for name in stored if name in _FLOATS}
    return _FLOATS[max(floats, key=list(_FLOATS).index)] if floats else "float16"
