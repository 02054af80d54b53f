"""The weights are the best there are."""

import numpy as np
import pytest
from evaluation.made_scores import blurred, truth
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from kaggle_kit.evaluation.answers import normalise
from kaggle_kit.evaluation.metrics import losses
from kaggle_kit.evaluation.mixture import best_weights, mix
from kaggle_kit.runtime.combine import average


def test_a_mixture_is_the_runtimes():
    """The weighted mean in log space, as `runtime.combine.average` takes it."""
    members = np.stack([truth(20, seed=seed)[0] for seed in range(3)])
    weights = np.array([0.2, 0.5, 0.3])
    wanted = [average([members[m, n] for m in range(3)], weights=weights.tolist()) for n in range(20)]
    np.testing.assert_allclose(mix(members, weights), wanted, atol=1e-12)


@given(seed=st.integers(0, 10_000), noise=st.lists(st.floats(0.05, 2), min_size=2, max_size=6))
@settings(max_examples=25)
def test_scipy_finds_nothing_better(seed, noise):
    """No weights above 0 that sum to 1 have less loss."""
    logs, outcome = truth(400, seed=seed)
    members = np.stack([blurred(logs, seed=seed + k, by=by) for k, by in enumerate(noise)])
    found = best_weights(members, outcome)
    assert found.min() >= 0
    assert found.sum() == pytest.approx(1)
    wanted = minimize(
        lambda w: losses(mix(members, w), outcome).mean(),
        np.full(len(noise), 1 / len(noise)),
        method="SLSQP",
        bounds=[(0, 1)] * len(noise),
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        options={"ftol": 1e-14, "maxiter": 500},
    )
    assert losses(mix(members, found), outcome).mean() <= wanted.fun + 1e-8


def test_a_useless_member_gets_nothing():
    """Noise has the weight 0, and the good one all."""
    logs, outcome = truth(5000)
    noise = normalise(np.random.default_rng(1).normal(0, 3, logs.shape))
    assert best_weights(np.stack([logs, noise]), outcome) == pytest.approx([1, 0], abs=0.02)


def test_two_of_a_kind_share():
    """The same member twice is no harm."""
    logs, outcome = truth(300)
    found = best_weights(np.stack([logs, logs]), outcome)
    assert found.sum() == pytest.approx(1)


def test_one_member_has_all():
    """There is nothing to choose."""
    logs, outcome = truth(30)
    assert best_weights(logs[None], outcome) == pytest.approx([1.0])
