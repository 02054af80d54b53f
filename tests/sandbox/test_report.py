"""The report as a person and a program read it."""

import json

import pytest

from kaggle_kit.sandbox.report import Report

NOTHING = {
    "notebook": "answer",
    "target": "local-cpu",
    "outcome": "FAILED: x",
    "complete": False,
    "submission_valid": True,
    "seal": "bwrap",
    "left_open": (),
    "unsealed": (),
    "total_rows": 1_200,
    "scored_rows": 0,
    "prior_rows": 1_200,
    "ruled_rows": 0,
    "swapped_rows": 0,
    "unreadable_rows": {},
    "unreadable_count": 0,
    "cut_rows": 0,
    "seconds": {"preparing": 1.26},
    "rows_per_second": None,
    "tokens_per_second": None,
    "prompt_tokens": 0,
    "longest_prompt": 0,
    "peak_bytes": 0,
    "label_mass_mean": None,
    "label_mass_lowest": None,
    "log_loss": None,
    "projected_seconds": None,
    "worker_starts": 0,
}
ALL = NOTHING | {
    "rows_per_second": 21.04,
    "tokens_per_second": 10_400.4,
    "prompt_tokens": 31_000,
    "longest_prompt": 512,
    "peak_bytes": 1_234_000_000,
    "label_mass_mean": 0.98765,
    "label_mass_lowest": 0.5,
    "log_loss": 0.61234,
    "projected_seconds": 5_400.0,
    "notes": ("resolved anew",),
    "integrity": {"model demo": "all 4 files as its manifest says (9 bytes hashed)"},
}


def test_the_outcome_comes_first():
    """How it ended is the first line."""
    assert Report(**NOTHING).lines()[0] == "FAILED: x"


def test_what_is_not_known_is_not_told():
    """A run that never scored has no speed, mass, loss or estimate in its text."""
    assert Report(**NOTHING).lines()[1:] == [
        "seal              bwrap, no network",
        (
            "rows              1,200 in all: 0 scored by the model (0 in both orders, 0 cut to the token budget), "
            "0 by a rule, 1,200 with the prior"
        ),
        "preparing         1.3 s",
    ]


@pytest.mark.parametrize(
    "line",
    [
        "note              resolved anew",
        "speed             21.0 rows/s, 10,400 prompt tokens/s (31,000 tokens, longest prompt 512)",
        "peak memory       1.23 GB",
        "label mass        0.9877 on average, 0.5000 at the lowest",
        "log loss          0.6123",
        "model demo        all 4 files as its manifest says (9 bytes hashed)",
        "25,000 rows       about 1.50 h on this machine (estimated)",
    ],
)
def test_what_is_known_is_told(line):
    """Each figure has its line, with its unit."""
    assert line in Report(**ALL).lines()


def test_what_is_not_sealed_is_told():
    """A weak seal does not say "no network", and each thing it leaves open is a line."""
    lines = Report(**NOTHING | {"seal": "none", "unsealed": ("The network.", "The disk.")}).lines()
    assert "seal              none (not sealed: see below)" in lines
    assert lines[-2:] == ["NOT SEALED        The network.", "NOT SEALED        The disk."]


def test_unreadable_rows_beyond_those_named():
    """Rows that are counted but not named are told as a number."""
    lines = Report(**NOTHING | {"unreadable_rows": {"7": "not JSON"}, "unreadable_count": 1_001}).lines()
    assert "  unreadable      7: not JSON" in lines
    assert "  unreadable      and 1,000 more" in lines


def test_json_holds_every_field():
    """The JSON form has all fields, and is JSON."""
    report = Report(**ALL)
    assert json.loads(json.dumps(report.to_json())).keys() == ALL.keys()
