"""Zeros in the MLPs of a quantised model: they change no answer, and let cards share what they could not."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from checkpoints import copy_demo, edit_json, edit_tensors, split, tensors_of
from full_precision import narrowed
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from kaggle_kit.errors import ModelError
from kaggle_kit.model.headers import INDEX
from kaggle_kit.model.inspect import inspect_model
from kaggle_kit.model.padding import Padding, pad_model
from kaggle_kit.model.quantize_source import plan_padding
from kaggle_kit.runtime.transformers_engine import dequantise

pytestmark = pytest.mark.usefixtures("guarded_here")

HIDDEN = 32
INTO = 16
"""Inputs that share a scale in the layers that lead into an MLP."""
LAYER = "model.layers.0.mlp"


def packed_numbers(numbers):
    """Eight numbers of 4 bits in each int32, along the last axis."""
    shifts = np.arange(8, dtype=np.uint32) * 4
    eights = numbers.astype(np.uint32).reshape(*numbers.shape[:-1], -1, 8)
    return (eights << shifts).sum(-1, dtype=np.uint32).view(np.int32)


def plain_numbers(packed):
    """The numbers of 4 bits again."""
    shifts = np.arange(8, dtype=np.uint32) * 4
    numbers = (packed.view(np.uint32)[..., None] >> shifts) & 15
    return numbers.reshape(*packed.shape[:-1], -1).astype(np.float32)


def awq(rng, inputs, outputs, group):
    """A layer as AutoAWQ stores it."""
    groups = inputs // group
    return {
        "qweight": packed_numbers(rng.integers(0, 16, (inputs, outputs))),
        "qzeros": packed_numbers(rng.integers(0, 16, (groups, outputs))),
        "scales": rng.uniform(0.001, 0.01, (groups, outputs)).astype(np.float16),
    }


def compressed(rng, inputs, outputs, group):
    """A layer as compressed-tensors packs it."""
    groups = inputs // group
    zeros = packed_numbers(rng.integers(0, 16, (groups, outputs)))
    return {
        "weight_packed": packed_numbers(rng.integers(0, 16, (outputs, inputs))),
        "weight_zero_point": np.ascontiguousarray(zeros.T),
        "weight_scale": rng.uniform(0.001, 0.01, (outputs, groups)).astype(np.float16),
        "weight_shape": np.array([outputs, inputs], dtype=np.int64),
    }


def int8(rng, inputs, outputs, group):
    """A layer of w8a8."""
    del group
    return {
        "weight": rng.integers(-127, 128, (outputs, inputs)).astype(np.int8),
        "weight_scale": rng.uniform(0.001, 0.01, (outputs, 1)).astype(np.float32),
    }


def plain(rng, inputs, outputs, group):
    """A layer that was left whole, with a bias."""
    del group
    return {
        "weight": rng.normal(size=(outputs, inputs)).astype(np.float16),
        "bias": rng.normal(size=outputs).astype(np.float16),
    }


def weight_of(parts, group):
    """The (outputs, inputs) weight that a layer's tensors stand for."""
    if "qweight" in parts:
        return dequantise(**parts, group_size=group)
    if "weight_packed" in parts:
        assert list(parts["weight_shape"]) == [parts["weight_packed"].shape[0], parts["weight_packed"].shape[1] * 8]
        zeros = plain_numbers(np.ascontiguousarray(parts["weight_zero_point"].T)).T
        scales = np.repeat(parts["weight_scale"].astype(np.float32), group, axis=1)
        return (plain_numbers(parts["weight_packed"]) - np.repeat(zeros, group, axis=1)) * scales
    weight = parts["weight"].astype(np.float32)
    return weight * parts["weight_scale"] if "weight_scale" in parts else weight


