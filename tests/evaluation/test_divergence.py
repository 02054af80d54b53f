"""Two models over the same rows: the figures, against ones made by hand."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from kaggle_kit.errors import DataError, RunError
from kaggle_kit.evaluation.divergence import compare, divergence, pair, proof_of
from kaggle_kit.evaluation.score_file import Scored
from kaggle_kit.runtime.journal import Entry

COLUMNS = ("a", "b", "tie")
HERE = Path("train.csv")
EVEN = (0.5, 0.25, 0.25)
OTHER = (0.25, 0.5, 0.25)


def entry(row_id, shares, *, tokens=100, **given):
    """A row's answer with these probabilities."""
    values = tuple(map(math.log, shares)) if shares else None
    return Entry(row_id, tokens=tokens, log_probabilities=values, **given)


def scored(*entries):
    """A run with these answers."""
    return Scored(HERE, "id", [one.id for one in entries], {one.id: one for one in entries}, {}, 1.0, {})


def records(*outcomes):
    """Rows with these outcomes; None: not known."""
    return [{column: str(int(column == outcome)) for column in COLUMNS} for outcome in outcomes]


def pairs(first, second, outcomes):
    """Both runs' common rows."""
    return pair(scored(*first), scored(*second), records=records(*outcomes), columns=COLUMNS, source=HERE)


def test_the_divergence_is_kullback_and_leiblers():
    """The sum of p ln(p / q), in nats, of the reference against the other."""
    found = divergence(np.log([EVEN]), np.log([OTHER]))
    assert found == pytest.approx(0.5 * math.log(2) + 0.25 * math.log(0.5))


def test_a_model_is_no_way_from_itself():
    """KL, changed decisions and the difference are 0."""
    rows = [entry("1", EVEN), entry("2", OTHER)]
    found = compare(pairs(rows, rows, ["a", "b"])).all
    assert (found.kl_mean.value, found.changed.value, found.log_loss_difference.value) == (0, 0, 0)


def test_a_changed_decision_is_counted():
    """One of two rows has another favourite."""
    first = [entry("1", EVEN), entry("2", OTHER)]
    second = [entry("1", OTHER), entry("2", OTHER)]
    assert compare(pairs(first, second, ["a", "b"])).all.changed.value == 0.5


def test_the_difference_is_the_others_loss_less_the_references():
    """Above 0 where the quantised model is worse."""
    found = compare(pairs([entry("1", EVEN)], [entry("1", OTHER)], ["a"])).all
    assert found.log_loss_difference.value == pytest.approx(math.log(2))


def test_rows_without_an_outcome_have_no_loss():
    """Their KL counts all the same."""
    found = compare(pairs([entry("1", EVEN)], [entry("1", OTHER)], [None])).all
    assert found.log_loss_difference is None
    assert found.kl_mean.value > 0


def test_ruled_and_failed_rows_are_left_out():
    """Rows that no model saw say nothing about it."""
    first = [entry("1", EVEN), entry("2", EVEN, tokens=0), entry("3", EVEN), entry("4", EVEN)]
    second = [entry("1", EVEN), entry("2", EVEN, tokens=0), entry("3", None, problem="failed"), entry("4", EVEN)]
    found = pairs(first, second, ["a"] * 4)
    assert (len(found), found.left_out) == (2, 2)


def test_other_tokens_are_an_error():
    """Models with different tokenizers are not two forms of one."""
    with pytest.raises(DataError, match="tokenizers differ"):
        pairs([entry("1", EVEN)], [entry("1", EVEN, tokens=99)], ["a"])


def test_no_common_row_is_an_error():
    """There is nothing to compare."""
    with pytest.raises(RunError, match="no row"):
        pairs([entry("1", None, problem="failed")], [entry("1", EVEN)], ["a"])


def test_lengths_are_told_apart():
    """Each row is in the slice of its prompt's tokens."""
    rows = [entry("1", EVEN, tokens=128), entry("2", EVEN, tokens=129), entry("3", EVEN, tokens=9000)]
    found = compare(pairs(rows, rows, ["a"] * 3)).by_length
    assert [(one.name, one.rows) for one in found] == [("up to 128", 1), ("129 to 256", 1), ("above 4,096", 1)]


def test_a_proof_counts_what_the_engine_answered():
    """With the least label mass."""
    found = proof_of(scored(entry("1", EVEN, mass=0.9), entry("2", EVEN, mass=0.7), entry("3", EVEN, tokens=0)))
    assert asdict(found) == {"rows": 2, "label_mass_mean": pytest.approx(0.8), "label_mass_least": 0.7}


def test_a_failed_row_is_no_proof():
    """The engine's problem is told."""
    with pytest.raises(RunError, match="it broke"):
        proof_of(scored(entry("1", None, problem="it broke")))


def test_no_seen_row_is_no_proof():
    """Rows with a rule prove nothing."""
    with pytest.raises(RunError, match="no row was for the model"):
        proof_of(scored(entry("1", EVEN, tokens=0)))
