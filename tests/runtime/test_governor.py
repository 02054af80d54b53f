"""The deadline governor: never late, never outside its budgets, never wasteful without need."""

import random
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kaggle_kit.errors import UsageError
from kaggle_kit.runtime.governor import Allowance, Governor, deadline, probe, swap_order

RATE = 600.0
FULL = 1024
LENGTHS = sorted(min(FULL, length) for length in range(60, 2060))


def governed(*, left: float, rate: float = RATE, noise: float = 0.02, full: int = FULL, floor: int | None = None):
    """A governor with `left` seconds on its clock that has seen a probe; its clock's `now` can be set."""
    clock = SimpleNamespace(now=0.0)
    governor = Governor(deadline=left, full=full, floor=floor, clock=lambda: clock.now)
    source = random.Random(1)
    for length in (100, 800, 400, 1000, 200, 900, 300, 600):
        governor.observe([length] * 32, 32 * length / rate * source.lognormvariate(0, noise))
    return governor, clock


# ------------------------------------------------------------------------------------------- deadline, kind of run


def test_the_nearer_limit_counts():
    """The deadline is the nearer of session and competition limit, less the margin."""
    assert deadline(started=100, session_seconds=43_200, competition_seconds=32_400, margin_seconds=600) == 31_900
    assert deadline(started=0, session_seconds=3600, competition_seconds=32_400, margin_seconds=60) == 3540
    assert deadline(started=5, session_seconds=3600, margin_seconds=0) == 3605


@pytest.mark.parametrize("margin", [3600, 4000, -1])
def test_a_margin_must_leave_time(margin):
    """A margin that eats the limit, or a negative one, is refused."""
    with pytest.raises(UsageError, match="margin"):
        deadline(started=0, session_seconds=3600, margin_seconds=margin)


# --------------------------------------------------------------------------------------------------------- probe


def test_the_probe_spans_all_lengths():
    """Eight chunks of 32 rows, each of its own eighth of the lengths, the shortest and the longest row among them."""
    lengths = np.random.default_rng(0).integers(20, 4000, 5000)
    chunks = probe(lengths)
    assert [len(chunk) for chunk in chunks] == [32] * 8
    picked = [index for chunk in chunks for index in chunk]
    assert len(set(picked)) == 256
    assert {lengths[picked].min(), lengths[picked].max()} == {lengths.min(), lengths.max()}
    spans = sorted((lengths[chunk].min(), lengths[chunk].max()) for chunk in chunks)
    assert all(before[1] <= after[0] for before, after in pairwise(spans))


def test_the_probe_does_not_climb():
    """Neither the first half of the probe nor its second holds only short or only long rows."""
    means = [np.mean(chunk) for chunk in probe(range(4000))]
    assert min(means[:4]) < 1000
    assert max(means[:4]) > 2500
    assert abs(np.mean(means[:4]) - np.mean(means[4:])) < 600


@given(st.lists(st.integers(1, 5000), max_size=1500))
@settings(max_examples=50)
def test_a_probe_is_never_more_than_a_quarter(lengths):
    """A probe takes each row once and at most a quarter of them, in chunks of at least 4."""
    picked = [index for chunk in probe(lengths) for index in chunk]
    assert len(set(picked)) == len(picked) <= len(lengths) / 4
    assert all(len(chunk) >= 4 for chunk in probe(lengths))


# -------------------------------------------------------------------------------------------------------- budget


def test_nothing_is_known_before_the_first_chunk():
    """Before the first observation everything is allowed, no swapped pass is bought, no finish is foretold."""
    governor = Governor(deadline=100, full=FULL, clock=lambda: 0.0)
    assert governor.budget(LENGTHS) == Allowance(FULL, len(LENGTHS))
    assert governor.affordable(LENGTHS) == 0
    assert governor.finish(LENGTHS) is None
    assert not governor.must_stop([FULL] * 64)


def test_after_the_deadline_nothing_is_allowed():
    """When the deadline has passed, no row, no pass and no chunk is allowed, known speed or not."""
    governor, _ = governed(left=-1)
    for late in (governor, Governor(deadline=0, full=FULL, clock=lambda: 0.0)):
        assert late.budget(LENGTHS).rows == 0
        assert late.affordable(LENGTHS) == 0
        assert late.must_stop([1])