def layers_in(folder):
    """The tensors of a folder's one file, by layer and ending."""
    found = {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        layer, _, ending = name.rpartition(".")
        found.setdefault(layer, {})[ending] = tensor
    return found


def weights_in(folder, group):
    """The weights of a folder's one MLP; `group` is of the layer that leads out of it."""
    layers = layers_in(folder).items()
    return {name.rpartition(".")[2]: weight_of(parts, group if "down" in name else INTO) for name, parts in layers}


def answer(weights, inputs):
    """What a gated MLP makes of some inputs, in float64."""
    weights = {name: weight.astype(np.float64) for name, weight in weights.items()}
    if "gate_up_proj" in weights:
        weights["gate_proj"], weights["up_proj"] = np.split(weights["gate_up_proj"], 2)
    gated = inputs @ weights["gate_proj"].T
    return (gated / (1 + np.exp(-gated)) * (inputs @ weights["up_proj"].T)) @ weights["down_proj"].T


@settings(max_examples=40, deadline=None)
@given(
    form=st.sampled_from([awq, compressed, int8, plain]),
    groups=st.integers(1, 9),
    group=st.sampled_from([8, 16]),
    cards=st.sampled_from([2, 3, 4, 8]),
    fused=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_no_answer_changes(tmp_path_factory, form, groups, group, cards, fused, seed):
    """In each form that a quantiser writes, whatever the sizes: the old weights are there, and all others are zeros."""
    folder, rng = tmp_path_factory.mktemp("padding"), np.random.default_rng(seed)
    inner = groups * group
    wanted = -(-inner // (cards * group)) * cards * group
    into = {"gate_up_proj": 2 * inner} if fused else {"gate_proj": inner, "up_proj": inner}
    layers = {name: form(rng, HIDDEN, outputs, INTO) for name, outputs in into.items()}
    layers["down_proj"] = form(rng, inner, HIDDEN, group)
    tensors = {f"{LAYER}.{name}.{ending}": tensor for name, parts in layers.items() for ending, tensor in parts.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    old, inputs = weights_in(folder, group), rng.normal(size=(5, HIDDEN))

    pad_model(folder, Padding(inner, wanted, cards, None if form is int8 else group))
    new = weights_in(folder, group)
    np.testing.assert_allclose(answer(new, inputs), answer(old, inputs), rtol=1e-6, atol=1e-9)
    assert new["down_proj"].shape == (HIDDEN, wanted)
    assert not new["down_proj"][:, inner:].any()
    for name in into:
        for half in np.split(new[name], 2 if fused else 1):
            assert half.shape == (wanted, HIDDEN)
            assert not half[inner:].any()


def test_scales_of_zeros_are_those_beside_them(tmp_path):
    """No scale is larger than a layer's largest, by which some kernels divide, and none is zero."""
    folder = copy_demo(tmp_path / "model")
    old = load_file(folder / "model.safetensors")
    pad_model(folder, Padding(512, 768, 2, 128))
    for name, tensor in load_file(folder / "model.safetensors").items():
        if name.endswith("mlp.down_proj.scales"):
            assert (tensor[:4] == old[name]).all()
            assert (tensor[4:] == old[name][-1]).all()
        elif name.endswith(("gate_proj.scales", "up_proj.scales")):
            assert (tensor[:, 512:] == old[name][:, -1:]).all()
        elif name.endswith("scales"):
            assert (tensor == old[name]).all()


def test_the_padded_model_is_sound(tmp_path):
    """In several files with an index: attention, norms and embeddings keep each byte."""
    folder = split(copy_demo(tmp_path / "model"))
    files = sorted(folder.glob("model-*.safetensors"))
    old = {name: tensor for path in files for name, tensor in tensors_of(path).items()}
    pad_model(folder, Padding(512, 768, 2, 128))
    edit_json(folder / "config.json", intermediate_size=768)
    new = {name: tensor for path in files for name, tensor in tensors_of(path).items()}
    assert {name for name in old if old[name] != new[name]} == {name for name in old if ".mlp." in name}
    total = json.loads((folder / INDEX).read_text())["metadata"]["total_size"]
    assert total == sum(len(content) for _, _, content in new.values())
    assert inspect_model(folder).errors == ()
    assert sorted(path.name for path in folder.glob("*.wider")) == []


def test_a_model_without_an_mlp_that_kit_knows_is_refused(tmp_path):
    """Its config.json would tell of zeros that are not there."""
    folder = copy_demo(tmp_path / "model")
    edit_tensors(folder, lambda tensors: [tensors.pop(name) for name in list(tensors) if ".mlp." in name])
    with pytest.raises(ModelError, match="no MLP that kit knows"):
        pad_model(folder, Padding(512, 768, 2, 128))


def test_a_tensor_of_another_size_is_refused(tmp_path):
    """What the quantiser left is not what it was given."""
    folder = copy_demo(tmp_path / "model")
    with pytest.raises(ModelError, match=r"_proj\.\w+ is .* 448 inner channels cannot be padded to 640"):
        pad_model(folder, Padding(448, 640, 2, 128))


# What is planned.


@pytest.mark.parametrize(
    ("inner", "groups", "cards", "wanted"),
    [
        (448, 64, 2, 512),
        (576, 64, 2, 640),
        (576, 64, 4, 768),
        (480, 32, 4, 512),
        (480, None, 4, 512),
        (512, 64, 4, 512),
    ],
)
def test_the_least_size_that_cards_can_share_is_taken(tmp_path, inner, groups, cards, wanted):
    """A multiple of cards times group, or of cards times the step of the int8 kernels; the same size is no padding."""
    source = inspect_model(narrowed(tmp_path / "model", inner))
    planned = plan_padding(source, groups, cards)
    assert planned == (None if wanted == inner else Padding(inner, wanted, cards, groups))
    assert plan_padding(source, groups, 1) is None


@pytest.mark.parametrize(
    ("groups", "cards", "told"),
    [
        (64, 3, "4 attention heads cannot be shared evenly"),
        (128, 4, "the attention output's 256 inputs in quantised groups of 128 cannot be shared evenly"),
    ],
)
def test_what_zeros_do_not_help_is_refused(tmp_path, groups, cards, told):
    """Before anything is computed, with what cannot be split."""
    source = inspect_model(narrowed(tmp_path / "model", 384))
    with pytest.raises(ModelError, match=f"cannot be split over {cards} cards: {told}; take another --split"):
        plan_padding(source, groups, cards)


@pytest.mark.parametrize(
    ("rename", "told"),
    [
        (lambda name: name.replace(".mlp.", ".mlp.experts.0."), "belongs to a mixture of experts"),
        (lambda name: name.replace("layers.3.mlp.down_proj", "layers.3.mlp.out"), "those of 3 layers, and there are 4"),
        (lambda name: name.replace("up_proj", "raise").replace("gate_proj", "g"), "those of 4 layers, and there are 4"),
    ],
)
def test_layers_that_kit_does_not_know_are_refused(tmp_path, rename, told):
    """Rather than padded in part, or called padded."""
    found = inspect_model(narrowed(tmp_path / "model", 448))
    tensors = {rename(name): tensor for name, tensor in found.weights.tensors.items()}
    strange = SimpleNamespace(
        folder=found.folder,
        config=found.config,
        architecture=found.architecture,
        checkpoint=found.checkpoint,
        weights=SimpleNamespace(tensors=tensors),
    )
    with pytest.raises(ModelError, match=told):
        plan_padding(strange, 64, 2)
