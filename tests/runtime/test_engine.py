"""Renormalising: probabilities over the labels, and the mass they had before."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaggle_kit.errors import RunError
from kaggle_kit.runtime.engine import renormalise

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