def test_time_enough_leaves_the_full_budget():
    """With twice the time that is needed nothing is cut."""
    governor, _ = governed(left=2 * sum(LENGTHS) / RATE)
    assert governor.budget(LENGTHS) == Allowance(FULL, len(LENGTHS))


def test_scarce_time_cuts_the_longest():
    """With four fifths of the time, the budget is one under which the rows fit, not far below what just fits."""
    left = 0.8 * sum(LENGTHS) / RATE
    governor, _ = governed(left=left)
    allowed = governor.budget(LENGTHS)
    assert allowed.rows == len(LENGTHS)
    taken = sum(min(length, allowed.tokens) for length in LENGTHS) / RATE
    assert 0.8 * left < taken < left


def test_the_budget_is_the_largest_that_fits():
    """With the budget the p95 finish meets the deadline; with one token more it does not."""
    governor, _ = governed(left=0.7 * sum(LENGTHS) / RATE)
    tokens = governor.budget(LENGTHS).tokens
    assert governor.finish(LENGTHS, tokens=tokens).p95 <= governor.deadline
    assert governor.finish(LENGTHS, tokens=tokens + 1).p95 > governor.deadline


def test_below_the_floor_rows_are_given_up():
    """Where even the least budget does not fit, the first rows that fit under it are counted."""
    governor, _ = governed(left=100, floor=256)
    allowed = governor.budget(LENGTHS)
    assert allowed.tokens == 256
    assert 0 < allowed.rows < len(LENGTHS)
    assert sum(min(length, 256) for length in LENGTHS[: allowed.rows]) / RATE <= 100
    assert sum(min(length, 256) for length in LENGTHS[: allowed.rows]) / RATE > 75


@pytest.mark.parametrize(("full", "least"), [(4096, 512), (1024, 128), (512, 128), (100, 100)])
def test_the_floor_by_default(full, least):
    """The least budget is an eighth of the full one, at least 128 tokens, never above the full one."""
    assert Governor(deadline=0, full=full, clock=lambda: 0.0).least == least


@pytest.mark.parametrize(("full", "floor"), [(0, None), (100, 0), (100, 101)])
def test_senseless_budgets_are_refused(full, floor):
    """A full budget of nothing, or a floor outside of it, is refused."""
    with pytest.raises(UsageError, match="budget"):
        Governor(deadline=0, full=full, floor=floor, clock=lambda: 0.0)


lengths_strategy = st.lists(st.integers(1, 3 * FULL), min_size=1, max_size=300)


@given(lengths_strategy, st.lists(st.floats(0, 5000), min_size=2, max_size=6))
@settings(max_examples=50)
def test_the_budget_grows_with_the_time_left(lengths, times):
    """More time left never gives a smaller budget, and the budget never leaves floor and full."""
    governor, clock = governed(left=5000)
    budgets = []
    for left in sorted(times):
        clock.now = 5000 - left
        budgets.append(governor.budget(lengths))
    tokens = [allowed.tokens for allowed in budgets if allowed.rows]
    assert tokens == sorted(tokens)
    assert all(governor.least <= token <= FULL for token in tokens)
    assert all(0 <= allowed.rows <= len(lengths) for allowed in budgets)


@given(lengths_strategy, st.floats(1, 600), st.randoms())
@settings(max_examples=50)
def test_the_budget_does_not_depend_on_the_order(lengths, left, source):
    """The same remaining rows in another order get the same token budget."""
    governor, _ = governed(left=left)
    tokens = governor.budget(lengths).tokens
    source.shuffle(lengths)
    assert governor.budget(lengths).tokens == tokens


@given(lengths_strategy, st.floats(1, 600))
@settings(max_examples=50)
def test_arrays_and_lists_are_the_same(lengths, left):
    """Lengths may come as a list or as an array."""
    governor, _ = governed(left=left)
    array = np.array(lengths)
    assert governor.budget(lengths) == governor.budget(array)
    assert governor.affordable(lengths) == governor.affordable(array)
    assert governor.must_stop(lengths) == governor.must_stop(array)


