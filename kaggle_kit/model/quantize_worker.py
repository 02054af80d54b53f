"""What runs in the quantiser's own environment: a program that imports nothing of kit.

    python -I quantize_worker.py REQUEST EVENTS

REQUEST is a JSON file: `do` ("supported", "merge" or "quantize") and what that needs. EVENTS is the number of a file
descriptor to which one JSON object a line is written: how far it is, and at the end `done` or `failed`. What libraries
print goes elsewhere, and the exit code says nothing.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import json
import os
import random
import signal
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)
_PACKAGES = ("autoawq", "peft", "safetensors", "tokenizers", "torch", "transformers")
_AT_ONCE = 16
"""Calibration samples that go through a layer together: more would only take more memory."""


class Events:
    """Writes the events."""

    def __init__(self, descriptor: int) -> None:
        """`descriptor` is closed when the program ends."""
        self._stream = os.fdopen(descriptor, "w", encoding="utf-8", buffering=1)

    def __call__(self, event: str, **told: Any) -> None:
        """One event."""
        self._stream.write(json.dumps({"event": event, **told}) + "\n")


def main() -> None:
    """Do what the request says."""
    # Without its parent nobody reads what it would make.
    ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    tell = Events(int(sys.argv[2]))
    work = {"supported": supported, "merge": merge, "quantize": quantize}[request["do"]]
    try:
        tell("done", **work(request, tell))
    except Exception as error:  # noqa: BLE001  whatever a library raises is told to the one who waits
        traceback.print_exc()
        tell("failed", message=f"{type(error).__name__}: {error}")


def supported(_request: dict[str, Any], _tell: Events) -> dict[str, Any]:
    """The model types that AutoAWQ quantises and that transformers knows without code from the checkpoint."""
    from awq.models.auto import AWQ_CAUSAL_LM_MODEL_MAP
    from transformers import CONFIG_MAPPING

    known = sorted(name for name in AWQ_CAUSAL_LM_MODEL_MAP if name in CONFIG_MAPPING)
    return {"supported": known, "versions": versions()}


def merge(request: dict[str, Any], tell: Events) -> dict[str, Any]:
    """Add the LoRA weights of `adapter` to the model in `source`, into `out`, in the source's own number format."""
    import torch
    from peft import PeftModel
    from transformers import AutoConfig, AutoModelForCausalLM

    settle(request)
    tell("stage", name="loading the base")
    own = AutoConfig.from_pretrained(request["source"]).torch_dtype or torch.float32
    base = AutoModelForCausalLM.from_pretrained(
        request["source"], torch_dtype=dtype_of(request["dtype"]), use_safetensors=True, low_cpu_mem_usage=True
    )
    tell("stage", name="merging the adapter")
    peft = PeftModel.from_pretrained(base, request["adapter"], is_trainable=False, torch_device="cpu")
    layers = sum(1 for module in peft.modules() if hasattr(module, "lora_A") and hasattr(module, "merge"))
    if layers != request["layers"]:
        raise ValueError(f"the adapter changes {request['layers']} layers, and peft found {layers} of them in the base")
    merged = peft.merge_and_unload(safe_merge=True)
    tell("stage", name="writing the merged model")
    merged.to(own).save_pretrained(request["out"], safe_serialization=True, max_shard_size=request["shard_size"])
    return {"layers": layers, "versions": versions()}


def quantize(request: dict[str, Any], tell: Events) -> dict[str, Any]:
    """Quantise the model in `source` with AWQ into `out`, on the token ids in the file `prompts`."""
    import awq.quantize.quantizer as inner
    import torch
    from awq import AutoAWQForCausalLM

    settle(request)
    prompts = json.loads(Path(request["prompts"]).read_text(encoding="utf-8"))
    tell("stage", name="loading the model")
    model = AutoAWQForCausalLM.from_pretrained(
        request["source"],
        torch_dtype=dtype_of(request["dtype"]),
        trust_remote_code=False,
        safetensors=True,
        device_map="cpu",
    )

    def told(layers: Iterable[int], **_options: Any) -> Iterator[int]:
        numbers = list(layers)
        for number in numbers:
            tell("layer", done=number, total=len(numbers))
            yield number
        tell("layer", done=len(numbers), total=len(numbers))

    inner.tqdm = told
    tell("stage", name="running the calibration prompts")
    longest = max(map(len, prompts))
    model.quantize(
        tokenizer=None,
        quant_config=request["quant_config"],
        calib_data=prompts,
        max_calib_samples=len(prompts),
        max_calib_seq_len=longest,
        n_parallel_calib_samples=_AT_ONCE,
    )
    tell("stage", name="writing the quantised model")
    # What AutoAWQ leaves as it was (embeddings, norms, biases) goes to fp16 too: vLLM's AWQ kernels take no other.
    model.model.half()
    for name, tensor in model.model.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{name} has numbers beyond fp16's 65,504: this model cannot be an AWQ model")
    model.save_quantized(request["out"], safetensors=True, shard_size=request["shard_size"])
    config = json.loads((Path(request["out"]) / "config.json").read_text(encoding="utf-8"))
    blocks = sum(map(len, prompts)) // longest
    return {
        "quantization_config": config["quantization_config"],
        "blocks": blocks,
        "block_tokens": longest,
        "threads": torch.get_num_threads(),
        "versions": versions(),
    }


def settle(request: dict[str, Any]) -> None:
    """Make what is random the same in each run."""
    import torch

    random.seed(request["seed"])
    torch.manual_seed(request["seed"])
    torch.use_deterministic_algorithms(True, warn_only=True)


def dtype_of(name: str) -> Any:
    """`auto`, or torch's type of that name."""
    import torch

    return name if name == "auto" else getattr(torch, name)


def versions() -> dict[str, str]:
    """What did it."""
    return {name: importlib.metadata.version(name) for name in _PACKAGES}


if __name__ == "__main__":
    main()
