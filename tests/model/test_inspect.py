"""`inspect_model` over real checkpoints: whole ones have no problem, every fault is found, and all at once."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
from checkpoints import (
    AWQ,
    DEMO,
    INT8,
    WEIGHTS,
    YI_34B,
    big_awq,
    edit_json,
    edit_tensors,
    int8_demo,
    read_file,
    sparse_file,
    split,
    tensors_of,
    write_file,
    write_tensors,
)

from kaggle_kit.errors import ModelError
from kaggle_kit.model.folder import LEFT_OUT
from kaggle_kit.model.inspect import inspect_model, write_manifest
from kaggle_kit.model.tokenizer_check import Labels
from kaggle_kit.runtime.manifest import read_manifest, verify_files
from kaggle_kit.targets import load_target

pytestmark = pytest.mark.usefixtures("guarded_here")

T4 = load_target("kaggle-t4x2")
H200 = load_target("offline-h200")
LAYER = "model.layers.1."


def errors(folder, **more):
    """The errors' texts, one a line."""
    return "\n".join(str(problem) for problem in inspect_model(folder, **more).errors)


def warnings(folder, **more):
    """The warnings' texts, one a line."""
    found = inspect_model(folder, **more).problems
    return "\n".join(str(problem) for problem in found if problem.severity == "warning")


# What a whole checkpoint says.


def test_the_demo_model_has_no_problem():
    """Neither error nor warning, on the target that it is for, with its own labels and manifest."""
    found = inspect_model(DEMO, target=T4, labels=Labels(["A", "B", "tie"]), longest=512)
    assert found.problems == ()
    assert found.tokenizer.label_ids == (35, 36, 462)


def test_parameters_are_counted_unpacked():
    """The demo's numbers: embeddings, four layers of packed matrices, norms; the head is tied."""
    found = inspect_model(DEMO)
    matrices = 4 * (256 * 256 * 2 + 256 * 128 * 2 + 3 * 256 * 512)
    assert found.tally.parameters == 2048 * 256 + matrices + 9 * 256
    assert found.architecture.parameters == found.tally.parameters
    assert found.tally.bytes == sum(len(content) for *_, content in tensors_of(DEMO / WEIGHTS).values())


def test_a_34b_model_has_the_numbers_of_its_makers(tmp_path):
    """Yi-34B: 34.39 billion parameters, 19.2 GB in AWQ, four bits in groups of 128."""
    found = inspect_model(big_awq(tmp_path / "yi"), target=T4, labels=Labels(["A", "B", "tie"]))
    assert found.problems == ()
    assert found.tally.parameters == pytest.approx(34.39e9, rel=1e-3)
    assert found.tally.bytes == pytest.approx(19.2e9, rel=0.01)
    assert (found.quantisation.method, found.quantisation.bits, found.quantisation.group_size) == ("awq", 4, 128)


def test_a_34b_model_is_inspected_in_200_mb(tmp_path):
    """The process's memory never exceeds 200 MB, and its weights take no part in it."""
    folder = big_awq(tmp_path / "yi")
    code = (
        "import sys; from pathlib import Path; from kaggle_kit.model.inspect import inspect_model; "
        "from kaggle_kit.targets import load_target; from kaggle_kit.model.tokenizer_check import Labels; "
        "found = inspect_model(Path(sys.argv[1]), target=load_target('kaggle-t4x2'), labels=Labels(['A', 'tie'])); "
        # Not getrusage's figure: that begins with what the process had before it became this program, pytest's memory.
        "assert not found.problems; print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    assert int(done.stdout) * 1024 < 200_000_000


def test_a_model_in_shards_has_no_problem(model):
    """An index and its shards agree."""
    assert inspect_model(split(model)).problems == ()


def test_a_gptq_model_is_counted_and_checked(tmp_path):
    """GPTQ packs along the inputs, and has its own parts."""
    config = YI_34B | {
        "quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": True, "desc_act": False}
    }
    folder = big_awq(tmp_path / "gptq", config | {"num_hidden_layers": 2}, shards=1)
    file = folder / "model-00001-of-00001.safetensors"
    header, _ = read_file_head(file)
    sparse_file(file, gptq(header))
    names = gptq(header)
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": dict.fromkeys(names, file.name)})
    )
    found = inspect_model(folder, target=T4)
    assert found.problems == ()
    assert found.tally.parameters == found.architecture.parameters


def test_an_int8_model_is_counted_and_checked(tmp_path):
    """As llm-compressor's w8a8 lays it: no problem on a T4, a byte a number of the layers."""
    found = inspect_model(int8_demo(tmp_path / "int8"), target=T4, labels=Labels(["A", "B", "tie"]))
    assert found.problems == ()
    told = found.to_json()["quantisation"]
    layers = [{"bits": 8, "group_size": None, "layers": 28}]
    assert told == {
        "method": "compressed-tensors",
        "bits": 8,
        "group_size": None,
        "activations": "int8",
        "layers": layers,
    }
    assert found.tally.parameters == found.architecture.parameters
    layers = found.tally.parts["attention"], found.tally.parts["mlp"]
    assert all(part.bytes == part.parameters for part in layers)


