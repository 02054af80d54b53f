"""Renormalising: probabilities over the labels, and the mass they had before."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaggle_kit.errors import RunError, UsageError
from kaggle_kit.runtime.engine import (
    LOW_MASS,
    EngineDiedError,
    EngineMemoryError,
    Feed,
    LabelScores,
    check_labels,
    check_lengths,
    engine_error,
    renormalise,
)
from kaggle_kit.runtime.engines import ENGINES, open_engine

RAW = st.lists(st.floats(-1e6, 0), min_size=2, max_size=6)


@given(raw=RAW)
def test_the_labels_sum_to_one(raw):
    """However unlikely the labels were, their probabilities sum to 1 afterwards."""
    scores = renormalise(raw, with_mass=True)
    assert math.fsum(map(math.exp, scores.log_probabilities)) == pytest.approx(1)
    assert 0 <= scores.mass <= 1


@given(raw=RAW)
def test_the_ratios_stay(raw):
    """Differences of log-probabilities are those that the engine gave."""
    scores = renormalise(raw, with_mass=False).log_probabilities
    for value, score in zip(raw, scores, strict=True):
        assert score - scores[0] == pytest.approx(value - raw[0], abs=1e-6)


def test_the_mass_is_what_the_labels_had_together():
    """Labels of 0.2 and 0.3 have a mass of 0.5; an engine that cannot tell gives none."""
    raw = [math.log(0.2), math.log(0.3)]
    assert renormalise(raw, with_mass=True).mass == pytest.approx(0.5)
    assert renormalise(raw, with_mass=False).mass is None


def test_a_mass_is_never_above_one():
    """Rounding of the engine's own that sums above 1 is cut to 1."""
    assert renormalise([math.log(0.5), math.log(0.500001)], with_mass=True).mass == 1.0


def test_a_tiny_label_keeps_its_log_probability():
    """A label at exp(-900), which no float probability can hold, keeps its logarithm."""
    assert renormalise([0.0, -900.0], with_mass=True).log_probabilities[1] == pytest.approx(-900)


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_a_label_without_a_probability_is_an_error(wrong):
    """NaN and infinities are never turned into a guess."""
    with pytest.raises(RunError, match="not all are finite"):
        renormalise([-1.0, wrong, -2.0], with_mass=True)


def test_a_row_where_the_labels_are_unlikely_is_flagged():
    """A mass below one half is flagged; one above, or unknown, is not."""
    likely, unlikely = [math.log(0.3), math.log(0.3)], [math.log(0.2), math.log(0.2)]
    assert renormalise(unlikely, with_mass=True).flags == (LOW_MASS,)
    assert renormalise(likely, with_mass=True).flags == ()
    assert renormalise(unlikely, with_mass=False).flags == ()


def test_logits_can_be_renormalised():
    """Numbers above 0, as a classify head gives them, become probabilities too."""
    scores = renormalise([1000.0, 1000.0], with_mass=False).log_probabilities
    assert scores == pytest.approx((-math.log(2), -math.log(2)))


@pytest.mark.parametrize("wrong", [[], [5], [5, 5], [-1, 5]])
def test_labels_must_be_two_distinct_tokens(wrong):
    """Fewer than two labels, the same twice, or no token number, are refused."""
    with pytest.raises(UsageError, match="two or more distinct tokens"):
        check_labels(wrong)


@pytest.mark.parametrize("tokens", [0, 4])
def test_no_wrong_prompt_reaches_the_engine(tokens):
    """A prompt that is empty or too long is refused before the batch, by its place."""
    check_lengths([[1], [1, 2, 3]], longest=3)
    with pytest.raises(RunError, match=f"prompt 1 of the batch has {tokens} tokens; the engine was started for 1 to 3"):
        check_lengths([[1], [1] * tokens], longest=3)


def raised(error, cause=None):
    """An error as it is after it was raised, from a cause or not."""
    try:
        raise error from cause
    except type(error) as caught:
        return caught


class OutOfMemoryError(RuntimeError):
    """As torch names its own."""


class EngineDeadError(Exception):
    """As vLLM names its own."""


@pytest.mark.parametrize(
    "error",
    [
        OutOfMemoryError("Tried to allocate 2.00 GiB"),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        MemoryError(),
        raised(RuntimeError("step failed"), OutOfMemoryError("Tried")),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: Cannot allocate memory"),
        ValueError("No available memory for the cache blocks"),
    ],
    ids=repr,
)
def test_memory_running_out_has_an_error_of_its_own(error):
    """However an engine says that it ran out of memory, the worker is told so, and may try a smaller batch."""
    found = engine_error(error, doing="scoring 64 prompts")
    assert isinstance(found, EngineMemoryError)
    assert "ran out of memory while scoring 64 prompts" in str(found)


