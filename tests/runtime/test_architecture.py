"""config.json as the engine reads it: sizes by whatever name, what a token costs, lengths, types."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaggle_kit.errors import ModelError
from kaggle_kit.runtime.architecture import Architecture, read_architecture

ENGINE = json.loads((Path(__file__).parents[1] / "model" / "engine_memory.json").read_text())
LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 12,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 1024,
    "max_position_embeddings": 256,
}
ONE_LAYER = 2 * 2 * 64 * 2


def read(**changes) -> Architecture:
    """The architecture of a small Llama with these keys of config.json otherwise."""
    return read_architecture({**LLAMA, **changes})


@pytest.mark.parametrize("name", ENGINE)
def test_a_token_takes_what_the_engine_keeps(name):
    """Keys and values of a token, and the state of a prompt, are vLLM's own numbers to the byte."""
    said = ENGINE[name]
    shape = read_architecture(said["config"])
    assert (shape.kv_bytes_per_token, shape.state_bytes) == (said["token_bytes"], said["prompt_bytes"])


@pytest.mark.parametrize(
    ("changes", "layers"),
    [
        ({"layer_types": ["full_attention"] * 3 + ["linear_attention"] * 9}, 3),
        ({"layers_block_type": ["mamba"] * 8 + ["attention"] * 4}, 4),
        ({"block_types": ["recurrent", "recurrent", "attention"]}, 4),
        ({"hybrid_override_pattern": "M-M*-M-M*-M-"}, 2),
        ({"attn_type_list": [0, 1] * 6}, 6),
        ({"full_attention_interval": 4}, 3),
        ({"attn_layer_period": 6, "attn_layer_offset": 2}, 2),
        ({"attn_layer_indices": [3, 7]}, 2),
        ({"full_attn_idxs": [0]}, 1),
        ({"linear_attn_config": {"full_attn_layers": [4, 8, 12]}}, 3),
        ({"num_kv_shared_layers": 5}, 7),
        ({"layer_types": ["conv", "full_attention"] * 6}, 6),
        ({"layer_types": ["sliding_attention", "full_attention"] * 6}, 12),
        ({"layer_types": ["who", "knows"] * 6}, 12),
        ({"model_type": "mamba"}, 0),
        ({}, 12),
    ],
)
def test_layers_without_attention_keep_no_keys(changes, layers):
    """In every way in which a configuration says which layers have attention; what is not understood counts."""
    assert read(**changes).kv_bytes_per_token == layers * ONE_LAYER


@pytest.mark.parametrize(
    ("changes", "heads"),
    [
        ({"num_kv_heads": 1, "num_key_value_heads": None}, 1),
        ({"multi_query": True}, 1),
        ({"multi_query": True, "new_decoder_architecture": True, "num_kv_heads": 2}, 2),
        ({"attn_config": {"kv_n_heads": 1}}, 1),
        ({"multi_query_group_num": 1, "num_key_value_heads": None}, 1),
        ({"num_attention_groups": 2, "num_key_value_heads": None}, 2),
        ({"num_key_value_heads": None}, 4),
    ],
)
def test_heads_of_keys_have_many_names(changes, heads):
    """Each name that the engine looks up is read."""
    assert read(**changes).kv_heads == heads


def test_layers_may_say_their_heads_each():
    """A list of heads, or a table for each layer, is added up."""
    assert read(num_key_value_heads=[1] * 6 + [2] * 6).kv_bytes_per_token == 18 * 64 * 2 * 2
    blocks = [{"attention": {"no_op": True}}] * 8 + [{"attention": {"n_heads_in_group": 2}}] * 4
    assert read(block_configs=blocks, num_key_value_heads=None).kv_bytes_per_token == 4 * 2 * 64 * 2 * 2


def test_one_vector_for_all_heads_is_kept_whole_by_each_card():
    """Latent attention is not shared out over cards; heads are, down to one."""
    latent = read_architecture(ENGINE["deepseek-v2-lite"]["config"])
    assert latent.kv_bytes_on_card(4) == latent.kv_bytes_per_token
    assert read().kv_bytes_on_card(4) == read().kv_bytes_per_token / 2


