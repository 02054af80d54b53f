"""What a model's layers keep of a prompt, from its configuration: keys and values, one compressed vector, or a state.

Sources: vLLM 0.32, transformers_utils/model_arch_config_convertor.py (`is_deepseek_mla`), the models' own
get_kv_cache_spec, and model_executor/layers/mamba/mamba_utils.py (shapes of states); transformers 5.19's configuration
classes for the ways in which a configuration says which layers are of which kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kaggle_kit.runtime.model_types import keeps_one_vector

if TYPE_CHECKING:
    from collections.abc import Mapping

WITHOUT_ATTENTION = frozenset({"mamba", "mamba2", "falcon_mamba"})
_STATEFUL = ("mamba", "linear", "recurrent", "conv", "delta", "ssm")
_NO_KEYS = (*_STATEFUL, "moe", "mlp", "none")
"""Words in the kinds of layers that keep no keys and values; the first of them keep a state."""
_LETTERS = {"*": "attention", "M": "mamba", "-": "mlp", "E": "moe"}
"""Of Nemotron-H's pattern."""
_WINDOWED = ("sliding", "chunked", "local", "window")
_LISTS = ("layer_types", "layers_block_type", "block_types", "layer_block_types")
_PLACES = ("attn_layer_indices", "full_attn_idxs", "hybrid_layer_ids", "attention_layer_idx", "full_attn_layers")
_MOST = 1_000_000
_MOST_LAYERS = 10_000


@dataclass(frozen=True)
class Layers:
    """What the layers of a model keep.

    `attention` is how many keep keys and values, `windowed` which share of these sees a window only (None if that is
    not said), `kept_numbers` how many numbers a token takes over all layers (None for 2 · heads · size of each),
    `latent` whether these are one vector for all heads, `state_bytes` what a prompt takes whatever its length.
    """

    attention: int
    windowed: float | None = None
    kept_numbers: int | None = None
    latent: bool = False
    state_bytes: int = 0


def read_layers(text: Mapping[str, Any], kind: str, *, layers: int, kv_heads: int, head_dim: int) -> Layers:
    """The layers of a language model's configuration (`model_types.settings`) of the model_type `kind`.

    What cannot be read counts as attention: an estimate from above.
    """
    kinds = _kinds(text, kind, layers)
    attention = sum(_keeps_keys(one) for one in kinds)
    windowed = sum(any(part in one for part in _WINDOWED) for one in kinds)
    said = any(one not in ("", "attention") for one in kinds) and attention

    latent = keeps_one_vector(kind) and _number(text, "kv_lora_rank") > 0
    kept = None
    if latent:
        kept = attention * (_number(text, "kv_lora_rank") + _number(text, "qk_rope_head_dim"))
    elif own := _own_heads(text, head_dim=head_dim, kinds=kinds):
        kept = own
    elif shared := min(_number(text, "num_kv_shared_layers"), attention):
        kept = 2 * (attention - shared) * kv_heads * head_dim
    return Layers(
        attention=attention,
        windowed=windowed / attention if said else None,
        kept_numbers=kept,
        latent=latent,
        state_bytes=sum(any(part in one for part in _STATEFUL) for one in kinds) * _state_bytes(text),
    )


def _kinds(text: Mapping[str, Any], kind: str, layers: int) -> list[str]:
    """The kind of each layer, in a word of the configuration's own or this module's; "" if nothing is said."""
    if kind in WITHOUT_ATTENTION:
        return ["mamba"] * layers
    if named := _named_kinds(text):
        # A shorter list is a pattern that repeats.
        return [named[n % len(named)] for n in range(layers)]
    if places := _places(text):
        return ["attention" if n in places else "linear" for n in range(layers)]
    return [_kind_of(n, text) for n in range(layers)]


