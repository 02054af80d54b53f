"""One case for each known failure: where it is told, and an excerpt as a real run shows it."""

_VLLM = "(EngineCore pid=212) ERROR 11-24 08:12:31 [core.py:1104]"
_LOAD = f"""(EngineCore pid=212) INFO 11-24 08:12:02 [gpu_model_runner.py:4801] Starting to load model
{_VLLM} EngineCore failed to start.
{_VLLM} Traceback (most recent call last):
{_VLLM}   File "/kaggle/temp/kit/env/lib/python3.12/site-packages/vllm/v1/engine/core.py", line 1095, in run_engine_core
{_VLLM}     engine_core = EngineCoreProc(*args, **kwargs)
"""


def _worker(*lines: str) -> str:
    """What the worker's log says, at the end of a vLLM traceback."""
    return _LOAD + "".join(f"{_VLLM} {line}\n" for line in lines)


def _cell(error: str, *, code: str = "session.install()") -> str:
    """A cell's exception as papermill prints it on Kaggle."""
    name = error.split(":", 1)[0]
    return f"""[NbConvertApp] Executing notebook with kernel: python3
Traceback (most recent call last):
  File "<string>", line 1, in <module>
  File "/usr/local/lib/python3.12/dist-packages/papermill/execute.py", line 131, in execute_notebook
    raise_for_execution_errors(nb, output_path)
papermill.exceptions.PapermillExecutionError:
---------------------------------------------------------------------------
Exception encountered at "In [9]":
---------------------------------------------------------------------------
{name}                             Traceback (most recent call last)
Cell In[9], line 30
     28     record=record,
     29 )
---> 30 {code}

{error}
"""


def _uv(said: str) -> str:
    return _cell(f"WheelhouseError: uv pip install failed (exit code 1):\n{said}")


