"""The fit finds the least log loss, treats exchanged labels alike, and stays within its limits; so do weights."""

import numpy as np
import pytest
from evaluation.made_scores import blurred, truth
from hypothesis import given, settings
from hypothesis import strategies as st

from kaggle_kit.evaluation.answers import normalise
from kaggle_kit.evaluation.fit import LEAST_SCALE, MOST_SCALE, best_weights, fit, mix, orbits
from kaggle_kit.evaluation.metrics import losses
from kaggle_kit.runtime.combine import average

PAIRS = ((0, 1),)


def best_temperature(values, outcome):
    """By scipy, to the last digit that it gives."""
    from scipy.optimize import minimize_scalar

    found = minimize_scalar(
        lambda t: losses(normalise(values / t), outcome).mean(),
        bounds=(0.05, 20),
        options={"xatol": 1e-10},
        method="bounded",
    )
    return found.x


@pytest.mark.parametrize("scale", [3.0, 1.0, 0.4])
@pytest.mark.parametrize("rows", [100, 5000])
def test_an_over_confident_model_gets_its_best_temperature(scale, rows):
    """Logits times 3: the temperature is within 0.005 of the best one, which is about 3."""
    logs, outcome = truth(rows)
    values = normalise(scale * logs)
    found = fit(values, outcome, pairs=PAIRS)
    assert found.temperature == pytest.approx(best_temperature(values, outcome), abs=1e-4)
    if rows == 5000:
        assert found.temperature == pytest.approx(scale, rel=0.06)


@given(seed=st.integers(0, 10_000), scale=st.floats(0.3, 4), shift=st.floats(-1, 1), rows=st.integers(60, 600))
@settings(max_examples=25)
def test_scipy_finds_nothing_better(seed, scale, shift, rows):
    """No scale and bias have less loss than those that are found."""
    logs, outcome = truth(rows, seed=seed)
    values = normalise(scale * logs + np.array([0, 0, shift]))
    found = fit(values, outcome, pairs=PAIRS, biased=True)

    def loss(point):
        return losses(normalise(values * point[0] + np.array([0, 0, point[1]])), outcome).mean()

    from scipy.optimize import minimize

    wanted = minimize(loss, [1.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-13})
    ours = losses(normalise(values * found.scale + found.bias), outcome).mean()
    assert ours <= wanted.fun + 1e-9 or not LEAST_SCALE < wanted.x[0] < MOST_SCALE


def test_exchanged_labels_share_a_bias():
    """However often A won, A and B are treated alike; only the tie has a bias of its own."""
    logs, outcome = truth(2000)
    won = np.where(np.random.default_rng(0).random(2000) < 0.5, 0, outcome)
    found = fit(logs, won, pairs=PAIRS, biased=True)
    assert found.bias[0] == found.bias[1] == 0
    assert found.bias[2] < -0.1


def test_without_a_swap_each_label_has_a_bias():
    """A lean toward one label is taken back."""
    logs, outcome = truth(20_000)
    found = fit(normalise(logs + np.array([0.0, 0.4, -0.6])), outcome, biased=True)
    assert found.bias == pytest.approx([0, -0.4, 0.6], abs=0.08)


def test_orbits_are_pairs_and_singles():
    """Each column is in one group."""
    assert orbits(5, [(3, 0), (1, 2)]) == [[0, 3], [1, 2], [4]]
    assert orbits(2, []) == [[0], [1]]


@pytest.mark.parametrize(("right", "scale"), [(True, MOST_SCALE), (False, LEAST_SCALE)])
def test_answers_without_an_exception_stay_within_the_limits(right, scale):
    """All right, or all wrong: the best scale has no end, and the fit has one."""
    logs, _ = truth(200)
    outcome = logs.argmax(axis=1) if right else logs.argmin(axis=1)
    found = fit(logs, outcome, pairs=PAIRS, biased=True)
    assert found.scale == pytest.approx(scale)
    assert np.isfinite(found.bias).all()


def test_a_mixture_is_the_runtimes():
    """The weighted mean in log space, as `runtime.combine.average` takes it."""
    members = np.stack([truth(20, seed=seed)[0] for seed in range(3)])
    weights = np.array([0.2, 0.5, 0.3])
    wanted = [average([members[m, n] for m in range(3)], weights=weights.tolist()) for n in range(20)]
    np.testing.assert_allclose(mix(members, weights), wanted, atol=1e-12)


@given(seed=st.integers(0, 10_000), noise=st.lists(st.floats(0.05, 2), min_size=2, max_size=6))
@settings(max_examples=25)
def test_scipy_finds_no_better_weights(seed, noise):
    """No weights above 0 that sum to 1 have less loss."""
    logs, outcome = truth(400, seed=seed)
    members = np.stack([blurred(logs, seed=seed + k, by=by) for k, by in enumerate(noise)])
    found = best_weights(members, outcome)
    assert found.min() >= 0
    assert found.sum() == pytest.approx(1)
    from scipy.optimize import minimize

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
