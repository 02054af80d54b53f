"""An adapter is for one base: what kit checks before it merges."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest
from checkpoints import edit_json
from full_precision import FULL, RANK, TARGETS, full_demo, make_adapter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kaggle_kit.errors import ModelError
from kaggle_kit.model.inspect import inspect_model
from kaggle_kit.model.merge import check_adapter

MODULES = (*(f"self_attn.{name}" for name in TARGETS[:4]), *(f"mlp.{name}" for name in TARGETS[4:]))
Q = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.fixture
def base(tmp_path):
    """The demo model in fp16."""
    return full_demo(tmp_path / "base")


@pytest.fixture(scope="module")
def base_inspected():
    """What kit knows of the demo model in fp16."""
    return inspect_model(FULL, manifest=False, tokenizer=False)


def check(tmp_path, base, **given):
    """The adapter made by `given`, checked against the base."""
    inspected = inspect_model(base, tokenizer=False)
    return check_adapter(make_adapter(tmp_path / "adapter", base, **given), inspected)


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


@pytest.mark.parametrize("target", ["q_proj", "self_attn.q_proj"])
def test_a_target_without_weights_is_refused(tmp_path, base, target):
    """A target that the configuration names and the base has must be in the file: peft would add nothing to it."""

    def lose(tensors):
        for name in [name for name in tensors if "q_proj" in name]:
            del tensors[name]

    targets = [target, *(name for name in TARGETS if name != "q_proj")]
    with pytest.raises(ModelError, match=f"names the target '{target}', which the base has"):
        check(tmp_path, base, change=lose, target_modules=targets)


@pytest.mark.parametrize(
    "config",
    [
        {"target_modules": [*TARGETS, "query_key_value", "c_attn", "w1"]},
        {"target_modules": "all-linear"},
        {"target_modules": r".*_proj"},
        {"target_modules": None},
        {"target_modules": [f"model.layers.{layer}.{name}" for layer in range(4) for name in MODULES]},
        {"target_modules": list(MODULES), "layers_to_transform": [0, 1, 2, 3], "layers_pattern": "layers"},
        {"use_rslora": True, "bias": "all", "init_lora_weights": "pissa"},
        {"use_dora": True, "fan_in_fan_out": True, "modules_to_save": ["classifier"]},
        {"task_type": "FEATURE_EXTRACTION", "a_setting_of_tomorrow": 7},
    ],
)
def test_what_peft_merges_is_taken(tmp_path, base, config):
    """Lists for several architectures, patterns, full names, and every setting that changes no name of the file."""
    assert check(tmp_path, base, **config).layers == 28


@pytest.mark.parametrize("pattern", ["v_proj", "self_attn.v_proj", "^model.*v_proj", "(k|v)_proj"])
def test_a_layer_can_have_a_rank_of_its_own(tmp_path, base, pattern):
    """`rank_pattern`, by name or by a pattern."""

    def widen(tensors):
        for name in tensors:
            if "v_proj" in name:
                tensors[name] = np.concatenate([tensors[name]] * 2, axis=0 if "lora_A" in name else 1)

    more = {"rank_pattern": {"o_proj": RANK, pattern: 2 * RANK}, "alpha_pattern": {pattern: 3}}
    assert check(tmp_path, base, change=widen, **more).layers == 28


def test_layers_that_are_excluded_are_not_missed(tmp_path, base):
    """`all-linear` but one: peft writes the list of all, and the one beside it."""

    def lose(tensors):
        for name in [name for name in tensors if "down_proj" in name]:
            del tensors[name]

    assert check(tmp_path, base, change=lose, exclude_modules=["down_proj"]).layers == 24


def test_a_layer_that_no_target_names_is_refused(tmp_path, base):
    """peft would pass over it without a word."""
    with pytest.raises(ModelError, match=r"self_attn\.q_proj: .* does not name it as a target: peft passes over it"):
        check(tmp_path, base, target_modules=[name for name in TARGETS if name != "q_proj"])


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"alora_invocation_tokens": [5, 6]}, "peft: aLoRA does not support safe merging"),
        ({"lora_alpha": None}, "lora_alpha is None"),
        ({"lora_alpha": "8"}, "lora_alpha is '8'"),
        ({"r": 8}, "has the rank 4, and adapter_config.json gives 8"),
        ({"rank_pattern": {"q_proj": 16}}, "q_proj: it has the rank 4, and adapter_config.json gives 16"),
        ({"r": 8, "rank_pattern": {"^.*q_proj": 16}}, "has the rank 4, and adapter_config.json gives 8, 16"),
        ({"r": 8, "rank_pattern": {"q_proj": [16]}}, "has the rank 4, and adapter_config.json gives 8"),
        ({"target_modules": []}, "peft: no `target_modules` passed"),
        ({"target_modules": [["q_proj"]]}, "which is not a text"),
        ({"trainable_token_indices": [5]}, "holds no such tokens"),
    ],
)
def test_what_peft_refuses_is_refused_with_its_reason(tmp_path, base, config, why):
    """The adapter is the reason, and no other base is advised."""
    with pytest.raises(ModelError, match=re.escape(why)) as refused:
        check(tmp_path, base, base_model_name_or_path="someone/other", **config)
    assert "name the model" not in str(refused.value)


@pytest.mark.parametrize("part", ["lora_B.bias", "lora_B.default.bias"])
def test_a_bias_needs_one_in_the_base(tmp_path, base, part):
    """`lora_bias`: peft merges it into a bias, and the demo model has none."""
    with pytest.raises(ModelError, match="impossible to merge LoRA with lora_bias because the base layer has no bias"):
        check(tmp_path, base, change=lambda tensors: tensors.update({f"{Q}.{part}": np.zeros(256, np.float32)}))


@pytest.mark.parametrize(
    "rename",
    [
        lambda name: name.replace("base_model.model.", "base_model.model._orig_mod."),
        lambda name: name.replace("base_model.model.", "base_model.model.module."),
        lambda name: name.replace(".model.layers", ".model.language_model.layers"),
        lambda name: f"base_model.model.{name}",
        lambda name: name.removeprefix("base_model.model."),
        lambda name: f"_orig_mod.{name}",
    ],
)
def test_the_names_of_a_wrapped_model_are_refused(tmp_path, base, rename):
    """peft merges nothing of them, and does not say so: they are told with the wrapper as the reason."""

    def wrap(tensors):
        for name in list(tensors):
            tensors[rename(name)] = tensors.pop(name)

    with pytest.raises(ModelError, match=r"peft passes over (such names|them)") as refused:
        check(tmp_path, base, change=wrap)
    assert "name the model" not in str(refused.value)


@pytest.mark.parametrize("task", ["SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS", None, "CAUSAL_LM"])
@pytest.mark.parametrize("head", ["score.weight", "classifier.modules_to_save.default.weight", "v_head.summary.weight"])
def test_a_classifier_is_refused_by_its_head(tmp_path, base, task, head):
    """Its base may be right: the head is the reason, under whatever name, and whatever the task is called."""

    def add(tensors):
        tensors[f"base_model.model.{head}"] = np.zeros((3, 256), np.float32)

    with pytest.raises(ModelError, match="answers by a head of its own") as refused:
        check(tmp_path, base, change=add, task_type=task, base_model_name_or_path="someone/other")
    assert head.partition(".")[0] in str(refused.value)
    assert "name the model" not in str(refused.value)


def test_a_classifier_without_its_head_is_refused(tmp_path, base):
    """The task alone says that the LM head was not trained."""
    with pytest.raises(ModelError, match="task_type SEQ_CLS"):
        check(tmp_path, base, task_type="SEQ_CLS")


TOKENS = "base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta"


@pytest.mark.parametrize("told", [[5, 6], {"embed_tokens": [5, 6]}, {"model.embed_tokens": [2047, 0]}])
def test_tokens_that_were_trained_are_taken(tmp_path, base, told):
    """A list is for the embeddings, a table names them; head and embeddings stay one matrix."""

    def add(tensors):
        tensors[TOKENS] = np.zeros((2, 256), np.float32)

    found = check(tmp_path, base, change=add, trainable_token_indices=told)
    assert (found.layers, found.unties) == (28, False)


@pytest.mark.parametrize(
    ("told", "shape", "why"),
    [
        ([5, 2048], (2, 256), "the base has 2,048 rows"),
        ([5, -1], (2, 256), "the base has 2,048 rows"),
        ([5, True], (2, 256), "the base has 2,048 rows"),
        ([5], (2, 256), "adapter_config.json and base say"),
        ([5, 5], (2, 256), "adapter_config.json and base say"),
        ([5, 6], (2, 128), "adapter_config.json and base say"),
        ([5, 6], (2,), "adapter_config.json and base say"),
        ({"wte": [5, 6]}, (2, 256), "adapter_config.json and base say None"),
        (None, (2, 256), "adapter_config.json and base say None"),
        (7, (2, 256), "adapter_config.json and base say 7"),
    ],
)
def test_tokens_that_are_not_the_bases_are_refused(tmp_path, base, told, shape, why):
    """Each must have its row, as wide as the base's."""

    def add(tensors):
        tensors[TOKENS] = np.zeros(shape, np.float32)

    with pytest.raises(ModelError, match=why):
        check(tmp_path, base, change=add, trainable_token_indices=told)


