"""What a project may set of an engine and of its process, and what a child of the runtime gets of the session's.

A target and kit.toml come with a clone of somebody else's: they may say how fast and how large, and never what code is
loaded. Names that are not known to be harmless are refused, since the engine's own list of settings grows with each
version. What this session's own environment says is the machine's business: there the paths of its driver are kept.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

from kaggle_kit.child import child_environment
from kaggle_kit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

TRUST_OPTION = "--trust-remote-code"

_PREFIXES = (
    *("VLLM_", "NCCL_", "OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "ONEDNN_", "DNNL_", "TORCH_NCCL_", "GLOO_"),
)
"""Families of settings. A name of them is refused if a word in it speaks of a place, a library or a secret."""
_NAMES = frozenset(
    (
        *("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "CUDA_DEVICE_MAX_CONNECTIONS", "CUDA_LAUNCH_BLOCKING"),
        *("CUDA_MODULE_LOADING", "CUDA_CACHE_DISABLE", "CUDA_CACHE_MAXSIZE", "CUDA_FORCE_PTX_JIT"),
        *("CUDA_DISABLE_PTX_JIT", "CUDA_SCALE_LAUNCH_QUEUES", "CUBLAS_WORKSPACE_CONFIG", "NVIDIA_TF32_OVERRIDE"),
        *("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF", "PYTORCH_NO_CUDA_MEMORY_CACHING"),
        *("PYTORCH_NVML_BASED_CUDA_CHECK", "TORCH_COMPILE_DISABLE", "TORCHDYNAMO_DISABLE", "TORCH_CUDA_ARCH_LIST"),
        *("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "TORCH_CPP_LOG_LEVEL", "TORCH_LOGS", "TORCH_SHOW_CPP_STACKTRACES"),
        *("TORCHINDUCTOR_COMPILE_THREADS", "TORCHINDUCTOR_MAX_AUTOTUNE", "TORCHINDUCTOR_FREEZING"),
        *("TORCHINDUCTOR_FORCE_DISABLE_CACHES", "TRITON_F32_DEFAULT", "TRITON_PRINT_AUTOTUNING"),
        *("TOKENIZERS_PARALLELISM", "RAYON_NUM_THREADS", "NUMEXPR_MAX_THREADS", "SAFETENSORS_FAST_GPU"),
        *("TRANSFORMERS_VERBOSITY", "KIT_AWQ_KERNEL"),
    )
)
_DANGEROUS_WORDS = frozenset(
    (
        *("PLUGIN", "PLUGINS", "PATH", "PATHS", "DIR", "DIRS", "DIRECTORY", "FOLDER", "ROOT", "HOME", "FILE", "FILES"),
        *("SO", "LIB", "LIBS", "LIBRARY", "LIBRARIES", "TOOL", "TOOLS", "COMPILER", "PRELOAD", "MODULE", "CLASS"),
        *("MANAGER", "INSECURE", "MODELSCOPE", "ENV", "DUMP", "COMMAND", "EXEC", "PROXY", "REDIRECT", "CONNECTOR"),
        # Another machine that an engine would take its work, and with it Python objects, from.
        *("IP", "MASTER", "ADDR", "ADDRESS", "RDZV"),
        *("URL", "SERVER", "ENDPOINT", "SECRET", "PASSWORD", "KEY", "CREDENTIALS", "REPO", "CONFIG"),
    )
)
_DANGEROUS_NAMES = frozenset(("NCCL_NET", "NCCL_COMM_ID", "VLLM_TEST_FORCE_LOAD_FORMAT"))
_VALUE = re.compile(r"[A-Za-z0-9_.,:;=+| -]{0,300}")
"""No slash: a place that a setting names is a place that something is loaded from or written to."""

_CHOICES: Mapping[str, frozenset[str] | None] = {
    **dict.fromkeys(
        (
            *("dtype", "kv_cache_dtype", "mamba_cache_dtype", "mamba_ssm_cache_dtype", "mm_encoder_attn_dtype"),
            *("lora_dtype", "quantization", "attention_backend", "moe_backend", "linear_backend", "mamba_backend"),
            *("all2all_backend", "dcp_comm_backend", "mm_encoder_attn_backend", "mm_encoder_tp_mode"),
            *("gdn_prefill_backend", "kda_prefill_backend", "kda_decode_backend", "sparse_indexer_topk_backend"),
            *("offload_backend", "kv_offloading_backend", "mamba_cache_mode", "mamba_ssu_algorithm"),
            *("runner", "convert", "task", "device", "scheduling_policy", "performance_mode", "optimization_level"),
            *("expert_placement_strategy", "prefix_caching_hash_algo", "safetensors_load_strategy"),
            *("logprobs_mode", "jit_monitor_mode", "log_level", "attn_implementation"),
        )
    ),
    "load_format": frozenset(
        ("auto", "safetensors", "fastsafetensors", "dummy", "mistral", "bitsandbytes", "gguf", "sharded_state")
    ),
    "tokenizer_mode": frozenset(("auto", "hf", "slow", "mistral")),
    "config_format": frozenset(("auto", "hf", "mistral")),
    "generation_config": frozenset(("auto", "vllm")),
    "model_impl": frozenset(("auto", "vllm", "transformers")),
    "distributed_executor_backend": frozenset(("mp", "uni", "ray", "external_launcher")),
    "data_parallel_backend": frozenset(("mp", "ray")),
}
"""Options of vLLM's (0.4 to 0.33) and of our own engine that are a choice of words, with the allowed words if others
would load code. Any other text may be a class, a module, a file or a folder."""
_WORD = re.compile(r"[A-Za-z0-9_-]{1,60}(:[0-9]{1,3})?")
_TRUSTING = re.compile(r"trust|insecure|unsafe|hf_token")
"""Options that are a mere yes or no and yet let code in, or a login out."""

_OF_THE_SESSION = frozenset(
    (
        # Kaggle's image finds the driver's libraries by it alone (/usr/local/nvidia/lib64).
        "LD_LIBRARY_PATH",
        *("CUDA_HOME", "CUDA_PATH", "CUDA_VERSION", "CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY"),
        *("NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES", "NVIDIA_REQUIRE_CUDA"),
        *("KAGGLE_KERNEL_RUN_TYPE", "KAGGLE_IS_COMPETITION_RERUN"),
    )
)


def variable_problem(name: str, value: str) -> str | None:
    """Why a project may not set this variable of the worker; None if it may."""
    words = name.split("_")
    known = name in _NAMES or name.startswith(_PREFIXES)
    if not re.fullmatch(r"[A-Z][A-Z0-9_]*", name) or not known:
        return "it is none of the engine's settings that a project may make"
    if name not in _NAMES and (_DANGEROUS_WORDS & set(words) or words[-1] == "TOKEN" or name in _DANGEROUS_NAMES):
        return "it can name code to load, a place to write to, or a login"
    if not _VALUE.fullmatch(value):
        return f"{value[:60]!r} is not a number, a word or a list of these"
    return None


def option_problem(options: Mapping[str, Any]) -> str | None:
    """The first engine option that could make the engine run code of others, and why; None if there is none.

    Numbers, yes and no are harmless, but for `trust_remote_code`; a text must be one of an option's known words.
    """
    for option, value in options.items():
        name = option.lower().replace("-", "_")
        if _TRUSTING.search(name):
            if value is not False:
                return f"{option} = {value!r}: the model's own code would be run, or a login used"
        elif isinstance(value, str):
            if name not in _CHOICES or not _WORD.fullmatch(value) or value.lower() == "custom":
                return f"{option} = {value[:80]!r}: it may name code, a file or a folder to be loaded"
            if (words := _CHOICES[name]) is not None and value.lower() not in words:
                return f"{option} = {value!r}: none of {', '.join(sorted(words))}, and others may load code"
        elif value is not None and not isinstance(value, (bool, int, float)):
            return f"{option} is a {type(value).__name__}, in which code to be loaded may be named"
    return None


def check_options(options: Mapping[str, Any], *, where: str, trusted: bool) -> None:
    """Raise UsageError if engine options that a project names `where` may load code, unless the user trusts it."""
    problem = option_problem(options)
    if problem and not trusted:
        raise UsageError(
            f"{where}: {problem}; take it out, or, if you have read that code and trust it, say {TRUST_OPTION}"
        )


def session_environment(added: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a child of the runtime gets: `child_environment`, what this session says of its cards and engine, `added`.

    No token, no setting of Python's, nothing that is loaded before a program's own libraries.
    """
    session = {
        name: value
        for name, value in os.environ.items()
        if name in _OF_THE_SESSION or variable_problem(name, value) is None
    }
    return child_environment(session | dict(added or {}))
