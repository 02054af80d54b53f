"""What the target's engine and cards would refuse of a checkpoint, or change about it, with the plan's own words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kaggle_kit.model.problem import Problem, warning
from kaggle_kit.model.shards import shorten
from kaggle_kit.outside import shown
from kaggle_kit.runtime.checkpoint import code_named
from kaggle_kit.runtime.engine_plan import dtype_obstacle, engine_dtype, head_obstacle, length_obstacle
from kaggle_kit.runtime.kernels import method_obstacle
from kaggle_kit.runtime.quantisation import quant_method

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

    from kaggle_kit.model.folder import Folder
    from kaggle_kit.model.headers import Tensor
    from kaggle_kit.runtime.architecture import Architecture
    from kaggle_kit.runtime.quantisation import Quantisation
    from kaggle_kit.targets import Target

# fmt: off
_BUILT_IN = frozenset((
    "bloom", "cohere", "cohere2", "deepseek_v2", "deepseek_v3", "falcon", "gemma", "gemma2", "gemma3",
    "gemma3_text", "glm", "glm4", "gpt2", "gpt_bigcode", "gpt_neox", "gpt_oss", "granite", "llama",
    "mistral", "mistral3", "mixtral", "nemotron", "olmo", "olmo2", "opt", "phi", "phi3", "phimoe",
    "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "smollm3", "stablelm", "starcoder2",
))
# fmt: on
"""Model types whose configuration transformers 5.19 builds without code of the checkpoint's own."""
_CONFIG = "config.json"
_LISTED = 5


def check_dtype(target: Target, architecture: Architecture, dtypes: AbstractSet[str], *, packed: bool) -> list[Problem]:
    """What becomes of weights of these safetensors `dtypes` in the type that the engine computes in."""
    given = target.engine_options.get("dtype", "auto")
    engine = engine_dtype(architecture, target.capability, given)
    problems = []
    if reason := dtype_obstacle(architecture, target.capability, given):
        what, _, step = reason.rpartition(": ")
        problems.append(Problem(_CONFIG, f"cannot be used on {target.name}: {what}", step))
    elif engine == "float16" and "BF16" in dtypes:
        what = (
            f"hold bfloat16 numbers, and {target.name} computes in float16: vLLM converts them while loading, and "
            f"those beyond 65,504 become infinite"
        )
        step = "score a few rows there and compare them with a reference before trusting it"
        problems.append(warning("*.safetensors", what, step))
    if {"F32", "F64"} & dtypes and engine != "float32" and not packed:
        what = f"hold 32-bit numbers, twice what the engine keeps ({engine})"
        problems.append(warning("*.safetensors", what, f"save the model in {engine}: half the upload, the same scores"))
    return problems


def check_method(target: Target, config: Mapping[str, Any], quantisation: Quantisation | None = None) -> list[Problem]:
    """Whether the target's cards run the quantisation."""
    if target.capability is None:
        return []
    int8, card = bool(quantisation and quantisation.activations), target.gpu_name or "the card"
    reason = method_obstacle(quant_method(config), target.capability, int8=int8, card=card)
    if reason is None:
        return []
    return [Problem(_CONFIG, f"says {reason}", "quantise the model in another way, or take another target")]


def check_integers(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> list[Problem]:
    """Integers that no configuration tells how to read: an engine would take them for the weights themselves."""
    found = [name for name, tensor in tensors.items() if tensor.dtype == "I8" and name.endswith(".weight")]
    if not found or "quantization_config" in config:
        return []
    what = f"has no quantization_config, and weights are int8: {shorten(found)}"
    return [Problem(_CONFIG, what, "take the config.json that was saved with these weights")]


def check_code(folder: Folder, config: Mapping[str, Any], architecture: Architecture | None) -> list[Problem]:
    """Code of the checkpoint's own is never run: kit sets trust_remote_code to False, and refuses what does not ask."""
    code = [name for name in folder.files if name.endswith(".py")]
    if named := list(code_named(config)):
        step = "take the model from a source that you trust, or remove that key"
        return [Problem(_CONFIG, what, step) for what in named[:_LISTED]]
    if "auto_map" in config:
        model_type = str(config.get("model_type"))
        if (architecture is None or architecture.family is None) and model_type not in _BUILT_IN:
            kind = shown(config.get("model_type"))
            what = f"needs code of its own (auto_map) to build a {kind}, and kit never runs such code"
            return [Problem(_CONFIG, what, "take a model whose architecture vLLM knows, or convert it to one")]
        what = "names code of its own (auto_map), which is passed over: the engine knows the architecture"
        return [warning(_CONFIG, what, "remove auto_map and the .py files")]
    return [warning(name, "is code, which kit never runs", "delete it") for name in code]


def check_length(architecture: Architecture, *, longest: int | None) -> list[Problem]:
    """Whether prompts of `longest` tokens and an answer are within what the model reads."""
    if architecture.most_tokens is None:
        what = "has no max_position_embeddings, and vLLM then takes 2,048"
        return [warning(_CONFIG, what, "add the number that the model was trained for")]
    if longest is not None and (reason := length_obstacle(architecture, longest)):
        what = f"is too short for the notebook: {reason}"
        return [Problem(_CONFIG, what, f"set token_budget to {architecture.most_tokens - 1} or less")]
    return []


def check_head(architecture: Architecture) -> list[Problem]:
    """Whether there is an LM head: kit reads the labels' probabilities from it."""
    if (reason := head_obstacle(architecture)) is None:
        return []
    what, _, step = reason.rpartition(": ")
    return [Problem(_CONFIG, f"cannot be used: {what}", step)]