def _named_kinds(text: Mapping[str, Any]) -> list[str]:
    """The kinds of layers that a configuration lists, one after the other."""
    for key in _LISTS:
        named = text.get(key)
        if isinstance(named, list) and named and all(isinstance(one, str) for one in named[:_MOST_LAYERS]):
            return [one.lower() for one in named[:_MOST_LAYERS]]
    if isinstance(pattern := text.get("hybrid_override_pattern"), str):
        return [_LETTERS.get(letter, "") for letter in pattern[:_MOST_LAYERS]]
    if isinstance(types := text.get("attn_type_list"), list):
        return ["attention" if one == 1 else "linear" for one in types[:_MOST_LAYERS]]
    return []


def _kind_of(n: int, text: Mapping[str, Any]) -> str:
    """The kind of layer `n` (from 0) where a configuration gives a rule."""
    if every := _number(text, "full_attention_interval"):
        return "linear" if (n + 1) % every else "attention"
    if period := _number(text, "attn_layer_period"):
        return "attention" if n % period == _number(text, "attn_layer_offset") % period else "mamba"
    if pattern := _number(text, "sliding_window_pattern") or _number(text, "_sliding_window_pattern"):
        return "sliding" if (n + 1) % pattern else "attention"
    return ""


def _places(text: Mapping[str, Any]) -> set[int]:
    """The numbers of the layers with attention, where a configuration lists these alone."""
    linear = text.get("linear_attn_config")
    if isinstance(linear, dict) and isinstance(named := linear.get("full_attn_layers"), list):
        return {one - 1 for one in named if type(one) is int}  # this one counts from 1
    for key in _PLACES:
        named = text.get(key)
        if isinstance(named, list) and named:
            return {one for one in named if type(one) is int}
    return set()


def _keeps_keys(kind: str) -> bool:
    return not any(part in kind for part in _NO_KEYS)


def _own_heads(text: Mapping[str, Any], *, head_dim: int, kinds: list[str]) -> int | None:
    """Numbers a token over all layers where each layer says its own heads; None if none does."""
    heads = _number(text, "num_attention_heads")
    blocks: Any = text.get("block_configs")
    if isinstance(blocks, list) and len(blocks) == len(kinds):
        total = 0
        for block in blocks:
            attention = block.get("attention") if isinstance(block, dict) else None
            if isinstance(attention, dict) and not attention.get("no_op"):
                group = _number(attention, "n_heads_in_group")
                total += heads // group if group else _number(attention, "num_key_value_heads") or heads
        return 2 * total * head_dim
    for key in ("num_kv_heads", "num_key_value_heads"):
        each = text.get(key)
        if isinstance(each, list) and len(each) == len(kinds):
            counted = [_number({key: one}, key) for one, kind in zip(each, kinds, strict=True) if _keeps_keys(kind)]
            return 2 * sum(counted) * head_dim
    return None


def _state_bytes(text: Mapping[str, Any]) -> int:
    """The state of one such layer: its convolution's last inputs, two bytes each, and its memory in float32."""
    if key_heads := _number(text, "linear_num_key_heads"):
        value_heads, size = _number(text, "linear_num_value_heads"), _number(text, "linear_key_head_dim")
        values = value_heads * _number(text, "linear_value_head_dim")
        kept = max(_number(text, "linear_conv_kernel_dim"), 1) - 1
        return (2 * key_heads * size + values) * kept * 2 + values * size * 4

    state = _either(text, "ssm_state_size", "mamba_d_state", "state_size")
    kept = max(_either(text, "conv_kernel", "mamba_d_conv", "conv_L_cache"), 1) - 1
    if heads := _either(text, "mamba_num_heads", "mamba_n_heads"):
        inner = heads * _either(text, "mamba_head_dim", "mamba_d_head")
        groups = _either(text, "n_groups", "mamba_n_groups") or 1
        return (inner + 2 * groups * state) * kept * 2 + inner * state * 4
    inner = _number(text, "hidden_size") * (_either(text, "mamba_expand", "expand") or 1)
    return inner * (kept * 2 + state * 4)


def _either(text: Mapping[str, Any], *keys: str) -> int:
    return next((number for key in keys if (number := _number(text, key))), 0)


def _number(table: Mapping[str, Any], key: str) -> int:
    """A whole number of a configuration, 0 where it is none, below zero, or beyond all sense."""
    value = table.get(key)
    return value if type(value) is int and 0 < value <= _MOST else 0
