"""No text makes the search slow: every pattern reads a bounded piece from each place, and each place once."""

import re
import re._parser as parser

import pytest

from kaggle_kit.secrets import find_secrets, formats, mask, names, reader, redaction, values
from kaggle_kit.secrets.formats import FORMATS, LONGEST

# Patterns that are matched against one value or name, whose length is bounded where it is cut out.
OF_ONE_VALUE = {"_WORD", "_PARTS", "_DIGIT_RUNS", "_HEX", "_ONE_KIND", "_URL", "_PLACEHOLDER", "_SPLIT", "_NUMBER"}
MODULES = (formats, names, reader, redaction, values)
COMPILED = {
    f"{module.__name__.rpartition('.')[2]}.{name}": value
    for module in MODULES
    for name, value in vars(module).items()
    if isinstance(value, re.Pattern) and value.flags is not None
}
PATTERNS = {
    f"{form.kind} {place}": text
    for form in FORMATS
    for place, text in form.__dict__.items()
    if place in {"pattern", "loose", "before"} and text
}


def repeats(parsed, inside=False):
    """Every repeat of a parsed pattern: its most times, whether it may give back, and whether it is in another."""
    for kind, argument in parsed:
        if kind in {parser.MAX_REPEAT, parser.MIN_REPEAT, parser.POSSESSIVE_REPEAT}:
            _, most, body = argument
            counts = most > 1
            yield (most if counts else 1), kind is parser.POSSESSIVE_REPEAT, inside and counts
            yield from repeats(body, inside or counts)
        elif kind is parser.BRANCH:
            for branch in argument[1]:
                yield from repeats(branch, inside)
        elif kind is parser.SUBPATTERN:
            yield from repeats(argument[3], inside)
        elif kind in {parser.ASSERT, parser.ASSERT_NOT}:
            yield from repeats(argument[1], inside)
        elif kind is parser.ATOMIC_GROUP:
            yield from repeats(argument, inside)


@pytest.mark.parametrize("name", sorted(PATTERNS))
def test_every_repeat_of_the_catalogue_is_bounded(name):
    """A form reads a few thousand signs from where it begins at most, and no repeat stands in another."""
    for most, possessive, nested in repeats(parser.parse(PATTERNS[name])):
        assert most <= LONGEST
        assert possessive or not nested or most <= 20


@pytest.mark.parametrize("name", sorted(set(COMPILED)))
def test_every_repeat_of_the_readers_is_bounded_or_gives_nothing_back(name):
    """A pattern that goes over a whole text has bounded repeats, or such as are read once."""
    if name.rpartition(".")[2] in OF_ONE_VALUE:
        return
    for most, possessive, _ in repeats(parser.parse(COMPILED[name].pattern, COMPILED[name].flags)):
        assert possessive or most <= LONGEST


HOSTILE = [
    *("sk-", "key=", "token ", "password:", "://a:", "eyJ", "-u a:bcdefg ", "Bearer ", "basic ", "a.b", "MNO"),
    *('"key":', "\\n", "\\", '"', "'''", "api_key", "KEY_", "api_key(", "{", "[", "-----BEGIN PRIVATE KEY-----"),
    *(
        "machine a login b password ",
        "AKIA",
        "hf_",
        "secret" * 3 + " ",
        "token=\n",
        '"token", ',
        "\u0130key=",
        "x9" * 8,
    ),
]


@pytest.mark.parametrize("piece", HOSTILE)
def test_twice_the_text_is_twice_the_work(piece, monkeypatch):
    """The steps of the reader grow with the text and no faster: counted, not timed."""
    steps = 0
    plain = names._words

    def counted(*arguments):
        nonlocal steps
        for token in plain(*arguments):
            steps += 1
            yield token

    monkeypatch.setattr(names, "_words", counted)
    done = []
    for times in (500, 1000):
        steps = 0
        find_secrets(piece * times)
        mask(piece * times)
        done.append(steps)
    assert done[1] <= 2 * done[0] + 4 * names._MOST_TOKENS


@pytest.mark.parametrize("piece", HOSTILE)
def test_a_megabyte_of_a_hostile_text_is_read(piece):
    """It ends, and says something: the limit of the test run is the only clock."""
    text = (piece * (60_000 // len(piece) + 1))[:60_000]
    find_secrets(text)
    assert mask(text).count("\n") == text.count("\n")
