"""Progress lines: what a person reads, and not too many of them."""

import time

import pytest

from kaggle_kit.runtime.progress import ProgressLine, duration


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
    line.show({"event": "error", "message": "no space"})
    line.show({"event": "done", "peak_bytes": 1})
    shown = capsys.readouterr().out.splitlines()
    assert [text.split("] ")[1] for text in shown] == [
        "prepare",
        "2,000 rows to score, 1,000,000 prompt tokens",
        "the worker stopped (SIGKILL); starting it again, scored rows are kept",
        "error: no space",
    ]
    assert shown[0].startswith("[   0:00] ")


def test_at_most_one_progress_line_in_five_seconds_but_always_the_last(capsys):
    """A hundred quick events give the first line and the one of the finished work."""
    line = ProgressLine(deadline=time.time() + 60)
    line.show({"event": "stage", "name": "scoring"})
    line.show({"event": "rows", "todo": 100, "tokens": 1000})
    capsys.readouterr()
    for rows in range(1, 101):
        line.show({"event": "progress", "rows": rows, "tokens": rows * 10})
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == 2
    assert "1/100 rows" in shown[0]
    assert "100/100 rows" in shown[1]
    assert "0:00 to go" in shown[1]


def test_no_tokens_yet_is_no_division_by_zero(capsys):
    """Progress of nothing is shown without a rate."""
    line = ProgressLine(deadline=0)
    line.show({"event": "progress", "rows": 0, "tokens": 0})
    assert "0/0 rows" in capsys.readouterr().out
