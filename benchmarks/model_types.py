"""How the locked engine's classes read a config.json, asked of the engine itself and kept as data.

    ENVIRONMENT/bin/python benchmarks/model_types.py > kaggle_kit/runtime/model_types.json

ENVIRONMENT is one that holds the engine, such as `kit dryrun` keeps in its cache. `kit model inspect`, `fit` and the
notebook's own plan read the file; `tests/end_to_end/test_engine_answers.py` compares the two.

For each model_type: its configuration class's other names of the sizes (`alias`), the values that the class fills in
(`default`), where a composite keeps its language model (`text`), and whether its attention may keep one compressed
vector a token (`latent`).
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import math
import sys
from typing import Any

KEYS = """
    hidden_size num_hidden_layers num_attention_heads num_key_value_heads num_kv_heads n_head_kv
    multi_query_group_num num_attention_groups head_dim hidden_size_per_head attention_head_dim
    intermediate_size vocab_size tie_word_embeddings attention_bias mlp_bias sliding_window use_sliding_window
    sliding_window_pattern max_window_layers max_position_embeddings n_positions max_seq_len seq_length
    model_max_length max_target_positions max_sequence_length max_seq_length seq_len num_experts moe_num_experts
    n_routed_experts num_local_experts num_experts_per_tok num_experts_per_token top_k_experts moe_topk
    moe_top_k moe_intermediate_size n_shared_experts shared_expert_intermediate_size
    moe_shared_expert_intermediate_size first_k_dense_replace moe_layer_freq decoder_sparse_step
    interleave_moe_layer_step kv_lora_rank q_lora_rank qk_rope_head_dim qk_nope_head_dim v_head_dim multi_query
    new_decoder_architecture full_attention_interval attn_layer_period attn_layer_offset num_kv_shared_layers
    linear_num_key_heads linear_num_value_heads linear_key_head_dim linear_value_head_dim linear_conv_kernel_dim
    mamba_num_heads mamba_head_dim ssm_state_size n_groups conv_kernel mamba_d_state mamba_d_conv mamba_expand
    mamba_n_heads mamba_d_head mamba_n_groups conv_L_cache mamba_d_ssm state_size expand is_encoder_decoder
"""
"""The keys of a configuration that kit reads, in transformers' names."""
_KEYS = frozenset(KEYS.split())
TEXT_KEYS = ("text_config", "llm_config", "language_config", "decoder", "thinker_config", "language_model")


def main() -> None:
    """Print the facts as JSON, the same for the same versions."""
    import transformers
    import vllm

    facts = {
        "vllm": vllm.__version__.split("+")[0],
        "transformers": transformers.__version__,
        "types": _types(),
    }
    lines = [f"{json.dumps(key)}: {_table(value)}" for key, value in facts.items()]
    sys.stdout.write("{\n" + ",\n".join(lines) + "\n}\n")


def _table(value: Any) -> str:
    """A value as JSON, a table of tables with one entry a line: such a file can be compared line by line."""
    if not isinstance(value, dict):
        return json.dumps(value)
    entries = [f"  {json.dumps(key)}: {json.dumps(value[key], sort_keys=True)}" for key in sorted(value)]
    return "{\n" + ",\n".join(entries) + "\n}"


def _types() -> dict[str, Any]:
    from transformers.models.auto import modeling_auto as auto
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    from vllm.model_executor.models import registry
    from vllm.transformers_utils.config import _CONFIG_REGISTRY

    architectures = {*registry._TEXT_GENERATION_MODELS, *registry._MULTIMODAL_MODELS}  # noqa: SLF001
    architectures |= set(registry._SEQUENCE_CLASSIFICATION_MODELS)  # noqa: SLF001 - there is no other list
    # What the registry lacks the engine builds from transformers' own class, if there is one.
    wanted = set(_CONFIG_REGISTRY) | set(auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    for name in dir(auto):
        table = getattr(auto, name)
        if name.endswith("_MAPPING_NAMES") and isinstance(table, dict):
            for kind, classes in table.items():
                named = classes if isinstance(classes, tuple | list) else (classes,)
                if architectures.intersection(filter(None, named)):
                    wanted.add(kind)

    facts: dict[str, Any] = {}
    todo = sorted(wanted)
    while todo:
        kind = todo.pop()
        if kind in facts:
            continue
        try:
            cls = _CONFIG_REGISTRY[kind] if kind in _CONFIG_REGISTRY else CONFIG_MAPPING[kind]
        except (KeyError, ImportError, AttributeError):
            continue
        facts[kind] = _of_class(cls)
        if "text" in facts[kind]:
            todo.append(facts[kind]["text"][-1])
    return {kind: entry for kind, entry in facts.items() if entry}


def _of_class(cls: Any) -> dict[str, Any]:
    alias = {key: own for key, own in (getattr(cls, "attribute_map", None) or {}).items() if key in _KEYS}
    own = {name: key for key, name in alias.items()}
    defaults = {own.get(name, name): value for name, value in _defaults(cls).items()}
    kept = {key: value for key, value in defaults.items() if key in _KEYS and _plain(value)}
    entry: dict[str, Any] = {"alias": alias, "default": kept, "text": _text(cls), "latent": _latent(cls)}
    return {key: value for key, value in entry.items() if value}


def _defaults(cls: Any) -> dict[str, Any]:
    if dataclasses.is_dataclass(cls):
        return {field.name: field.default for field in dataclasses.fields(cls)}
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        if "__init__" in vars(base):
            found |= {name: value.default for name, value in inspect.signature(base.__init__).parameters.items()}
    return found


def _plain(value: Any) -> bool:
    return isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value))


def _text(cls: Any) -> list[str]:
    """The keys that lead to the language model's part, and that part's model_type; empty if there is none."""
    try:
        config = cls()
        text = config.get_text_config()
    except Exception:  # noqa: BLE001 - a class that cannot be made without arguments
        return []
    if text is config:
        return []
    for key in TEXT_KEYS:
        part = getattr(config, key, None)
        if part is text:
            return [key, text.model_type]
        for inner in TEXT_KEYS:
            if part is not None and getattr(part, inner, None) is text:
                return [key, inner, text.model_type]
    return []


def _latent(cls: Any) -> bool:
    """Whether the engine keeps one compressed vector a token for this class, where it says how long one is."""
    from vllm.transformers_utils.model_arch_config_convertor import ModelArchConfigConvertorBase

    try:
        config = cls()
        config.kv_lora_rank = 512
        return bool(ModelArchConfigConvertorBase(config, config).is_deepseek_mla())
    except Exception:  # noqa: BLE001 - a class that cannot be made without arguments
        return False


if __name__ == "__main__":
    main()
