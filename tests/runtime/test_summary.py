"""The end of a notebook: its figures and its plot."""

import re
from math import log
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from kaggle_kit.runtime.figures import figures
from kaggle_kit.runtime.journal import Entry
from kaggle_kit.runtime.summary import RECORD, summary_lines, throughput_plot

SCORES = (log(0.5), log(0.5))
PLAIN = {
    "1": Entry("1", 10, (), SCORES, 0.9),
    "2": Entry("2", 30, ("a",), SCORES, 0.7, flags=("low-mass", "copy of 1")),
    "3": Entry("3", log_probabilities=SCORES, flags=("rule: empty",)),
    "4": Entry("4", problem="not JSON"),
}
SWAPPED = {"1": Entry("1", 11, (), SCORES, 0.9), "2": Entry("2", 30, problem="the engine refused it")}


def test_each_row_is_counted_where_it_belongs():
    """Scored, ruled and prior rows make up the whole; a refused swapped pass is no second order."""
    rows = figures(["1", "2", "3", "4", "5"], PLAIN, SWAPPED)["rows"]
    assert (rows["scored"], rows["ruled"], rows["prior"], rows["total"]) == (2, 1, 2, 5)
    assert (rows["unreadable"], rows["not_reached"], rows["swapped"], rows["copies"]) == (1, 1, 1, 1)
    assert rows["unreadable_rows"] == {"4": "not JSON"}
    assert rows["cut_fields"] == {"a": 1}


def test_tokens_of_both_passes_are_counted():
    """What the engine read is the sum of both passes; a rule's row has none and says nothing of the mass."""
    found = figures(list("12345"), PLAIN, SWAPPED)
    assert found["prompt_tokens"] == 51
    assert found["longest_prompt"] == 30
    assert found["label_mass"] == {"mean": pytest.approx(0.8), "lowest": 0.7}


def test_rows_outside_of_the_sample_do_not_count():
    """Only the sample's ids are looked at."""
    assert figures([], PLAIN, SWAPPED)["rows"]["total"] == 0
    assert figures([], PLAIN, SWAPPED)["label_mass"] is None


def test_the_table_is_aligned():
    """Every figure has one line, names to the left, values in one column."""
    record = {"engine": "vllm 1", "worker": {"stages": {"scoring": 61.0}}} | figures(list("12345"), PLAIN, SWAPPED)
    lines = summary_lines(record)
    assert "rows scored       2" in lines
    assert "scoring           1:01" in lines
    assert any(line.startswith("label mass        0.8000 on average") for line in lines)
    assert len({re.match(r"\S+( \S+)*  +", line).end() for line in lines}) == 1


def test_a_run_that_did_nothing_has_a_table():
    """An empty record is no error."""
    assert summary_lines({})[0].split()[0] == "engine"


POINTS = [(0.0, 0), (1.5, 1000), (60.0, 120_000)]


def test_the_plot_is_well_formed():
    """The picture is XML, its curve has every point, and its ends say how much and how long."""
    root = ET.fromstring(throughput_plot(POINTS))
    (line,) = [node for node in root if node.tag.endswith("polyline")]
    assert len(line.get("points").split()) == 3
    texts = [node.text for node in root if node.tag.endswith("text")]
    assert {"120,000", "0", "1:00"} <= set(texts)


def test_the_curve_stays_in_the_picture():
    """No point lies outside of the axes."""
    root = ET.fromstring(throughput_plot(POINTS))
    width, height = float(root.get("width")), float(root.get("height"))
    (line,) = [node for node in root if node.tag.endswith("polyline")]
    for point in line.get("points").split():
        x, y = map(float, point.split(","))
        assert 0 <= x <= width
        assert 0 <= y <= height


def luminance(colour):
    """WCAG's relative luminance of #rgb or #rrggbb."""
    digits = colour[1:]
    digits = "".join(digit * 2 for digit in digits) if len(digits) == 3 else digits
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    red, green, blue = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("ground", ["#ffffff", "#111111"])
def test_colours_are_readable_on_light_and_dark(ground):
    """Each colour has at least 3 : 1 contrast against either ground (WCAG, graphics), and none is painted."""
    picture = throughput_plot(POINTS)
    assert "<rect" not in picture
    for colour in set(re.findall(r"#[0-9a-f]{3,6}", picture)):
        light, dark = sorted((luminance(colour), luminance(ground)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 3, colour


@pytest.mark.parametrize("points", [[], [(1.0, 5)], [(0.0, 0), (0.0, 0)], [(0.0, 0), (1.0, 0)]])
def test_too_little_makes_no_plot(points):
    """Without a curve there is no picture."""
    assert throughput_plot(points) == ""


def test_the_record_is_where_the_notebook_writes_it():
    """The frame of every notebook writes the file that the kit reads."""
    frame = Path(__file__).parents[2] / "templates" / "frame.py.j2"
    assert f'WORKING / "{RECORD}"' in frame.read_text()
