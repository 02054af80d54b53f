"""The charts of a report: their scales, their words, and what they do with little or strange data."""

import math
from xml.etree import ElementTree as ET

import pytest
from evaluation.made_scores import truth

from kaggle_kit.evaluation import charts, svg
from kaggle_kit.evaluation.metrics import reliability
from kaggle_kit.evaluation.run import Lengths

HOSTILE = "</title><script>\"'&"


def _shapes(chart, tag, kind=None):
    found = [one for one in ET.fromstring(str(chart)).iter() if one.tag == tag]
    return [one for one in found if kind in (None, one.get("class"))]


@pytest.mark.parametrize("high", [0.3, 1, 7, 42, 99, 100, 101, 1234, 2.5e9])
def test_ticks_are_few_and_reach_the_top(high):
    """From 0 past the highest value in equal steps, at most five."""
    found = svg.ticks(high)
    assert found[0] == 0
    assert found[-1] >= high * (1 - 1e-9)
    assert len(found) <= 6
    assert math.isclose(found[1] - found[0], found[-1] - found[-2])


@pytest.mark.parametrize("high", [0, -1, math.nan, math.inf])
def test_ticks_of_nothing_are_a_unit(high):
    """A chart without a height still has an axis."""
    assert svg.ticks(high) == [0.0, 1.0]


@pytest.mark.parametrize("longest", [0.04, 0.7, 16, 61, 4000, 32_400, 200_000])
def test_time_ticks_stay_inside(longest):
    """Times on an axis are never after its end."""
    found = svg.time_ticks(longest)
    assert found[0] == 0
    assert found[-1] <= longest
    assert len(found) <= 10


def test_words_cannot_leave_an_svg():
    """Labels and hints are escaped, in text and in attributes."""
    chart = svg.bar_chart([svg.Bar(HOSTILE, [1.0], [HOSTILE])], HOSTILE)
    assert "<script" not in str(chart)
    assert _shapes(chart, "title")[0].text == HOSTILE


def test_a_bar_is_as_long_as_its_value():
    """Twice the value, twice the length; no value, no bar."""
    chart = svg.bar_chart([svg.Bar("a", [2.0, 1.0], ["2", "1"]), svg.Bar("b", [None, 2.0], ["–", "2"])], "t")
    widths = [float(one.get("width")) for one in _shapes(chart, "rect")]
    assert widths == pytest.approx([widths[0], widths[0] / 2, widths[0]], abs=0.1)


def test_a_rate_is_tokens_over_time_since_scoring_began():
    """The stages say when that was: 10 s before the last point."""
    found = charts.rates(
        [(25.0, 500), (30.0, 1000)], stages={"engine start": 20.0, "scoring": 6.0, "swapped pass": 4.0}
    )
    assert found == [(0.0, 100.0), (5.0, 100.0), (5.0, 100.0), (10.0, 100.0)]


@pytest.mark.parametrize("points", [[], [(1.0, 5)], [(1.0, 5), (1.0, 9)], [(1.0, 0), (2.0, 0)]])
def test_no_rate_of_less_than_two_moments(points):
    """Nothing is drawn where nothing is known."""
    assert charts.rates(points, stages={}) == []
    assert charts.rate_chart([[]]) is None


def test_every_prompt_is_in_the_lengths_and_the_cut_ones_apart():
    """The bars' hints count all rows; the longest are in the last bar; the budget has its line."""
    whole = [100] * 90 + [700] * 9 + [50_000]
    chart = charts.length_chart(Lengths(whole, [min(one, 512) for one in whole], 512))
    hints = {kind: [one.find("title").text for one in _shapes(chart, "rect", kind)] for kind in ("s0", "s1")}
    rows = {kind: [int(hint.split(": ")[1].split(" ")[0]) for hint in found] for kind, found in hints.items()}
    assert rows == {"s0": [90], "s1": [9, 1]}
    assert any(one.text == "budget 512" for one in _shapes(chart, "text"))


def test_no_lengths_no_chart():
    """Rows that no model answered have no prompt."""
    assert charts.length_chart(Lengths([], [], 512)) is None
    assert charts.mass_chart([]) is None
    assert charts.stage_chart([{}, {}]) is None


def test_masses_are_counted_by_how_near_to_1_they_are():
    """A mass on an edge counts as reaching it."""
    chart = charts.mass_chart([1.0, 0.9999, 0.95, 0.5, 0.1])
    said = ET.fromstring(str(chart)).find("title").text
    assert said.startswith("Rows by label mass: 0.9999 or more 2; ")
    assert "0.9 to 0.99 1; 0.5 to 0.9 1; below 0.5 1" in said


def test_a_reliability_chart_has_a_dot_for_each_bin():
    """Two runs' bins have their own colours."""
    logs, outcome = truth(500)
    bins = reliability(logs, outcome)
    chart = charts.reliability_chart([bins, bins[:3]], HOSTILE)
    assert len(_shapes(chart, "circle", "s0")) == len(bins)
    assert len(_shapes(chart, "circle", "s1")) == 3
