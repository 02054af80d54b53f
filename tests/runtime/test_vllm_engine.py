"""How vLLM is asked, version by version; the real engine is in tests/end_to_end/test_conformance.py."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from kaggle_kit.errors import ModelError, RunError, UsageError
from kaggle_kit.runtime.vllm_engine import (
    _inspect_here,
    classify_options,
    classify_refusal,
    generate_options,
    head_options,
    keep_only,
    label_pieces,
    parse_version,
    strategy_for,
)

MODEL = Path(__file__).parents[1] / "demo" / "model"
NOW = (0, 32, 0)
CONFIG = {"architectures": ["LlamaForCausalLM"], "vocab_size": 2048}
AWQ = CONFIG | {"quantization_config": {"quant_method": "awq", "bits": 4}}


def generate(version=NOW, labels=3, longest=10, config=CONFIG, **options):
    """The arguments of `vllm.LLM` for generating."""
    return generate_options(version, config=config, labels=labels, longest=longest, options=options)


def classify(version=NOW, config=CONFIG, label_ids=(36, 37), **options):
    """The arguments of `vllm.LLM` for a classify head."""
    return classify_options(
        version, config=config, pieces=["A", "ĠB"], label_ids=label_ids, longest=10, options=options
    )


@pytest.mark.parametrize(
    ("version", "name", "mass"),
    [
        ("0.5.5", "logits processor on V0", False),
        ("0.6.2", "logits processor on V0", False),
        ("0.6.3.post1", "allowed_token_ids on V0", False),
        ("0.8.5", "allowed_token_ids on V0", False),
        ("0.10.0", "allowed_token_ids on V0", False),
        ("0.10.1.1", "allowed_token_ids on V0", False),
        ("0.10.2", "processed_logprobs", False),
        ("0.19.1", "processed_logprobs", False),
        ("0.20.0", "logprob_token_ids, after the mask", False),
        ("0.21.0", "logprob_token_ids, after the mask", False),
        ("0.22.0", "logprob_token_ids, raw", True),
        ("0.32.0+cpu", "logprob_token_ids, raw", True),
        ("1.0.0", "logprob_token_ids, raw", True),
    ],
)
def test_each_version_has_its_way(version, name, mass):
    """The way in which a version tells the labels, and whether it can tell their mass."""
    strategy = strategy_for(parse_version(version))
    assert (strategy.name, strategy.mass) == (name, mass)


def test_a_version_before_all_ways_is_refused():
    """The error names the oldest version that can be asked."""
    with pytest.raises(UsageError, match=r"vLLM 0.3.0 cannot be asked for label probabilities; use 0.4.3 or later"):
        strategy_for((0, 3, 0))


def test_an_unreadable_version_is_an_error():
    """A version without numbers is no version."""
    with pytest.raises(RunError, match="'dev' cannot be read"):
        parse_version("dev")


def test_old_engines_are_held_on_their_old_runner():
    """Where V1 tells log-probabilities from before the mask, V0 is asked for."""
    assert strategy_for((0, 9, 2)).environment == {"VLLM_USE_V1": "0"}
    assert strategy_for((0, 19, 1)).environment == {}


def test_the_mode_of_the_log_probabilities_is_the_strategys():
    """The mode is set where there is one, and an option that contradicts it is refused."""
    assert "logprobs_mode" not in generate((0, 8, 5))
    assert generate((0, 19, 1))["logprobs_mode"] == "processed_logprobs"
    assert generate(NOW, logprobs_mode="raw_logprobs")["logprobs_mode"] == "raw_logprobs"
    with pytest.raises(UsageError, match="logprobs_mode = 'processed_logits': label probabilities need 'raw_logprobs'"):
        generate(NOW, logprobs_mode="processed_logits")


def test_options_win_over_the_kits_own():
    """What a target or a user sets stays."""
    assert generate(enable_prefix_caching=False)["enable_prefix_caching"] is False
    assert generate()["max_model_len"] == 11


def test_a_given_length_must_hold_the_prompts():
    """A max_model_len with which prompts would be refused is refused at once."""
    with pytest.raises(UsageError, match="max_model_len = 10: prompts of 10 tokens and the answer need 11"):
        generate(max_model_len=10)


@pytest.mark.parametrize(
    ("labels", "options", "found"),
    [
        (20, {}, None),
        (21, {}, 21),
        (40, {"max_logprobs": 30}, 40),
        (40, {"max_logprobs": -1}, -1),
        (3, {"max_logprobs": 50}, 50),
    ],
)
def test_many_labels_raise_the_engines_limit(labels, options, found):
    """vLLM tells 20 log-probabilities unless told otherwise."""
    assert generate(labels=labels, **options).get("max_logprobs") == found


def test_too_many_labels_are_refused():
    """128 tokens are the most that logprob_token_ids takes; the older way has no such limit."""
    with pytest.raises(UsageError, match="129 labels: vLLM gives the probabilities of 128 tokens at most"):
        generate(labels=129)
    assert generate((0, 19, 1), labels=129)["max_logprobs"] == 129


@pytest.mark.parametrize(
    ("version", "config", "dtype", "full"),
    [
        (NOW, AWQ, "bfloat16", True),
        (NOW, CONFIG, "bfloat16", True),
        (NOW, CONFIG, "half", False),
        ((0, 25, 1), CONFIG, "bfloat16", False),
        (NOW, CONFIG | {"quantization_config": {"quant_method": "awq", "lm_head": True}}, "bfloat16", False),
        (NOW, CONFIG | {"quantization_config": {"quant_method": "fp8"}}, "bfloat16", False),
        (
            NOW,
            CONFIG | {"quantization_config": {"quant_method": "compressed-tensors", "ignore": ["lm_head"]}},
            "bfloat16",
            True,
        ),
    ],
)
def test_bfloat16_gets_a_float32_head(version, config, dtype, full):
    """Logits are not rounded to bfloat16 where the version knows how, and the head is not quantised."""
    found = generate(version, config=config, dtype=dtype)
    assert (found.get("hf_overrides") == {"head_dtype": "float32"}) is full


def test_a_given_head_stays():
    """A user's head_dtype, and other overrides, are kept."""
    found = generate(dtype="bfloat16", hf_overrides={"head_dtype": "model", "other": 1})
    assert found["hf_overrides"] == {"head_dtype": "model", "other": 1}


