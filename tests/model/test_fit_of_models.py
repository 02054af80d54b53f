"""What a model needs of a target's cards and hours, against what vLLM itself reported and what was measured."""

from __future__ import annotations

import csv
import dataclasses
import json
import sys
from pathlib import Path

import pytest
from checkpoints import DEMO, big_awq, int8_demo

from kaggle_kit.errors import DataError, UsageError
from kaggle_kit.model.fit import SHAPES, fit_model, named_shape, shape_checkpoint, sizes_table, split_for
from kaggle_kit.model.inspect import inspect_model
from kaggle_kit.model.memory import cache_tokens, layouts
from kaggle_kit.model.speed import CARDS, Lengths, data_lengths, even_lengths, prompt_flops, read_lengths, speed_of
from kaggle_kit.runtime.bench import Measured, Trial
from kaggle_kit.runtime.bench import rates as rates_of
from kaggle_kit.runtime.card_memory import card_memory, padded_for, split_obstacle
from kaggle_kit.runtime.checkpoint import read_checkpoint
from kaggle_kit.runtime.engine_plan import Card
from kaggle_kit.runtime.quantisation import Quantisation
from kaggle_kit.targets import load_target
from kaggle_kit.targets.rates import load_rates

pytestmark = pytest.mark.usefixtures("guarded_here")

GIB = 1 << 30
T4, L4, H200, CPU = (load_target(name) for name in ("kaggle-t4x2", "kaggle-l4x4", "offline-h200", "local-cpu"))
SEEN = json.loads((Path(__file__).parent / "h200.json").read_text())
PUBLISHED = {
    "qwen3-4b": 4.02,
    "qwen2.5-7b": 7.62,
    "llama-3-8b": 8.03,
    "qwen3-8b": 8.19,
    "gemma-2-9b": 9.24,
    "qwen2.5-14b": 14.77,
    "mistral-small-24b": 23.57,
    "gemma-2-27b": 27.23,
    "qwen2.5-32b": 32.76,
    "yi-34b": 34.39,
    "llama-3-70b": 70.55,
    "qwen2-72b": 72.71,
}
"""Billions of parameters, as the models' pages tell them."""


def fit(name, target=T4, **more):
    """A model by name on a target: 25,000 rows of 600 tokens in nine hours."""
    told = {"context": 2047, "rows": 25_000, "lengths": even_lengths(600), "hours": 9.0}
    return fit_model(named_shape(name), target, rates=load_rates(target.name), **(told | more))


def layout(found, name):
    """The layout of that name."""
    return next(one for one in found.layouts if one.name == name)


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_has_the_parameters_that_its_makers_tell(name):
    """So its numbers are those of its config.json."""
    assert SHAPES[name].parameters / 1e9 == pytest.approx(PUBLISHED[name], abs=0.006)


def seen_layout(case):
    """Our reckoning of a case that was seen on the H200."""
    options = {
        "gpu_memory_utilization": 0.9,
        "max_num_batched_tokens": case["batch"],
        "max_num_seqs": case["sequences"],
    }
    target = H200.model_copy(update={"gpu_memory_bytes": SEEN["memory"], "engine_options": options})
    return layouts(named_shape(case["model"]), target, context=4095, mean_tokens=600)[0]


@pytest.mark.parametrize("case", SEEN["cases"], ids=lambda case: f"{case['model']}-{case['batch']}")
def test_weights_are_within_3_percent_of_what_vllm_took_on_an_h200(case):
    """`Model loading took … GiB`."""
    assert seen_layout(case).parts.weights / GIB == pytest.approx(case["weights_gib"], rel=0.03)


@pytest.mark.parametrize("case", SEEN["cases"], ids=lambda case: f"{case['model']}-{case['batch']}")
def test_keys_and_values_are_within_1_percent_of_what_vllm_kept_on_an_h200(case):
    """`GPU KV cache size: … tokens`: never more than there were, so nothing is promised that is not there."""
    found = seen_layout(case).cache_tokens
    assert found == pytest.approx(case["cache_tokens"], rel=0.01)
    assert found <= case["cache_tokens"]


@pytest.mark.parametrize("case", SEEN["cases"], ids=lambda case: f"{case['model']}-{case['batch']}")
def test_activations_and_overhead_are_reckoned_from_above(case):
    """What vLLM took besides weights and keys is no more than the reckoning, and at most 0.5 GiB less."""
    parts = seen_layout(case).parts
    took = 0.9 * SEEN["memory"] / GIB - case["available_gib"] - case["weights_gib"]
    assert 0 <= (parts.activations + parts.logits + parts.inside) / GIB - took < 0.5


