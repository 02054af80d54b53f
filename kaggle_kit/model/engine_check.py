"""What the target's engine and cards would refuse of a checkpoint, or change about it.

Read in vLLM 0.25.1 and 0.32: config/model.py (`_get_and_verify_dtype`, `_FLOAT16_NOT_SUPPORTED_MODELS`),
platforms/cuda.py (`supported_dtypes`, `check_if_supports_dtype`), `get_min_capability` of each quantisation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kaggle_kit.model.problem import Problem, warning
from kaggle_kit.model.shards import shorten
from kaggle_kit.outside import shown
from kaggle_kit.runtime.checkpoint import code_named
from kaggle_kit.runtime.engine_plan import NO_HALF

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

    from kaggle_kit.model.architecture import Architecture
    from kaggle_kit.model.folder import Folder
    from kaggle_kit.model.headers import Tensor
    from kaggle_kit.model.quantisation import Quantisation
    from kaggle_kit.targets import Target

_LEAST_CAPABILITY = {"awq": (7, 5), "gptq": (6, 0), "compressed-tensors": (7, 0), "fp8": (7, 5), "bitsandbytes": (7, 0)}
_INT8_FROM = (7, 5)
_INT8_BELOW = (10, 0)
"""Cards that multiply int8 activations in vLLM: from compressed_tensors_w8a8_int8.py's own limit to where its CUTLASS
kernels end (csrc/quantization/w8a8/cutlass: "Int8 not supported on SM100")."""
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
_BFLOAT16_FROM = (8, 0)
_LISTED = 5


def engine_dtype(target: Target, dtype: str) -> str:
    """The type that the engine computes in there: the target's own, else the checkpoint's where the cards have it."""
    chosen = str(target.engine_options.get("dtype", "auto"))
    chosen = {"half": "float16", "float": "float32"}.get(chosen, chosen)
    if chosen != "auto":
        return chosen
    cards = target.capability
    if cards is not None and cards < _BFLOAT16_FROM:
        return "float16"
    return "float16" if dtype == "float16" else "bfloat16"


def check_dtype(target: Target, architecture: Architecture, dtypes: AbstractSet[str], *, packed: bool) -> list[Problem]:
    """What becomes of weights of these safetensors `dtypes` in the type that the engine computes in."""
    engine = engine_dtype(target, architecture.dtype)
    cards = target.capability
    problems = []
    if cards is not None and cards < _BFLOAT16_FROM and engine == "bfloat16":
        what = f"sets dtype = bfloat16, which {target.gpu_name} does not have, and vLLM stops"
        problems.append(Problem(f"target {target.name}", what, 'say dtype = "half" in its engine_options'))
    elif engine == "float16" and architecture.model_type in NO_HALF:
        way = "in float32 only, at twice the memory, unpacked" if cards and cards < _BFLOAT16_FROM else "in bfloat16"
        what = f"is of the type {architecture.model_type}, which vLLM refuses in float16 (its activations overflow)"
        step = f"{target.name} runs it {way}; take a model of another family"
        if way == "in bfloat16":
            step = f'set dtype = "bfloat16" for {target.name}'
        problems.append(Problem(_CONFIG, what, step))
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
    packing = config.get("quantization_config")
    method = packing.get("quant_method") if isinstance(packing, dict) else None
    method = method if isinstance(method, str) and method in _LEAST_CAPABILITY else None
    cards = target.capability
    least = _LEAST_CAPABILITY.get(str(method))
    if quantisation and quantisation.activations:
        method, least = f"{method} with int8 activations", _INT8_FROM
        if cards is not None and cards >= _INT8_BELOW:
            what = f"says {method}, which vLLM reads up to sm_90, and {target.gpu_name} is sm_{cards[0]}{cards[1]}"
            return [Problem(_CONFIG, what, "quantise the model in another way, or take another target")]
    if method is None or cards is None or least is None or cards >= least:
        return []
    what = f"says {method}, which needs sm_{least[0]}{least[1]}, and {target.gpu_name} is sm_{cards[0]}{cards[1]}"
    return [Problem(_CONFIG, what, "quantise the model in another way, or take another target")]


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
    if longest is not None and longest + 1 > architecture.most_tokens:
        most = architecture.most_tokens
        what = f"has room for {most:,} tokens, and prompts of {longest:,} and their answer are asked of it"
        return [Problem(_CONFIG, what, f"set token_budget to {most - 1} or less")]
    return []


def check_head(architecture: Architecture) -> list[Problem]:
    """Kit reads the labels' probabilities from the LM head."""
    if architecture.name.endswith(("ForCausalLM", "ForConditionalGeneration")):
        return []
    what = f"says {architecture.name}, which has no LM head to read the labels from"
    return [Problem(_CONFIG, what, "take the ...ForCausalLM form of the model")]