def zeros(*shape):
    return np.zeros(shape, np.float32)


EMBED = "base_model.model.model.embed_tokens"
HEAD = "base_model.model.lm_head"


@pytest.mark.parametrize(
    ("added", "more"),
    [
        ({f"{HEAD}.weight": zeros(2048, 256)}, {"modules_to_save": ["lm_head"]}),
        ({f"{EMBED}.weight": zeros(2048, 256)}, {"modules_to_save": ["embed_tokens"]}),
        ({f"{HEAD}.modules_to_save.default.weight": zeros(2048, 256)}, {"modules_to_save": ["lm_head"]}),
        ({f"{HEAD}.lora_A.weight": zeros(4, 256), f"{HEAD}.lora_B.weight": zeros(2048, 4)}, {"target": "lm_head"}),
        (
            {f"{EMBED}.lora_embedding_A": zeros(4, 2048), f"{EMBED}.lora_embedding_B": zeros(256, 4)},
            {"target": "embed_tokens"},
        ),
    ],
)
def test_a_changed_head_or_embeddings_are_untied(tmp_path, base, added, more):
    """The demo model has one matrix for both: what changes one must not change the other, and a note says so."""
    targets = [*TARGETS, more.pop("target")] if "target" in more else list(TARGETS)
    found = check(tmp_path, base, change=lambda tensors: tensors.update(added), target_modules=targets, **more)
    assert found.unties
    assert any("they are two in the merged model" in note for note in found.notes)
    shutil.rmtree(tmp_path / "adapter")
    assert not check(tmp_path, base).unties