def test_a_part_of_the_layers_keeps_its_share():
    """Half of a hybrid model keeps half of its keys and its state."""
    hybrid = read_architecture(ENGINE["qwen3-next-80b-a3b"]["config"])
    half = hybrid.part(hybrid.layers // 2)
    assert half.kv_bytes_per_token * 2 == hybrid.kv_bytes_per_token
    assert half.state_bytes * 2 == hybrid.state_bytes


@pytest.mark.parametrize(
    ("rope", "tokens"),
    [
        (None, 256),
        ({"type": "linear", "factor": 4.0}, 1024),
        ({"rope_type": "dynamic", "factor": 2}, 512),
        ({"factor": 2.0}, 512),
        ({"rope_type": "default", "factor": 2.0}, 512),
        ({"rope_type": "yarn", "factor": 4.0}, 256),
        ({"rope_type": "llama3", "factor": 8.0}, 256),
        ({"type": "su", "factor": 8.0}, 256),
        ({"rope_type": "longrope", "factor": 8.0}, 256),
        ({"rope_type": "linear", "factor": None}, 256),
        ({"rope_type": "linear", "factor": True}, 256),
        ({"type": "mrope", "mrope_section": [1, 2]}, 256),
        (
            {"full_attention": {"rope_type": "linear", "factor": 3.0}, "sliding_attention": {"rope_type": "default"}},
            768,
        ),
    ],
)
@pytest.mark.parametrize("key", ["rope_scaling", "rope_parameters"])
def test_lengths_are_scaled_as_the_engine_scales_them(rope, tokens, key):
    """Kinds whose configuration gives the lengthened number are not multiplied; all others are."""
    assert read(**{key: rope}).most_tokens == tokens


@pytest.mark.parametrize(
    ("changes", "tokens"),
    [
        ({"n_positions": 128}, 128),
        ({"seq_length": 100, "max_seq_len": 90}, 90),
        ({"model_max_length": 8192}, 8192),
        ({"max_position_embeddings": None, "max_sequence_length": 64}, 64),
        ({"model_type": "nobody-knows", "max_position_embeddings": None}, None),
    ],
)
def test_the_smallest_length_counts(changes, tokens):
    """Of all keys that the engine looks up; a length of its own stands above them, and none at all is not guessed."""
    assert read(**changes).most_tokens == tokens


def test_a_class_says_the_length_that_the_file_leaves_out():
    """As transformers fills it in."""
    bare = {key: value for key, value in LLAMA.items() if key != "max_position_embeddings"}
    assert read_architecture(bare).most_tokens == 2048


@pytest.mark.parametrize(
    ("told", "stored", "dtype"),
    [
        ({}, {"F16", "I32"}, "float16"),
        ({}, {"BF16"}, "bfloat16"),
        ({}, {"BF16", "F32"}, "float32"),
        ({}, set(), "float16"),
        ({"dtype": "bfloat16"}, {"F16"}, "bfloat16"),
        ({"torch_dtype": "float16"}, {"BF16"}, "float16"),
    ],
)
def test_weights_say_their_type_where_the_configuration_does_not(told, stored, dtype):
    """What config.json says stands above it."""
    assert read_architecture({**LLAMA, **told}, stored=stored).dtype == dtype


@pytest.mark.parametrize(
    ("changes", "active", "split"),
    [
        ({}, 512, 512),
        ({"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 64}, 128, 64),
        (
            {"n_routed_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 64, "first_k_dense_replace": 1},
            512,
            512,
        ),
        ({"num_local_experts": 4, "num_experts_per_tok": 2}, 1024, 512),
        ({"moe_num_experts": 4, "moe_topk": [2, 3], "moe_intermediate_size": 300}, 900, 300),
    ],
)
def test_a_mixture_is_as_wide_as_the_experts_that_a_token_meets(changes, active, split):
    """Activations are of the experts a token goes to; what cards share evenly is one expert's width."""
    shape = read(**changes)
    assert (shape.active_intermediate, shape.intermediate) == (active, split)


_VALUES = st.none() | st.booleans() | st.integers(-3, 1 << 40) | st.floats() | st.text(max_size=5)
_WILD = _VALUES | st.lists(_VALUES, max_size=4) | st.dictionaries(st.text(max_size=5), _VALUES, max_size=3)


@given(
    st.dictionaries(
        st.sampled_from(
            [
                *LLAMA,
                "layer_types",
                "block_configs",
                "attn_config",
                "linear_attn_config",
                "hybrid_override_pattern",
                "full_attention_interval",
                "attn_layer_period",
                "num_kv_heads",
                "kv_lora_rank",
                "rope_scaling",
                "text_config",
                "num_experts",
                "moe_topk",
                "sliding_window_pattern",
                "head_dim",
            ]
        ),
        _WILD,
    )
)
def test_any_value_is_read_or_refused(changes):
    """Whatever stands in a configuration ends in an architecture of sane numbers or in ModelError."""
    try:
        shape = read_architecture({**LLAMA, **changes})
    except ModelError:
        return
    assert 0 <= shape.kv_bytes_per_token < 1 << 60
    assert shape.active_intermediate > 0
    assert shape.most_tokens is None or shape.most_tokens > 0