def read_file_head(path):
    """The header of a file too large to read."""
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        return json.loads(stream.read(length)), length


def gptq(header):
    """The same layers, packed as GPTQ does."""
    made = {}
    for name, told in header.items():
        shape = told["shape"]
        if name.endswith(".qweight"):
            made[name] = ("I32", [shape[0] // 8, shape[1] * 8])
            made[name.replace("qweight", "g_idx")] = ("I32", [shape[0]])
        else:
            made[name] = (told["dtype"], shape)
    return made


def test_a_compressed_tensors_model_is_counted_and_checked(tmp_path):
    """llm-compressor's W4A16 with zero points: packed along the inputs, outputs first."""
    group = {
        "weights": {"num_bits": 4, "type": "int", "group_size": 128, "symmetric": False},
        "input_activations": None,
    }
    packing = {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "config_groups": {"group_0": group},
        "ignore": ["lm_head"],
    }
    folder = big_awq(tmp_path / "ct", YI_34B | {"quantization_config": packing, "num_hidden_layers": 2}, shards=1)
    file = folder / "model-00001-of-00001.safetensors"
    header, _ = read_file_head(file)
    names = compressed(header)
    sparse_file(file, names)
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": dict.fromkeys(names, file.name)})
    )
    found = inspect_model(folder, target=T4)
    assert found.problems == ()
    assert found.tally.parameters == found.architecture.parameters


def compressed(header):
    """The same layers, packed as compressed-tensors does."""
    made = {}
    for name, told in header.items():
        shape, layer = told["shape"], name.rsplit(".", 1)[0]
        if name.endswith(".qweight"):
            inputs, outputs = shape[0], shape[1] * 8
            made[f"{layer}.weight_packed"] = ("I32", [outputs, inputs // 8])
            made[f"{layer}.weight_scale"] = ("F16", [outputs, inputs // 128])
            made[f"{layer}.weight_zero_point"] = ("I32", [outputs // 8, inputs // 128])
            made[f"{layer}.weight_shape"] = ("I64", [2])
        elif not name.endswith((".qzeros", ".scales")):
            made[name] = (told["dtype"], shape)
    return made


# Files.


def test_a_path_that_is_no_folder_is_refused(tmp_path):
    """There is nothing to inspect."""
    with pytest.raises(ModelError, match="is not a folder: name the folder"):
        inspect_model(tmp_path / "nowhere")


def test_an_empty_folder_lacks_all_three(tmp_path):
    """Configuration, weights and tokenizer are missed in one call."""
    found = errors(tmp_path)
    assert "config.json: is missing" in found
    assert "there is no file of weights" in found
    assert "tokenizer.json: is missing" in found


def test_a_missing_shard_is_named(model):
    """By its number, and by the index."""
    split(model)
    (model / "model-00002-of-00003.safetensors").unlink()
    assert errors(model) == "model-00002-of-00003.safetensors: is missing; download it"


def test_a_missing_shard_is_named_without_an_index(model):
    """Its number alone tells."""
    split(model)
    (model / "model-00003-of-00003.safetensors").unlink()
    (model / "model.safetensors.index.json").unlink()
    assert "model-00003-of-00003.safetensors: is missing" in errors(model)


def test_all_shards_missing_are_named_by_the_index(model):
    """The index lists files, and none is there."""
    split(model)
    for path in model.glob("*.safetensors"):
        path.unlink()
    assert errors(model).count("is missing, and model.safetensors.index.json lists it") == 3


def test_shards_without_an_index_are_a_warning(model):
    """vLLM reads them, transformers does not."""
    split(model)
    (model / "model.safetensors.index.json").unlink()
    assert errors(model) == ""
    assert "is missing beside 3 files of weights" in warnings(model)


def test_an_extra_shard_is_named(model):
    """A file that the index does not list is of another save."""
    split(model)
    write_tensors(model / "old.safetensors", {"x": ("F16", [1], b"ab")})
    assert "old.safetensors: is not in model.safetensors.index.json" in errors(model)


def test_a_tensor_in_two_files_is_named(model):
    """Both a whole file and shards of it."""
    shutil.copy(model / WEIGHTS, model / "keep")
    split(model)
    (model / "keep").rename(model / WEIGHTS)
    assert "holds the tensor" in errors(model)
    assert "model.safetensors: is not in model.safetensors.index.json" in errors(model)


def test_an_index_that_does_not_match_the_headers_is_named(model):
    """Tensors that no file holds, that no line lists, and that lie elsewhere."""
    split(model)
    index = model / "model.safetensors.index.json"
    mapped = json.loads(index.read_text())["weight_map"]
    mapped["model.ghost.weight"] = "model-00001-of-00003.safetensors"
    del mapped["model.norm.weight"]
    moved = "model.layers.0.input_layernorm.weight"
    old = int(mapped[moved][10])
    mapped[moved] = f"model-0000{old % 3 + 1}-of-00003.safetensors"
    edit_json(index, weight_map=mapped)
    found = errors(model)
    assert "lists tensors that no file holds: model.ghost.weight" in found
    assert "lacks tensors that the files hold: model.norm.weight" in found
    assert f"names another file than the one that holds them: {moved}" in found


@pytest.mark.parametrize("text", ["{", "[]", '{"weight_map": []}', '{"weight_map": {"a": 1}}'])
def test_an_index_that_cannot_be_read_is_named(model, text):
    """No JSON, or none that maps names to files."""
    split(model)
    (model / "model.safetensors.index.json").write_text(text)
    assert "model.safetensors.index.json: is not an index" in errors(model)


def test_a_truncated_file_is_named(model):
    """What is missing of the model then is not told tensor by tensor."""
    path = model / WEIGHTS
    path.write_bytes(path.read_bytes()[:-100])
    assert errors(model).startswith("model.safetensors: the tensors take")
    assert errors(model).endswith("it was cut off; download or copy the file again")


def test_a_git_lfs_pointer_is_named(model):
    """The most usual fault of a cloned repository, with the size that it stands for."""
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 4999999999\n"
    (model / WEIGHTS).write_text(pointer)
    (model / "tokenizer.json").write_text(pointer)
    found = errors(model)
    assert "model.safetensors: is a pointer of Git LFS, not the file of 4,999,999,999 bytes" in found
    assert "tokenizer.json: is a pointer of Git LFS" in found
    assert "git lfs pull" in found
    assert len(found.splitlines()) == 2


def test_an_empty_file_is_named(model):
    """0 bytes, whatever the file is for."""
    (model / "generation_config.json").write_bytes(b"")
    (model / "config.json").write_bytes(b"")
    assert errors(model).count("is empty (0 bytes)") == 2


@pytest.mark.parametrize("name", ["pytorch_model.bin", "original/consolidated.00.pth", "model.pt", "x.pkl"])
def test_a_pickle_is_an_error(model, name):
    """Its code would run where it is loaded."""
    (model / name).parent.mkdir(exist_ok=True)
    (model / name).write_bytes(b"\x80\x04.")
    assert f"{name}: is a pickle" in errors(model)


def test_what_a_training_run_leaves_is_left_out(model):
    """Optimiser states are not sent, so they are no fault."""
    (model / "optimizer.pt").write_bytes(b"\x80\x04.")
    (model / ".cache").mkdir()
    found = inspect_model(model)
    assert found.problems == ()
    assert found.folder.left_out == (".cache", "optimizer.pt")


def test_what_is_left_out_is_what_kit_push_leaves_out():
    """Both lists hold the same names."""
    from kaggle_kit.remote.plan import folders

    assert set(LEFT_OUT) == set(folders.LEFT_OUT)


def test_links_out_of_the_folder_are_errors(model, tmp_path):
    """As Hugging Face's cache has them; a link to nothing too, one inside the folder not."""
    (model / WEIGHTS).rename(tmp_path / "blob")
    (model / WEIGHTS).symlink_to(tmp_path / "blob")
    (model / "gone.json").symlink_to(model / "nothing")
    (model / "copy.json").symlink_to(model / "config.json")
    found = errors(model)
    assert "model.safetensors: is a link to" in found
    assert "cp -rL" in found
    assert "gone.json: is a link to nothing" in found
    assert "copy.json" not in found


def test_an_adapter_is_no_model(model):
    """A LoRA adapter must be merged first."""
    for name in (WEIGHTS, "config.json"):
        (model / name).unlink()
    write_tensors(model / "adapter_model.safetensors", {"base_model.x.lora_A.weight": ("F16", [1], b"ab")})
    assert "adapter_model.safetensors: is a LoRA adapter" in errors(model)


def test_an_adapter_that_was_not_merged_is_found_in_the_weights(model):
    """Names of LoRA matrices among the model's own."""
    edit_tensors(model, lambda tensors: tensors.update({f"{LAYER}q_proj.lora_A.weight": ("F16", [1], b"ab")}))
    assert "hold an adapter that was not merged" in errors(model)


# config.json against the weights.


@pytest.mark.parametrize("text", ["{", "[]", "not json", "[" * 100_000])
def test_a_configuration_that_cannot_be_read_is_named(model, text):
    """No JSON, or no table."""
    (model / "config.json").write_text(text)
    assert "config.json: cannot be read" in errors(model)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hidden_size", 2.5),
        ("num_hidden_layers", "4"),
        ("vocab_size", -1),
        ("num_attention_heads", 0),
        ("architectures", []),
        ("model_type", None),
    ],
)
def test_a_number_that_is_missing_or_wrong_is_named(model, key, value):
    """The key stands in the message."""
    edit_json(model / "config.json", **{key: value})
    assert f"config.json: {key!r}" in errors(model)


@pytest.mark.parametrize(("layers", "message"), [(5, "lack the layers 4"), (3, "have the layers 3 too")])
def test_a_layer_count_that_does_not_agree_is_named(model, layers, message):
    """Layers of config.json that the weights lack, or the other way round."""
    edit_json(model / "config.json", num_hidden_layers=layers)
    assert f"num_hidden_layers = {layers}, and the weights {message}" in errors(model)


@pytest.mark.parametrize("name", ["model.norm.weight", "model.embed_tokens.weight", f"{LAYER}input_layernorm.weight"])
def test_a_missing_tensor_is_named(model, name):
    """Of the parts that the architecture has."""
    edit_tensors(model, lambda tensors: tensors.pop(name))
    assert f"lack tensors that LlamaForCausalLM needs: {name}" in errors(model)


def test_a_missing_layer_matrix_is_named(model):
    """All three tensors of a packed layer are gone."""

    def change(tensors):
        for part in ("qweight", "qzeros", "scales"):
            del tensors[f"{LAYER}mlp.up_proj.{part}"]

    edit_tensors(model, change)
    assert f"needs: {LAYER}mlp.up_proj.weight" in errors(model)


def test_a_missing_part_of_a_packed_layer_is_named(model):
    """Zero points of one layer."""
    edit_tensors(model, lambda tensors: tensors.pop(f"{LAYER}mlp.up_proj.qzeros"))
    assert f"(awq, 4 bits): {LAYER}mlp.up_proj: it lacks qzeros" in errors(model)


def test_a_head_that_is_not_tied_must_be_there(model):
    """tie_word_embeddings = false asks for lm_head."""
    edit_json(model / "config.json", tie_word_embeddings=False)
    assert "needs: lm_head.weight" in errors(model)


def test_a_head_beside_tied_embeddings_is_a_warning(model):
    """Engines pass over it: a trained head would be lost."""
    edit_tensors(model, lambda tensors: tensors.update({"lm_head.weight": tensors["model.embed_tokens.weight"]}))
    assert errors(model) == ""
    assert "config.json ties the head to the embeddings" in warnings(model)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("vocab_size", 2000, "model.embed_tokens.weight is 2,048 × 256, not 2,000 × 256"),
        ("hidden_size", 512, "model.norm.weight"),
        ("intermediate_size", 1024, "mlp.gate_proj.weight is 512 × 256, not 1,024 × 256"),
        ("num_key_value_heads", 4, "self_attn.k_proj.weight is 128 × 256, not 256 × 256"),
        ("head_dim", 32, "self_attn.q_proj.weight is 256 × 256, not 128 × 256"),
    ],
)
def test_shapes_that_do_not_agree_are_named(model, key, value, message):
    """Whatever number of config.json is off."""
    edit_json(model / "config.json", **{key: value})
    found = errors(model)
    assert "config.json: does not agree with the weights" in found
    assert message in found or key == "hidden_size"


def test_a_group_size_that_does_not_agree_is_named(model):
    """Scales and zero points have one row a group."""
    edit_json(model / "config.json", quantization_config=AWQ | {"group_size": 64})
    assert "groups of 64 make it" in errors(model)


def test_a_group_size_that_does_not_divide_is_named(model):
    """256 inputs have no groups of 96."""
    edit_json(model / "config.json", quantization_config=AWQ | {"group_size": 96})
    assert "inputs do not divide into groups of 96" in errors(model)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bits": 3}, "AWQ of 4 bits alone"),
        ({"bits": "4"}, "'quantization_config.bits' is '4'"),
        ({"group_size": 0}, "'quantization_config.group_size' is 0"),
        ({"version": "gemv"}, "AWQ in the form 'gemm' alone"),
        ({"bits": 8}, "AWQ of 4 bits alone"),
        ({"quant_method": "gptq", "bits": 3}, "GPTQ of 4 or 8 bits, symmetric, alone"),
        ({"quant_method": "gptq", "sym": False}, "4 bits, sym = False: vLLM reads GPTQ"),
    ],
)
def test_a_quantisation_that_no_engine_reads_is_named(model, change, message):
    """Bits, group size and form."""
    edit_json(model / "config.json", quantization_config=AWQ | change)
    assert message in errors(model)


def test_awq_without_zero_point_in_its_configuration_is_named(model):
    """vLLM looks the key up and stops."""
    edit_json(model / "config.json", quantization_config={k: v for k, v in AWQ.items() if k != "zero_point"})
    assert "'quantization_config.zero_point' is missing" in errors(model)


def test_packed_weights_without_their_configuration_are_named(model):
    """An engine would take them for plain weights."""
    edit_json(model / "config.json", quantization_config=None)
    assert "has no quantization_config, and the weights are packed" in errors(model)


def test_a_plain_layer_among_packed_ones_is_named(model):
    """Unless the configuration says that it was left whole, or names none: the engine then looks at the tensors."""

    def change(tensors):
        for part in ("qweight", "qzeros", "scales"):
            del tensors[f"{LAYER}self_attn.o_proj.{part}"]
        tensors[f"{LAYER}self_attn.o_proj.weight"] = ("F16", [256, 256], bytes(2 * 256 * 256))

    edit_tensors(model, change)
    assert errors(model) == ""
    edit_json(model / "config.json", quantization_config=AWQ | {"modules_to_not_convert": ["lm_head"]})
    assert f"these layers are not packed: {LAYER}self_attn.o_proj.weight" in errors(model)
    edit_json(model / "config.json", quantization_config=AWQ | {"modules_to_not_convert": [f"{LAYER}self_attn.o_proj"]})
    assert errors(model) == ""


def test_faults_of_int8_layers_are_named(tmp_path):
    """A scale too few, one of another shape, and a layer that is not int8."""
    folder = int8_demo(tmp_path / "int8")

    def change(tensors):
        del tensors[f"{LAYER}self_attn.q_proj.weight_scale"]
        tensors[f"{LAYER}self_attn.k_proj.weight_scale"] = ("F32", [128, 2], bytes(128 * 8))
        tensors[f"{LAYER}self_attn.o_proj.weight"] = ("F16", [256, 256], bytes(2 * 256 * 256))

    edit_tensors(folder, change)
    found = errors(folder)
    assert f"{LAYER}self_attn.q_proj: it lacks weight_scale" in found
    assert "weight_scale has the shape (128, 2)" in found
    assert f"these layers are not packed: {LAYER}self_attn.o_proj.weight" in found


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("weights", {"symmetric": False}, "vLLM reads symmetric weights alone"),
        ("weights", {"strategy": "group", "group_size": 128}, "vLLM reads symmetric weights alone"),
        ("input_activations", {"dynamic": False}, "a dynamic scale for each token"),
    ],
)
def test_int8_that_no_engine_reads_is_named(tmp_path, part, change, message):
    """What vLLM refuses of such configurations."""
    folder = int8_demo(tmp_path / "int8")
    group = INT8["config_groups"]["group_0"]
    groups = {"group_0": group | {part: group[part] | change}}
    edit_json(folder / "config.json", quantization_config=INT8 | {"config_groups": groups})
    assert message in errors(folder)


