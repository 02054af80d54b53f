"""How weights are packed, layer by layer: each method's own rules, held against the tensors."""

from __future__ import annotations

import json
import time

import pytest
from forms import MATRIX, write_form

from kaggle_kit.errors import ModelError
from kaggle_kit.model.inspect import inspect_model
from kaggle_kit.runtime.packing_methods import read_quantisation
from kaggle_kit.runtime.quantisation import UNKNOWN
from kaggle_kit.targets import load_target

T4, H100 = load_target("kaggle-t4x2"), load_target("kaggle-h100")
AWQ, GPTQ = MATRIX.FORMS["AWQ"][0], MATRIX.FORMS["GPTQ"][0]
awq, gptq, wna16 = MATRIX.awq, MATRIX.gptq, MATRIX.wna16
JOINED = {"q_proj": "qkv_proj", "k_proj": "qkv_proj", "v_proj": "qkv_proj", "gate_proj": "gate_up_proj"}


def errors(folder, target=T4):
    """The errors' texts, one a line."""
    found = inspect_model(folder, target=target, tokenizer=False)
    return "\n".join(str(problem) for problem in found.errors if problem.file != "tokenizer.json")


def ct(groups, ignore=("lm_head",), format_="pack-quantized"):
    """A table of compressed-tensors."""
    return {
        "quant_method": "compressed-tensors",
        "format": format_,
        "ignore": list(ignore),
        "config_groups": {f"group_{number}": group for number, group in enumerate(groups)},
    }


def group(targets, bits=4, size=128, **more):
    """A group of integers without activations."""
    weights = {"num_bits": bits, "type": "int", "symmetric": True, "strategy": "group", "group_size": size}
    return {"targets": targets, "weights": weights, "input_activations": None, **more}


