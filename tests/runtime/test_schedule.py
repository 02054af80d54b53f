"""The order of scoring: every row once, what begins alike together."""

from array import array

from hypothesis import given, settings
from hypothesis import strategies as st

from kaggle_kit.runtime.prompts import Prompt
from kaggle_kit.runtime.schedule import copies, scoring_order

IDS = st.text(max_size=5) | st.just("\ud800")
TOKENS = st.lists(st.integers(0, 3), min_size=1, max_size=12) | st.integers(60, 200).map(lambda n: [1] * n)


def made(tokens):
    return {row_id: Prompt(array("i", ids), {}) for row_id, ids in tokens.items()}


@given(tokens=st.dictionaries(IDS, TOKENS, max_size=150))
@settings(max_examples=60)
def test_every_id_is_scored_exactly_once(tokens):
    """Probe and rest together hold each id once, whatever the prompts."""
    chunks, rest = scoring_order(made(tokens))
    assert sorted([*(row_id for chunk in chunks for row_id in chunk), *rest]) == sorted(tokens)


@given(tokens=st.dictionaries(IDS, TOKENS, max_size=60))
@settings(max_examples=60)
def test_copies_cover_every_row_once(tokens):
    """Each row is scored itself or is the copy of one that is, and copies have exactly that one's prompt."""
    found = copies(made(tokens))
    named = [*found, *(other for others in found.values() for other in others)]
    assert sorted(named) == sorted(tokens)
    assert all(tokens[one] == tokens[other] for one, others in found.items() for other in others)
    assert len({tuple(tokens[one]) for one in found}) == len(found)


def test_common_prefixes_stay_together():
    """Rows that begin alike beyond the template's head follow each other, at their shortest row's place."""
    head = [7] * 10
    tokens = {}
    for number in range(3):  # 3 prompts of a long shared text, between others of lengths in between
        tokens[f"shared{number}"] = head + [1] * 100 + [number] * (10 * (number + 1))
        tokens[f"other{number}"] = head + [50 + number] * (105 + 10 * number)
    _, rest = scoring_order(made(tokens))
    places = [rest.index(f"shared{number}") for number in range(3)]
    assert places == list(range(places[0], places[0] + 3))


def test_the_shortest_come_first():
    """Without a common text the order is by length, then by id."""
    _, rest = scoring_order(made({"b": [1, 2], "c": [3], "a": [2, 2], "d": [4, 5, 6]}))
    assert rest == ["c", "a", "b", "d"]


def test_no_rows_have_no_order():
    """Nothing to score is no error."""
    assert scoring_order({}) == ([], [])
    assert copies({}) == {}