# ---------------------------------------------------------------------------------------- finish, passes, next chunk


def test_the_finish_is_shown():
    """The expected finish is near the truth, the p95 later, both on the governor's clock."""
    governor, clock = governed(left=1e6)
    clock.now = 500.0
    finish = governor.finish(LENGTHS)
    assert finish.expected == pytest.approx(500 + sum(LENGTHS) / RATE, rel=0.05)
    assert finish.expected < finish.p95 < 500 + 1.3 * sum(LENGTHS) / RATE


def test_left_time_buys_passes():
    """As many passes are affordable as fit with some reserve, all where there is time for all."""
    governor, clock = governed(left=1000.0)
    passes = governor.affordable([600] * 5000)
    assert 800 < passes < 1000
    clock.now = 999.9
    assert governor.affordable([600] * 5000) == 0
    clock.now = -1e6
    assert governor.affordable([600] * 5000) == 5000


@given(lengths_strategy, st.floats(0, 2000))
@settings(max_examples=50)
def test_affordable_passes_fit(lengths, left):
    """What is affordable may be scored as one chunk: the governor would not stop it."""
    governor, _ = governed(left=left, full=3 * FULL)
    count = governor.affordable(lengths)
    assert count == 0 or not governor.must_stop(lengths[:count])


def test_a_chunk_that_does_not_fit_is_stopped():
    """A next chunk that would take longer than the time left is not begun."""
    governor, _ = governed(left=64.0)
    assert governor.must_stop([600] * 64)
    assert not governor.must_stop([600] * 32)


# ------------------------------------------------------------------------------------------------------ whole runs


def drive(governor: Governor, clock: SimpleNamespace, lengths: np.ndarray, seconds_of, *, chunk: int = 16) -> int:
    """The worker's loop, both passes; returns the rows scored in the first pass."""
    picked = probe(lengths, rows=64)
    rest = np.setdiff1d(np.arange(len(lengths)), [index for part in picked for index in part])
    done = 0

    def score(part: np.ndarray) -> None:
        seconds = seconds_of(part)
        clock.now += seconds
        governor.observe(part, seconds)

    for part in picked:
        if governor.must_stop(lengths[part]):
            return done
        score(lengths[part])
        done += len(part)
    waiting = lengths[rest]
    while len(waiting):
        allowed = governor.budget(waiting)
        cut = np.minimum(waiting[: min(chunk, allowed.rows)], allowed.tokens)
        size = governor.affordable(cut)
        if size == 0:
            return done
        score(cut[:size])
        waiting, done = waiting[size:], done + size
    swaps = lengths[::-1]
    while size := min(chunk, governor.affordable(swaps)):
        score(swaps[:size])
        swaps = swaps[size:]
    return done


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0.25, 4)), max_size=5),
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1800)), max_size=2),
    st.floats(0.02, 3),
    st.integers(0, 2**32),
)
@settings(max_examples=80)
def test_no_trace_makes_a_run_late(changes, stalls, ample, seed):
    """Whatever the card does (up to 4 times slower or faster, stalls of half an hour), the run ends before the limit,
    given a margin that holds the overrun of one chunk: a stall in it, and the longest chunk at the slowest speed."""
    source = np.random.default_rng(seed)
    lengths = np.sort(np.minimum(source.lognormal(6.5, 0.8, 600), FULL).astype(int) + 1)
    hours = ample * lengths.sum() / RATE
    clock = SimpleNamespace(now=0.0)
    margin = 2 * 1800 + 16 * FULL / (RATE / 4) * 1.2
    pending = sorted((when * hours, stall) for when, stall in stalls)

    def seconds_of(part: np.ndarray) -> float:
        speed = next((factor for when, factor in sorted(changes, reverse=True) if when * hours <= clock.now), 1.0)
        seconds = part.sum() / RATE / speed * min(source.lognormal(0, 0.05), 1.2)
        while pending and pending[0][0] <= clock.now + seconds:
            seconds += pending.pop(0)[1]
        return seconds

    limit = hours + margin
    governor = Governor(
        deadline=deadline(started=0, session_seconds=limit, margin_seconds=margin), full=FULL, clock=lambda: clock.now
    )
    drive(governor, clock, lengths, seconds_of)
    assert clock.now <= limit


