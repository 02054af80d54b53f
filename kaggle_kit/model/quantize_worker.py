"""What runs in the quantiser's own environment: a program that imports nothing of kit.

    python -I quantize_worker.py REQUEST EVENTS

REQUEST is a JSON file: `do` ("supported", "merge" or "quantize"), `method` and `scheme`, and what that needs. EVENTS
is the number of a file descriptor to which one JSON object a line is written: how far it is, and at the end `done` or
`failed`. What libraries print goes to standard error, and the exit code says nothing.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import json
import os
import random
import re
import resource
import signal
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)
_PACKAGES = (
    "autoawq",
    "compressed-tensors",
    "llmcompressor",
    "peft",
    "safetensors",
    "tokenizers",
    "torch",
    "transformers",
)
_LEFT_WHOLE = ["lm_head", "re:.*mlp.gate$", "re:.*block_sparse_moe.gate$", "re:.*router$"]
"""What llm-compressor leaves in fp16: the head, and what chooses a mixture's experts."""
_AT_ONCE = 16
"""Calibration samples that go through a layer together: more would only take more memory."""


class Events:
    """Writes the events."""

    def __init__(self, descriptor: int) -> None:
        """From now on `descriptor` is for events alone: what is printed there goes to standard error."""
        self._stream = os.fdopen(os.dup(descriptor), "w", encoding="utf-8", buffering=1)
        os.dup2(2, descriptor)

    def __call__(self, event: str, **fields: Any) -> None:
        """One event."""
        self._stream.write(json.dumps({"event": event, **fields}) + "\n")


def main() -> None:
    """Do what the request says."""
    # Without its parent nobody reads what it would make.
    ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    # A crash would leave all of the model's memory as a file.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    tell = Events(int(sys.argv[2]))
    quantise = METHODS[request["method"], request["scheme"]]
    work = {"supported": supported, "merge": merge, "quantize": quantise}[request["do"]]
    try:
        tell("done", **work(request, tell), versions=versions())
    except Exception as error:  # noqa: BLE001  whatever a library raises goes to the one who waits
        traceback.print_exc()
        tell("failed", message=f"{type(error).__name__}: {error}")


def supported(request: dict[str, Any], _tell: Events) -> dict[str, Any]:
    """What the library says it quantises: AutoAWQ by model type, llm-compressor by architecture.

    AutoAWQ's types that transformers knows only by code from the checkpoint are left out: kit runs no such code.
    Rounding to the nearest (w8a8) asks nothing of an architecture: it does each that transformers builds.
    """
    if request["scheme"] == "w8a8":
        from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

        return {"supported": sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values())}
    if request["method"] == "llm-compressor":
        from llmcompressor.modifiers.transform.awq.mappings import AWQ_MAPPING_REGISTRY

        return {"supported": sorted(AWQ_MAPPING_REGISTRY)}
    from awq.models.auto import AWQ_CAUSAL_LM_MODEL_MAP
    from transformers import CONFIG_MAPPING

    return {"supported": sorted(name for name in AWQ_CAUSAL_LM_MODEL_MAP if name in CONFIG_MAPPING)}


def merge(request: dict[str, Any], tell: Events) -> dict[str, Any]:
    """Add the LoRA weights of `adapter` to the model in `source`, into `out`, in the source's own number format."""
    import torch
    from peft import PeftModel
    from transformers import AutoConfig

    settle(request)
    tell("stage", name="loading the base")
    own = getattr(AutoConfig.from_pretrained(request["source"]), type_word()) or torch.float32
    base = load(request)
    if request["unties"]:
        # Else what is added to one of the two changes the other, which was not trained so.
        head = base.get_output_embeddings()
        head.weight = torch.nn.Parameter(head.weight.detach().clone())
        base.config.tie_word_embeddings = False
    tell("stage", name="merging the adapter")
    peft = PeftModel.from_pretrained(base, request["adapter"], is_trainable=False, torch_device="cpu")
    layers = sum(1 for module in peft.modules() if hasattr(module, "lora_A") and hasattr(module, "merge"))
    if layers != request["layers"]:
        raise ValueError(f"the adapter changes {request['layers']} layers, and peft found {layers} of them in the base")
    merged = peft.merge_and_unload(safe_merge=True)
    tell("stage", name="writing the merged model")
    merged.to(own).save_pretrained(request["out"], safe_serialization=True, max_shard_size=request["shard_size"])
    return {"layers": layers}