@pytest.mark.parametrize(
    ("name", "tokens", "rate", "kernel"),
    [
        (case["model"], int(tokens), rate, "dense" if case["model"].endswith(":16") else "machete")
        for case in SEEN["cases"]
        for tokens, rate in case.get("rates", {}).items()
        if not case["model"].startswith("gemma")
    ],
)
def test_times_are_within_10_percent_of_what_was_measured_on_an_h200(name, tokens, rate, kernel):
    """The rate of one 34B and one 8B model tells that of others, at other lengths too."""
    found = fit(name, H200, lengths=even_lengths(tokens), context=tokens)
    assert found.speed.kernel == kernel
    assert 25_000 * tokens / found.timings["one card"].seconds == pytest.approx(rate, rel=0.10)


def test_the_work_of_a_measured_model_is_that_of_the_formula():
    """targets/rates.py and model/speed.py count alike, the head apart."""
    rates, shape = load_rates("offline-h200"), named_shape("yi-34b")
    per_token = prompt_flops(shape, rates.mean_tokens) / rates.mean_tokens
    assert rates.model.flops(rates.mean_tokens) == pytest.approx(per_token, rel=1e-4)


def test_a_folder_weighs_what_its_shape_does(tmp_path):
    """Packed tensors counted one by one, and the formula."""
    folder = inspect_model(big_awq(tmp_path / "yi")).checkpoint()
    shape = named_shape("yi-34b")
    assert folder.weight_bytes == pytest.approx(shape.weight_bytes, rel=1e-4)
    assert folder.layer_parameters == shape.layer_parameters
    assert (folder.kernel_method, folder.kernel_group) == ("awq", 128)


def test_a_folder_is_told_as_the_notebook_will_tell_it():
    """The facts are those that the runtime reads of config.json; the weights as memory holds them, not as files do."""
    ours, theirs = inspect_model(DEMO).checkpoint(), read_checkpoint(DEMO)
    assert ours.weight_bytes == pytest.approx(theirs.weight_bytes, rel=0.15)
    assert dataclasses.replace(ours, weight_bytes=theirs.weight_bytes, end_bytes=theirs.end_bytes) == theirs