def test_the_old_processor_keeps_the_labels_alone():
    """Every other logit becomes minus infinity."""

    class Logits(np.ndarray):
        """As much of a tensor as the processor uses."""

        def new_full(self, shape, value):
            return np.full(shape, value)

    logits = np.arange(5.0).view(Logits)
    assert keep_only([3, 1])([9], logits).tolist() == [-np.inf, 1.0, -np.inf, 3.0, -np.inf]


def test_the_classify_head_is_made_of_the_label_tokens():
    """The architecture follows the checkpoint's; the head's tokens are the vocabulary's exact pieces."""
    found = classify(config=AWQ, enforce_eager=True)
    assert (found["runner"], found["convert"], found["enforce_eager"]) == ("pooling", "classify", True)
    assert found["hf_overrides"] == {
        "architectures": ["LlamaForSequenceClassification"],
        "num_labels": 2,
        "classifier_from_token": ["A", "ĠB"],
        "method": "no_post_processing",
    }


@pytest.mark.parametrize(
    ("version", "config", "options", "reason"),
    [
        ((0, 10, 0), {}, {}, "vLLM 0.10.0 has no `convert`"),
        ((0, 17, 1), AWQ, {}, "before vLLM 0.18.1 the head takes over the checkpoint's quantisation"),
        (NOW, {}, {"tensor_parallel_size": 2}, "each card holds a part of the LM head"),
        (NOW, {"architectures": ["LlamaModel"]}, {}, r"\['LlamaModel'\] is not a single \.\.\.ForCausalLM"),
        (NOW, {"final_logit_softcapping": 30.0}, {}, r"final_logit_softcapping = 30\.0"),
        (NOW, {"logit_scale": 0.0625}, {}, r"logit_scale = 0\.0625"),
    ],
)
def test_a_wrong_classify_head_is_refused(version, config, options, reason):
    """Wherever the head would not give what generating gives, the reason is told and the other engine named."""
    with pytest.raises(UsageError, match=f"{reason}.*use the engine vllm"):
        classify(version, config=CONFIG | config, **options)


def test_the_refusal_names_the_tokens_on_the_other_card():
    """Over two cards, the labels beyond the first half of the vocabulary are those that would be read wrong."""
    reason = classify_refusal(NOW, config=CONFIG, label_ids=[36, 1100], options={"tensor_parallel_size": 2})
    assert reason is not None
    assert reason.endswith("the tokens [1100] are beyond the first 1024")


