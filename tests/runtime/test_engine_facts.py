"""What the engines know, as data: true to the engine's own files, and what is made of it."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import zipfile
from pathlib import Path

import pytest

from kaggle_kit.runtime.architecture import FAMILIES
from kaggle_kit.runtime.engine_facts import architecture_obstacle, engine_facts, head_obstacle, method_obstacle
from kaggle_kit.runtime.quantisation import Packing, Quantisation, Rule
from kaggle_kit.runtime.score_head import ScoreHead
from kaggle_kit.targets import load_target, target_names
from kaggle_kit.wheelhouse.folder import kit_wheel_bytes

ROOT = Path(__file__).parents[2]
DATA = ROOT / "kaggle_kit/runtime/facts"
NOW, H200 = engine_facts((0, 32, 0)), engine_facts((0, 25, 1))
ASKED = {"wrapped", "needs", "cpu_refuses"}
"""What the script learns by importing the engine, which this test does not."""


def _environments() -> list[Path]:
    """The folders of packages of the kit's environments on this machine that hold vLLM."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "kaggle-kit/environments"
    return [path.parent for path in sorted(cache.glob("*/env/lib/python3*/site-packages/vllm"))]


def test_every_locked_engine_has_its_own_facts():
    """So no shipped target's architecture or method is left unchecked."""
    for name in target_names():
        assert engine_facts(load_target(name).engine_version).exact, name