def test_a_folder_that_is_not_whole_is_refused(model):
    """Its weights cannot be told."""
    (model / "model.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(UsageError, match="is not whole: see kit model inspect"):
        inspect_model(model).checkpoint()


def test_34b_on_two_t4_needs_both():
    """One card is too small; split over two it takes about 11 of 13.4 GiB, as runs on Kaggle had it."""
    found = fit("yi-34b")
    assert not layout(found, "one card").fits
    assert not layout(found, "data parallel 2").fits
    assert layout(found, "tensor parallel 2").fits
    assert found.best.name == "tensor parallel 2"
    assert layout(found, "tensor parallel 2").parts.total / GIB == pytest.approx(10.8, abs=0.3)


def test_34b_on_two_t4_reads_600_to_850_tokens_a_row_in_nine_hours():
    """What the facts of 2026 plan for 25,000 rows."""
    found = fit("yi-34b")
    assert 600 <= found.timings["tensor parallel 2"].most_tokens <= 850
    assert found.in_time
    assert not found.speed.measured
    assert "assumed: 30% of NVIDIA's 65 TFLOP/s" in found.speed.assumption


def test_a_model_that_fits_one_card_runs_on_each():
    """Data parallel is the fastest where it fits: nothing is exchanged."""
    found = fit("qwen2.5-7b")
    assert found.best.name == "data parallel 2"
    one, two = found.timings["one card"].seconds, found.timings["data parallel 2"].seconds
    assert two == pytest.approx(one / 2)


def test_the_total_is_the_one_by_which_the_notebook_plans():
    """`runtime.engine_plan.bytes_per_card` and this agree."""
    found = layout(fit("yi-34b"), "tensor parallel 2")
    facts = named_shape("yi-34b")
    assert found.parts.total == card_memory(facts, parallel=2, batch=4096, sequences=32, longest=2047).total


def test_the_longest_prompt_and_the_largest_step_just_fit():
    """One more token would not."""
    found = layout(fit("qwen2.5-14b"), "one card")
    facts = named_shape("qwen2.5-14b")

    def total(batch, longest):
        return card_memory(facts, parallel=1, batch=batch, sequences=found.sequences, longest=longest).total

    assert total(found.batch, found.longest) <= found.room < total(found.batch, found.longest + 1)
    assert total(found.largest_batch, 2047) <= found.room < total(found.largest_batch + 1, 2047)


def test_layers_that_cannot_be_split_say_so():
    """Qwen2-72B's 29,568 inputs are an odd number of groups: known of vLLM. What padding them would do is told."""
    found = fit("qwen2-72b", L4)
    four = layout(found, "tensor parallel 4")
    assert "29568 inputs in quantised groups of 128 cannot be shared evenly" in four.obstacle
    assert found.best is None
    assert (four.padded.inner, four.padded.fits, four.padded.obstacle) == (29_696, True, None)
    assert four.padded.parts.total == pytest.approx(four.parts.total, rel=0.005)
    assert found.to_json()["layouts"][3]["padded"]["intermediate_size"] == 29_696


def with_sizes(name, **sizes):
    """A known model with other numbers."""
    shape = dataclasses.replace(SHAPES[name], **sizes)
    return shape_checkpoint(name, shape, Quantisation("awq", 4, 128, zero_points=True))


@pytest.mark.parametrize(
    ("subject", "parallel", "told"),
    [
        (with_sizes("qwen2-72b", intermediate=29_696), 4, None),
        (with_sizes("qwen2-72b", intermediate=385 * 128), 3, "64 attention heads"),
        (with_sizes("qwen2-72b", intermediate=385 * 128, heads=66, kv_heads=6), 3, "the MLP's 49280 inputs"),
        (with_sizes("qwen2.5-7b", head_dim=64, heads=26, kv_heads=2), 2, "the attention output's 1664 inputs"),
    ],
)
def test_a_cards_share_is_whole_groups(subject, parallel, told):
    """A share that is cut off in whole numbers only looks whole; the attention's output has the same rule."""
    obstacle = split_obstacle(subject, parallel)
    assert obstacle is None if told is None else obstacle.startswith(told)


@pytest.mark.parametrize(
    "subject",
    [
        with_sizes("qwen2-72b", heads=63, kv_heads=9),
        with_sizes("qwen2-72b", family=None),
        with_sizes("qwen2-72b", intermediate=29_696),
    ],
)
def test_no_padding_is_promised_where_it_does_not_help(subject):
    """Heads that cannot be shared, layers that kit does not know, and a model that is padded already."""
    assert padded_for(subject, 4) is None


@pytest.mark.parametrize(
    ("name", "target", "options", "cards"),
    [
        ("qwen2-72b", L4, {}, 4),
        ("qwen2-72b", L4, {"tensor_parallel_size": 2}, 2),
        ("qwen2-72b", H200, {}, 1),
        ("qwen2-72b", T4, {}, 1),
        ("yi-34b", T4, {}, 1),
        ("qwen2-72b", CPU, {}, 1),
    ],
)
def test_a_model_is_padded_for_the_cards_that_have_to_share_it(name, target, options, cards):
    """Neither where one card holds it, nor where no number of cards does, nor where its layers divide."""
    target = target.model_copy(update={"engine_options": {**target.engine_options, **options}})
    packed = Quantisation("awq", 4, 128, zero_points=True)
    assert split_for(SHAPES[name], packed, target, context=2047) == cards


def test_pipelines_share_layers_and_keys():
    """Each of two stages holds half the layers, and the notebook does not plan them."""
    found = layout(fit("yi-34b"), "pipeline 2")
    whole = layout(fit("yi-34b"), "one card")
    assert found.parts.weights == pytest.approx(whole.parts.weights / 2, rel=0.01)
    assert found.parts.keys == pytest.approx(whole.parts.keys / 2)
    assert found.fits
    assert not found.planned


def test_gemma_2_is_refused_on_a_t4():
    """vLLM does not run it in float16."""
    found = fit("gemma-2-9b")
    assert found.best is None
    assert "vLLM refuses gemma2 in float16" in found.refusal
    assert "the card has no bfloat16" in found.refusal
    assert fit("gemma-2-9b", L4).best is not None


def test_prompts_longer_than_the_model_reads_are_refused():
    """With the number that is the most."""
    with pytest.raises(UsageError, match="reads 4,096 tokens: --context 4095 is the most"):
        fit("yi-34b", context=4096)


def test_a_card_that_nobody_knows_has_no_time_but_memory():
    """Sizes are told all the same."""
    found = fit("yi-34b", T4.model_copy(update={"gpu_name": "Tesla X"}))
    assert found.timings == {}
    assert "nobody has measured Tesla X" in found.no_speed
    assert found.best.name == "tensor parallel 2"
    assert found.in_time is None


def test_a_cpu_has_memory_but_no_time():
    """The rehearsal's machine."""
    found = fit("qwen3-4b", CPU)
    assert [one.name for one in found.layouts] == ["this machine's CPU"]
    assert "nobody has measured the processor of local-cpu" in found.no_speed


def test_measured_rates_choose_the_kernel(tmp_path):
    """A project's own measurement of a target wins over assumptions, and its fastest kernel is taken."""
    facts = named_shape("yi-34b")
    found = [
        Measured(Trial(f"kernel {name}", name, {"tensor_parallel_size": 2}, {}), rate, 30.0, 100, 60_000, "vllm 0.32.0")
        for name, rate in (("marlin", 400.0), ("plain", 600.0))
    ]
    body = rates_of(found, target="kaggle-t4x2", checkpoint=facts, cards=[Card(15 * GIB, (7, 5))] * 2)
    (tmp_path / "rates").mkdir()
    (tmp_path / "rates" / "kaggle-t4x2.json").write_text(json.dumps(body))
    rates = load_rates("kaggle-t4x2", project=tmp_path)
    told = speed_of(named_shape("yi-34b"), T4, rates)
    assert (told.kernel, told.measured) == ("plain", True)
    assert told.flops == pytest.approx(600 * 6.75e10 / 2, rel=0.01)
    assert told.assumption.startswith("measured with vllm 0.32.0 on sm_75 (plain")


@pytest.mark.parametrize(
    ("target", "share", "told"),
    [
        (H200, 0.64, "0.64 times Machete, measured on an H200"),
        (T4, 1.38, "1.38 times the 4-bit rate, as on an H200; nobody has measured it on this card"),
    ],
)
def test_a_kernel_by_name_has_its_own_rate(target, share, told):
    """Int8 activations: 1.38 of Marlin, which is 0.64 of Machete; and it says where that was measured."""
    model = named_shape("yi-34b")
    own, named = speed_of(model, target, None), speed_of(model, target, None, "marlin-int8")
    assert named.flops == pytest.approx(share * own.flops)
    assert told in named.assumption


def test_a_kernel_that_cannot_run_there_is_refused():
    """No hours are told of what will never run."""
    with pytest.raises(UsageError, match="Machete runs on sm_90"):
        fit("yi-34b", kernel="machete")


def test_more_rows_or_tokens_take_longer_and_cards_help():
    """Twice the rows are twice the time; twice the tokens more than that, by attention."""
    one = fit("yi-34b").timings["tensor parallel 2"].seconds
    assert fit("yi-34b", rows=50_000).timings["tensor parallel 2"].seconds == pytest.approx(2 * one)
    assert 2 * one < fit("yi-34b", lengths=even_lengths(1200)).timings["tensor parallel 2"].seconds < 2.1 * one
    assert fit("yi-34b").timings["one card"].seconds / 2 < one


def test_the_table_weighs_every_size():
    """From 4B to 72B: what fits, in what layout, and how many tokens a row in the hours."""
    found = sizes_table(T4, context=2047, rows=25_000, lengths=even_lengths(600), hours=9.0)
    fits = {one.checkpoint.name.partition(",")[0]: one.best and one.best.name for one in found}
    assert list(fits) == list(SHAPES)
    assert fits["llama-3-8b"] == "data parallel 2"
    assert fits["qwen2.5-32b"] == "tensor parallel 2"
    assert fits["llama-3-70b"] is None


def test_the_table_takes_models_as_kit_quantises_them():
    """Padded where the cards share them only so, and nowhere else."""
    found = sizes_table(L4, context=2047, rows=25_000, lengths=even_lengths(600), hours=9.0)
    assert [one.checkpoint.name for one in found if "padded" in one.checkpoint.name] == [
        "qwen2-72b, 4-bit AWQ, MLPs padded to 29,696"
    ]
    assert found[-1].best.name == "tensor parallel 4"


def test_every_target_with_cards_is_known():
    """Each shipped target's card has a published rate."""
    for name in ("kaggle-t4x2", "kaggle-l4x4", "kaggle-h100", "offline-h200"):
        assert load_target(name).gpu_name in CARDS


def test_an_unknown_shape_is_refused_with_the_known_ones():
    """And the nearest."""
    with pytest.raises(UsageError, match="did you mean 'yi-34b'"):
        named_shape("yi34b")


def test_blocks_are_whole():
    """vLLM gives keys and values in blocks of 16 tokens."""
    facts = named_shape("yi-34b")
    assert cache_tokens(facts.architecture, 245_760 * 16 * 10 + 1) == 160
    assert cache_tokens(facts.architecture, 245_760 * 16 - 1) == 0


# Lengths.


def test_lengths_are_read_from_json_and_csv(tmp_path):
    """With and without a heading; equal lengths add up."""
    (tmp_path / "a.json").write_text('{"100": 3, "200": 1}')
    (tmp_path / "b.csv").write_text("tokens,rows\n100,1\n100,2\n200,1\n")
    (tmp_path / "c.csv").write_text("100,3\n200,1\n")
    for name in ("a.json", "b.csv", "c.csv"):
        found = read_lengths(tmp_path / name)
        assert (found.counts, found.rows, found.mean, found.longest) == ({100: 3, 200: 1}, 4, 125.0, 200)


@pytest.mark.parametrize("text", ["", "{}", "a,b\nc,d\n", "1,2,3\n", '{"0": 1}', '{"5": -1}', "[1]", '{"5": null}'])
def test_lengths_that_make_no_sense_are_refused(tmp_path, text):
    """With the two forms that are read."""
    (tmp_path / "x").write_text(text)
    with pytest.raises(DataError):
        read_lengths(tmp_path / "x")


def test_lengths_of_the_real_rows_are_those_that_the_worker_scores():
    """The notebook's own prompt, its tokenizer and its budget."""
    sys.path.insert(0, str(DEMO.parent))
    import task as demo

    from kaggle_kit.runtime.job import Task
    from kaggle_kit.runtime.tokenizers import load_tokenizer

    asked = Task(
        labels=demo.LABELS, prior=dict.fromkeys(demo.LABELS, 1 / 3), fields=demo.SHARES, template=demo.TEMPLATE
    )
    found = data_lengths(DEMO.parent / "data", task=asked, model=DEMO, token_budget=512)
    tokenizer = load_tokenizer(DEMO)
    with (DEMO.parent / "data" / "test.csv").open(encoding="utf-8", newline="") as stream:
        expected = [len(demo.prompt_of(row, tokenizer=tokenizer).token_ids) for row in csv.DictReader(stream)]
    assert found.rows == 300
    assert sum(tokens * rows for tokens, rows in found.counts.items()) == sum(expected)


def test_rows_longer_than_the_context_are_cut():
    """No row takes more time than the model may read."""
    found = Lengths({100: 1, 5000: 2}, "x").cut(2000)
    assert found.counts == {100: 1, 2000: 2}
    assert found.source == "x, cut to 2,000 tokens"


def test_int8_takes_a_byte_a_number():
    """So 8B fits one T4, and 34B does not fit two."""
    assert named_shape("yi-34b:8").weight_bytes == pytest.approx(34.39e9 + 0.92e9, rel=0.01)
    assert layout(fit("llama-3-8b:8"), "one card").fits
    assert fit("yi-34b:8").best is None


@pytest.mark.parametrize(
    ("target", "told"),
    [(H200, "1.48 times Machete, measured on an H200"), (T4, "1.48 times the 4-bit rate, as on an H200; nobody")],
)
def test_the_rate_of_int8_says_where_it_is_from(target, told):
    """1.48 times what 4 bits reach: measured on an H200 alone."""
    eight, four = speed_of(named_shape("yi-34b:8"), target, None), speed_of(named_shape("yi-34b"), target, None)
    assert (eight.kernel, eight.measured) == ("int8", False)
    assert eight.flops == pytest.approx(1.48 * four.flops)
    assert told in eight.assumption


def test_an_int8_checkpoint_is_weighed_as_one(tmp_path):
    """Its own bytes, and the rate of int8; the notebook's plan takes it as it takes a model of 16 bits."""
    subject = inspect_model(int8_demo(tmp_path / "int8")).checkpoint()
    assert subject.int8
    assert subject.kernel_method is None
    assert subject.weight_bytes < inspect_model(DEMO.parent / "full").checkpoint().weight_bytes
    assert speed_of(subject, T4, None).kernel == "int8"