def test_int8_weights_without_their_configuration_are_named(tmp_path):
    """An engine would take the integers for the weights."""
    folder = int8_demo(tmp_path / "int8")
    edit_json(folder / "config.json", quantization_config=None)
    assert "has no quantization_config, and weights are int8" in errors(folder)


def test_tensors_without_a_use_are_a_warning(model):
    """They may be of another architecture."""
    edit_tensors(model, lambda tensors: tensors.update({f"{LAYER}self_attn.q_norm.weight": ("F16", [1], b"ab")}))
    assert "has no use for: model.layers.1.self_attn.q_norm.weight" in warnings(model)


def test_an_unknown_architecture_is_looked_at_for_evenness(model):
    """Layers that lack what the others have are told, as a warning."""
    edit_json(model / "config.json", architectures=["OlmoForCausalLM"], model_type="olmo")
    edit_tensors(model, lambda tensors: tensors.pop(f"{LAYER}input_layernorm.weight"))
    assert "layer 1 lacks input_layernorm.weight" in warnings(model)
    found = inspect_model(model, target=T4)
    assert found.not_checked == ("names and shapes of the tensors of OlmoForCausalLM",)
    assert next(iter(found.to_json().items())) == ("not_checked", list(found.not_checked))


@pytest.mark.parametrize("name", ["FSDPQwen2ForCausalLM", "PeftModelForCausalLM", "Qwen2ForCausalLmm"])
def test_a_class_name_that_a_trainer_left_behind_is_an_error(model, name):
    """And the advice is the name to write."""
    edit_json(model / "config.json", architectures=[name], model_type="qwen2")
    found = inspect_model(model, target=T4)
    assert [problem.file for problem in found.errors] == ["config.json"]
    assert f"vLLM 0.32.0 does not know the architecture {name}" in found.errors[0].what
    assert found.errors[0].next_step.endswith(": Qwen2ForCausalLM")


