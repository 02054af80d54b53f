"""Engine arguments from cards and checkpoint, each with its reason."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from known_checkpoints import GEMMA_9B, LLAMA_70B, QWEN_7B, QWEN_32B, YI_34B, checkpoint, saved_as

from kaggle_kit.errors import ModelError, UsageError
from kaggle_kit.runtime.allowances import Allowance
from kaggle_kit.runtime.architecture import FAMILIES
from kaggle_kit.runtime.card_memory import GIB, card_memory
from kaggle_kit.runtime.checkpoint import read_checkpoint
from kaggle_kit.runtime.engine_plan import Card, EngineSetup
from kaggle_kit.runtime.score_head import ScoreHead

DEMO = Path(__file__).parents[1] / "demo" / "model"
T4, L4, H200 = Card(int(14.56 * GIB), (7, 5)), Card(22 * GIB, (8, 9)), Card(139 * GIB, (9, 0))


def plan(cards, model, **more):
    """A plan for prompts of up to 1,024 tokens, 600 on average, in the current vLLM."""
    asked = {"budget": 1024, "mean_tokens": 600}
    asked |= {key: more.pop(key) for key in asked & more.keys()}
    return EngineSetup(**({"version": (0, 32, 0), "cards": cards} | more)).plan(model, **asked)


def reason(found, start):
    """The reason that begins so."""
    return next(text for text in found.reasons if text.startswith(start))


@pytest.mark.parametrize(
    ("gpus", "model", "parallel", "replicas", "dtype"),
    [
        ([T4, T4], QWEN_7B, 1, 2, "half"),
        ([T4], QWEN_7B, 1, 1, "half"),
        ([T4, T4], QWEN_32B, 2, 1, "half"),
        ([T4, T4], YI_34B, 2, 1, "half"),
        ([L4] * 4, QWEN_32B, 1, 4, "half"),
        ([L4] * 4, LLAMA_70B, 2, 2, "half"),
        ([L4] * 4, GEMMA_9B, 1, 4, "bfloat16"),
        ([T4, T4], GEMMA_9B, 2, 1, "half"),
        ([H200], YI_34B, 1, 1, "half"),
        ([H200] * 2, GEMMA_9B, 1, 2, "bfloat16"),
    ],
)
def test_a_model_that_fits_one_card_runs_once_a_card(gpus, model, parallel, replicas, dtype):
    """As many engines as cards where one card suffices, else the fewest cards an engine; half where bfloat16 is not."""
    found = plan(gpus, model)
    assert (found.options["tensor_parallel_size"], found.replicas) == (parallel, replicas)
    assert found.options["dtype"] == dtype


def test_a_model_that_overflows_in_half_gets_bfloat16_or_is_refused():
    """vLLM refuses Gemma 2 in float16: a T4 has nothing else for it, an L4 has, whatever the checkpoint says."""
    gemma = saved_as(GEMMA_9B, model_type="gemma2", dtype="float16")
    with pytest.raises(UsageError, match=r"vLLM refuses gemma2 in float16 .* the card has no bfloat16"):
        plan([T4, T4], gemma)
    assert plan([L4], gemma).options["dtype"] == "bfloat16"
    with pytest.raises(UsageError, match='set dtype = "bfloat16"'):
        plan([L4], gemma, options={"dtype": "half"})


def test_a_model_that_fits_nowhere_is_refused_with_sizes():
    """The error tells what each way would take and what is there."""
    with pytest.raises(UsageError, match=r"does not fit the target's 1 cards \(1 a model: \d+\.\d GiB a card, 13\.\d"):
        plan([T4], QWEN_32B)


def test_layers_that_cannot_be_shared_are_not():
    """Three cards do not share 40 heads, so two are used where three stand."""
    found = plan([T4] * 3, QWEN_32B)
    assert (found.options["tensor_parallel_size"], found.replicas) == (2, 1)


def test_one_card_is_one_process():
    """An engine on one card lives in its worker's own process, which imports once; one on two cards does not."""
    assert plan([T4, T4], QWEN_7B).environment["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0"
    assert "VLLM_ENABLE_V1_MULTIPROCESSING" not in plan([T4, T4], QWEN_32B).environment


@pytest.mark.parametrize(
    ("kernel", "version", "more"),
    [
        ("marlin", (0, 23, 0), {"options": {"quantization": "awq"}}),
        ("plain", (0, 23, 0), {"options": {"quantization": "awq_marlin"}}),
        ("plain", (0, 32, 0), {"environment": {"KIT_AWQ_KERNEL": ""}}),
        ("marlin-int8", (0, 32, 0), {"environment": {"VLLM_MARLIN_INPUT_DTYPE": "fp8"}}),
    ],
)
def test_a_kernel_by_name_is_never_another(kernel, version, more):
    """Options or variables that would select another one are a contradiction, and refused."""
    with pytest.raises(UsageError, match=rf"the kernel {kernel} is asked for, and .* leave one of them out"):
        plan([T4], QWEN_7B, kernel=kernel, version=version, **more)


def test_a_kernel_by_name_says_that_a_cpu_has_none():
    """A rehearsal on a CPU computes otherwise, and tells so."""
    assert reason(plan([], QWEN_7B, kernel="marlin-int8"), "4-bit kernel marlin-int8: it is for cards")


def test_unlike_cards_are_refused():
    """Memory and kernels are planned for one kind of card."""
    with pytest.raises(UsageError, match="the cards differ"):
        plan([T4, L4], QWEN_7B)


def test_given_options_win_and_say_so():
    """What the target gives stays, other arguments are planned around it, and unknown ones are passed on."""
    given = {"tensor_parallel_size": 2, "max_num_seqs": 32, "gpu_memory_utilization": 0.9, "seed": 5}
    found = plan([T4, T4], QWEN_7B, options=given)
    assert given.items() <= found.options.items()
    assert found.replicas == 1
    for key, value in given.items():
        assert reason(found, key) == f"{key} = {value}: given"


def test_given_variables_win_and_say_so():
    """The target's variables stay, those that the plan does not know are passed on."""
    found = plan([T4], QWEN_7B, environment={"VLLM_WORKER_MULTIPROC_METHOD": "fork", "A": "b"})
    assert found.environment["VLLM_WORKER_MULTIPROC_METHOD"] == "fork"
    assert (found.environment["A"], reason(found, "A=")) == ("b", "A=b: given")


def test_what_is_allowed_is_no_reason_to_refuse():
    """Neither head, length nor type; each is told first, and vLLM is asked to take the length too."""
    headless = dataclasses.replace(QWEN_7B.architecture, name="Qwen2Model", most_tokens=512)
    doubted = dataclasses.replace(QWEN_7B, architecture=headless)
    with pytest.raises(UsageError, match="no LM head"):
        plan([T4], doubted)
    head, length = Allowance("head", "it has none"), Allowance("length", "it is short")
    with pytest.raises(UsageError, match="the model reads 512; cut them"):
        plan([T4], dataclasses.replace(doubted, allowed=(head,)))

    found = plan([T4], dataclasses.replace(doubted, allowed=(head, length)))
    assert found.reasons[:2] == ("allowed head: it has none", "allowed length: it is short")
    assert found.environment["VLLM_ALLOW_LONG_MAX_MODEL_LEN"] == "1"
    assert found.options["max_model_len"] == 1025
    assert "VLLM_ALLOW_LONG_MAX_MODEL_LEN" not in plan([T4], QWEN_7B).environment

    gemma = saved_as(GEMMA_9B, model_type="gemma2", dtype="float16")
    allowed = dataclasses.replace(gemma, allowed=(Allowance("dtype", "it overflows"),))
    assert plan([T4, T4], allowed).options["dtype"] == "half"


def test_every_argument_has_its_reason():
    """No option and no variable without a sentence."""
    found = plan([T4, T4], QWEN_32B, options={"seed": 1})
    for key in found.options:
        assert reason(found, f"{key} = ")
    for key in found.environment:
        assert reason(found, f"{key}=")


def test_the_length_is_the_prompts_own():
    """The longest prompt and one token; a shorter given length, or a model that reads less, is refused."""
    assert plan([H200], YI_34B).options["max_model_len"] == 1025
    with pytest.raises(UsageError, match="max_model_len = 1024 is given; 1025 are needed"):
        plan([H200], YI_34B, options={"max_model_len": 1024})
    with pytest.raises(UsageError, match="the model reads 4,096; cut them"):
        plan([H200], YI_34B, budget=4096)


def test_small_memory_takes_smaller_steps():
    """The step shrinks before another card is used."""
    large, small = plan([H200], YI_34B), plan([Card(21 * GIB, (9, 0))], YI_34B)
    assert large.options["max_num_batched_tokens"] == 8192
    assert small.options["max_num_batched_tokens"] < 8192


def test_sequences_fill_two_steps():
    """Short prompts need more of them in flight."""
    assert plan([H200], YI_34B, mean_tokens=100).options["max_num_seqs"] == 164
    assert plan([H200], YI_34B, mean_tokens=4000).options["max_num_seqs"] == 8


@pytest.mark.parametrize(
    ("version", "option", "variable"),
    [
        ((0, 11, 0), None, None),
        ((0, 12, 0), None, "TRITON_ATTN"),
        ((0, 19, 1), "TRITON_ATTN", None),
        ((0, 24, 0), None, None),
    ],
)
def test_a_t4_is_kept_from_flashinfer(version, option, variable):
    """From 0.11.1 to 0.23 a T4 would get an attention that is broken there."""
    found = plan([T4, T4], QWEN_32B, version=version)
    assert found.options.get("attention_backend") == option
    assert found.environment.get("VLLM_ATTENTION_BACKEND") == variable


def test_the_kernel_is_chosen_with_its_reason():
    """Hopper's Machete by itself; a measured rate turns it; a full checkpoint has none."""
    assert reason(plan([H200], YI_34B), "4-bit kernel machete: on an H200")
    turned = plan([H200], YI_34B, rates={"marlin": 9.0, "machete": 1.0})
    assert "MacheteLinearKernel" in turned.environment["VLLM_DISABLED_KERNELS"]
    assert not any("kernel" in text for text in plan([H200], GEMMA_9B).reasons)


def test_a_given_quantization_settles_the_kernel():
    """Then nothing is chosen on top of it; a kernel by name that cannot be had is refused."""
    found = plan([T4, T4], QWEN_32B, version=(0, 23, 0), options={"quantization": "awq"})
    assert found.options["quantization"] == "awq"
    assert not any("4-bit kernel" in text for text in found.reasons)
    with pytest.raises(UsageError, match="the kernel machete cannot be used"):
        plan([T4, T4], QWEN_32B, kernel="machete")


def test_the_plain_kernel_takes_half():
    """A bfloat16 checkpoint in AWQ runs in half where the plain kernel is chosen."""
    model = saved_as(YI_34B, dtype="bfloat16")
    assert plan([H200], model, version=(0, 18, 1)).options["dtype"] == "half"
    assert plan([H200], model).options["dtype"] == "bfloat16"


def test_without_cards_the_cpu_is_planned():
    """One engine, bfloat16, and enough space for keys and values."""
    found = plan([], read_checkpoint(DEMO))
    assert (found.replicas, found.options["dtype"]) == (1, "bfloat16")
    assert found.environment["VLLM_CPU_KVCACHE_SPACE"] == "1"
    assert "tensor_parallel_size" not in found.options


def test_keys_and_values_of_a_token():
    """A Yi-34B keeps 240 KiB a token: 2 · 60 layers · 8 heads · 128 · 2 bytes."""
    assert YI_34B.architecture.kv_bytes_per_token == 240 * 1024


def test_sharing_halves_the_weights_at_least():
    """Two cards take less each, but what is held by every card is not shared."""
    told = {"batch": 4096, "sequences": 32, "longest": 1024}
    one, two = (card_memory(YI_34B, parallel=cards, **told).total for cards in (1, 2))
    assert one / 2 < two < one


def test_facts_come_from_the_checkpoint():
    """The demo model's shapes from its config.json, its bytes from its manifest."""
    found = read_checkpoint(DEMO)
    sizes = (4, 256, 512, 4, 2, 64, 2048)
    same = checkpoint(2_288_696, sizes, most_tokens=2048, model_type="llama")
    family = {"family": FAMILIES["LlamaForCausalLM"], "tied": found.architecture.tied}
    assert found == dataclasses.replace(
        saved_as(same, **family),
        name=str(DEMO),
        quantisation=found.quantisation,
        end_bytes=found.architecture.end_bytes,
    )
    assert (found.kernel_method, found.kernel_group) == ("awq", 128)


@pytest.mark.parametrize(
    ("told", "method"),
    [
        (None, None),
        ({"quant_method": "fp8", "activation_scheme": "dynamic"}, None),
        ({"quant_method": "gptq", "bits": 8, "group_size": 128, "desc_act": False, "sym": True}, None),
        ({"quant_method": "awq", "w_bit": 4, "group_size": 128, "zero_point": True}, "awq"),
        (
            {
                "quant_method": "compressed-tensors",
                "format": "pack-quantized",
                "config_groups": {"group_0": {"weights": {"num_bits": 4, "group_size": 128}}},
            },
            "compressed-tensors",
        ),
        (
            {
                "quant_method": "compressed-tensors",
                "format": "pack-quantized",
                "config_groups": {"group_0": {"weights": {"num_bits": 8}}},
            },
            None,
        ),
    ],
)
def test_only_four_bits_need_a_kernel(tmp_path, told, method):
    """The method of a 4-bit checkpoint, in whichever way it is written down; none for others."""
    folder = shutil.copytree(DEMO, tmp_path / "model")
    body = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(body | {"quantization_config": told}))
    assert read_checkpoint(folder).kernel_method == method


