"""Ask the engine which checkpoints it loads: architectures by forms of their weights, as data and as a table.

    PYTHON benchmarks/engine_matrix.py shapes            the engine's Python: what transformers saves of each
    PYTHON benchmarks/engine_matrix.py ask [NAME ...]    the engine's Python: what the engine says of each cell
    python benchmarks/engine_matrix.py table             kit's own Python: docs/models.md, with the inspection's word

The committed data are tests/model/engine_matrix.json: for each architecture its configuration, its plain tensors as
transformers saves them, and for each form the engine's answer on this machine's CPU: "loads", or the error. Beside
them stand the refusals that no rule tells, in kaggle_kit/runtime/facts/. A test makes the same checkpoints and holds
the inspection's word against the answers.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

DATA = Path(__file__).parents[1] / "tests/model/engine_matrix.json"
PAGE = Path(__file__).parents[1] / "docs/models.md"
ANSWERS = Path(__file__).parents[1] / "kaggle_kit/runtime/facts/answers.json"
MARK, END = "<!-- matrix -->", "<!-- end of the matrix -->"
_LONGEST = 120
"""Of an error's text in data and table."""
BYTES = {"F16": 2, "BF16": 2, "I32": 4, "F32": 4, "I64": 8, "U8": 1, "I8": 1, "F8_E4M3": 1}
Tensors = dict[str, tuple[str, list[int]]]
HIDDEN, INNER, ROWS = 256, 512, 512
_SMALL: dict[str, Any] = {
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "vocab_size": ROWS,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_EXPERTS = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 256}
_MLA = {"q_lora_rank": None, "kv_lora_rank": 128, "qk_nope_head_dim": 64, "qk_rope_head_dim": 64, "v_head_dim": 64}
_DEEPSEEK = _MLA | {
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "first_k_dense_replace": 1,
    "moe_intermediate_size": 256,
    "num_experts_per_tok": 2,
    "num_key_value_heads": 4,
    "n_group": 1,
    "topk_group": 1,
}
_VISION = {"depth": 2, "hidden_size": 64, "num_heads": 4, "intermediate_size": 128, "out_hidden_size": HIDDEN}
_SIGMOID = {"topk_method": "noaux_tc", "scoring_func": "sigmoid"}
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "LlamaForCausalLM": ("llama", {}),
    "MistralForCausalLM": ("mistral", {}),
    "Qwen2ForCausalLM": ("qwen2", {}),
    "Qwen3ForCausalLM": ("qwen3", {}),
    "GemmaForCausalLM": ("gemma", {"tie_word_embeddings": True}),
    "Gemma2ForCausalLM": ("gemma2", {"tie_word_embeddings": True}),
    "Gemma3ForCausalLM": ("gemma3_text", {"tie_word_embeddings": True}),
    "Phi3ForCausalLM": ("phi3", {}),
    "PhiForCausalLM": ("phi", {"num_key_value_heads": 4}),
    "MixtralForCausalLM": ("mixtral", _EXPERTS),
    "Qwen2MoeForCausalLM": ("qwen2_moe", _EXPERTS | {"shared_expert_intermediate_size": 256}),
    "Qwen3MoeForCausalLM": ("qwen3_moe", _EXPERTS),
    "OlmoeForCausalLM": ("olmoe", _EXPERTS),
    "GptOssForCausalLM": ("gpt_oss", _EXPERTS),
    "DeepseekV2ForCausalLM": ("deepseek_v2", _DEEPSEEK),
    "DeepseekV3ForCausalLM": ("deepseek_v3", _DEEPSEEK | {"q_lora_rank": 128} | _SIGMOID),
    "Glm4ForCausalLM": ("glm4", {}),
    "GlmForCausalLM": ("glm", {}),
    "Glm4MoeForCausalLM": ("glm4_moe", _EXPERTS | {"n_routed_experts": 4, "n_shared_experts": 1, "n_group": 1}),
    "CohereForCausalLM": ("cohere", {"tie_word_embeddings": True}),
    "Cohere2ForCausalLM": ("cohere2", {"tie_word_embeddings": True}),
    "OlmoForCausalLM": ("olmo", {}),
    "Olmo2ForCausalLM": ("olmo2", {}),
    "GraniteForCausalLM": ("granite", {}),
    "SmolLM3ForCausalLM": ("smollm3", {}),
    "StableLmForCausalLM": ("stablelm", {}),
    "Starcoder2ForCausalLM": ("starcoder2", {}),
    "FalconForCausalLM": (
        "falcon",
        {"head_dim": ..., "new_decoder_architecture": True, "num_kv_heads": 2, "ffn_hidden_size": 4 * HIDDEN},
    ),
    "GPTNeoXForCausalLM": ("gpt_neox", {}),
    "OPTForCausalLM": ("opt", {"ffn_dim": INNER, "word_embed_proj_dim": HIDDEN}),
    "BloomForCausalLM": ("bloom", {"n_layer": 2, "n_head": 4, "tie_word_embeddings": True}),
    "NemotronForCausalLM": ("nemotron", {}),
    "InternLM3ForCausalLM": ("llama", {}),
    "BaichuanForCausalLM": ("llama", {}),
    "PeftModelForCausalLM": ("llama", {}),
    "FSDPQwen2ForCausalLM": ("qwen2", {}),
    "Qwen2_5_VLForConditionalGeneration": ("qwen2_5_vl", {"vision_config": _VISION}),
}
CLASSES = {"InternLM3ForCausalLM": "LlamaForCausalLM", "BaichuanForCausalLM": "LlamaForCausalLM"} | {
    "PeftModelForCausalLM": "LlamaForCausalLM",
    "FSDPQwen2ForCausalLM": "Qwen2ForCausalLM",
}
"""Names that another class's tensors stand under."""
SECOND = re.compile(r"\.(?:layers|h)\.1\.")
"""Whether a layer's name is of the second layer of the model."""
_WHOLE = re.compile(r"embed|wte|wpe|lm_head|norm|\.ln_|router|\.gate\.weight|visual|shared_expert_gate|embed_out")