@pytest.mark.parametrize("method", ["bitsandbytes", "hqq", "exl2", "aqlm", "nonsense", "HQQ"])
@pytest.mark.parametrize("architecture", ["LlamaForCausalLM", "GlmForCausalLM"])
def test_a_method_that_the_engine_does_not_read_is_an_error(model, method, architecture):
    """Of a family that kit knows and of one that it does not: method and engine are named."""
    edit_json(model / "config.json", quantization_config={"quant_method": method}, architectures=[architecture])
    expected = f"says {method.lower()}, a quantisation method that vLLM 0.32.0 does not read"
    assert expected in errors(model, target=T4)
    assert method.lower() in inspect_model(model, target=T4).not_checked[-1]


@pytest.mark.parametrize("method", [None, 3, ["awq"], {"a": 1}])
def test_a_method_that_is_no_word_is_an_error(model, method):
    """The engine stops at it."""
    edit_json(model / "config.json", quantization_config={"quant_method": method})
    assert "'quant_method' is" in errors(model)


def test_a_target_whose_engine_is_not_known_is_said_first(model):
    """Whether that version knows the model was not checked, and nothing is refused for it."""
    later = T4.model_copy(update={"engine": "vllm==0.99.0"})
    assert inspect_model(model, target=later).not_checked[0].startswith("whether vllm==0.99.0 knows this architecture")


