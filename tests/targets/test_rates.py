"""Measured rates of targets: by them a build chooses its kernel, and `kit model fit` reckons."""

from __future__ import annotations

import json

import pytest

from kaggle_kit.errors import DataError
from kaggle_kit.targets.rates import load_rates, rates_path


def own(tmp_path, **change):
    """A project's own rates of an H200, the shipped ones changed."""
    body = json.loads(rates_path("offline-h200").read_text()) | change
    path = tmp_path / "rates" / "offline-h200.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(body))
    return path


def test_the_shipped_rates_tell_work_a_second():
    """Prompt tokens a second become the FLOP/s of a card, by which other models are reckoned."""
    found = load_rates("offline-h200")
    assert found.flops("machete") == pytest.approx(7.2e14, rel=0.02)
    assert found.flops("dense") == 6.06e14


def test_a_target_that_nobody_measured_has_none():
    """None, not an error."""
    assert load_rates("kaggle-t4x2") is None


def test_a_projects_own_rates_win(tmp_path):
    """Over the shipped ones."""
    own(tmp_path, kernels={"marlin": 1})
    found = load_rates("offline-h200", project=tmp_path)
    assert found.kernels == {"marlin": 1}
    assert found.flops("machete") is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kernels": {"fast": 1}}, "kernels"),
        ({"kernels": {"marlin": 0}}, "kernels.marlin"),
        ({"format": 2}, "format"),
        ({"model": {}}, "model.layers"),
        ({"tokens_per_second": "many"}, "tokens_per_second"),
    ],
)
def test_a_file_that_is_wrong_is_named(tmp_path, change, message):
    """With the key, and what to do."""
    path = own(tmp_path, **change)
    with pytest.raises(DataError, match="measure the target again") as caught:
        load_rates("offline-h200", project=tmp_path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)