def linear_layers(plain: Tensors) -> dict[str, list[int]]:
    """The linear layers that a quantiser packs, by name, and their weights' shapes."""
    return {
        name.removesuffix(".weight"): shape
        for name, (_, shape) in plain.items()
        if name.endswith(".weight") and len(shape) == 2 and not _WHOLE.search(name)
    }


def awq(name: str, outputs: int, inputs: int) -> Tensors:
    """A layer as AutoAWQ packs it."""
    return {
        f"{name}.qweight": ("I32", [inputs, outputs // 8]),
        f"{name}.qzeros": ("I32", [inputs // 128, outputs // 8]),
        f"{name}.scales": ("F16", [inputs // 128, outputs]),
    }


def gptq(name: str, outputs: int, inputs: int, bits: int = 4, group: int = 128) -> Tensors:
    """A layer as GPTQ packs it."""
    pack = 32 // bits
    return {
        f"{name}.qweight": ("I32", [inputs // pack, outputs]),
        f"{name}.qzeros": ("I32", [inputs // group, outputs // pack]),
        f"{name}.scales": ("F16", [inputs // group, outputs]),
        f"{name}.g_idx": ("I32", [inputs]),
    }


def dynamic(name: str, outputs: int, inputs: int) -> Tensors:
    """A layer of a GPTQ checkpoint whose second layer has groups of 64."""
    return gptq(name, outputs, inputs, group=64 if SECOND.search(name) else 128)


def wna16(name: str, outputs: int, inputs: int) -> Tensors:
    """A layer as compressed-tensors packs 4-bit integers."""
    return {
        f"{name}.weight_packed": ("I32", [outputs, inputs // 8]),
        f"{name}.weight_scale": ("BF16", [outputs, inputs // 128]),
        f"{name}.weight_shape": ("I64", [2]),
    }


def eight(dtype: str, name: str, outputs: int, inputs: int) -> Tensors:
    """A layer of 8 bits with a scale for each output."""
    return {f"{name}.weight": (dtype, [outputs, inputs]), f"{name}.weight_scale": ("BF16", [outputs, 1])}


def nvfp4(name: str, outputs: int, inputs: int) -> Tensors:
    """A layer as compressed-tensors packs NVFP4."""
    return {
        f"{name}.weight_packed": ("U8", [outputs, inputs // 2]),
        f"{name}.weight_scale": ("F8_E4M3", [outputs, inputs // 16]),
        f"{name}.weight_global_scale": ("F32", [1]),
        f"{name}.input_global_scale": ("F32", [1]),
    }


def bitsandbytes(name: str, outputs: int, inputs: int) -> Tensors:
    """A layer as bitsandbytes packs NF4."""
    return {
        f"{name}.weight": ("U8", [outputs * inputs // 2, 1]),
        f"{name}.weight.absmax": ("U8", [outputs * inputs // 64]),
    }


def _ct(format_: str, weights: dict[str, Any], inputs: dict[str, Any] | None) -> dict[str, Any]:
    group = {"targets": ["Linear"], "weights": weights, "input_activations": inputs, "output_activations": None}
    ignore = ["lm_head", "re:.*router.*", "re:.*mlp.gate$", "re:.*shared_expert_gate$", "re:.*visual.*"]
    return {
        "quant_method": "compressed-tensors",
        "format": format_,
        "ignore": ignore,
        "config_groups": {"group_0": group},
    }


_EIGHT = {"num_bits": 8, "symmetric": True}
_FOUR_FLOAT = {"num_bits": 4, "type": "float", "symmetric": True, "strategy": "tensor_group", "group_size": 16}
_GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False, "sym": True, "lm_head": False}
FORMS: dict[str, tuple[dict[str, Any] | None, Any]] = {
    "plain": (None, None),
    "AWQ": ({"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True, "version": "gemm"}, awq),
    "GPTQ": (_GPTQ, gptq),
    "GPTQ dynamic": (_GPTQ | {"dynamic": {f"+:.*{SECOND.pattern}.*": {"group_size": 64}}}, dynamic),
    "W4A16": (
        _ct(
            "pack-quantized",
            {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": 128},
            None,
        ),
        wna16,
    ),
    "W8A8": (
        _ct(
            "int-quantized",
            _EIGHT | {"type": "int", "strategy": "channel", "dynamic": False},
            _EIGHT | {"type": "int", "strategy": "token", "dynamic": True},
        ),
        lambda *layer: eight("I8", *layer),
    ),
    "FP8": (
        _ct(
            "float-quantized",
            _EIGHT | {"type": "float", "strategy": "channel", "dynamic": False},
            _EIGHT | {"type": "float", "strategy": "token", "dynamic": True},
        ),
        lambda *layer: eight("F8_E4M3", *layer),
    ),
    "NVFP4": (_ct("nvfp4-pack-quantized", _FOUR_FLOAT | {"dynamic": False}, _FOUR_FLOAT | {"dynamic": "local"}), nvfp4),
    "bitsandbytes": (
        {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
        bitsandbytes,
    ),
    "hqq": ({"quant_method": "hqq", "bits": 4}, bitsandbytes),
}
"""Form → quantization_config, and what makes a layer's tensors of its name, outputs and inputs."""


def cell(architecture: str, data: dict[str, Any], form: str) -> tuple[dict[str, Any], Tensors]:
    """The configuration and tensors of one checkpoint."""
    packing, pack = FORMS[form]
    config = {**data["config"], "architectures": [architecture]}
    plain: Tensors = {name: (dtype, shape) for name, (dtype, shape) in data["tensors"].items()}
    if packing is None:
        return config, plain
    layers, tensors = linear_layers(plain), dict(plain)
    for name, (outputs, inputs) in layers.items():
        del tensors[f"{name}.weight"]
        tensors |= pack(name, outputs, inputs)
    return config | {"quantization_config": packing}, tensors


def write(folder: Path, config: dict[str, Any], tensors: Tensors) -> None:
    """A checkpoint of zeros that takes no room on the disk."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    header, end = {}, 0
    for name, (dtype, shape) in tensors.items():
        begin, end = end, end + math.prod(shape) * BYTES[dtype]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
    body = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(body).to_bytes(8, "little") + body)
        file.truncate(8 + len(body) + end)


def shapes() -> dict[str, Any]:
    """Each architecture's configuration, and its tensors as transformers saves them."""
    import torch
    import transformers
    from safetensors import safe_open

    data = {}
    for name, (model_type, own) in ARCHITECTURES.items():
        class_name = CLASSES.get(name, name)
        with tempfile.TemporaryDirectory() as folder:
            try:
                config = transformers.AutoConfig.for_model(model_type, **_chosen(own))
                config.torch_dtype = "bfloat16"
                torch.set_default_dtype(torch.bfloat16)
                model = getattr(transformers, class_name)(config)
                model.save_pretrained(folder)
                body = json.loads((Path(folder) / "config.json").read_text())
                with safe_open(Path(folder) / "model.safetensors", "pt") as file:
                    keys = list(file.keys())
                    tensors = {key: ["BF16", list(file.get_slice(key).get_shape())] for key in keys}
                data[name] = {"config": body, "tensors": tensors, "answers": {}}
            except Exception as error:
                sys.stderr.write(f"{name}: {type(error).__name__}: {str(error)[:300]}\n")
    return data


def _chosen(own: dict[str, Any]) -> dict[str, Any]:
    """The small model's numbers with those of an architecture's own; `...` leaves one out."""
    return {key: value for key, value in {**_SMALL, **own}.items() if value is not ...}


def ask(data: dict[str, Any], names: list[str]) -> None:
    """What the engine says of each cell: one process for each, forked from one that has imported the engine."""
    os.environ.update(VLLM_LOGGING_LEVEL="ERROR", HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", VLLM_NO_USAGE_STATS="1")
    os.environ.update(OMP_WAIT_POLICY="PASSIVE", OMP_NUM_THREADS="1", TORCH_COMPILE_DISABLE="1")
    os.environ.update(VLLM_CPU_KVCACHE_SPACE="1", VLLM_ENABLE_V1_MULTIPROCESSING="0")
    logging.disable(logging.WARNING)
    import torch
    import vllm.engine.arg_utils
    import vllm.model_executor.model_loader  # noqa: F401
    from vllm.v1.worker import cpu_model_runner

    # As the engine's own worker on a CPU does.
    cpu_model_runner._set_torch_accelerator_to_noop()
    torch.set_num_threads(1)
    root = Path(tempfile.mkdtemp())
    for name in names or list(data):
        for form in FORMS:
            folder = root / "model"
            shutil.rmtree(folder, ignore_errors=True)
            write(folder, *cell(name, data[name], form))
            data[name]["answers"][form] = _answer(folder)
            sys.stderr.write(f"{name} {form}: {data[name]['answers'][form][:150]}\n")
    shutil.rmtree(root)


def _answer(folder: Path) -> str:
    """The engine's word on one checkpoint: "loads", or the error's first line."""
    read, written = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(120)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        try:
            _load(folder)
            text = "loads"
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"
        os.write(written, text[:3000].encode())
        os._exit(0)
    os.close(written)
    with os.fdopen(read, "rb") as pipe:
        text = pipe.read().decode(errors="replace")
    _, status = os.waitpid(child, 0)
    text = " ".join(text.replace(str(folder), "MODEL").split())
    return text[:300] or f"died of signal {os.WTERMSIG(status)}"


def _load(folder: Path) -> None:
    """Build the engine's model and load the weights, as its worker does, without starting the engine."""
    from vllm.config import set_current_vllm_config
    from vllm.distributed import ensure_model_parallel_initialized, init_distributed_environment
    from vllm.engine.arg_utils import EngineArgs
    from vllm.model_executor.model_loader import get_model

    arguments = EngineArgs(
        model=str(folder),
        skip_tokenizer_init=True,
        enforce_eager=True,
        dtype="bfloat16",
        max_model_len=64,
        trust_remote_code=False,
    )
    config = arguments.create_engine_config()
    with set_current_vllm_config(config):
        rendezvous = f"file://{folder.parent}/rendezvous-{os.getpid()}"
        init_distributed_environment(1, 0, rendezvous, 0, "gloo")
        ensure_model_parallel_initialized(1, 1)
        get_model(vllm_config=config)


def refusals(data: dict[str, Any]) -> dict[str, dict[str, str]]:
    """The errors of cells whose method the engine reads, of architectures that it loads plain."""
    told = {}
    for name, body in data.items():
        answers = body["answers"]
        unread = ("NVFP4", "bitsandbytes", "hqq", "plain")
        refused = {form: text[:_LONGEST] for form, text in answers.items() if text != "loads" and form not in unread}
        if refused and answers.get("plain") == "loads":
            told[name] = refused
    return told


def table(data: dict[str, Any]) -> str:
    """The table of docs/models.md: the engine's answer and the inspection's word, cell by cell."""
    from kaggle_kit.model.inspect import inspect_model
    from kaggle_kit.targets import load_target

    target, notes = load_target("local-cpu"), {}
    rows = [f"| architecture | {' | '.join(FORMS)} |", f"|---|{'---|' * len(FORMS)}"]
    asked = agreed = 0
    with tempfile.TemporaryDirectory() as root:
        for name, body in data.items():
            row = []
            for form in FORMS:
                folder = Path(root) / "model"
                shutil.rmtree(folder, ignore_errors=True)
                write(folder, *cell(name, body, form))
                answer = body["answers"][form]
                word = not inspect_model(folder, target=target, tokenizer=False).errors
                asked, agreed = asked + 1, agreed + (word == (answer == "loads"))
                reason = re.sub(r"1 validation error for ModelConfig Value error, |\. Must be one of.*", "", answer)
                note = "" if answer == "loads" else f" {notes.setdefault(reason[:_LONGEST], len(notes) + 1)}"
                row.append(f"{'loads' if answer == 'loads' else 'refuses'}{note} / {'ok' if word else 'error'}")
            rows.append(f"| {name} | {' | '.join(row)} |")
    listed = [f"{number}. `{text}`" for text, number in notes.items()]
    return "\n".join([f"{asked} checkpoints, {agreed} times the same word.", "", *rows, "", *listed, ""])


def write_page(data: dict[str, Any]) -> None:
    """Put the table into docs/models.md, between its marks."""
    before, mark, rest = PAGE.read_text().partition(MARK)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{mark}\n{table(data)}{END}{after}")


def main() -> None:
    """Run what the first argument names."""
    what, *names = sys.argv[1:] or [""]
    if what == "shapes":
        data = shapes()
    elif what in {"ask", "table"}:
        data = json.loads(DATA.read_text())
    else:
        raise SystemExit(__doc__)
    if what == "table":
        write_page(data)
        return
    if what == "ask":
        ask(data, names)
        from vllm import __version__

        version = __version__.split("+")[0]
        ANSWERS.with_name(f"answers-{version}.json").write_text(json.dumps(refusals(data), indent=1) + "\n")
    # A line for each tensor would be thousands: an architecture is one.
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(body, sort_keys=True)}" for name, body in data.items())
    DATA.write_text(f"{{\n{lines}\n}}\n")


if __name__ == "__main__":
    main()