@pytest.mark.parametrize("seed", range(5))
def test_a_steady_card_uses_its_time(seed):
    """With a steady card and time for one and a half passes, every row is scored and little time stays."""
    source = np.random.default_rng(seed)
    lengths = np.sort(np.minimum(source.lognormal(6.5, 0.8, 2000), FULL).astype(int) + 1)
    left = 1.5 * lengths.sum() / RATE
    clock = SimpleNamespace(now=0.0)
    governor = Governor(deadline=left, full=FULL, clock=lambda: clock.now)
    done = drive(governor, clock, lengths, lambda part: part.sum() / RATE * source.lognormal(0, 0.03))
    assert done == len(lengths)
    assert 0.99 * left < clock.now <= left + 1


# --------------------------------------------------------------------------------------------------- swapped passes


def test_undecided_rows_are_swapped_first():
    """Undecided rows come first, sure ones last, those sure of a tie too."""
    rows = [[0.9, 0.05, 0.05], [0.45, 0.45, 0.1], [0.6, 0.3, 0.1], [0.05, 0.05, 0.9]]
    order = swap_order(rows).tolist()
    assert order[:2] == [1, 2]
    assert set(order[2:]) == {0, 3}
    assert swap_order(np.zeros((0, 3))).tolist() == []


@given(st.floats(0.05, 1), st.floats(0, 1), st.floats(0, 1))
def test_nearer_to_undecided_means_earlier(mass, one, other):
    """Of two rows with the same share for the exchanged labels, the one with the smaller difference comes first."""
    assume(abs(one - other) > 1e-4)
    rows = [[mass * (1 + lean) / 2, mass * (1 - lean) / 2, 1 - mass] for lean in (one, other)]
    assert swap_order(rows).tolist() == ([0, 1] if one < other else [1, 0])


@given(st.floats(0, 0.4), st.floats(0, 1), st.floats(0, 1))
def test_less_tie_means_earlier(difference, one, other):
    """Of two rows with the same difference, the one that gives the exchanged labels more comes first."""
    masses = [difference + (1 - difference) * share for share in (one, other)]
    assume(abs(masses[0] - masses[1]) > 1e-6)
    rows = [[(mass + difference) / 2, (mass - difference) / 2, 1 - mass] for mass in masses]
    assert swap_order(rows).tolist() == ([0, 1] if masses[0] > masses[1] else [1, 0])


@given(st.lists(st.lists(st.floats(0.01, 1), min_size=3, max_size=3), min_size=1, max_size=30))
def test_exchanged_labels_are_alike(rows):
    """The order is a permutation of the rows, and the same when the two labels trade places."""
    array = np.array(rows) / np.sum(rows, axis=1, keepdims=True)
    order = swap_order(array)
    assert sorted(order) == list(range(len(rows)))
    assert (order == swap_order(array, exchanged=(1, 0))).all()


def test_two_labels_and_others():
    """With two labels the rule is p (1 - p); the exchanged labels may stand anywhere."""
    assert swap_order([[0.9, 0.1], [0.5, 0.5], [0.3, 0.7]]).tolist() == [1, 2, 0]
    assert swap_order([[0.8, 0.1, 0.1], [0.2, 0.4, 0.4]], exchanged=(1, 2)).tolist() == [1, 0]


def test_the_rule_is_the_gain_of_averaging():
    """For a small shift of the log-odds, the rule is proportional to the KL divergence that averaging mends."""
    rows = np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8], [0.7, 0.2, 0.1]])
    shift = 0.02
    moved = rows * np.exp([shift / 2, -shift / 2, 0])
    moved /= moved.sum(axis=1, keepdims=True)
    behind = (moved * np.log(moved / rows)).sum(axis=1)
    a, b = rows[:, 0], rows[:, 1]
    assert behind / (a + b - (a - b) ** 2) == pytest.approx([shift**2 / 8] * 3, rel=0.02)


def test_gain_per_cost():
    """With costs, a cheap row comes before an equally undecided dear one."""
    assert swap_order([[0.5, 0.5], [0.5, 0.5]], costs=[900, 300]).tolist() == [1, 0]