@pytest.mark.parametrize("site", _environments() or [None], ids=lambda site: site.parents[3].name if site else "none")
def test_the_facts_are_those_of_the_installed_engine(site):
    """The script, run again over the environment's files, gives what is committed."""
    if site is None:
        pytest.skip("no environment of this machine holds vLLM")
    spec = importlib.util.spec_from_file_location("engine_facts_tool", ROOT / "benchmarks/engine_facts.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    facts = tool.read_facts(site)
    committed = json.loads((DATA / f"vllm-{facts['version']}.json").read_text())
    for key in facts.keys() - ASKED:
        assert facts[key] == committed[key], key
    assert set(facts["wrapped"]) - set(facts["text"]) <= {*committed["wrapped"], *committed["multimodal"]}


def test_the_families_are_architectures_of_every_engine():
    """What kit knows in detail, each engine builds."""
    for name, family in FAMILIES.items():
        for facts in (NOW, H200):
            assert architecture_obstacle(facts, name, family.model_type) is None, (name, facts.version)


@pytest.mark.parametrize(
    ("name", "model_type", "what", "step"),
    [
        ("FSDPQwen2ForCausalLM", "qwen2", "does not know the architecture FSDPQwen2ForCausalLM", "Qwen2ForCausalLM"),
        ("FSDPLlamaForCausalLM", "llama", "does not know the architecture", "LlamaForCausalLM"),
        ("PeftModelForCausalLM", "mistral", "does not know the architecture PeftModel", "MistralForCausalLM"),
        ("OptimizedModule", "gemma2", "does not know the architecture OptimizedModule", "Gemma2ForCausalLM"),
        ("Qwen2ForCausalLMWithValueHead", "qwen2", "does not know the architecture", ": Qwen2ForCausalLM"),
        ("Qwen2ForCausalLmm", "own", "does not know the architecture", ": Qwen2ForCausalLM"),
        ("PeftModelForCausalLM", "nobody's", "does not know the architecture", "not a trainer's wrapper"),
        ("BaichuanForCausalLM", "baichuan", "does not build BaichuanForCausalLM any more", "vLLM 0.23.0"),
        ("Nemotron3_5AsrForRNNT", "x", "with a plugin alone", "another model"),
        ("LlamaForCausalLM", "llama9", "the model_type 'llama9'", "'llama'"),
        ("LlamaForCausalLM", "a-b-c-d", "the model_type 'a-b-c-d'", "a type that it reads"),
    ],
)
def test_an_architecture_that_the_engine_does_not_build_is_told(name, model_type, what, step):
    """With the name to write, wherever one can be told from the name or the type."""
    obstacle = architecture_obstacle(NOW, name, model_type)
    assert what in obstacle.what
    assert "vLLM 0.32.0" in obstacle.what
    assert step in obstacle.step


@pytest.mark.parametrize("name", ["GlmForCausalLM", "OlmoForCausalLM", "SmolLM3ForCausalLM", "ArceeForCausalLM"])
def test_a_class_of_transformers_that_the_engine_wraps_is_no_obstacle(name):
    """The registry has no code of its own for it, and the engine loads it all the same."""
    assert name not in NOW.text
    assert architecture_obstacle(NOW, name, "llama") is None


def test_a_package_that_the_wheelhouse_leaves_out_is_told():
    """Qwen-VL's module imports torchvision; a text model needs nothing of the kind."""
    for name in ("Qwen2_5_VLForConditionalGeneration", "Gemma3ForConditionalGeneration", "Qwen3_5ForCausalLM"):
        obstacle = architecture_obstacle(NOW, name, "qwen2_5_vl", excluded=["torchvision"])
        assert f"imports torchvision for {name}" in obstacle.what
        assert architecture_obstacle(NOW, name, "qwen2_5_vl") is None
    assert architecture_obstacle(NOW, "Qwen2ForCausalLM", "qwen2", excluded=["torchvision"]) is None


@pytest.mark.parametrize("name", ["hqq", "exl2", "aqlm", "eetq", "quanto", "higgs", "spqr", "vptq", "nonsense"])
def test_a_method_that_no_engine_reads_is_told(name):
    """By its name and the engine's, for cards and for a CPU."""
    for facts in (NOW, H200):
        for capability in (None, (7, 5), (9, 0)):
            obstacle = method_obstacle(facts, name, capability=capability)
            assert obstacle.what == f"{name}, a quantisation method that vLLM {facts.version} does not read"


def test_a_method_may_be_read_by_one_version_alone():
    """0.25.1 reads bitsandbytes, 0.32 does not."""
    assert method_obstacle(H200, "bitsandbytes", capability=(9, 0)) is None
    assert "vLLM 0.32.0 does not read" in method_obstacle(NOW, "bitsandbytes", capability=(9, 0)).what


def _rule(scheme):
    """A rule of layers of this form."""
    return Rule(Packing("form", 4, scheme=scheme))


@pytest.mark.parametrize(
    ("name", "schemes", "capability", "what"),
    [
        ("mxfp4", (), (7, 5), "mxfp4, which needs sm_80, and Tesla T4 is sm_75"),
        ("mxfp4", (), (8, 0), None),
        ("fp8", (), (7, 0), "fp8, which needs sm_75"),
        ("fp8", (), (7, 5), None),
        ("modelopt", (), (7, 5), "modelopt, which needs sm_80"),
        ("modelopt_fp4", (), (7, 5), None),
        ("fp_quant", (), (9, 0), "fp_quant, a quantisation method that vLLM 0.32.0 refuses"),
        ("fbgemm_fp8", (), (9, 0), "is about to drop it"),
        ("auto-round", (), (7, 5), None),
        ("compressed-tensors", ("W4A4Fp4",), (7, 0), "compressed-tensors, which needs sm_75"),
        ("compressed-tensors", ("W4A4Mxfp4",), (7, 5), "compressed-tensors, which needs sm_80"),
        ("compressed-tensors", ("W4A8Fp8",), (8, 9), "needs sm_90"),
        ("compressed-tensors", ("W4A8Fp8",), (10, 0), "W4A8Fp8, which runs on sm_90 alone"),
        ("compressed-tensors", ("W8A8Int8",), (12, 0), "with int8 activations, which vLLM reads up to sm_90"),
        ("compressed-tensors", ("WNA16", "W8A8Fp8"), (8, 9), None),
    ],
)
def test_a_card_that_lacks_a_method_is_told(name, schemes, capability, what):
    """By method, form and card."""
    packing = Quantisation(name, 4, None, zero_points=False, rules=tuple(map(_rule, schemes)))
    obstacle = method_obstacle(NOW, name, packing, capability=capability, card="Tesla T4")
    assert (obstacle is None) if what is None else (what in obstacle.what)


def test_another_version_has_the_nearest_ones_numbers_and_no_word_on_names():
    """It may know what none of the known versions does, and a card that was too old for a method still is."""
    later = engine_facts((0, 33, 1))
    assert (later.exact, later.version, engine_facts((0, 24, 0)).version) == (False, "0.32.0", "0.25.1")
    assert method_obstacle(later, "nonsense", capability=(7, 5)) is None
    assert architecture_obstacle(later, "NewForCausalLM", "new") is None
    assert "needs sm_80" in method_obstacle(later, "mxfp4", capability=(7, 5)).what


def test_the_facts_travel_in_the_kits_own_wheel():
    """The plan is made on Kaggle: the data must be there too."""
    names = zipfile.ZipFile(io.BytesIO(kit_wheel_bytes())).namelist()
    assert {f"kaggle_kit/runtime/facts/{path.name}" for path in DATA.iterdir()} <= set(names)


@pytest.mark.parametrize(
    ("name", "model_type", "scorer"),
    [
        ("LlamaForSequenceClassification", "llama", "LlamaForSequenceClassification"),
        ("Qwen2ForSequenceClassification", "qwen2", "Qwen2ForSequenceClassification"),
        ("Gemma2ForSequenceClassification", "gemma2", "Gemma2ForSequenceClassification"),
        ("Gemma3TextForSequenceClassification", "gemma3_text", "Gemma3ForSequenceClassification"),
        ("BertForSequenceClassification", "bert", "BertForSequenceClassification"),
        ("GPT2ForSequenceClassification", "gpt2", "GPT2ForSequenceClassification"),
        ("Gemma3ForSequenceClassification", "gemma3", None),
        ("DebertaV2ForSequenceClassification", "deberta-v2", None),
        ("DistilBertForSequenceClassification", "distilbert", None),
        ("MyForSequenceClassification", "my", None),
    ],
)
def test_a_head_is_read_by_the_class_that_loads_it(name, model_type, scorer):
    """By one of the engine's own, or by the one that its text model makes; all others are left to transformers."""
    for facts in (NOW, H200):
        assert facts.scorer(name, model_type) == scorer


def test_a_head_that_nothing_reads_is_told():
    """Not by vLLM, and transformers has no such class either."""
    head = ScoreHead(("A", "B"))
    assert head_obstacle(NOW, "DebertaV2ForSequenceClassification", "deberta-v2", head) is None
    assert "neither vLLM 0.32.0 nor transformers 5.19.0 reads the head of MyForSequenceClassification" in str(
        head_obstacle(NOW, "MyForSequenceClassification", "my", head)
    )
    assert "does not know the architecture MyForSequenceClassification" in str(
        architecture_obstacle(NOW, "MyForSequenceClassification", "my")
    )


def test_a_head_of_another_kind_is_told():
    """A regression's number is no probability, whichever engine reads it."""
    head = ScoreHead(("A",), fault="it gives one number a row")
    obstacle = head_obstacle(NOW, "LlamaForSequenceClassification", "llama", head)
    assert "has a head that gives no probabilities of classes: it gives one number a row" in str(obstacle)


def test_a_heads_layers_are_its_text_models():
    """What vLLM joins, refuses on a CPU or needs a package for does not hang on the head."""
    assert NOW.fused_layers("LlamaForSequenceClassification", "llama") == NOW.fused_layers("LlamaForCausalLM", "llama")
    assert NOW.fused_layers("LlamaForCausalLM", "llama") != {}
    gemma = NOW.fused_layers("Gemma3TextForSequenceClassification", "gemma3_text")
    assert gemma == NOW.fused_layers("Gemma3ForCausalLM", "gemma3_text") != {}
    for name, reason in NOW.cpu_refuses.items():
        kinds = [kind for kind, causal in NOW.causal.items() if causal == name and name in NOW.text]
        for kind in kinds:
            head = f"{name.removesuffix('ForCausalLM')}ForSequenceClassification"
            if NOW.scorer(head, kind) == head and head in NOW.heads:
                assert reason in str(architecture_obstacle(NOW, head, kind, cpu=True))
