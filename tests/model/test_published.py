"""Checkpoints as they are published: mixtures, numbers packed in bytes, towers of images beside the language model."""

import math

import pytest

from kaggle_kit.model.checks import check_completeness, text_layers
from kaggle_kit.model.headers import Tensor
from kaggle_kit.model.packing import tally
from kaggle_kit.runtime.architecture import read_architecture

MIXTURE = {
    "architectures": ["Qwen3MoeForCausalLM"],
    "model_type": "qwen3_moe",
    "hidden_size": 64,
    "moe_intermediate_size": 32,
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "vocab_size": 100,
}
LAYER = "model.layers.0."


def tensors(**shapes):
    """Tensors of these names (an underscore twice is a dot), each a type and a shape."""
    named = {name.replace("__", "."): given for name, given in shapes.items()}
    return {name: Tensor(name, kind, shape, 0, math.prod(shape)) for name, (kind, shape) in named.items()}


def active(named):
    """Numbers that a token is multiplied with in the layers of a mixture that goes to two of eight experts."""
    return tally(named, {}, read_architecture(MIXTURE)).layer_parameters


@pytest.mark.parametrize(
    ("named", "numbers"),
    [
        ({f"model__layers__0__mlp__experts__{n}__up_proj__weight": ("BF16", (32, 64)) for n in range(8)}, 2 * 32 * 64),
        ({"model__layers__0__mlp__experts__gate_up_proj": ("BF16", (8, 64, 64))}, 2 * 64 * 64),
        ({"model__layers__0__feed_forward__w1__weight": ("BF16", (8, 32, 64))}, 2 * 32 * 64),
        ({"model__layers__0__mlp__shared_experts__up_proj__weight": ("BF16", (32, 64))}, 32 * 64),
        ({"model__layers__0__mlp__shared_expert__up_proj__weight": ("BF16", (32, 64))}, 32 * 64),
        ({"model__layers__0__mlp__gate__weight": ("BF16", (8, 64))}, 8 * 64),
        ({"model__layers__0__self_attn__q_proj__weight": ("BF16", (64, 64))}, 64 * 64),
    ],
)
def test_a_token_is_multiplied_with_the_experts_it_goes_to(named, numbers):
    """Experts count by the share of them that a token meets; what all tokens pass counts whole."""
    assert active(tensors(**named)) == numbers


@pytest.mark.parametrize(
    ("weight", "scale"),
    [
        ("mlp.experts.gate_up_proj_blocks", "mlp.experts.gate_up_proj_scales"),
        ("mlp.up_proj.weight_packed", "mlp.up_proj.weight_scale"),
        ("mlp.up_proj.weight", "mlp.up_proj.weight_scale_2"),
        ("mlp.up_proj.weight", "mlp.up_proj.weight.absmax"),
    ],
)
def test_a_byte_holds_two_numbers_of_four_bits(weight, scale):
    """In each form in which such weights are published; a byte without scales beside it is one number."""
    packed = Tensor(LAYER + weight, "U8", (64, 32), 0, 2048)
    beside = Tensor(LAYER + scale, "U8", (64, 2), 0, 128)
    dense = read_architecture({**MIXTURE, "num_experts": 0})
    assert tally({one.name: one for one in (packed, beside)}, {}, dense).parts["mlp"].parameters >= 2 * 2048
    assert tally({packed.name: packed}, {}, dense).parts["mlp"].parameters == 2048


@pytest.mark.parametrize(
    "tower",
    [
        "visual.blocks.",
        "vision_tower.vision_model.encoder.layers.",
        "model.vision_model.encoder.layers.",
        "thinker.audio_tower.layers.",
        "model.visual.blocks.",
        "talker.model.layers.",
        "vpm.encoder.layers.",
        "model.mtp.layers.",
    ],
)
@pytest.mark.parametrize("text", ["model.layers.", "language_model.model.layers.", "transformer.h.", "h."])
def test_layers_of_other_parts_are_not_the_language_models(tower, text):
    """A tower with more blocks than there are layers neither adds layers nor hides that some are missing."""
    names = [f"{tower}{n}.attn.weight" for n in range(40)] + [f"{text}{n}.attn.weight" for n in range(3)]
    assert {number for number, _ in text_layers(names)} == {0, 1, 2}


@pytest.mark.parametrize("text", ["bert.encoder.layer.", "deberta.encoder.layer.", "encoder.layers."])
def test_an_encoders_layers_are_the_models_if_there_are_no_others(text):
    """BERT and its like have no other stack; a tower beside it is still none of it."""
    names = [f"vision_tower.encoder.layers.{n}.attn.weight" for n in range(40)]
    assert text_layers(names) == []
    assert {number for number, _ in text_layers([*names, f"{text}0.attn.weight", f"{text}1.attn.weight"])} == {0, 1}


def test_a_layer_that_predicts_further_tokens_is_none_too_many():
    """DeepSeek's published weights hold one after the last; only a second one is too many."""
    shape = read_architecture({**MIXTURE, "num_nextn_predict_layers": 1})
    for last, faults in ((1, 0), (2, 1)):
        named = {f"model__layers__{n}__mlp__up_proj__weight": ("BF16", (32, 64)) for n in range(last + 1)}
        problems = check_completeness(shape, tensors(**named), {}, None)
        assert sum("too" in problem.what for problem in problems) == faults