@pytest.mark.parametrize(
    "error",
    [
        EngineDeadError("EngineCore encountered an issue. See stack trace (above) for the root cause."),
        RuntimeError("Engine core initialization failed. See root cause above."),
        raised(RuntimeError("generate"), EngineDeadError("EngineCore encountered an issue.")),
    ],
    ids=repr,
)
def test_a_dead_engine_has_an_error_of_its_own(error):
    """Where the engine's process is gone, no batch is tried again: the worker must be started anew."""
    found = engine_error(error, doing="scoring")
    assert isinstance(found, EngineDiedError)
    assert not isinstance(found, EngineMemoryError)
    assert "start the worker again" in str(found)


def test_an_unknown_error_stays_itself():
    """What is neither is not renamed, and a ring of causes ends the search."""
    first, second = ValueError("bad prompt"), KeyError("x")
    first.__cause__, second.__cause__ = second, first
    assert engine_error(first, doing="scoring") is None


def test_an_unknown_engine_is_refused_with_the_list():
    """The error names what was asked for and what there is."""
    with pytest.raises(UsageError, match=r"no engine 'vlm'; use one of vllm, vllm-classify, transformers"):
        open_engine("vlm", Path("model"), label_ids=[1, 2], longest=8, options={})


@pytest.mark.parametrize("kind", ENGINES)
def test_labels_are_checked_before_anything_is_loaded(kind):
    """No engine starts for labels that cannot be told apart."""
    with pytest.raises(UsageError, match="two or more distinct tokens"):
        open_engine(kind, Path("model"), label_ids=[7, 7], longest=8, options={})


class Slow:
    """Holds the prompts that it was given until it is told which to answer."""

    def __init__(self):
        self.count = 0
        self.held = {}

    def add(self, prompt):
        self.count += 1
        self.held[str(self.count)] = prompt
        return str(self.count)

    def answer(self, feed, request):
        prompt = self.held.pop(request)
        feed.answer(SimpleNamespace(request_id=request, prompt_token_ids=prompt), scores(prompt))


def scores(prompt):
    return LabelScores((float(prompt[0]), 0.0), None)


@given(
    chunks=st.lists(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=5), max_size=6), max_size=6),
    tokens=st.integers(1, 20),
    data=st.data(),
)
def test_each_chunk_gets_its_own_answers_in_the_chunks_order(chunks, tokens, data):
    """Whatever the order in which the engine answers, and however little it takes at a time."""
    feed, slow, found = Feed(chunks, longest=5), Slow(), []
    while feed.fill(tokens, slow.add):
        if slow.held:
            slow.answer(feed, data.draw(st.sampled_from(sorted(slow.held))))
        while (answers := feed.answered()) is not None:
            found.append(answers)
    assert found == [[scores(prompt) for prompt in chunk] for chunk in chunks]
    assert feed.asked == 0


def test_no_more_is_taken_than_the_engine_needs():
    """With enough to do, further chunks stay where they are, for the next to be cut as the time then allows."""
    chunks, slow = iter([[[1] * 4]] * 3), Slow()
    feed = Feed(chunks, longest=4)
    feed.fill(5, slow.add)
    assert slow.count == 2
    feed.fill(5, slow.add)
    assert slow.count == 2


def test_a_prompt_too_long_is_not_handed_over():
    """Nor is any other of its chunk."""
    slow = Slow()
    with pytest.raises(RunError, match="prompt 1 of the batch has 3 tokens"):
        Feed([[[1], [1, 2, 3]]], longest=2).fill(9, slow.add)
    assert slow.count == 0


def test_an_answer_that_was_not_asked_for_is_an_error():
    """One that a failed batch left in the engine is never taken for another row's."""
    feed = Feed([[[1]]], longest=1)
    feed.fill(9, lambda _: "new")
    with pytest.raises(RunError, match="request old, which was not asked"):
        feed.answer(SimpleNamespace(request_id="old", prompt_token_ids=[1]), scores([1]))


def test_an_answer_to_another_prompt_is_an_error():
    """The prompt that the engine shows must be the one that it was given."""
    feed = Feed([[[1]]], longest=1)
    feed.fill(9, lambda _: "1")
    with pytest.raises(RunError, match="another prompt"):
        feed.answer(SimpleNamespace(request_id="1", prompt_token_ids=[2]), scores([2]))