def test_lora_that_was_tied_is_refused(tmp_path, base):
    """peft adds it to the one matrix twice (measured: its own merge answers otherwise than the adapter)."""
    added = {f"{HEAD}.lora_A.weight": zeros(4, 256), f"{HEAD}.lora_B.weight": zeros(2048, 4)}
    with pytest.raises(ModelError, match="ensure_weight_tying: peft adds"):
        check(
            tmp_path,
            base,
            change=lambda tensors: tensors.update(added),
            target_modules=[*TARGETS, "lm_head"],
            ensure_weight_tying=True,
        )


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=9),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=9), inner),
        max_leaves=6,
    )
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_setting_is_read_or_refused(tmp_path, base_inspected, value):
    """Whatever stands in a setting that kit reads, an adapter is taken or refused by a ModelError."""
    adapter = tmp_path / "adapter"
    if not adapter.is_dir():
        make_adapter(adapter, FULL)
    told = {"peft_type": "LORA", "r": RANK, "lora_alpha": 8, "target_modules": list(TARGETS)}
    for key in (
        "target_modules",
        "rank_pattern",
        "exclude_modules",
        "trainable_token_indices",
        "task_type",
        "lora_alpha",
    ):
        (adapter / "adapter_config.json").write_text(json.dumps(told | {key: value}))
        try:
            check_adapter(adapter, base_inspected, tokenizer=False)
        except ModelError:
            continue


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