def heads(config, version=NOW, **options):
    """The arguments of `vllm.LLM` for a model with a head of its own."""
    return head_options(version, config, longest=10, options=options)


def test_a_models_own_head_is_asked_as_it_is():
    """As a pooling model, and no token is kept free for an answer."""
    found = heads({"architectures": ["LlamaForSequenceClassification"], "model_type": "llama"}, seed=1)
    assert (found["runner"], found["convert"], found["max_model_len"], found["seed"]) == ("pooling", "classify", 10, 1)
    assert "hf_overrides" not in found
    with pytest.raises(UsageError, match="max_model_len = 9: prompts of 10 tokens need 10"):
        heads({"architectures": ["LlamaForSequenceClassification"], "model_type": "llama"}, max_model_len=9)


def test_a_head_is_called_by_the_name_that_vllm_loads():
    """Gemma 3's text model: by its own name vLLM takes a class that has other tensors."""
    config = {"architectures": ["Gemma3TextForSequenceClassification"], "model_type": "gemma3_text"}
    found = heads(config, hf_overrides={"rope_theta": 1e6})["hf_overrides"]
    assert found == {"architectures": ["Gemma3ForSequenceClassification"], "rope_theta": 1e6}


def test_an_old_version_does_not_read_a_models_own_head():
    """Its pooling has other words; transformers reads such a model."""
    with pytest.raises(UsageError, match="is too old for a model with a head of its own"):
        heads({"architectures": ["LlamaForSequenceClassification"], "model_type": "llama"}, version=(0, 10, 0))


@pytest.mark.parametrize("version", [(0, 17, 1), (0, 18, 1)])
def test_a_full_checkpoint_may_have_a_classify_head_early(version):
    """Only quantised checkpoints need 0.18.1."""
    assert classify_refusal(version, config=CONFIG | {"logit_scale": 1}, label_ids=[1, 2], options={}) is None


def test_the_pieces_are_the_vocabularys_own():
    """The demo's label tokens are spelt as its tokenizer.json spells them; a number beyond it is refused."""
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_file(str(MODEL / "tokenizer.json"))
    ids = [tokenizer.token_to_id(piece) for piece in ("A", "B", "tie")]
    assert label_pieces(MODEL, ids) == ["A", "B", "tie"]
    with pytest.raises(ModelError, match="no spelling of its own for the label token 99999"):
        label_pieces(MODEL, [99999])


@pytest.fixture
def registry(monkeypatch):
    """A function: vLLM's registry of models as `_inspect_here` leaves it, on a machine with or without a card."""

    def registry(*, cpu, multiprocessing, **names):
        modules = {name: ModuleType(name) for name in ("vllm", "vllm.model_executor", "vllm.model_executor.models")}
        modules["vllm.model_executor.models"].registry = SimpleNamespace(**names)
        modules["vllm.platforms"] = SimpleNamespace(current_platform=SimpleNamespace(is_cpu=lambda: cpu))
        for name, module in modules.items():
            monkeypatch.setitem(sys.modules, name, module)
        if multiprocessing is not None:
            monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", multiprocessing)
        _inspect_here()
        return modules["vllm.model_executor.models"].registry

    return registry


def _elsewhere(_inspect):
    return "in another process"


def test_a_model_is_looked_at_where_its_engine_is(registry):
    """On a CPU, with the engine in this process, vLLM need not be imported a second time."""
    here = registry(cpu=True, multiprocessing="0", _run_in_subprocess=_elsewhere)
    assert here._run_in_subprocess(lambda: "here") == "here"


@pytest.mark.parametrize(("cpu", "multiprocessing"), [(False, "0"), (True, "1"), (True, None), (False, None)])
def test_with_a_card_or_another_process_vllm_does_as_ever(registry, cpu, multiprocessing):
    """This process must touch no card before the engine's own process does."""
    here = registry(cpu=cpu, multiprocessing=multiprocessing, _run_in_subprocess=_elsewhere)
    assert here._run_in_subprocess(lambda: "here") == "in another process"


def test_a_version_that_looks_in_another_way_is_left_alone(registry):
    """What is not there is not set."""
    assert vars(registry(cpu=True, multiprocessing="0")) == {}
