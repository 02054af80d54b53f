"""The log of a run: every line as it came, and a bound."""

import io

from kaggle_kit.sandbox import log_file
from kaggle_kit.sandbox.log_file import LINE_BYTES, LogFile, lines_of


def test_a_line_without_an_end_is_cut_in_pieces():
    """A notebook that prints without a line end cannot fill the memory."""
    lines = list(lines_of(io.BytesIO(b"x" * (LINE_BYTES * 2 + 5) + b"\nnext\n")))
    assert [len(line) for line in lines] == [LINE_BYTES, LINE_BYTES, 5, 4]


def test_a_long_log_keeps_its_beginning_and_its_end(tmp_path, monkeypatch):
    """Beyond the bound only the last lines are kept, with the count of those left out."""
    monkeypatch.setattr(log_file, "HEAD_BYTES", 50)
    monkeypatch.setattr(log_file, "TAIL_LINES", 2)
    with LogFile(tmp_path / "log.txt") as log:
        shown = [log.line(f"line {number}") for number in range(20)]
    lines = (tmp_path / "log.txt").read_text().splitlines()
    assert lines[:2] == ["line 0", "line 1"]
    assert lines[-3:] == ["[kit: 11 lines are left out here; the log is too long]", "line 18", "line 19"]
    assert shown == [True] * 7 + [False] * 13


def test_a_log_within_the_bound_is_whole(tmp_path):
    """Nothing is left out, and nothing is added."""
    with LogFile(tmp_path / "log.txt") as log:
        assert log.line("only")
    assert (tmp_path / "log.txt").read_text() == "only\n"
