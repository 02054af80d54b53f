"""What a checkpoint's small files say is data: words that load code are refused, numbers are bounded."""

from __future__ import annotations

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaggle_kit.errors import KitError, ModelError
from kaggle_kit.runtime.architecture import whole_number, word
from kaggle_kit.runtime.checkpoint import code_named, read_checkpoint, read_config, read_lengths

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**40), 10**40) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
SIZES = ("num_attention_heads", "hidden_size", "num_hidden_layers", "intermediate_size", "num_key_value_heads")
FORMAT = {"quant_method": "compressed-tensors", "format": "/tmp/evil.py:Format"}
OBSERVER = {"config_groups": {"g": {"weights": {"observer": "evil.py:Observer"}}}}
SPARSE = {"sparsity_config": {"format": "evil.py:Sparse"}}
NAMED = dict.fromkeys(SIZES, 64) | {
    "vocab_size": 100,
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
}


@pytest.mark.parametrize(
    ("config", "key"),
    [
        ({"_attn_implementation_internal": "someone/kernel"}, "_attn_implementation_internal"),
        ({"_attn_implementation_internal": "sdpa"}, "_attn_implementation_internal"),
        ({"_experts_implementation_internal": "someone/kernel"}, "_experts_implementation_internal"),
        ({"text_config": {"_attn_implementation_internal": "someone/kernel"}}, "_attn_implementation_internal"),
        ({"parts": [{"x": [{"_attn_implementation_internal": None}]}]}, "_attn_implementation_internal"),
        ({"_attn_implementation": "someone/kernel"}, "_attn_implementation"),
        ({"attn_implementation": "someone/kernel:fn"}, "attn_implementation"),
        ({"attn_implementation": {"text_config": "someone/kernel@main"}}, "attn_implementation"),
        ({"experts_implementation": "someone/kernel"}, "experts_implementation"),
        ({"speculators_config": {"verifier": {"name_or_path": "someone/model"}}}, "speculators_config"),
        ({"vision_config": {"auto_map": {"AutoConfig": "code.Config"}}}, "auto_map"),
        ({"quantization_config": FORMAT}, "format"),
        ({"compression_config": FORMAT}, "format"),
        ({"quantization_config": OBSERVER}, "observer"),
        ({"quantization_config": SPARSE}, "format"),
    ],
)
def test_a_word_that_loads_code_is_refused(tmp_path, config, key):
    """With the key, before any engine or quantiser reads the file."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_type": "llama"} | config), encoding="utf-8")
    with pytest.raises(ModelError, match=rf"config\.json: '{key}'.*source that you trust"):
        read_config(tmp_path)


@pytest.mark.parametrize(
    "config",
    [
        {"_attn_implementation": "flash_attention_2", "_attn_implementation_autoset": True},
        {"attn_implementation": {"text_config": "sdpa", "vision_config": "eager"}},
        {"attn_implementation": None, "text_config": {"_attn_implementation": "sdpa"}},
        {"auto_map": {"AutoConfig": "microsoft/Phi-3--configuration_phi3.Phi3Config"}},
        {"quantization_config": {"quant_method": "intel/auto-round", "packing_format": "auto_round:auto_gptq"}},
        {"quantization_config": {"quant_method": "gptq", "meta": {"quantizer": ["gptqmodel:1.4.0"]}}},
        {"quantization_config": {"quant_method": "compressed-tensors", "ignore": ["re:.*gate$"], "format": "dense"}},
        {"type": "a:b", "_name_or_path": "/home/someone/model", "time_step_limit": [0.0, float("inf")]},
    ],
)
def test_words_of_real_configurations_are_read(tmp_path, config):
    """What transformers, vLLM's quantisers and their users write into real files is not refused."""
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert read_config(tmp_path) == config


@given(config=st.dictionaries(st.sampled_from(["quantization_config", "auto_map", "a", "_attn_implementation"]), JSON))
def test_any_configuration_can_be_searched(config):
    """Whatever stands at whatever place."""
    assert all(isinstance(named, str) for named in code_named(config))


@pytest.mark.parametrize("value", [0, -1, 10**9, 10**40, 1.0, True, "64", None, [1], {}, float("nan")])
def test_a_size_that_no_model_has_is_refused(value):
    """The key and the bound are in the error; nothing is counted up to it."""
    with pytest.raises(ModelError, match=r"'num_hidden_layers' is .* a number from 1 to 10,000"):
        whole_number({"num_hidden_layers": value}, "num_hidden_layers")


def test_sizes_of_real_models_are_read():
    """The largest vocabulary; a size that may be left out has its default."""
    assert whole_number({"vocab_size": 262_144}, "vocab_size") == 262_144
    assert whole_number({}, "head_dim", 128) == 128


@pytest.mark.parametrize(("length", "most"), [(10_485_760, 10_485_760), (-1, None), (None, None)])
def test_the_length_of_a_model_is_read(tmp_path, length, most):
    """Llama 4 reads ten million tokens; a model that gives no length has none."""
    (tmp_path / "config.json").write_text(json.dumps(NAMED | {"max_position_embeddings": length}))
    assert read_lengths(tmp_path) == (most, 1)


def test_a_length_that_no_model_has_is_refused(tmp_path):
    """The file and the key are in the error."""
    (tmp_path / "config.json").write_text(json.dumps(NAMED | {"max_position_embeddings": 10**30}))
    with pytest.raises(ModelError, match=r"config\.json .*max_position_embeddings"):
        read_lengths(tmp_path)


@pytest.mark.parametrize("value", ["x" * 81, "bfloat\x1b[0m", "a\nb"])
def test_a_word_is_short_and_printable(value):
    """The name of a type is shown to people and compared with others."""
    with pytest.raises(ModelError, match="is not the name of a type"):
        word(value, default="")
    assert word("bfloat16", default="") == "bfloat16"
    assert word(None, default="float16") == word([], default="float16") == "float16"


@pytest.mark.parametrize("kind", ["pipe", "device", "large", "nested", "list", "bytes", "digits", "half"])
def test_a_file_that_is_no_configuration_is_refused(tmp_path, kind):
    """It is neither waited for nor read without end."""
    path = tmp_path / "config.json"
    texts = {"nested": "[" * 200_000, "list": "[]", "bytes": "\0", "digits": "9" * 5000, "half": '{"a": "\\ud800"}'}
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "large":
        path.touch()
        os.truncate(path, 1 << 42)
    else:
        path.write_text(texts[kind])
    with pytest.raises(ModelError, match=r"config\.json cannot be read as a model's configuration"):
        read_config(tmp_path)


@given(
    key=st.sampled_from([*SIZES, "head_dim", "vocab_size", "max_position_embeddings", "dtype", "model_type"]),
    value=JSON,
)
def test_the_plan_reads_any_configuration_or_refuses_it(tmp_path_factory, key, value):
    """Any key may hold anything: facts of bounded numbers come out, or an error of the model."""
    folder = tmp_path_factory.mktemp("model")
    (folder / "config.json").write_text(json.dumps(NAMED | {key: value}), encoding="utf-8")
    (folder / "manifest.json").write_text('{"version": 1, "kind": "model", "name": "m", "files": []}')
    try:
        read = read_checkpoint(folder).architecture
    except KitError:
        return
    assert 0 < read.layers <= 10_000
    assert read.most_tokens is None or 0 < read.most_tokens <= 10**12
