"""The cost model: the law of length, the speed that follows, stalls, and how sure it is."""

import math
import random

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kaggle_kit.runtime.cost_model import CostModel, Estimate, Load, load_of

LAW = (0.005, 1.4e-3, 1.5e-7)
PROBE = [100, 1600, 400, 3000, 200, 2200, 800, 1200]


def cost(load: Load, speed: float = 1.0) -> float:
    """True seconds of a load."""
    return (LAW[0] * load.rows + LAW[1] * load.tokens + LAW[2] * load.squares) / speed


def probed(*, noise: float = 0.03, seed: int = 0) -> tuple[CostModel, random.Random]:
    """A model that has seen a probe over all lengths, and the source of noise."""
    source = random.Random(seed)
    model = CostModel()
    for length in PROBE:
        load = load_of([length] * 32)
        model.observe(load, cost(load) * source.lognormvariate(0, noise))
    return model, source


def ratio(model: CostModel, load: Load, speed: float = 1.0) -> float:
    """What the model expects over what is true."""
    return model.estimate(load).seconds / cost(load, speed)


def test_loads_sum_what_costs_time():
    """A load counts rows, tokens and squared tokens, of cut prompts if asked to."""
    assert load_of([2, 5]) == Load(2, 7, 29)
    assert load_of([2, 5], tokens=3) == Load(2, 5, 13)
    assert load_of([]) == Load(0, 0, 0)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("length", [50, 500, 1000, 2000, 4000])
def test_a_probe_foretells_every_length(seed, length):
    """After a probe, prompts of any length within and somewhat beyond it are foretold to a few per cent."""
    model, _ = probed(seed=seed)
    assert ratio(model, load_of([length] * 64)) == pytest.approx(1, abs=0.2 if length in (50, 4000) else 0.1)


def test_exact_times_give_the_exact_law():
    """Without noise, the forecast is right to a per cent."""
    model, _ = probed(noise=0)
    assert ratio(model, load_of(range(100, 3000))) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("position", range(len(PROBE)))
def test_a_stall_in_the_probe_is_left_out(position):
    """A ten-minute stall in any chunk of the probe does not shape the law."""
    model = CostModel()
    for index, length in enumerate(PROBE):
        load = load_of([length] * 32)
        model.observe(load, cost(load) * (1 + 0.02 * (-1) ** index) + (600 if index == position else 0))
    load = load_of([900] * 64)
    model.observe(load, cost(load))
    assert ratio(model, load_of(range(200, 2500))) == pytest.approx(1, abs=0.15)


def test_one_chunk_is_a_start():
    """A single chunk gives a forecast, and a wide one."""
    model = CostModel()
    load = load_of([1000] * 64)
    model.observe(load, 100.0)
    assert model.estimate(load).seconds == pytest.approx(100, rel=0.05)
    assert model.estimate(load_of([4000] * 64)).spread > 0.3


@pytest.mark.parametrize("speed", [0.25, 0.5, 2.0, 4.0])
@pytest.mark.parametrize("seed", range(5))
def test_a_new_speed_is_noticed_within_three_chunks(speed, seed):
    """Three chunks after the card changed its speed, the forecast is within 10 % of it."""
    model, source = probed(seed=seed)
    load = load_of([700] * 64)
    for _ in range(20):
        model.observe(load, cost(load) * source.lognormvariate(0, 0.03))
    for _ in range(3):
        model.observe(load, cost(load, speed) * source.lognormvariate(0, 0.03))
    assert ratio(model, load_of([700] * 6400), speed) == pytest.approx(1, abs=0.1)


def test_a_stall_is_not_the_new_speed():
    """A chunk that took ten minutes too long moves the expected speed by less than a quarter, a normal one mends it."""
    model, _ = probed()
    load = load_of([700] * 64)
    for _ in range(20):
        model.observe(load, cost(load))
    model.observe(load, cost(load) + 600)
    assert ratio(model, load) < 1.25
    model.observe(load, cost(load))
    assert ratio(model, load) == pytest.approx(1, abs=0.02)


def test_a_stall_opens_the_doubt_for_one_chunk():
    """After a strange chunk the p95 allows for a new speed; after a normal one no longer."""
    model, _ = probed()
    load = load_of([700] * 64)
    for _ in range(20):
        model.observe(load, cost(load))
    calm = model.estimate(load).p95
    model.observe(load, 2 * cost(load))
    doubtful = model.estimate(load).p95
    model.observe(load, cost(load))
    assert doubtful > 2 * cost(load)
    assert model.estimate(load).p95 < 1.1 * calm


def test_p95_holds_in_most_cases():
    """Right after the probe, with 5 % noise and a steady card, the p95 holds for the rest in 19 of 20 sessions."""
    held = 0
    for seed in range(100):
        model, source = probed(noise=0.05, seed=seed)
        chunks = [[source.randrange(50, 2000) for _ in range(64)] for _ in range(40)]
        rest = sum(cost(load_of(chunk)) * source.lognormvariate(0, 0.05) for chunk in chunks)
        held += rest <= model.estimate(load_of(np.concatenate(chunks))).p95
    assert held >= 95


def test_the_law_is_not_bent_by_a_slow_card():
    """A card that throttles while the rows grow longer changes the speed, not the law."""
    model, _ = probed(noise=0.01)
    for length in range(50, 900, 10):
        load = load_of([length] * 64)
        model.observe(load, cost(load, 1.0 if length < 400 else 0.5))
    assert ratio(model, load_of([3000] * 64), 0.5) == pytest.approx(1, abs=0.1)


def test_idle_chunks_teach_nothing():
    """A chunk of no rows, no time or a nonsensical time is passed over."""
    model, _ = probed()
    before = model.estimate(load_of([500]))
    model.observe(load_of([]), 3.0)
    for seconds in (0.0, -1.0, math.inf, math.nan):
        model.observe(load_of([10]), seconds)
    assert model.estimate(load_of([500])) == before
    assert model.count == len(PROBE)


def test_row_seconds_sum_to_the_estimate():
    """What the rows take one by one is what they take together."""
    model, _ = probed()
    lengths = [30, 500, 2000]
    assert sum(model.row_seconds(lengths)) == pytest.approx(model.estimate(load_of(lengths)).seconds)


def test_p95_lies_above_the_median():
    """The p95 of an estimate is its median times e to the 1.645 standard deviations."""
    assert Estimate(100.0, 0.1).p95 == pytest.approx(117.88, abs=0.01)


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.lists(st.integers(1, 8000), min_size=1, max_size=8), st.floats(1e-3, 1e4)),
        min_size=1,
        max_size=20,
    )
)
@example([([1], 7.0), ([1], 7.0), ([1886], 0.00390625)])
def test_whatever_it_sees_it_stays_sane(chunks):
    """Whatever times it sees, the parts are not negative and longer prompts never cost less."""
    model = CostModel()
    for lengths, seconds in chunks:
        model.observe(load_of(lengths), seconds)
    assert all(part >= 0 for part in model.law)
    short, long = model.estimate(load_of([100] * 10)), model.estimate(load_of([200] * 10))
    assert 0 < short.seconds <= long.seconds < math.inf
    assert 0 < short.spread < 4
