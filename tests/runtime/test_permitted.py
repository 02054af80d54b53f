"""What a project may set: fast and large, and never what is loaded."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaggle_kit.errors import UsageError
from kaggle_kit.runtime.permitted import check_options, option_problem, session_environment, variable_problem
from kaggle_kit.targets import load_target, target_names

LOADS_CODE = (
    *("LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT", "PYTHONPATH", "PYTHONSTARTUP", "PYTHONHOME", "PATH", "HOME"),
    *("GCONV_PATH", "BASH_ENV", "ENV", "GLIBC_TUNABLES", "MALLOC_CHECK_", "MALLOC_CONF", "IFS", "XDG_CACHE_HOME"),
    *("http_proxy", "HTTPS_PROXY", "All_Proxy", "no_proxy", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "KAGGLE_KEY"),
    *("KAGGLE_API_TOKEN", "KAGGLE_CONFIG_DIR", "AWS_SECRET_ACCESS_KEY", "HF_ENDPOINT", "SSL_CERT_FILE", "CC", "CXX"),
    *("VLLM_PLUGINS", "VLLM_NCCL_SO_PATH", "VLLM_CUDART_SO_PATH", "VLLM_LOGGING_CONFIG_PATH", "VLLM_CONFIG_ROOT"),
    *("VLLM_ALLOW_INSECURE_SERIALIZATION", "VLLM_USE_MODELSCOPE", "VLLM_MODEL_REDIRECT_PATH", "VLLM_API_KEY"),
    *("VLLM_RUST_FRONTEND_PATH", "VLLM_TUNED_CONFIG_FOLDER", "VLLM_RAY_EXTRA_ENV_VARS_TO_COPY", "VLLM_CACHE_ROOT"),
    *("CUDA_INJECTION64_PATH", "CUDA_HOME", "CUDA_CACHE_PATH", "CUDA_MPS_PIPE_DIRECTORY", "NVIDIA_VISIBLE_DEVICES"),
    *("NCCL_NET_PLUGIN", "NCCL_TUNER_PLUGIN", "NCCL_PROFILER_PLUGIN", "NCCL_CONF_FILE", "NCCL_TOPO_FILE", "NCCL_NET"),
    *("OMP_TOOL_LIBRARIES", "OMP_TOOL", "TORCH_HOME", "TORCH_EXTENSIONS_DIR", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"),
    *("TORCH_DEVICE_BACKEND_AUTOLOAD", "TORCHINDUCTOR_CACHE_DIR", "TORCHINDUCTOR_CUTLASS_DIR", "TRITON_PTXAS_PATH"),
    *("TRITON_CACHE_MANAGER", "TRITON_KERNEL_OVERRIDE", "TRITON_LIBCUDA_PATH", "TRITON_CACHE_DIR", "LD-PRELOAD"),
    *("VLLM_X Y", "VLLM_\n", "", "=", "vllm_use_v1", "VLLM_TEST_FORCE_LOAD_FORMAT", "VLLM_XLA_CACHE_PATH", "HF_HOME"),
    *("VLLM_HOST_IP", "VLLM_DP_MASTER_IP", "VLLM_LOOPBACK_IP", "NCCL_RAS_ADDR", "NCCL_COMM_ID"),
)


@pytest.mark.parametrize("name", LOADS_CODE)
def test_a_variable_that_can_load_code_is_refused(name):
    """Loaders, Python, shells, plug-ins, compilers, caches, logins, proxies: in any spelling."""
    assert variable_problem(name, "1")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("VLLM_USE_FLASHINFER_SAMPLER", "0"),
        ("VLLM_ATTENTION_BACKEND", "TRITON_ATTN"),
        ("VLLM_CPU_OMP_THREADS_BIND", "0-15|16-31"),
        ("VLLM_DISABLED_KERNELS", "MacheteLinearKernel,CutlassW4A8LinearKernel"),
        ("VLLM_MULTI_STREAM_GEMM_TOKEN_THRESHOLD", "512"),
        ("CUDA_VISIBLE_DEVICES", "0,1"),
        ("CUDA_MODULE_LOADING", "LAZY"),
        ("CUBLAS_WORKSPACE_CONFIG", ":4096:8"),
        ("NCCL_P2P_DISABLE", "1"),
        ("NCCL_IB_HCA", "=mlx5_0:1"),
        ("OMP_NUM_THREADS", "8"),
        ("KMP_AFFINITY", "granularity=fine,compact,1,0"),
        ("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True,max_split_size_mb:512"),
        ("TORCH_COMPILE_DISABLE", "1"),
        ("KIT_AWQ_KERNEL", "plain"),
    ],
)
def test_a_setting_is_taken(name, value):
    """What makes an engine fast, or run at all, is a project's to say."""
    assert variable_problem(name, value) is None


@pytest.mark.parametrize("value", ["/tmp/x.so", "../x", "a\nb", "a\0b", "~", "$(id)", "`id`", "é", "x" * 301])
def test_a_value_that_names_a_place_is_refused(value):
    """Even of a name that is a setting."""
    assert variable_problem("VLLM_ATTENTION_BACKEND", value)


