"""References: every spelling is one thing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaggle_kit.errors import UsageError
from kaggle_kit.remote.references import Reference, bare, normal, parse, parse_pair, split_version, versions

LETTERS, SIGNS = "abcdefghijklmnopqrstuvwxyz", "abcdefghijklmnopqrstuvwxyz0123456789"
PARTS = st.lists(st.text(SIGNS, min_size=1, max_size=9), max_size=3)
SLUG = st.builds(lambda letter, parts: letter + "-".join(parts), st.sampled_from(LETTERS), PARTS).filter(
    lambda text: text != "versions"
)
OWNER = SLUG.filter(lambda text: text not in {"datasets", "code", "competitions", "models", "c"})
VERSION = st.none() | st.integers(1, 999)
PAIRS = st.builds(Reference, OWNER, SLUG, version=VERSION)
VARIATIONS = st.builds(Reference, OWNER, SLUG, st.sampled_from(["pyTorch", "vllm"]), SLUG, version=VERSION)


@given(PAIRS | VARIATIONS)
def test_what_is_written_is_read(reference):
    """The normal form comes back as the reference that it is of."""
    assert parse(str(reference)) == reference
    assert split_version(str(reference)) == (str(reference.bare).lower(), reference.version)


SPELLINGS = {
    "ada/small": ("ada/small", None),
    "datasets/ada/small": ("ada/small", None),
    "code/ada/small/3": ("ada/small", 3),
    "ada/small/3": ("ada/small", 3),
    "ada/small/versions/3": ("ada/small", 3),
    "ada/small/transformers/awq": ("ada/small/transformers/awq", None),
    "models/ada/small/transformers/awq/2": ("ada/small/transformers/awq", 2),
    "ada/small/transformers/awq/versions/2": ("ada/small/transformers/awq", 2),
}


@pytest.mark.parametrize("text", SPELLINGS)
def test_spellings(text):
    """An address on the site, a pinned source and a plain reference name the same thing."""
    assert split_version(text) == SPELLINGS[text]


def test_spellings_are_compared_without_capitals_and_version():
    """`bare` is the same for two spellings of one thing."""
    assert bare("datasets/Ada/Small/7") == bare("ada/small")


@pytest.mark.parametrize("text", ["", "ada", "ada/", "/small", "ada/small/x", "a/b/c/d/e/f", "ada/small/0"])
def test_what_is_no_reference(text):
    """It is refused where it must be one, and stays as it is where Kaggle says it."""
    with pytest.raises(UsageError, match="is not owner/slug"):
        parse(text)
    assert versions([text]) == {text: None}


@pytest.mark.parametrize("text", ["ada/small/3", "ada/small/transformers/awq", "ada"])
def test_a_pair_has_two_parts(text):
    """A dataset or notebook is asked for without a version."""
    with pytest.raises(UsageError, match="is not owner/slug"):
        parse_pair(text)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("o/m/transformers/v/1", "o/m/Transformers/v/1"),
        ("o/m/pyTorch/v/2", "O/M/PyTorch/V/2"),
        ("o/m/tensorFlow2/v/2", "o/m/MODEL_FRAMEWORK_TENSOR_FLOW_2/v/2"),
        ("Ada/wheels/3", "ada/wheels/versions/3"),
        ("datasets/ada/wheels", "ada/Wheels"),
        ("/ada/wheels", "ada/wheels"),
        ("https://www.kaggle.com/datasets/Ada/wheels/versions/3", "ada/wheels/3"),
        ("kaggle.com/code/ada/wheels", "ada/wheels"),
        ("competitions/best-answer", "best-answer"),
        ("https://www.kaggle.com/competitions/best-answer", "Best-Answer"),
    ],
)
def test_spellings_of_one_thing_have_one_normal_form(one, other):
    """Capitals, the framework as pages show it, prefixes and the long form of a version tell nothing apart."""
    assert normal(one) == normal(other)
    assert bare(one) == bare(other)


@pytest.mark.parametrize(
    ("one", "other"), [("o/m/pyTorch/v/2", "o/m/pyTorch/v/3"), ("o/m/jax/v", "o/m/flax/v"), ("a/b-c", "a/b_c")]
)
def test_other_things_have_other_normal_forms(one, other):
    """Versions, frameworks and signs within names do."""
    assert normal(one) != normal(other)


@given(st.text(max_size=20))
def test_a_normal_form_is_its_own(text):
    """Made twice it is the same, whatever the text."""
    assert normal(normal(text)) == normal(text)
