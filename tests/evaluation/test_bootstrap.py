"""Intervals say how far a figure would move with other rows."""

import math

import numpy as np
import pytest

from kaggle_kit.evaluation.bootstrap import Estimate, json_of, mean_estimate, resample


def test_the_interval_of_a_mean_is_scipys():
    """Within the noise of 4,000 samples it is scipy's percentile bootstrap."""
    from scipy import stats

    figures = np.random.default_rng(3).exponential(1.0, 300)
    found = mean_estimate(figures, replicates=4000)
    wanted = stats.bootstrap((figures,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(5))
    assert found.value == pytest.approx(figures.mean(), abs=1e-12)
    assert [found.low, found.high] == pytest.approx(
        [wanted.confidence_interval.low, wanted.confidence_interval.high], abs=0.15 * wanted.standard_error
    )
    assert found.error == pytest.approx(wanted.standard_error, rel=0.05)


def test_intervals_hold_the_truth_as_often_as_they_say():
    """Of 300 data sets of 200 rows, about 95 % have the true mean in their interval."""
    rng = np.random.default_rng(0)
    inside = 0
    for number in range(300):
        found = mean_estimate(rng.exponential(1.0, 200), seed=number, replicates=400)
        inside += found.low <= 1.0 <= found.high
    assert 0.90 <= inside / 300 <= 0.98


def test_the_same_seed_gives_the_same_figures():
    """A run can be repeated, and another seed draws other samples."""
    figures = np.random.default_rng(1).normal(size=50)
    assert mean_estimate(figures, seed=4) == mean_estimate(figures, seed=4)
    assert mean_estimate(figures, seed=4) != mean_estimate(figures, seed=5)


def test_columns_see_the_same_samples():
    """The sum of two columns has in each sample the sum of their means: differences are paired."""
    table = np.random.default_rng(2).normal(size=(40, 2))
    found = resample(np.column_stack([table, table.sum(axis=1)]), replicates=100)
    np.testing.assert_allclose(found.samples[:, 2], found.samples[:, 0] + found.samples[:, 1], atol=1e-12)


def test_a_paired_difference_is_far_surer_than_its_parts():
    """Two figures that move together differ by little noise."""
    rng = np.random.default_rng(2)
    first = rng.normal(size=500)
    second = first + rng.normal(0.05, 0.02, 500)
    assert mean_estimate(second - first).error < mean_estimate(first).error / 20


def test_ten_rows_and_one():
    """Few rows have wide intervals, one row has one of no width."""
    ten = mean_estimate(np.arange(10.0))
    assert ten.low < 4.5 < ten.high
    one = mean_estimate(np.array([2.0]))
    assert (one.value, one.low, one.high, one.error) == (2.0, 2.0, 2.0, 0.0)


def test_samples_without_a_figure_are_left_out():
    """A slice that some samples miss keeps its interval; one that all miss has none, in JSON as null."""
    found = resample(np.ones((4, 1)), replicates=10)
    some = found.estimate(1.0, np.array([math.nan, 0.9, 1.1, 1.0]))
    assert 0.9 <= some.low <= some.high <= 1.1
    none = found.estimate(math.nan, np.array([math.nan, math.nan]))
    assert json_of(none) == {"value": None, "low": None, "high": None, "error": None, "rows": 0}


def test_a_difference_is_in_noise_where_its_interval_holds_zero():
    """Zero at an end counts as inside."""
    assert Estimate(0.1, 0.0, 0.2, 0.05, 9).in_noise
    assert not Estimate(-0.1, -0.2, -0.01, 0.05, 9).in_noise