def test_a_config_without_sizes_is_an_error(tmp_path):
    """The key without a number is in the text."""
    folder = shutil.copytree(DEMO, tmp_path / "model")
    body = json.loads((folder / "config.json").read_text())
    body["num_attention_heads"] = None
    (folder / "config.json").write_text(json.dumps(body))
    with pytest.raises(ModelError, match="num_attention_heads"):
        read_checkpoint(folder)


def _with_head(known, name, model_type="llama", **changes):
    """The same checkpoint with a head of three classes."""
    return saved_as(known, name=name, model_type=model_type, score_head=ScoreHead(("tie", "A", "B")), **changes)


def test_a_head_of_classes_needs_no_token_for_its_answer():
    """The longest prompt is as long as the model reads, and the logits are as many as the classes."""
    headed = _with_head(QWEN_7B, "LlamaForSequenceClassification", most_tokens=1024)
    found = plan([T4, T4], headed)
    assert (found.engine, found.options["max_model_len"]) == ("", 1024)
    assert found.options["enable_prefix_caching"] is True
    sizes = {"parallel": 1, "batch": 4096, "sequences": 64, "longest": 1024}
    assert card_memory(headed, **sizes).logits == 64 * 3 * 4 * 3
    with pytest.raises(UsageError, match="prompts of 1,024 tokens: the model reads 1,023; cut them"):
        plan([T4], _with_head(QWEN_7B, "LlamaForSequenceClassification", most_tokens=1023))


