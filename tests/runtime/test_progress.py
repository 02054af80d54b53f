"""What a notebook shows: lines, and not too many of them; at the end its table and its plot."""

import re
import time
from xml.etree import ElementTree as ET

import pytest

from kaggle_kit.runtime.progress import ProgressLine, duration, summary_lines, throughput_plot
from kaggle_kit.runtime.record import LabelMass, Rows, RunRecord, Workers


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0:00"), (0, "0:00"), (59.4, "0:59"), (59.6, "1:00"), (3599, "59:59"), (3600, "1:00:00"), (32400, "9:00:00")],
)
def test_a_duration_reads_as_a_clock_does(seconds, text):
    """Seconds become m:ss or h:mm:ss, and a time that is over is 0:00."""
    assert duration(seconds) == text


def test_each_kind_of_event_has_its_line(capsys):
    """Stages, row counts, restarts and errors are shown with the time since the start."""
    line = ProgressLine(deadline=time.time() + 60)
    line.show({"event": "stage", "name": "prepare"})
    line.show({"event": "rows", "total": 3000, "todo": 2000, "tokens": 1_000_000})
    line.show({"event": "restart", "message": "SIGKILL"})
    line.show({"event": "note", "text": "today's date"})
    line.show({"event": "error", "message": "no space"})
    line.show({"event": "done", "peak_bytes": 1})
    shown = capsys.readouterr().out.splitlines()
    assert [text.split("] ")[1] for text in shown] == [
        "prepare",
        "2,000 rows to score, 1,000,000 prompt tokens",
        "the worker stopped (SIGKILL); starting it again, scored rows are kept",
        "note: today's date",
        "error: no space",
    ]
    assert shown[0].startswith("[   0:00] ")


def progress(rows, tokens, all_rows=100, **more):
    return {"event": "progress", "rows": rows, "all_rows": all_rows, "tokens": tokens, "budget": 1024} | more


def test_at_most_one_progress_line_in_five_seconds_but_always_the_last():
    """A hundred quick events give the first line and the one of the finished work."""
    shown = []
    line = ProgressLine(deadline=time.time() + 60, write=shown.append)
    line.show({"event": "stage", "name": "scoring"})
    shown.clear()
    line.last = -1e9
    for rows in range(1, 101):
        line.show(progress(rows, rows * 10))
    assert len(shown) == 2
    assert "1/100 rows" in shown[0]
    assert "100/100 rows" in shown[1]
    assert "budget 1,024" in shown[1]


def test_the_end_is_told_with_its_certainty_beside_the_deadline():
    """Where the p95 of the end is known the line says it, and when the deadline is."""
    shown = []
    line = ProgressLine(deadline=time.time() + 7200.4, write=shown.append)
    line.show(progress(100, 1000, p95=time.time() + 60.4))
    assert "done in 1:00 at the latest (p95)" in shown[0]
    assert "deadline in 2:00:00" in shown[0]


def test_without_a_deadline_none_is_told():
    """An endless deadline and an unknown end leave no words in the line."""
    shown = []
    ProgressLine(deadline=float("inf"), write=shown.append).show(progress(100, 1000, p95=None))
    assert "deadline" not in shown[0]
    assert "p95" not in shown[0]


def test_no_tokens_yet_is_no_division_by_zero():
    """Progress of nothing is shown without a rate."""
    shown = []
    ProgressLine(deadline=0, write=shown.append).show(progress(0, 0, all_rows=0))
    assert "0/0 rows" in shown[0]


def test_the_throughput_of_several_workers_is_their_sum():
    """Workers that each count their own tokens make one curve that never falls, over passes and new lives too."""
    line = ProgressLine(deadline=float("inf"), write=lambda _: None)
    for worker in (0, 1):
        line.show({"event": "stage", "name": "scoring", "worker": worker})
    for worker, tokens in ((0, 100), (1, 50), (0, 200), (1, 90)):
        line.show(progress(1, tokens, worker=worker))
    line.show({"event": "stage", "name": "swapped pass", "worker": 0})
    line.show(progress(1, 30, worker=0))
    line.show(progress(2, 120, worker=1))
    assert [tokens for _, tokens in line.points] == [100, 150, 250, 290, 320, 350]


def test_the_curve_stays_small():
    """However long a run is, it keeps a few hundred points, the newest among them."""
    line = ProgressLine(deadline=float("inf"), write=lambda _: None)
    for rows in range(1, 3001):
        line.show(progress(rows, rows, all_rows=5000))
    assert len(line.points) <= 400
    assert line.points[-1][1] >= 2999


def test_the_table_is_aligned():
    """Every figure has one line, names to the left, values in one column."""
    lines = summary_lines(
        RunRecord(
            engine="vllm 1",
            worker=Workers(stages={"scoring": 61.0}),
            rows=Rows(total=5, scored=2),
            label_mass=LabelMass(0.8, 0.7),
        )
    )
    assert "rows scored       2" in lines
    assert "scoring           1:01" in lines
    assert any(line.startswith("label mass        0.8000 on average") for line in lines)
    assert len({re.match(r"\S+( \S+)*  +", line).end() for line in lines}) == 1


def test_the_table_ends_with_what_is_wrong():
    """A low label mass is the last thing that a person sees; a member's counts like the first model's."""
    low, high = LabelMass(0.4999, 0.0), LabelMass(0.5, 0.0)
    assert summary_lines(RunRecord(label_mass=low))[-1].startswith("LOW LABEL MASS: the labels have 0.4999")
    lines = summary_lines(RunRecord(label_mass=high, member_masses={"big": low}))
    assert lines[-1].endswith("(the model big)")
    assert not any("LOW" in line for line in summary_lines(RunRecord(label_mass=high, member_masses={"big": high})))


def test_a_run_that_did_nothing_has_a_table():
    """An empty record is no error."""
    assert summary_lines(RunRecord())[0].split()[0] == "engine"


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
