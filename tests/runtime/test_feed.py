"""Chunks on their way through an engine that answers prompt by prompt, in whatever order."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaggle_kit.errors import RunError
from kaggle_kit.runtime.engine import LabelScores
from kaggle_kit.runtime.feed import Feed


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