LOGS = {
    "no-kernel-image": _worker(
        "    self.model = self.model.to(device)",
        "torch.AcceleratorError: CUDA error: no kernel image is available for execution on the device",
        "CUDA kernel errors might be asynchronously reported at some other API call.",
    ),
    "gpu-too-old-for-triton": _worker(
        "torch._inductor.exc.GPUTooOldForTriton: Found Tesla P100-PCIE-16GB which is too old to be supported by the "
        "triton GPU compiler, which is used as the backend."
    ),
    "driver-too-old": "/kaggle/temp/kit/env/lib/python3.12/torch/cuda/__init__.py:182: UserWarning: CUDA "
    "initialization: The NVIDIA driver on your system is too old (found version 12080). Please update your driver\n",
    "no-gpu": _worker(
        "RuntimeError: Failed to infer device type, please set the environment variable `VLLM_LOGGING_LEVEL=DEBUG`"
    ),
    "flash-attention": _worker(
        "    out, softmax_lse = flash_attn_cuda.fwd(q, k, v)",
        "RuntimeError: FlashAttention only supports Ampere GPUs or newer.",
    ),
    "bfloat16-on-old-gpu": _worker(
        "ValueError: Bfloat16 is only supported on GPUs with compute capability of at least 8.0. Your Tesla T4 GPU has "
        "compute capability 7.5. You can use float16 instead by explicitly setting the `dtype` flag in CLI"
    ),
    "quantisation-dtype": _worker(
        "pydantic_core._pydantic_core.ValidationError: 1 validation error for VllmConfig",
        "  Value error, torch.bfloat16 is not supported for quantization method awq. "
        "Supported dtypes: [torch.float16] [type=value_error]",
    ),
    "quantisation-gpu": _worker(
        "ValueError: The quantization method fp8 is not supported for the current GPU. Minimum capability: 89. "
        "Current capability: 75."
    ),
    "gpu-memory-at-load": _worker(
        '  File "/kaggle/temp/kit/env/lib/python3.12/vllm/v1/worker/gpu_worker.py", line 370, in load_model',
        "    self.model_runner.load_model()",
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 450.00 MiB. GPU 0 has a total capacity of "
        "14.56 GiB of which 301.81 MiB is free.",
    ),
    "gpu-memory-at-profiling": _worker(
        '  File "/kaggle/temp/kit/env/lib/python3.12/site-packages/vllm/v1/worker/gpu_worker.py", line 690, in '
        "determine_available_memory",
        "    self.model_runner.profile_run()",
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.20 GiB. GPU 0 has a total capacity",
    ),
    "gpu-memory-at-scoring": """[   0:04:11] 1,216/25,000 rows  6.1 rows/s  5,008 tokens/s  budget 1,024
Traceback (most recent call last):
  File "/kaggle/temp/kit/env/lib/python3.12/vllm/v1/worker/gpu_model_runner.py", line 3911, in execute_model
    model_output = self._model_forward(
torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 512.00 MiB. GPU 1 has a total capacity of 14.56 GiB
""",
    "no-kv-cache": _worker(
        "(EngineCore pid=212) INFO 11-24 08:12:31 [gpu_worker.py:745] Available KV cache memory: -0.38 GiB",
        "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization` when "
        "initializing the engine.",
    ),
    "kv-cache-too-small": _worker(
        "ValueError: To serve at least one request with the model's max seq len (8193), (1.5 GiB KV cache is needed, "
        "which is larger than the available KV cache memory (0.91 GiB). Based on the available memory, the estimated "
        "maximum model length is 4960."
    ),
    "gpu-memory-taken": _worker(
        "ValueError: Free memory on device cuda:0 (9.02/14.56 GiB) on startup is less than desired GPU memory "
        "utilization (0.92, 13.4 GiB). Decrease GPU memory utilization or reduce GPU memory used by other processes."
    ),
    "nccl": _worker(
        '  File "/kaggle/temp/kit/env/lib/python3.12/site-packages/vllm/distributed/device_communicators/'
        'pynccl_wrapper.py", line 402, in NCCL_CHECK',
        "RuntimeError: NCCL error: unhandled system error (run with NCCL_DEBUG=INFO for details)",
    ),
    "cuda-fault": _worker(
        "torch.AcceleratorError: CUDA error: an illegal memory access was encountered",
        "Search for `cudaErrorIllegalAddress' in the CUDA documentation for more information.",
    ),
    "glibc": _cell(
        "ImportError: /lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.38' not found (required by "
        "/kaggle/temp/kit/env/lib/python3.12/site-packages/vllm/_C.abi3.so)"
    ),
    "cuda-library-missing": _cell("ImportError: libcudart.so.13: cannot open shared object file: No such file"),
    "wheel-not-found": _uv(
        "error: No solution found when resolving dependencies\n"
        "  cause: Because nosuchpkg was not found in the provided package locations and you require nosuchpkg==1.0, "
        "we can conclude that your requirements are unsatisfiable."
    ),
    "wheel-wrong-python": _cell(
        "WheelhouseError: this is Python 3.13; the wheelhouse kaggle-t4x2 in /kaggle/input/kit-wheels is for 3.12. "
        "Pin the image that it was made for, or lock it for this Python and upload it again"
    ),
    "wheel-corrupt": _cell(
        "WheelhouseError: torch-2.13.0-cp312-cp312-manylinux_2_28_x86_64.whl of the wheelhouse kaggle-t4x2 in "
        "/kaggle/input/kit-wheels has 181,403,648 bytes, its manifest says 183,211,002: it was cut or changed; fetch "
        "or upload it again"
    ),
    "other-kit": _cell(
        "ValueError: /kaggle/input/kit-wheels-kit/kaggle_kit_runtime-0.1.0-py3-none-any.whl is of another kit than the "
        "one that built this notebook: push both again"
    ),
    "two-models": _cell(
        "ValueError: /kaggle/input/yi-34b-v1 and /kaggle/input/yi-34b-v2 are both the model 'yi-34b', and differ: "
        "detach one of them"
    ),
    "wheelhouse-parts": _cell(
        "WheelhouseError: /kaggle/input/kit-wheels-kit was made for another version of the wheelhouse kaggle-t4x2 than "
        "/kaggle/input/kit-wheels holds; upload both parts again, or attach the versions that belong together"
    ),
    "numpy-abi": "A module that was compiled using NumPy 1.x cannot be run in\nNumPy 2.3.5 as it may crash.\n",
    "torch-abi": _cell(
        "ImportError: /kaggle/temp/kit/env/lib/python3.12/site-packages/vllm/_C.abi3.so: undefined symbol: "
        "_ZN3c104cuda29c10_cuda_check_implementationEiPKcS2_ib"
    ),
    "protobuf": _cell(
        "TypeError: Descriptors cannot be created directly.\n"
        "If this call came from a _pb2.py file, your generated code is out of date."
    ),
    "no-compiler": _worker("RuntimeError: Failed to find C compiler. Please specify via CC environment variable."),
    "triton": _worker("ptxas fatal   : Value 'sm_121a' is not defined for option 'gpu-name'"),
    "module-missing": _cell("ModuleNotFoundError: No module named 'peft'", code="import peft"),
    "input-missing": _cell(
        "FileNotFoundError: no wheelhouse 'kaggle-t4x2' below /kaggle/input: attach its dataset to the notebook",
        code="WHEELHOUSE = find_manifests('wheelhouse', 'kaggle-t4x2')",
    ),
    "no-space": _cell("OSError: [Errno 28] No space left on device", code="shutil.copy(model, '/kaggle/working')"),
    "internet-needed": "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError: Failed to "
    "establish a new connection: [Errno -3] Temporary failure in name resolution': /simple/peft/\n",
    "hub-offline": _worker(
        "huggingface_hub.errors.LocalEntryNotFoundError: Cannot find the requested files in the disk cache and "
        "outgoing traffic has been disabled. To enable hf.co look-ups and downloads online, set 'local_files_only' to "
        "False."
    ),
    "model-cut": _cell(
        "ModelError: model-00002-of-00004.safetensors of the model yi-34b-awq in /kaggle/input/yi has 1,073,741,824 "
        "bytes, its manifest says 4,986,211,280: it was cut or changed; fetch or upload it again"
    ),
    "model-unknown": _worker(
        "  Value error, Model architectures ['Glimmer2ForCausalLM'] are not supported for now. Supported "
        "architectures: dict_keys(['LlamaForCausalLM'])"
    ),
    "model-too-large": _cell(
        "UsageError: the model does not fit the target's 2 cards (1: needs 19.1 GB of 13.4); take a smaller one"
    ),
    "trust-remote-code": _worker(
        "ValueError: The repository /kaggle/input/m contains custom code which must be executed to correctly load the "
        "model. Please pass the argument `trust_remote_code=True` to allow custom code to be run."
    ),
    "tokenizer-missing": _cell(
        "ModelError: /kaggle/input/m/tokenizer.json is missing: save the tokenizer in its fast form (save_pretrained "
        "writes it)"
    ),
    "label-tokens": "[   0:00:02] error: the label 'tie' is 2 tokens after the prompt, not one: ['▁t', 'ie']; "
    "spellings that are one token there: 'Tie'\n",
    "label-probabilities": "[   0:01:31] error: the engine gave the label log-probabilities [nan, nan, nan]: not all "
    "are finite\n",
    "token-budget": "[   0:00:02] error: the template alone has 131 tokens of 128; raise token_budget to 195 or more, "
    "or shorten the template\n",
    "columns": _cell(
        "ValueError: sample_submission.csv has the columns ['winner_a', 'winner_b'], the prior has ['first', 'second']"
    ),
    "submission-refused": _cell("RunError: the submission has 24,999 rows, the sample 25,000", code="session.submit()"),
    "host-memory": "[   0:02:12] the worker stopped (the worker was ended by SIGKILL); starting it again, scored rows "
    "are kept\n",
    "native-crash": "Fatal Python error: Segmentation fault\n\nCurrent thread 0x00007f1 (most recent call first):\n",
    "kernel-died": "[NbConvertApp] ERROR | Kernel died while waiting for execute reply.\n",
    "kernelspec": """Traceback (most recent call last):
  File "/usr/local/lib/python3.12/dist-packages/papermill/utils.py", line 52, in nb_kernel_name
    raise ValueError("No kernel name found in notebook and no override provided.")
ValueError: No kernel name found in notebook and no override provided.
""",
    "engine-failed": "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}\n",
    "scoring-stopped": "RunError: scoring stopped: the worker was ended by exit code 1\n",
}