def test_what_is_shipped_is_taken():
    """Every target of the kit's own passes, with its options."""
    for name in target_names():
        assert option_problem(load_target(name).engine_options) is None


BRINGS_CODE = {
    "trust": {"trust_remote_code": True},
    "trust as a number": {"trust_remote_code": 1},
    "trust as a text": {"trust_remote_code": "true"},
    "trust with dashes": {"Trust-Remote-Code": True},
    "worker class": {"worker_cls": "evil.Worker"},
    "worker extension": {"worker_extension_cls": "evil.Extension"},
    "scheduler": {"scheduler_cls": "evil.Scheduler"},
    "executor": {"distributed_executor_backend": "evil.Executor"},
    "executor's module": {"distributed_executor_backend": "evil"},
    "tokenizer mode": {"tokenizer_mode": "custom"},
    "tokenizer": {"tokenizer": "/tmp/evil"},
    "pickled weights": {"load_format": "pt"},
    "loader plug-in": {"load_format": "evil"},
    "processors": {"logits_processors": ["evil:P"]},
    "processor as a text": {"logits_processors": "evil:P"},
    "overrides": {"hf_overrides": {"auto_map": {"AutoConfig": "evil.Config"}}},
    "deep": {"additional_config": {"a": {"b": {"trust_remote_code": True}}}},
    "compilation": {"compilation_config": {"backend": "evil.backend"}},
    "transfer": {"kv_transfer_config": {"kv_connector_module_path": "evil"}},
    "speculative": {"speculative_config": {"model": "/tmp/evil"}},
    "reasoning plug-in": {"reasoning_parser_plugin": "evil.py"},
    "tool plug-in": {"tool_parser_plugin": "evil.py"},
    "processor plug-in": {"io_processor_plugin": "evil"},
    "config": {"hf_config_path": "evil"},
    "generation config": {"generation_config": "folder"},
    "login": {"hf_token": True},
    "attention": {"attention_backend": "CUSTOM"},
    "a new one": {"something_of_next_year": "evil"},
    "class path": {"quantization": "evil.module"},
    "downloads": {"download_dir": "tmp"},
    "media": {"allowed_local_media_path": "/"},
    "model class": {"model_class_overrides": {"a": "evil:Model"}},
}


@pytest.mark.parametrize("case", BRINGS_CODE)
def test_an_option_that_can_bring_code_is_refused(case):
    """Unless the user says it; the sentence names the option and the way."""
    options = BRINGS_CODE[case]
    with pytest.raises(UsageError, match="--trust-remote-code") as caught:
        check_options({"dtype": "half", **options}, where="kit.toml", trusted=False)
    assert next(iter(options)) in str(caught.value)
    check_options(options, where="kit.toml", trusted=True)


def test_options_that_are_numbers_and_words_are_taken():
    """A new number or switch of a later engine is no code."""
    options = {
        "dtype": "half",
        "quantization": "compressed-tensors",
        "kv_cache_dtype": "fp8_e4m3",
        "attention_backend": "FLASH_ATTN",
        "tokenizer_mode": "slow",
        "load_format": "safetensors",
        "distributed_executor_backend": "mp",
        "device": "cuda:0",
        "max_num_seqs": 32,
        "gpu_memory_utilization": 0.9,
        "enforce_eager": True,
        "trust_remote_code": False,
        "a_switch_of_next_year": True,
        "seed": None,
        "compilation_config": 3,
    }
    assert option_problem(options) is None


@given(st.text(max_size=30), st.text(max_size=30))
def test_any_variable_is_judged(name, value):
    """No name or value is an error, and none that is taken holds a slash or a NUL."""
    if variable_problem(name, value) is None:
        assert not set("/\\\0\n") & set(value)


def test_a_child_gets_the_drivers_place_and_no_login(monkeypatch):
    """Kaggle's image says in LD_LIBRARY_PATH where libcuda is; its tokens are no child's business."""
    kept = {
        "LD_LIBRARY_PATH": "/usr/local/nvidia/lib64",
        "NVIDIA_VISIBLE_DEVICES": "all",
        "CUDA_VISIBLE_DEVICES": "0",
        "KAGGLE_KERNEL_RUN_TYPE": "Batch",
        "OMP_NUM_THREADS": "2",
    }
    lost = (
        *("KAGGLE_USER_SECRETS_TOKEN", "KAGGLE_DATA_PROXY_TOKEN", "KAGGLE_API_TOKEN", "HF_TOKEN", "VLLM_API_KEY"),
        *("LD_PRELOAD", "PYTHONPATH", "PYTHONSTARTUP", "VLLM_PLUGINS", "MPLBACKEND", "https_proxy"),
    )
    for name in lost:
        monkeypatch.setenv(name, "made-up")
    for name, value in kept.items():
        monkeypatch.setenv(name, value)
    found = session_environment({"OMP_NUM_THREADS": "4"})
    assert not set(lost) & set(found)
    assert found.items() >= (kept | {"OMP_NUM_THREADS": "4", "PATH": os.environ["PATH"]}).items()