def test_images_on_a_target_that_leaves_their_package_out_are_an_error_or_a_warning(model):
    """The architecture's module imports torchvision, or its processor may."""
    cpu = load_target("local-cpu")
    for name, kind in (
        ("Qwen2_5_VLForConditionalGeneration", "qwen2_5_vl"),
        ("Qwen2VLForConditionalGeneration", "qwen2_vl"),
    ):
        edit_json(model / "config.json", architectures=[name], model_type=kind)
        assert "and this target's wheelhouse leaves torchvision out" in errors(model, target=cpu)
        assert "torchvision" not in errors(model)
    edit_json(model / "config.json", architectures=["Blip2ForConditionalGeneration"], model_type="blip-2")
    assert "reads images or sound, and this target leaves torchvision" in warnings(model, target=cpu)


def test_a_model_without_a_language_head_is_an_error(model):
    """Labels are read from an LM head, or from a head of classes."""
    edit_json(model / "config.json", architectures=["LlamaForTokenClassification"])
    assert "has no LM head to read the labels from" in errors(model)


@pytest.fixture
def headed(model):
    """The demo model with a head of three classes in place of its tied LM head."""
    edit_json(
        model / "config.json",
        architectures=["LlamaForSequenceClassification"],
        id2label={"0": "tie", "1": "A", "2": "B"},
    )
    edit_tensors(model, lambda tensors: tensors.update({"score.weight": ("F16", [3, 256], bytes(2 * 3 * 256))}))
    return model


