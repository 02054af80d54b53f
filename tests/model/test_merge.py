"""An adapter is for one base: what kit checks before it merges."""

from __future__ import annotations

import json
import shutil

import pytest
from checkpoints import edit_json
from full_precision import RANK, full_demo, make_adapter

from kaggle_kit.errors import ModelError
from kaggle_kit.model.inspect import inspect_model
from kaggle_kit.model.merge import check_adapter

Q = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.fixture
def base(tmp_path):
    """The demo model in fp16."""
    return full_demo(tmp_path / "base")


def check(tmp_path, base, **given):
    """The adapter made by `given`, checked against the base."""
    return check_adapter(make_adapter(tmp_path / "adapter", base, **given), inspect_model(base))


def test_a_fitting_adapter_is_taken(tmp_path, base):
    """All layers of a whole adapter are found in its base."""
    found = check(tmp_path, base)
    assert (found.layers, found.rank, len(found.targets)) == (28, RANK, 7)


def test_the_name_of_the_base_is_a_hint(tmp_path, base):
    """A base of another name with the right shapes is taken, and the name is told."""
    found = check(tmp_path, base, base_model_name_or_path="someone/other-4bit")
    assert "someone/other-4bit" in found.notes[0]


def test_another_width_is_refused(tmp_path, base):
    """An adapter for wider layers names the layer and both shapes."""

    def widen(tensors):
        tensors[f"{Q}.lora_A.weight"] = tensors[f"{Q}.lora_A.weight"].repeat(2, axis=1)

    with pytest.raises(ModelError, match=r"layers\.0\.self_attn\.q_proj: .*\(256, 512\), the base has \(256, 256\)"):
        check(tmp_path, base, change=widen)


@pytest.mark.parametrize("part", ["A", "B"])
@pytest.mark.parametrize("shape", [(), (RANK,), (RANK, 256, 1)])
def test_a_matrix_of_other_dimensions_is_refused(tmp_path, base, part, shape):
    """A tensor that is no matrix is named with its shape."""

    def flatten(tensors):
        import numpy as np

        tensors[f"{Q}.lora_{part}.weight"] = np.zeros(shape, np.float32)

    with pytest.raises(ModelError, match=r"layers\.0\.self_attn\.q_proj: A .* and B .* are not both of two dimensions"):
        check(tmp_path, base, change=flatten)


def test_more_layers_are_refused(tmp_path, base):
    """An adapter for a deeper model is refused, with the base that it names."""

    def deepen(tensors):
        for part in "AB":
            name = f"{Q}.lora_{part}.weight"
            tensors[name.replace("layers.0", "layers.9")] = tensors[name].copy()

    with pytest.raises(ModelError, match=r"(?s)layers\.9.* has no such layer.*its base is 'org/deep'"):
        check(tmp_path, base, change=deepen, base_model_name_or_path="org/deep")


def test_half_a_layer_is_refused(tmp_path, base):
    """A file that lost a tensor is not merged in part."""
    with pytest.raises(ModelError, match="only A of A and B"):
        check(tmp_path, base, change=lambda tensors: tensors.pop(f"{Q}.lora_B.weight"))


def test_a_target_without_weights_is_refused(tmp_path, base):
    """A target that the configuration names must be in the file."""
    with pytest.raises(ModelError, match="names the target 'qkv_proj'"):
        check(tmp_path, base, target_modules=["q_proj", "qkv_proj"])


def test_another_vocabulary_is_refused(tmp_path, base):
    """An adapter that brings larger embeddings was trained on another vocabulary."""

    def enlarge(tensors):
        import numpy as np

        tensors["base_model.model.model.embed_tokens.weight"] = np.zeros((2050, 256), np.float32)

    with pytest.raises(ModelError, match=r"embed_tokens\.weight: .*\(2050, 256\).*another vocabulary"):
        check(tmp_path, base, change=enlarge)


def test_another_tokenizer_beside_the_adapter_is_refused(tmp_path, base):
    """A tokenizer with tokens of its own beside the adapter is no tokenizer of the base."""
    adapter = make_adapter(tmp_path / "adapter", base)
    body = json.loads((base / "tokenizer.json").read_text())
    body["added_tokens"].append(body["added_tokens"][-1] | {"id": 2048, "content": "<new>"})
    (adapter / "tokenizer.json").write_text(json.dumps(body))
    with pytest.raises(ModelError, match="1 tokens are not those of the base's vocabulary"):
        check_adapter(adapter, inspect_model(base))


def test_the_same_tokenizer_beside_the_adapter_is_fine(tmp_path, base):
    """A tokenizer that was saved with the adapter is usual."""
    adapter = make_adapter(tmp_path / "adapter", base)
    shutil.copyfile(base / "tokenizer.json", adapter / "tokenizer.json")
    assert check_adapter(adapter, inspect_model(base)).layers == 28


def test_a_pickled_adapter_is_refused(tmp_path, base):
    """adapter_model.bin alone is not loaded."""
    adapter = make_adapter(tmp_path / "adapter", base)
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(ModelError, match="pickle"):
        check_adapter(adapter, inspect_model(base))


def test_another_kind_of_adapter_is_refused(tmp_path, base):
    """Prompt tuning and the like cannot be merged."""
    adapter = make_adapter(tmp_path / "adapter", base)
    edit_json(adapter / "adapter_config.json", peft_type="PROMPT_TUNING")
    with pytest.raises(ModelError, match="kind 'PROMPT_TUNING'"):
        check_adapter(adapter, inspect_model(base))
