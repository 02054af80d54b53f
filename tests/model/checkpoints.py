"""Real checkpoints, whole and broken: copies of the demo model, edited byte by byte, and sparse ones of real shapes."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

DEMO = Path(__file__).parents[1] / "demo" / "model"
WEIGHTS = "model.safetensors"
BYTES = {"F16": 2, "BF16": 2, "I32": 4, "F32": 4, "I64": 8, "U8": 1, "I8": 1, "F8_E4M3": 1}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True, "version": "gemm"}
_EIGHT = {"num_bits": 8, "type": "int", "symmetric": True}
INT8 = {
    "quant_method": "compressed-tensors",
    "format": "int-quantized",
    "config_groups": {
        "group_0": {
            "targets": ["Linear"],
            "weights": _EIGHT | {"strategy": "channel", "dynamic": False},
            "input_activations": _EIGHT | {"strategy": "token", "dynamic": True},
        }
    },
    "ignore": ["lm_head"],
}
"""As llm-compressor writes w8a8."""
YI_34B = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 7168,
    "intermediate_size": 20_480,
    "num_hidden_layers": 60,
    "num_attention_heads": 56,
    "num_key_value_heads": 8,
    "vocab_size": 64_000,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
    "torch_dtype": "float16",
    "bos_token_id": 1,
    "eos_token_id": 2,
    "quantization_config": AWQ,
}


def copy_demo(folder: Path) -> Path:
    """A copy of the demo model without its manifest, so that an edit is the only fault."""
    shutil.copytree(DEMO, folder)
    (folder / "manifest.json").unlink()
    return folder


def read_file(path: Path) -> tuple[dict, bytes]:
    """The header of a safetensors file as a dict, and the bytes after it."""
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    return json.loads(raw[8 : 8 + length]), raw[8 + length :]


def write_file(path: Path, header: dict | bytes, data: bytes = b"", *, length: int | None = None) -> None:
    """A safetensors file of this header, true or false, and these bytes."""
    body = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(body) if length is None else length).to_bytes(8, "little") + body + data)


def tensors_of(path: Path) -> dict[str, tuple[str, list[int], bytes]]:
    """Name → dtype, shape, bytes of every tensor of a file."""
    header, data = read_file(path)
    return {
        name: (told["dtype"], told["shape"], data[slice(*told["data_offsets"])])
        for name, told in header.items()
        if name != "__metadata__"
    }


def write_tensors(path: Path, tensors: dict[str, tuple[str, list[int], bytes]]) -> None:
    """A whole safetensors file of these tensors."""
    header, data = {}, b""
    for name, (dtype, shape, content) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    write_file(path, header, data)


def edit_tensors(folder: Path, change) -> None:
    """Let `change` edit the dict of the demo model's tensors, and write it back."""
    tensors = tensors_of(folder / WEIGHTS)
    change(tensors)
    write_tensors(folder / WEIGHTS, tensors)


def edit_json(path: Path, **values) -> None:
    """Set keys of a JSON file; None removes one."""
    body = json.loads(path.read_text())
    for key, value in values.items():
        if value is None:
            body.pop(key, None)
        else:
            body[key] = value
    path.write_text(json.dumps(body))