def test_a_trained_head_has_no_problem(headed):
    """Its matrix is one of the model's, and its labels are classes: an order or a name of their own is right."""
    found = inspect_model(headed, target=T4, labels=Labels(["B", "tie", "A"]), longest=2048)
    assert found.problems == ()
    assert found.tokenizer.label_ids == (2, 0, 1)
    assert found.to_json()["classes"] == ["tie", "A", "B"]
    assert found.tally.parameters == found.architecture.parameters
    assert found.architecture.end_bytes == (2048 + 1 + 3) * 256 * 2


@pytest.mark.parametrize(
    ("change", "labels", "words"),
    [
        ({"id2label": {"0": "A", "1": "B"}}, ["A", "B"], "score.weight is 3 × 256, not 2 × 256"),
        ({}, ["A", "B", "draw"], "the label 'draw' is not a class of the model's head"),
        ({}, ["A", "1"], "the labels 'A' and '1' are the same class"),
        ({"problem_type": "regression"}, ["A", "B"], "it was trained as a regression"),
        ({"id2label": {"0": "A"}}, ["A", "B"], "it gives one number a row"),
        ({"id2label": {"0": "A", "5": "B"}}, ["A", "B"], "has 2 classes and none of the number 1"),
    ],
)
def test_a_wrong_head_is_an_error(headed, change, labels, words):
    """What would give a wrong submission, or none."""
    edit_json(headed / "config.json", **change)
    assert words in errors(headed, target=T4, labels=Labels(labels))


def test_a_head_that_is_not_there_is_an_error(headed):
    """transformers would fill it with random numbers."""
    edit_tensors(headed, lambda tensors: tensors.pop("score.weight"))
    assert "lack tensors that LlamaForSequenceClassification needs: score.weight" in errors(headed)


def test_an_lm_head_beside_a_trained_head_is_told(headed):
    """No engine has a use for it."""
    edit_tensors(headed, lambda tensors: tensors.update({"lm_head.weight": ("F16", [2048, 256], bytes(2**20))}))
    assert "answers by score.weight" in warnings(headed)


@pytest.mark.parametrize(
    ("tensor", "words"),
    [("classifier.weight", ""), ("classifier.out_proj.weight", ""), ("other.weight", "hold no head that kit knows")],
)
def test_the_head_of_an_unknown_architecture_is_looked_for(headed, tensor, words):
    """By the names that transformers' classes give it; its classes are counted."""
    edit_json(headed / "config.json", architectures=["DebertaV2ForSequenceClassification"], model_type="deberta-v2")

    def rename(tensors):
        tensors[tensor] = tensors.pop("score.weight")

    edit_tensors(headed, rename)
    assert words in warnings(headed)
    edit_json(headed / "config.json", id2label={"0": "A", "1": "B"})
    assert words or f"names 2 classes, and {tensor} is 3 × 256" in errors(headed)


def test_remote_code_is_an_error_where_it_is_needed(model):
    """auto_map of an architecture that no engine knows; of a known one it is passed over."""
    edit_json(model / "config.json", auto_map={"AutoConfig": "configuration_x.XConfig"})
    (model / "configuration_x.py").write_text("x = 1\n")
    assert errors(model) == ""
    assert "names code of its own (auto_map), which is passed over" in warnings(model)
    edit_json(model / "config.json", architectures=["XForCausalLM"], model_type="x")
    assert "needs code of its own (auto_map) to build a 'x'" in errors(model)


# Length.


