"""A sample of the calls of a release by the forms in which each can go wrong; all are in benchmarks/push_matrix.py."""

import random

import pytest
from matrix import cases, judge

from kaggle_kit.loopback.fault_forms import FORMS, MAKES, READS

SAMPLED = 12


@pytest.fixture(scope="session")
def every(killing):
    """All cases of this project's releases."""
    return tuple(cases(killing))


def test_the_matrix_has_every_call_and_every_form(every):
    """Hundreds of cases: no call of a release is left out, and no form."""
    assert len(every) >= 250
    assert {case.form for case in every} == set(FORMS)
    assert {case.route for case in every} >= set(MAKES)
    asked = {case.route for case in every}
    assert len(asked & set(READS)) >= len(READS) - 2


@pytest.mark.parametrize("seed", range(3))
def test_a_fault_is_told_or_overcome_nothing_is_twice_and_the_next_push_finishes(killing, every, seed):
    """The exit code, the words, no success of what is not there, nothing twice, and the second push finishes."""
    sample = random.Random(seed).sample(every, SAMPLED // 3)
    verdicts = [judge(killing, case) for case in sample]
    assert {str(verdict.case): verdict.problems for verdict in verdicts if verdict.problems} == {}


@pytest.mark.parametrize("form", ["made-500", "made-error", "made-nothing", "pretended"])
def test_what_was_made_and_denied_or_claimed_and_not_made(killing, every, form):
    """The notebook of a GPU run, whatever the reply says: one version of it in the end."""
    [case] = [case for case in every if (case.release, case.form) == ("inputs", form) and "SaveKernel" in case.route]
    assert judge(killing, case).problems == ()
