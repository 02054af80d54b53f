"""A push killed at each boundary between a reply and its note: the next one ends right, and makes nothing twice.

Which boundaries there are a whole push says itself; all of them, and kills at random, are in benchmarks/push_kills.py.
"""

import random

import pytest
from kills import MADE, RELEASES, is_boundary

SAMPLED = 4
"""Of the other boundaries of each release, so many are tried here."""


@pytest.mark.parametrize("name", RELEASES)
def test_a_killed_push_is_finished_by_the_next(killing, name):
    """At each reply to a call that makes something, and at some of the notes, uploads and their beginnings.

    The first release, one with another version of an input alone, whether or not Kaggle says which, and one with
    another version of a Kaggle model.
    """
    release = RELEASES[name]
    steps = killing.steps(release)
    made = [step for step in steps if step.startswith("reply POST ") and step.split()[2].startswith(MADE)]
    others = [step for step in steps if is_boundary(step) and step not in made]
    assert len(made) >= (7 if name == "first" else 3)
    assert len(made) + len(others) >= 15

    tried = made + random.Random(name).sample(others, SAMPLED)
    verdicts = {step: killing.verdict(release, step) for step in tried}
    assert {step: problem for step, (_, problem) in verdicts.items() if problem} == {}
    assert all(verdicts[step][0] for step in made)


def test_kills_in_a_row(killing):
    """Killed when the notebook was made, again when it was submitted, and again at its log: all is there once."""
    kills = ("reply POST SaveKernel #1", "reply POST CreateCodeSubmission #1", "note log.txt #1")
    assert killing.verdict(RELEASES["inputs untold"], *kills) == (3, "")