def split(folder: Path, parts: int = 3) -> Path:
    """Cut the demo model's weights into shards with an index, as large models have them."""
    tensors = tensors_of(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    names = sorted(tensors)
    weight_map = {}
    for part in range(parts):
        file = f"model-{part + 1:05}-of-{parts:05}.safetensors"
        chosen = names[part::parts]
        write_tensors(folder / file, {name: tensors[name] for name in chosen})
        weight_map |= dict.fromkeys(chosen, file)
    body = {"metadata": {"total_size": sum(len(t[2]) for t in tensors.values())}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(body))
    return folder


def sparse_file(path: Path, tensors: dict[str, tuple[str, list[int]]]) -> None:
    """A safetensors file with a true header, whose weights take no room on the disk."""
    header, end = {}, 0
    for name, (dtype, shape) in tensors.items():
        begin, end = end, end + math.prod(shape) * BYTES[dtype]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
    write_file(path, header)
    with path.open("r+b") as stream:
        stream.truncate(path.stat().st_size + end)


def awq_layer(name: str, inputs: int, outputs: int, *, group: int = 128) -> dict[str, tuple[str, list[int]]]:
    """A packed layer's tensors."""
    return {
        f"{name}.qweight": ("I32", [inputs, outputs // 8]),
        f"{name}.qzeros": ("I32", [inputs // group, outputs // 8]),
        f"{name}.scales": ("F16", [inputs // group, outputs]),
    }


def big_awq(folder: Path, config: dict = YI_34B, *, shards: int = 4, tokens: int | None = None) -> Path:
    """A checkpoint of a large model's shapes in AWQ, in several sparse files, with a tokenizer of its size."""
    folder.mkdir(parents=True)
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    keys = hidden // config["num_attention_heads"] * config["num_key_value_heads"]
    tensors: dict[str, tuple[str, list[int]]] = {
        "model.embed_tokens.weight": ("F16", [config["vocab_size"], hidden]),
        "model.norm.weight": ("F16", [hidden]),
        "lm_head.weight": ("F16", [config["vocab_size"], hidden]),
    }
    for number in range(config["num_hidden_layers"]):
        layer = f"model.layers.{number}"
        for name, inputs, outputs in (
            ("self_attn.q_proj", hidden, hidden),
            ("self_attn.k_proj", hidden, keys),
            ("self_attn.v_proj", hidden, keys),
            ("self_attn.o_proj", hidden, hidden),
            ("mlp.gate_proj", hidden, inner),
            ("mlp.up_proj", hidden, inner),
            ("mlp.down_proj", inner, hidden),
        ):
            tensors |= awq_layer(f"{layer}.{name}", inputs, outputs)
        for norm in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{layer}.{norm}.weight"] = ("F16", [hidden])
    names = list(tensors)
    weight_map = {}
    for part in range(shards):
        file = f"model-{part + 1:05}-of-{shards:05}.safetensors"
        chosen = names[part * len(names) // shards : (part + 1) * len(names) // shards]
        sparse_file(folder / file, {name: tensors[name] for name in chosen})
        weight_map |= dict.fromkeys(chosen, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    (folder / "config.json").write_text(json.dumps(config))
    make_tokenizer(folder, tokens or config["vocab_size"])
    return folder


def int8_demo(folder: Path) -> Path:
    """The demo model's shapes as llm-compressor's w8a8 lays them: int8 weights and float32 scales, all of them 0."""
    copy_demo(folder)
    made: dict[str, tuple[str, list[int], bytes]] = {}
    for name, (dtype, shape, content) in tensors_of(folder / WEIGHTS).items():
        layer, _, ending = name.rpartition(".")
        if ending == "qweight":
            inputs, outputs = shape[0], shape[1] * 8
            made[f"{layer}.weight"] = ("I8", [outputs, inputs], bytes(outputs * inputs))
            made[f"{layer}.weight_scale"] = ("F32", [outputs, 1], bytes(outputs * 4))
        elif ending not in {"qzeros", "scales"}:
            made[name] = (dtype, shape, content)
    write_tensors(folder / WEIGHTS, made)
    edit_json(folder / "config.json", quantization_config=INT8)
    return folder


def make_tokenizer(folder: Path, tokens: int) -> None:
    """A tokenizer.json of so many tokens, "A", "B" and "tie" among them."""
    import tokenizers

    words = ["<unk>", "<s>", "</s>", "\n", "A", "B", "t", "i", "e", "ti", "tie"]
    vocabulary = {word: number for number, word in enumerate(words + [f"w{n}" for n in range(tokens - len(words))])}
    made = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, [("t", "i"), ("ti", "e")], unk_token="<unk>"))
    made.add_special_tokens(["<s>", "</s>"])
    made.save(str(folder / "tokenizer.json"))