def packed(bits=4, size=128):
    """What makes a layer of compressed-tensors of these bits and groups."""

    def make(name, outputs, inputs):
        return {
            f"{name}.weight_packed": ("I32", [outputs, inputs * bits // 32]),
            f"{name}.weight_scale": ("BF16", [outputs, inputs // size]),
            f"{name}.weight_shape": ("I64", [2]),
        }

    return make


def test_every_form_is_read_and_counted(tmp_path):
    """Whatever its tensors are called and laid, the numbers of the model are those of the plain one."""
    counts = {}
    for form in ("plain", "AWQ", "GPTQ", "GPTQ dynamic", "W4A16", "W8A8", "FP8", "NVFP4"):
        folder = write_form(tmp_path / form, *MATRIX.FORMS[form])
        assert errors(folder, H100) == "", form
        counts[form] = inspect_model(folder, tokenizer=False).tally.parameters
    assert set(counts.values()) == {counts["plain"]}


def test_modelopt_and_fp8_are_read(tmp_path):
    """Two numbers a byte with a second scale, and blocks of 128 by 128."""

    def nvfp4(name, outputs, inputs):
        return {
            f"{name}.weight": ("U8", [outputs, inputs // 2]),
            f"{name}.weight_scale": ("F8_E4M3", [outputs, inputs // 16]),
            f"{name}.weight_scale_2": ("F32", []),
            f"{name}.input_scale": ("F32", []),
        }

    def blocks(name, outputs, inputs):
        scales = [-(-outputs // 128), -(-inputs // 128)]
        return {f"{name}.weight": ("F8_E4M3", [outputs, inputs]), f"{name}.weight_scale_inv": ("F32", scales)}

    modelopt = {"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": ["lm_head"]}
    folder = write_form(tmp_path / "modelopt", modelopt, nvfp4)
    assert errors(folder, H100) == ""
    found = inspect_model(folder, tokenizer=False)
    assert (found.method, found.quantisation.bits, found.quantisation.four_bits) == ("modelopt_fp4", 4, False)

    fp8 = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}
    left = fp8 | {"ignored_layers": ["model.layers.0.mlp.down_proj"]}
    one_whole = write_form(
        tmp_path / "fp8", left, lambda name, *shape: None if name in left["ignored_layers"] else blocks(name, *shape)
    )
    assert errors(one_whole) == ""
    assert "not packed: model.layers.0.mlp.down_proj" in errors(
        write_form(tmp_path / "fp8", fp8, lambda name, *shape: None if "0.mlp.down" in name else blocks(name, *shape))
    )


def test_the_dynamic_rules_of_gptq_are_followed(tmp_path):
    """Bits and groups of their own, layers left out, the first rule that matches, and a rule without a sign."""
    dynamic = {
        r"-:.*o_proj": {},
        r"+:.*\.layers\.1\.mlp.*": {"bits": 8, "group_size": 64},
        r".*\.layers\.1\..*": {"group_size": 32},
    }

    def make(name, outputs, inputs):
        if name.endswith("o_proj"):
            return None
        if ".1.mlp" in name:
            return gptq(name, outputs, inputs, bits=8, group=64)
        return gptq(name, outputs, inputs, group=32 if ".1." in name else 128)

    folder = write_form(tmp_path / "gptq", GPTQ | {"dynamic": dynamic}, make)
    assert errors(folder) == ""
    ways = {(way.bits, way.group_size): count for way, count in inspect_model(folder, tokenizer=False).packings}
    assert ways == {(4, 128): 6, (8, 64): 3, (4, 32): 3}
    assert "groups of 128 make it" in errors(write_form(tmp_path / "plain", GPTQ, make))


def test_a_layer_that_the_rules_leave_out_and_that_is_packed_is_an_error(tmp_path):
    """The engine makes a plain layer there, and finds no weight for it."""
    rule = GPTQ | {"dynamic": {r"-:.*down_proj": {}}}
    assert "down_proj: quantization_config leaves it whole" in errors(write_form(tmp_path / "a", rule, gptq))
    listed = AWQ | {"modules_to_not_convert": ["down_proj"]}
    assert "down_proj: quantization_config leaves it whole" in errors(write_form(tmp_path / "b", listed, awq))
    two = ct([group(["re:.*proj$"])], ["lm_head", "re:.*down_proj"])
    assert "down_proj: quantization_config leaves it whole" in errors(write_form(tmp_path / "c", two, wna16))


@pytest.mark.parametrize("override", [{"bits": 3}, {"sym": False}, {"bits": "4"}])
def test_a_dynamic_rule_that_the_engine_refuses_is_an_error(tmp_path, override):
    """It reads 4 and 8 bits, symmetric."""
    folder = write_form(tmp_path / "m", GPTQ | {"dynamic": {"+:.*": override}}, gptq)
    assert "'quantization_config.dynamic' says" in errors(folder)


def test_plain_layers_that_no_list_names_are_read_where_the_engine_reads_them(tmp_path):
    """AWQ without a list and GPTQ look at the tensors' own types; AWQ with a list and compressed-tensors do not."""

    def all_but(pack):
        return lambda name, *shape: None if name.endswith("1.mlp.down_proj") else pack(name, *shape)

    assert errors(write_form(tmp_path / "awq", AWQ | {"modules_to_not_convert": None}, all_but(awq))) == ""
    assert errors(write_form(tmp_path / "gptq", GPTQ, all_but(gptq))) == ""
    listed = AWQ | {"modules_to_not_convert": ["visual"]}
    assert "not packed: model.layers.1.mlp.down_proj" in errors(write_form(tmp_path / "c", listed, all_but(awq)))
    whole = ct([group(["Linear"])])
    assert "not packed: model.layers.1.mlp.down_proj" in errors(write_form(tmp_path / "d", whole, all_but(wna16)))


@pytest.mark.parametrize(
    "rule",
    [
        r"re:.*self_attn.*",
        r"re:model.layers.*.self_attn.*",
        r"re:.*\.self_attn\..*",
        r"re:.*(q|k|v|o)_proj$",
        r"re:^model\.layers\.\d+\.self_attn\.(q|k|v|o)_proj$",
        r"re:.*self_attn.(?:qkv|q|k|v|o)_proj",
        *[[f"model.layers.{n}.self_attn.{p}_proj" for n in (0, 1) for p in "qkvo"]],
    ],
)
def test_ignored_layers_are_named_by_patterns_or_in_full(tmp_path, rule):
    """As the engine matches them: a pattern from the beginning of the name, else the whole name."""
    table = ct([group(["Linear"])], ["lm_head", *([rule] if isinstance(rule, str) else rule)])
    folder = write_form(tmp_path / "m", table, lambda name, *shape: None if "attn" in name else wna16(name, *shape))
    assert errors(folder) == ""


@pytest.mark.parametrize(
    "rule", ["self_attn", "q_proj", "re:self_attn.*", "re:.*self_attn$", "layers.0.self_attn.q_proj"]
)
def test_a_part_of_a_name_ignores_nothing_in_compressed_tensors(tmp_path, rule):
    """The engine would pack the layer, and find no packed weights."""
    table = ct([group(["Linear"])], ["lm_head", rule])
    folder = write_form(tmp_path / "m", table, lambda name, *shape: None if "attn" in name else wna16(name, *shape))
    assert "these layers are not packed" in errors(folder)


@pytest.mark.parametrize(("first", "second"), [((4, 128), (8, 128)), ((4, 128), (4, 64)), ((8, 32), (4, 32))])
@pytest.mark.parametrize("names", ["patterns", "layers", "class"])
def test_each_group_has_its_own_bits(tmp_path, first, second, names):
    """Targets are patterns, layers' names, or the class for all that no other target names."""
    attention = ["re:.*self_attn.*_proj$"]
    if names == "layers":
        attention = [f"model.layers.{n}.self_attn.{p}_proj" for n in (0, 1) for p in "qkvo"]
    rest = ["Linear"] if names == "class" else ["re:.*mlp.*"]
    table = ct([group(rest, *first), group(attention, *second)])

    def make(name, *shape):
        return packed(*(second if "attn" in name else first))(name, *shape)

    folder = write_form(tmp_path / "m", table, make)
    assert errors(folder) == ""
    told = inspect_model(folder, tokenizer=False).to_json()["quantisation"]["layers"]
    assert {(way["bits"], way["group_size"]): way["layers"] for way in told} == {first: 6, second: 8}
    assert "do not agree with quantization_config" in errors(write_form(tmp_path / "n", table, packed(*first)))


def test_the_older_key_and_a_nested_one_are_read(tmp_path):
    """`compression_config`, and the text model's own table."""
    table = ct([group(["Linear"])])
    assert errors(write_form(tmp_path / "a", table, wna16, key="compression_config")) == ""
    assert read_quantisation({"text_config": {"quantization_config": table}}).bits == 4
    assert read_quantisation({"quantization_config": None, "compression_config": table}).bits == 4


@pytest.mark.parametrize(
    ("more", "make"),
    [
        ({}, gptq),
        ({"packing_format": "auto_round:auto_gptq", "block_name_to_quantize": "model.layers"}, gptq),
        ({"packing_format": "auto_round:auto_awq"}, awq),
        ({"extra_config": {"model.layers.1.mlp.down_proj": {"bits": 16}}}, "down"),
        ({"extra_config": {r".*layers\.1\.mlp\.down_proj.*": {"bits": 16}}}, "down"),
        ({"block_name_to_quantize": ["model.layers.0"]}, "second"),
        ({"extra_config": {r".*mlp.*": {"bits": 8, "group_size": 64}}}, "eight"),
    ],
)
def test_what_auto_round_writes_is_read(tmp_path, more, make):
    """In GPTQ's or AWQ's form, whole blocks, and layers with numbers of their own."""
    table = {"quant_method": "auto-round", "bits": 4, "group_size": 128, "sym": True, "data_type": "int"} | more
    makers = {
        "down": lambda name, *shape: None if name.endswith("1.mlp.down_proj") else gptq(name, *shape),
        "second": lambda name, *shape: None if ".1." in name else gptq(name, *shape),
        "eight": lambda name, *shape: gptq(name, *shape, **({"bits": 8, "group": 64} if "mlp" in name else {})),
    }
    folder = write_form(tmp_path / "m", table, makers[make] if isinstance(make, str) else make)
    assert errors(folder) == ""


def test_parts_of_a_joined_layer_must_be_packed_alike(tmp_path):
    """The engine makes one layer of q, k and v: it loads none whose parts differ."""

    def one_whole(name, *shape):
        return None if name.endswith("0.self_attn.q_proj") else awq(name, *shape)

    found = errors(write_form(tmp_path / "m", AWQ, one_whole))
    assert "pack the parts of a layer in different ways" in found
    assert "model.layers.0.self_attn.qkv_proj" in found
    assert "quantise q, k and v alike" in found
    # An architecture whose layers the engine does not join has no such rule.
    glm = write_form(tmp_path / "n", AWQ, one_whole, architectures=["SmolLM3ForCausalLM"], model_type="smollm3")
    assert errors(glm) == ""


def test_experts_in_mxfp4_count_two_numbers_a_byte(tmp_path):
    """And their scales none."""
    expert = {f"model.layers.{n}.mlp.experts.up_proj": [4, 256, 8, 16] for n in (0, 1)}
    tensors = {"model.embed_tokens.weight": ("BF16", [512, 256])}
    for name, shape in expert.items():
        tensors |= {f"{name}_blocks": ("U8", shape), f"{name}_scales": ("U8", shape[:3])}
    config = {"architectures": ["GptOssForCausalLM"], "model_type": "gpt_oss", "num_hidden_layers": 2}
    config |= {"hidden_size": 256, "num_attention_heads": 4, "vocab_size": 512, "max_position_embeddings": 4096}
    MATRIX.write(tmp_path / "m", config | {"quantization_config": {"quant_method": "mxfp4"}}, tensors)
    found = inspect_model(tmp_path / "m", target=T4, tokenizer=False)
    assert found.tally.parts["mlp"].parameters == 2 * 4 * 256 * 256
    assert found.quantisation.bits == 4
    assert "says mxfp4, which needs sm_80, and Tesla T4 is sm_75" in "\n".join(map(str, found.errors))
    cut = tensors | {f"{next(iter(expert))}_scales": ("U8", [4, 256, 7])}
    MATRIX.write(tmp_path / "m", config | {"quantization_config": {"quant_method": "mxfp4"}}, cut)
    assert "its scales have the shape (4, 256, 7)" in errors(tmp_path / "m")


def test_activation_order_is_refused_by_the_engine_that_dropped_it(tmp_path):
    """vLLM 0.32 reads no GPTQ groups in the order of the activations, 0.25.1 does."""
    ordered = write_form(tmp_path / "a", GPTQ | {"desc_act": True}, gptq)
    assert "desc_act" in errors(ordered)
    assert errors(ordered, load_target("offline-h200")) == ""
    one_scale = GPTQ | {"desc_act": True, "group_size": -1}
    folder = write_form(tmp_path / "b", one_scale, lambda name, o, i: gptq(name, o, i, group=i))
    assert errors(folder) == ""


@pytest.mark.parametrize("pattern", ["(a+)+$", ".*" * 9, "(.*)*x", r"(x)\1", "(", "[", "a{1,9999999999999}", "x" * 600])
def test_a_pattern_that_could_take_for_ever_is_not_matched(tmp_path, pattern):
    """Or that is none: which layers it means is not known, so nothing is refused for it, and that is said."""
    table = ct([group(["Linear"])], [f"re:{pattern}"])
    folder = write_form(tmp_path / "m", table, lambda name, *shape: None if "attn" in name else wna16(name, *shape))
    start = time.process_time()
    found = inspect_model(folder, target=T4, tokenizer=False)
    assert time.process_time() - start < 5
    assert not any("not packed" in problem.what for problem in found.errors)
    assert "which layers some patterns of compressed-tensors mean" in found.not_checked
    assert read_quantisation({"quantization_config": table}).of("model.layers.0.mlp.up_proj") is UNKNOWN


def test_a_joined_name_decides_in_gptq():
    """The engine asks its rules by qkv_proj: a rule of q_proj alone changes nothing."""
    found = read_quantisation({"quantization_config": GPTQ | {"dynamic": {"+:.*q_proj": {"bits": 8}}}})
    assert found.of("model.layers.0.self_attn.q_proj", JOINED).bits == 4
    assert found.of("model.layers.0.self_attn.q_proj").bits == 8


def test_a_cpu_reads_fewer_forms(tmp_path):
    """Four bits, int8 and fp8 have kernels there, 8-bit groups and 4-bit floats have none."""
    cpu = load_target("local-cpu")
    eight = write_form(tmp_path / "a", GPTQ | {"bits": 8}, lambda *layer: gptq(*layer, bits=8))
    assert "gptq of 8 bits, and vLLM 0.32.0 reads 4 bits alone on a CPU" in errors(eight, cpu)
    assert errors(eight) == ""
    some = ct([group(["re:.*mlp.*"]), group(["re:.*attn.*"], 8)])
    mixed = write_form(tmp_path / "b", some, lambda name, *shape: packed(8 if "attn" in name else 4)(name, *shape))
    assert "of 8 bits" in errors(mixed, cpu)
    assert errors(mixed) == ""
    floats = write_form(tmp_path / "c", *MATRIX.FORMS["NVFP4"])
    assert "in the form nvfp4, for which vLLM 0.32.0 has no kernel on a CPU" in errors(floats, cpu)
    for form in ("AWQ", "GPTQ", "GPTQ dynamic", "W4A16", "W8A8", "FP8"):
        assert errors(write_form(tmp_path / form, *MATRIX.FORMS[form]), cpu) == ""
    one_scale = {"quant_method": "fp8", "activation_scheme": "dynamic"}
    fp8 = write_form(tmp_path / "d", one_scale, lambda *layer: MATRIX.eight("F8_E4M3", *layer))
    assert "reads it in blocks alone on a CPU" in errors(fp8, cpu)
    assert errors(fp8) == ""


def test_an_algorithm_that_the_engine_does_not_know_is_an_error(tmp_path):
    """Of ModelOpt, whose table names it."""
    table = {"quant_method": "modelopt", "quant_algo": "NONSENSE", "ignore": ["lm_head"]}
    folder = write_form(tmp_path / "m", table, lambda *layer: MATRIX.eight("F8_E4M3", *layer))
    assert "'quant_algo' is 'NONSENSE', and vLLM reads FP8" in errors(folder, H100)


def test_experts_are_packed_by_the_rules_alone(tmp_path):
    """The engine looks at the types of all tensors but the experts'."""

    def model(folder, packing, pack):
        tensors = {"model.embed_tokens.weight": ("F16", [512, 256]), "lm_head.weight": ("F16", [512, 256])}
        for layer in (0, 1):
            for expert in (0, 1):
                name = f"model.layers.{layer}.mlp.experts.{expert}.down_proj"
                tensors |= pack(name, 256, 512) or {f"{name}.weight": ("F16", [256, 512])}
        numbers = {"num_hidden_layers": 2, "hidden_size": 256, "num_attention_heads": 4, "vocab_size": 512}
        config = {"architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", **numbers}
        config |= {"max_position_embeddings": 4096, "quantization_config": packing}
        MATRIX.write(folder, config, tensors)
        return folder

    def half(name, *shape):
        return None if ".1.mlp" in name else gptq(name, *shape)

    assert "these layers are not packed" in errors(model(tmp_path / "a", GPTQ, half))
    left = GPTQ | {"dynamic": {r"-:.*\.1\.mlp\.experts": {}}}
    assert errors(model(tmp_path / "b", left, half)) == ""
    own = GPTQ | {"dynamic": {r"+:.*\.1\.mlp\.experts": {"group_size": 64}}}
    two = model(tmp_path / "c", own, lambda name, *s: gptq(name, *s, group=64 if ".1.mlp" in name else 128))
    assert errors(two) == ""
    cpu = load_target("local-cpu")
    assert errors(two, cpu) == ""
    fp8 = model(tmp_path / "d", *MATRIX.FORMS["FP8"])
    assert "packs experts in fp8" in errors(fp8, cpu)
    assert errors(fp8, H100) == ""


def test_what_stands_in_modelopts_own_file_is_read(tmp_path):
    """Its older saves say nothing in config.json."""
    folder = write_form(tmp_path / "m", None, lambda *layer: MATRIX.eight("F8_E4M3", *layer))
    own = {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8", "exclude_modules": ["lm_head"]}}
    (folder / "hf_quant_config.json").write_text(json.dumps(own))
    found = inspect_model(folder, target=H100, tokenizer=False)
    assert (found.method, found.quantisation.bits, found.errors) == ("modelopt", 8, ())
    assert "says modelopt, which needs sm_80, and Tesla T4 is sm_75" in errors(folder)


def vision(folder, text_layers, blocks, *, more=0, prefix="model."):
    """A model that reads images: `text_layers` of the 2 that config.json says, and `blocks` of a tower."""
    tensors = {f"{prefix}embed_tokens.weight": ("F16", [512, 256])}
    for number in [*text_layers, *range(2, 2 + more)]:
        tensors[f"{prefix}layers.{number}.mlp.down_proj.weight"] = ("F16", [256, 512])
    tensors |= {f"visual.blocks.{number}.attn.qkv.weight": ("F16", [192, 64]) for number in range(blocks)}
    config = {"architectures": ["Qwen2_5_VLForConditionalGeneration"], "model_type": "qwen2_5_vl"}
    config |= {"num_hidden_layers": 2, "hidden_size": 256, "num_attention_heads": 4, "vocab_size": 512}
    config |= {"max_position_embeddings": 4096, "num_nextn_predict_layers": more}
    MATRIX.write(folder, config, tensors)
    return folder


@pytest.mark.parametrize("prefix", ["model.", "model.language_model.", "language_model.model."])
def test_blocks_of_a_vision_tower_are_no_layers_of_the_text_model(tmp_path, prefix):
    """More of them are no fault, and they do not hide that text layers are missing."""
    assert errors(vision(tmp_path / "a", (0, 1), 32, prefix=prefix)) == ""
    assert "the weights lack the layers 1" in errors(vision(tmp_path / "b", (0,), 32, prefix=prefix))
    assert "have the layers 2, 3 too" in errors(vision(tmp_path / "c", (0, 1, 2, 3), 4, prefix=prefix))


def test_layers_that_guess_further_tokens_may_follow(tmp_path):
    """As many as config.json says: engines pass over them."""
    assert errors(vision(tmp_path / "a", (0, 1), 2, more=1)) == ""
    assert "have the layers 3 too" in errors(vision(tmp_path / "b", (0, 1, 3), 2, more=1))


@pytest.mark.parametrize(
    ("packing", "key"),
    [
        ({"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": True}, "desc_act"),
        ({"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False}, "sym"),
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, "zero_point"),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "activation_scheme"),
        ({"quant_method": "compressed-tensors", "config_groups": {"g": {"weights": {"num_bits": 4}}}}, "format"),
    ],
)
def test_a_key_that_the_engine_looks_up_without_a_default_must_be_there(packing, key):
    """It stops on Kaggle otherwise, once everything is uploaded."""
    with pytest.raises(ModelError, match=rf"'quantization_config\.{key}' is missing, and vLLM"):
        read_quantisation({"quantization_config": packing})
