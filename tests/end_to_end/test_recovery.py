"""kill -9 of the worker at random moments: nothing is lost, nothing is done twice, the result stays the same.

The moments are drawn as `benchmarks/recovery.py` says, which does it 20 times over 3,100 rows.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from math import exp
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import recovery

sys.path.pop()  # another module there is called as a folder of the tests

from kaggle_kit.runtime.supervisor import read_entries, share

KILLS, ROWS = 4, 600


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run killed four times, and an undisturbed one: the killer, the first's outcome, and the comparison."""
    folder = tmp_path_factory.mktemp("recovery")
    job, whole = recovery.jobs(folder, rows=ROWS)
    killer = recovery.Killer(job, kills=KILLS, passes=2 * ROWS, seed=3)
    outcome = recovery.run_whole(job, job.journal.parent, killer=killer)
    assert recovery.run_whole(whole, whole.journal.parent).ended == "done"
    return killer, outcome, recovery.compare(job, whole), whole


def test_a_worker_killed_again_and_again_comes_to_its_end(runs):
    """Every kill fell into the run, most into scoring, and each was followed by another start."""
    killer, outcome, *_ = runs
    assert outcome.ended == "done", outcome.log
    # The last moment drawn may come when all is done.
    assert len(killer.done) >= KILLS - 1
    assert outcome.starts == len(killer.done) + 1
    assert sum(kill.stage in ("scoring", "swapped pass") for kill in killer.done) >= 2


def test_every_row_is_there_once_in_both_passes(runs):
    """No id is missing, none has lost its scores, and no row was scored twice."""
    found = runs[2]
    assert (found.missing, found.without_scores, found.most_times) == (0, 0, 1)


def test_the_result_is_that_of_an_undisturbed_run(runs):
    """Each probability is within the stated tolerance of the undisturbed run's."""
    found = runs[2]
    assert found.largest < recovery.TOLERANCE
    assert found.mean < recovery.TOLERANCE / 10


def test_two_engines_side_by_side_share_the_rows(runs):
    """Each row is scored by one of them, and gets the probabilities that a single engine gives."""
    whole = runs[3]
    shared = replace(whole, journal=whole.journal.with_name("two.sqlite"))
    outcome = recovery.run_whole(shared, shared.journal.parent / "two", workers=2)
    assert outcome.ended == "done", outcome.log
    one, two = (read_entries(job, workers=number) for job, number in ((whole, 1), (shared, 2)))
    assert set(one) == set(two)
    halves = [set(read_entries(share(shared, number, 2), workers=1)) for number in range(2)]
    assert not halves[0] & halves[1]
    assert min(map(len, halves)) > len(one) / 4
    apart = max(
        abs(exp(left) - exp(right))
        for name, entry in one.items()
        for left, right in zip(entry.log_probabilities or (), two[name].log_probabilities or (), strict=True)
    )
    assert apart < recovery.TOLERANCE