@pytest.mark.parametrize(
    ("scaling", "most"),
    [
        (None, 2048),
        ({"rope_type": "llama3", "factor": 8.0}, 2048),
        ({"type": "linear", "factor": 2.0}, 4096),
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512}, 2048),
    ],
)
def test_the_longest_text_is_told_as_vllm_derives_it(model, scaling, most):
    """rope_scaling lengthens where its kind says so."""
    edit_json(model / "config.json", rope_scaling=scaling)
    assert inspect_model(model).architecture.most_tokens == most


def test_prompts_longer_than_the_model_reads_are_an_error(model):
    """The answer needs a token too."""
    assert errors(model, longest=2047) == ""
    assert "set token_budget to 2047 or less" in errors(model, longest=2048)


# Tokenizer and labels.


def test_a_missing_tokenizer_is_an_error(model):
    """The slow form is told apart."""
    (model / "tokenizer.json").unlink()
    assert "tokenizer.json: is missing; save it in the fast form" in errors(model)
    (model / "tokenizer.model").write_bytes(b"x")
    assert "(there is tokenizer.model, which kit does not read)" in errors(model)


def test_a_tokenizer_that_cannot_be_read_is_an_error(model):
    """The library's own words are told."""
    (model / "tokenizer.json").write_text('{"version": "1.0"}')
    assert "tokenizer.json: cannot be read as a tokenizer" in errors(model)


def test_tokens_beyond_the_embeddings_are_an_error(model):
    """Added tokens whose embeddings were never saved."""
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.add_tokens(["<new>", "<newer>"])
    tokenizer.save(str(model / "tokenizer.json"))
    assert "tokens beyond the embeddings' 2,048 rows: '<new>' (2048), '<newer>' (2049)" in errors(model)


def test_a_tokenizer_of_a_smaller_vocabulary_is_a_warning(tmp_path):
    """A tenth of the rows without a token is more than padding."""
    folder = big_awq(tmp_path / "yi", YI_34B | {"num_hidden_layers": 1}, shards=1, tokens=32_000)
    assert "has 32,000 tokens, and the embeddings have 64,000 rows" in warnings(folder)


def test_special_tokens_that_do_not_agree_are_told(model):
    """A start that is another token is a doubt, one that is none an error."""
    edit_json(model / "config.json", bos_token_id=5)
    assert "makes '<s>' (0) the bos_token, and config.json says 5" in warnings(model)
    edit_json(model / "tokenizer_config.json", eos_token="<end>")
    assert "names '<end>' as eos_token, and the vocabulary has no such token" in errors(model)


@pytest.mark.parametrize(
    ("words", "message"),
    [(["A", "undecided"], "the label 'undecided' is"), (["A", "A"], "are the same token"), (["A", ""], "the label ''")],
)
def test_labels_that_are_not_single_distinct_tokens_are_errors(model, words, message):
    """With what would work, from the runtime's own check."""
    assert message in errors(model, labels=Labels(words))


# The target.


def to_bfloat16(tensors):
    for name, (dtype, shape, content) in list(tensors.items()):
        if dtype == "F16":
            tensors[name] = ("BF16", shape, content)


def test_bfloat16_weights_on_a_t4_are_a_warning(model):
    """vLLM converts them to float16 while loading; on a card that has bfloat16 nothing is said."""
    edit_tensors(model, to_bfloat16)
    edit_json(model / "config.json", torch_dtype="bfloat16")
    assert errors(model, target=T4) == ""
    assert "those beyond 65,504 become infinite" in warnings(model, target=T4)
    assert warnings(model, target=load_target("kaggle-l4x4")) == ""


def test_bfloat16_asked_of_a_t4_is_an_error(model):
    """vLLM stops where the target's options say dtype = bfloat16."""
    wrong = T4.model_copy(update={"engine_options": T4.engine_options | {"dtype": "bfloat16"}})
    assert "dtype = bfloat16 is given, which a card before sm_80 does not have" in errors(model, target=wrong)


def test_a_gemma_2_on_a_t4_is_an_error(model):
    """vLLM refuses it in float16, and a T4 has no bfloat16."""
    edit_json(model / "config.json", architectures=["Gemma2ForCausalLM"], model_type="gemma2")
    assert "vLLM refuses gemma2 in float16" in errors(model, target=T4)
    assert "take a model of another family" in errors(model, target=T4)
    assert 'set dtype = "bfloat16"' in errors(model, target=H200)


def test_32_bit_weights_are_a_warning(tmp_path):
    """Half of the upload would do."""
    folder = tmp_path / "f32"
    shutil.copytree(DEMO, folder)
    (folder / "manifest.json").unlink()
    edit_json(folder / "config.json", quantization_config=None)
    plain = {}
    for name, (dtype, shape, _) in tensors_of(folder / WEIGHTS).items():
        if name.endswith(".qweight"):
            plain[name.replace("qweight", "weight")] = ("F32", [shape[1] * 8, shape[0]])
        elif dtype == "F16" and not name.endswith(".scales"):
            plain[name] = ("F32", shape)
    sparse_file(folder / WEIGHTS, plain)
    found = inspect_model(folder, target=T4)
    assert [problem.severity for problem in found.problems] == ["warning"]
    assert "half the upload" in found.problems[0].next_step
    positions = found.architecture.position_numbers * 2
    assert found.tally.memory_bytes == found.tally.bytes // 2 + positions