MESSAGES = {
    "dataset-not-ready": ("dataset status", "BLOBS_RECEIVED"),
    "dataset-failed": ("dataset status", "FAILED"),
    "sources-refused": (
        "save error",
        "The following are not valid dataset sources and could not be added to the kernel: ['ada/kit-wheels']",
    ),
    "notebook-not-found": ("save error", "Notebook not found"),
    "source-too-large": ("save error", "The kernel source must be less than 1 megabytes in size."),
    "gpu-quota": ("save error", "Maximum weekly GPU quota of 30.00 hours reached."),
    "session-limit": ("save error", "Maximum batch GPU session count of 2 reached."),
    "submission-missing": ("submission error", "Submission CSV Not Found"),
    "scoring-error": ("submission error", "Submission Scoring Error"),
    "compute-exceeded": ("submission error", "Notebook Exceeded Allowed Compute"),
    "notebook-threw": ("submission error", "Notebook Threw Exception"),
    "time-limit": (
        "failure message",
        "Your notebook was stopped because it exceeded the max allowed execution duration.",
    ),
}

# What real runs that went well print: a dry run of this project, vLLM's start and pip's.
GOOD = """Input Notebook:  /kit/notebook.ipynb
Executing notebook with kernel: python3
Executing Cell 6---------------------------------------
submission.csv: 40 rows with the prior stand, whatever comes
Ending Cell 6------------------------------------------
  max_model_len = 513: the longest prompt here and the one token of its answer
  enforce_eager = True: given
  dtype = bfloat16: given
  VLLM_CPU_KVCACHE_SPACE=1: given
[   0:00] prepare
[   0:00] engine start
INFO 11-24 08:12:02 [config.py:412] Initializing a V1 LLM engine (v0.32.0) with config: model='/kaggle/input/m', \
trust_remote_code=False, dtype=torch.float16, max_seq_len=1025, tensor_parallel_size=2, quantization=awq
INFO 11-24 08:12:03 [cuda.py:301] Cannot use FlashAttention-2 backend for Volta and Turing GPUs.
INFO 11-24 08:12:04 [parallel_state.py:1004] vLLM is using nccl==2.27.5
WARNING 11-24 08:12:05 [custom_all_reduce.py:144] Custom allreduce is disabled because your platform lacks GPU P2P \
capability or P2P test failed.
INFO 11-24 08:12:31 [gpu_worker.py:745] Available KV cache memory: 3.11 GiB
[   0:24] 40 rows to score, 9,641 prompt tokens
[   0:24] engine: vllm 0.32.0 (logprob_token_ids, raw)
[   0:24] 40/40 rows  90.5 rows/s  21,808 tokens/s  budget 512  done in 0:00 at the latest (p95)  deadline in 8:54:29
submission.csv: 40 rows, 40 scored by the model (40 in both orders), 0 by a rule, 0 with the prior
engine  vllm 0.32.0 (logprob_token_ids, raw)
Successfully installed torch-2.13.0 vllm-0.32.0
[NbConvertApp] Writing 412345 bytes to __notebook__.ipynb
"""