def autoawq(request: dict[str, Any], tell: Events) -> dict[str, Any]:
    """Quantise the model in `source` with AWQ into `out`, on the token ids in the file `prompts`."""
    import awq.quantize.quantizer as inner
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

    def with_progress(layers: Iterable[int], **_options: Any) -> Iterator[int]:
        numbers = list(layers)
        for number in numbers:
            tell("layer", done=number, total=len(numbers))
            yield number
        tell("layer", done=len(numbers), total=len(numbers))

    inner.tqdm = with_progress
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
    halve(model.model)
    model.save_quantized(request["out"], safetensors=True, shard_size=request["shard_size"])
    return {"blocks": sum(map(len, prompts)) // longest, "block_tokens": longest, **packing(request)}


def llm_compressor(request: dict[str, Any], tell: Events) -> dict[str, Any]:
    """The same with llm-compressor's AWQ; each prompt is a sample of its own."""
    import torch
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
    from datasets import Dataset
    from llmcompressor import oneshot
    from llmcompressor.modifiers.quantization import QuantizationModifier
    from llmcompressor.modifiers.transform.awq import AWQModifier
    from llmcompressor.pipelines import cache
    from llmcompressor.pipelines.sequential import pipeline
    from transformers import PreTrainedTokenizerFast

    settle(request)
    if not torch.cuda.is_available():
        # It pins memory for the copies to a GPU, and without one that is an error.
        cache.IntermediatesCache.pin_memory = lambda *_arguments: None
    prompts = json.loads(Path(request["prompts"]).read_text(encoding="utf-8"))
    tell("stage", name="loading the model")
    model = load(request)
    group = request["quant_config"]["q_group_size"]
    weights = QuantizationArgs(num_bits=4, type="int", symmetric=False, strategy="group", group_size=group)
    scheme = QuantizationScheme(targets=["Linear"], weights=weights)

    def with_progress(items: Iterable[Any], *_places: Any, desc: str = "", **_options: Any) -> Iterable[Any]:
        if (match := re.match(r"\((\d+)/(\d+)\): Calib", desc)) is not None:
            tell("layer", done=int(match[1]) - 1, total=int(match[2]))
        return items

    pipeline.tqdm = with_progress
    tell("stage", name="running the calibration prompts")
    longest = max(map(len, prompts))
    oneshot(
        model=model,
        # It wants one, though the prompts are tokens already.
        processor=PreTrainedTokenizerFast(tokenizer_file=request["tokenizer"]),
        dataset=Dataset.from_dict({"input_ids": prompts, "attention_mask": [[1] * len(ids) for ids in prompts]}),
        recipe=[AWQModifier(), QuantizationModifier(config_groups={"group_0": scheme}, ignore=_LEFT_WHOLE)],
        max_seq_length=longest,
        num_calibration_samples=len(prompts),
        shuffle_calibration_samples=False,
        pipeline="sequential",
    )
    tell("stage", name="writing the quantised model")
    return {"blocks": len(prompts), "block_tokens": longest, **write(model, request)}


def whole_numbers(request: dict[str, Any], tell: Events) -> dict[str, Any]:
    """llm-compressor's w8a8: int8 weights, symmetric, one scale an output, each rounded to the nearest.

    The engine rounds the activations, by a scale that it takes of each token: no prompt is asked for. Raises ValueError
    for a mixture whose experts are one tensor: as no Linear layers they would be left whole.
    """
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
    from llmcompressor import oneshot
    from llmcompressor.modifiers.quantization import QuantizationModifier

    settle(request)
    tell("stage", name="loading the model")
    model = load(request)
    if experts := next((name for name, tensor in model.named_parameters() if tensor.dim() == 3), None):
        raise ValueError(f"{experts} holds a mixture's experts in one tensor, which w8a8 would leave whole")
    weights = QuantizationArgs(num_bits=8, type="int", symmetric=True, strategy="channel")
    inputs = QuantizationArgs(num_bits=8, type="int", symmetric=True, strategy="token", dynamic=True)
    scheme = QuantizationScheme(targets=["Linear"], weights=weights, input_activations=inputs)
    tell("stage", name="rounding the weights")
    oneshot(model=model, recipe=[QuantizationModifier(config_groups={"group_0": scheme}, ignore=_LEFT_WHOLE)])
    tell("stage", name="writing the quantised model")
    # As vLLM keeps them: one of a small output is among fp16's coarsest numbers.
    scales = {name: tensor.float() for name, tensor in model.state_dict().items() if name.endswith(".weight_scale")}
    return write(model, request, scales)


def write(model: Any, request: dict[str, Any], scales: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Save what llm-compressor made, in its compressed form, all but `scales` (name → tensor) in fp16.

    Returns how it is packed.
    """
    halve(model)
    for name, scale in (scales or {}).items():
        model.get_parameter(name).data = scale
    model.save_pretrained(request["out"], save_compressed=True, max_shard_size=request["shard_size"])
    (Path(request["out"]) / "recipe.yaml").unlink(missing_ok=True)
    return packing(request)


METHODS = {
    ("autoawq", "w4a16"): autoawq,
    ("llm-compressor", "w4a16"): llm_compressor,
    ("llm-compressor", "w8a8"): whole_numbers,
}
"""What quantises, by method and scheme."""


def load(request: dict[str, Any]) -> Any:
    """The model in `source`, in the number format asked for."""
    from transformers import AutoModelForCausalLM

    kind = {type_word(): dtype_of(request["dtype"])}
    return AutoModelForCausalLM.from_pretrained(request["source"], use_safetensors=True, **kind)


def type_word() -> str:
    """What transformers calls a model's number format: it was renamed in version 5."""
    return "torch_dtype" if importlib.metadata.version("transformers").startswith("4.") else "dtype"


def halve(model: Any) -> None:
    """All numbers in fp16. Raises ValueError if one is beyond its range."""
    import torch

    model.half()
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{name} has numbers beyond fp16's 65,504: the model cannot be quantised so")


def packing(request: dict[str, Any]) -> dict[str, Any]:
    """How the library says in config.json that it packed, and on how many threads it worked."""
    import torch

    config = json.loads((Path(request["out"]) / "config.json").read_text(encoding="utf-8"))
    return {"quantization_config": config["quantization_config"], "threads": torch.get_num_threads()}


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
    installed = {}
    for name in _PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            installed[name] = importlib.metadata.version(name)
    return installed


if __name__ == "__main__":
    main()