def test_an_encoders_head_shares_no_openings():
    """What is behind a token counts for it."""
    found = plan([T4], _with_head(QWEN_7B, "BertForSequenceClassification", "bert"))
    assert found.options["enable_prefix_caching"] is False


def test_a_head_that_vllm_does_not_read_is_left_to_transformers():
    """With the reason; none of vLLM's options goes along, nor what was given for it."""
    whole = dataclasses.replace(QWEN_7B, method=None, quantisation=None, weight_bytes=int(1e9))
    headed = _with_head(whole, "DebertaV2ForSequenceClassification", "deberta-v2")
    setup = EngineSetup(version=(0, 32, 0), options={"max_num_seqs": 8})
    found = setup.plan(headed, 512)
    assert found.engine == "transformers"
    assert found.reasons[0] == "engine = transformers: vLLM 0.32.0 has no code for DebertaV2ForSequenceClassification"
    where = {"task": None, "test": None, "id_column": "id", "model": None, "journal": None, "token_budget": 512}
    job = setup.job(found, **where)
    assert (job.engine, job.engine_options) == ("transformers", {})
    given = EngineSetup(engine="transformers", version=(0, 32, 0), options={"dtype": "float16"})
    assert given.job(given.plan(headed, 512), **where).engine_options == {"dtype": "float16"}


def test_a_packed_head_that_only_vllm_could_read_is_refused():
    """Transformers unpacks AWQ here, and nothing else: that is told before the upload."""
    packed = dataclasses.replace(QWEN_7B, method="gptq")
    with pytest.raises(UsageError, match="transformers reads no gptq here: take the model in full"):
        plan([T4], _with_head(packed, "DebertaV2ForSequenceClassification", "deberta-v2"), version=(0, 32, 0))