def test_a_quantisation_that_the_card_lacks_is_an_error(model):
    """AWQ needs sm_75."""
    old = T4.model_copy(update={"compute_capability": "7.0", "gpu_name": "Tesla V100"})
    assert "says awq, which needs sm_75, and Tesla V100 is sm_70" in errors(model, target=old)


# All at once, and the manifest.


def test_all_faults_are_told_at_once(model):
    """Six faults of six kinds in one call."""
    split(model)
    (model / "model-00002-of-00003.safetensors").unlink()
    (model / "pytorch_model.bin").write_bytes(b"\x80")
    (model / "tokenizer.json").unlink()
    (model / "generation_config.json").write_bytes(b"")
    edit_json(model / "config.json", architectures=["LlamaForTokenClassification"])
    found = inspect_model(model, target=T4, longest=5000).errors
    assert [problem.file for problem in found] == [
        "config.json",
        "config.json",
        "generation_config.json",
        "model-00002-of-00003.safetensors",
        "pytorch_model.bin",
        "tokenizer.json",
    ]


def test_the_manifest_that_is_written_holds(model):
    """The notebook's own check accepts it, and the next inspection too."""
    (model / "optimizer.pt").write_bytes(b"x")
    written = write_manifest(inspect_model(model), name="mine", extra={"source": "demo"})
    read = read_manifest(model / "manifest.json")
    assert read == written
    verify_files(model, read)
    assert (read.kind, read.name, read.extra) == ("model", "mine", {"source": "demo"})
    assert {entry.path for entry in read.files} == {p.name for p in DEMO.iterdir()} - {"manifest.json"}
    assert inspect_model(model).problems == ()


def test_the_demo_models_manifest_is_made_again_byte_for_byte(model):
    """The committed manifest is what is written."""
    write_manifest(inspect_model(model), name="demo")
    assert (model / "manifest.json").read_bytes() == (DEMO / "manifest.json").read_bytes()


def test_a_manifest_keeps_its_name_and_what_else_it_says(model):
    """Where the model is from is not lost."""
    write_manifest(inspect_model(model), name="mine", extra={"source": "demo"})
    (model / "new.json").write_text("{}")
    written = write_manifest(inspect_model(model, manifest=False))
    assert (written.name, written.extra) == ("mine", {"source": "demo"})
    assert "new.json" in {entry.path for entry in written.files}


def test_no_manifest_is_written_of_a_broken_model(model):
    """It would call the model whole."""
    (model / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match="has 1 errors, so no manifest was written"):
        write_manifest(inspect_model(model))
    assert not (model / "manifest.json").exists()


def test_files_that_the_manifest_tells_otherwise_are_errors(model):
    """Missing, of another size, or not in it."""
    write_manifest(inspect_model(model))
    (model / "generation_config.json").unlink()
    edit_json(model / "tokenizer_config.json", more=1)
    (model / "new.json").write_text("{}")
    found = errors(model)
    assert "generation_config.json: is missing, and manifest.json lists it" in found
    assert "tokenizer_config.json: has" in found
    assert "new.json: is not in manifest.json" in found


def test_a_manifest_that_cannot_be_read_is_an_error_until_it_is_written_again(model):
    """`--write` replaces it."""
    (model / "manifest.json").write_text("{")
    assert "write it again (--write)" in errors(model)
    write_manifest(inspect_model(model, manifest=False))
    assert inspect_model(model).problems == ()


def test_nothing_heavy_is_imported():
    """No torch, transformers or safetensors in kit's own process."""
    code = (
        "import sys; from pathlib import Path; from kaggle_kit.model.inspect import inspect_model; "
        "inspect_model(Path(sys.argv[1])); "
        "print(sorted({'torch', 'transformers', 'safetensors', 'vllm', 'awq', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(DEMO)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_header_that_lies_does_not_hide_the_other_faults(model):
    """Its file is named, and the tokenizer is missed too."""
    header, data = read_file(model / WEIGHTS)
    header["model.norm.weight"]["data_offsets"][0] -= 2
    write_file(model / WEIGHTS, header, data)
    (model / "tokenizer.json").unlink()
    assert [problem.file for problem in inspect_model(model).errors] == ["model.safetensors", "tokenizer.json"]


@pytest.mark.parametrize(
    ("card", "message"),
    [("7.0", "needs sm_75, and Some Card is sm_70"), ("12.0", "which vLLM reads up to sm_90, and Some Card is sm_120")],
)
def test_int8_activations_that_the_card_lacks_are_an_error(tmp_path, card, message):
    """vLLM has kernels for them from Turing to Hopper."""
    other = T4.model_copy(update={"compute_capability": card, "gpu_name": "Some Card"})
    assert message in errors(int8_demo(tmp_path / "int8"), target=other)
