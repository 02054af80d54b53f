"""Tables, bars and the waiting line: plain in a pipe, styled on a terminal, and no text of theirs commands it."""

import os
import pty
import re
import select
import subprocess
import sys
import time

import pytest

from kaggle_kit.cli.displays import Bars, Waiting, show_table
from kaggle_kit.cli.terminal import guarded
from kaggle_kit.visible import unseen

HOSTILE = "evil\n[red]x[/red][/nothing] :smile: \x1b]52;c;eA==\x07\x9b31m\u202e"
SHOWN = r"evil\n[red]x[/red][/nothing] :smile: \x1b]52;c;eA==\x07\x9b31m\u202e"
# What rich itself sends: styles, and the moves by which a display is drawn again.
OWN = re.compile(r"\x1b\[[0-9;?]*[mABGHJKhl]|\r(?!\n)|\r\n")
TABLE = "show_table(('name', 'size'), [(HOSTILE, '1')], right=('size',))"
BARS = """
with Bars() as bars:
    bars.begin(HOSTILE, 100)
    bars.done(50)
    say('said ' + HOSTILE)
    print('printed ' + HOSTILE)
    sys.stderr.write('raw ' + HOSTILE + '\\n')
    bars.begin('more', 10)
    bars.done(10)
    time.sleep(0.3)
"""
WAITING = """
with Waiting('first') as waiting:
    waiting.update(HOSTILE)
    say('said ' + HOSTILE)
    with Bars() as bars:
        bars.begin('wheels', 10)
        say('inside ' + HOSTILE)
        time.sleep(0.3)
    say('after ' + HOSTILE)
"""


def on_a_terminal(code: str, *, encoding: str = "utf-8", out: int | None = None) -> str:
    """What a terminal of 200 columns gets from `code`, which runs with the guard of the installed command."""
    program = (
        "import sys, time\nfrom kaggle_kit.cli.displays import *\nfrom kaggle_kit.cli.terminal import *\n"
        f"HOSTILE = {HOSTILE!r}\nguard()\n{code}"
    )
    settings = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "FORCE_COLOR"}}
    settings |= {"TERM": "xterm-256color", "COLUMNS": "200", "LINES": "40", "PYTHONIOENCODING": encoding}
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=theirs,
        stdout=theirs if out is None else out,
        stderr=theirs,
        env=settings,
    ) as process:
        os.close(theirs)
        found, until = b"", time.monotonic() + 60
        while time.monotonic() < until:
            if select.select([ours], [], [], 0.1)[0]:
                try:
                    piece = os.read(ours, 1 << 16)
                except OSError:  # the other end is closed
                    break
                if not piece:
                    break
                found += piece
    os.close(ours)
    assert process.returncode == 0, found
    return found.decode(encoding)


def plain(text: str) -> str:
    """What is left without rich's own commands."""
    return OWN.sub("\n", text)


@pytest.mark.parametrize(("code", "times"), [(TABLE, 1), (BARS, 4), (WAITING, 4)], ids=["table", "bars", "waiting"])
def test_a_terminal_is_styled_and_not_commanded(code, times):
    """Colours are rich's own, and every text shows its escapes; no markup and no emoji name is read out of it."""
    found = on_a_terminal(code)
    assert "\x1b[" in found
    assert unseen(plain(found)) == ()
    assert plain(found).count(SHOWN) >= times


@pytest.mark.parametrize("words", ["said", "printed", "raw"])
def test_lines_stand_above_the_bars(words):
    """Whoever writes them, each whole and once."""
    assert plain(on_a_terminal(BARS)).count(f"{words} evil") == 1


def test_an_answer_that_is_piped_does_not_go_to_the_bars(tmp_path):
    """Where standard output is a file, it gets its lines while bars move on the terminal."""
    with (tmp_path / "out").open("w") as out:
        found = on_a_terminal("with Bars() as bars:\n    bars.begin('x', 1)\n    show(HOSTILE)", out=out.fileno())
    assert (tmp_path / "out").read_text() == f"{SHOWN}\n"
    assert "evil" not in found


@pytest.mark.parametrize("code", [TABLE, BARS, WAITING])
def test_a_terminal_of_another_encoding(code):
    """Nothing fails for a character of a bar or of a text."""
    assert "evil" in on_a_terminal(code.replace("HOSTILE", "(HOSTILE + '好é')"), encoding="ascii")


def test_a_piped_table_is_as_wide_as_its_cells(capsys):
    """Unbroken, unstyled, and a row is a line."""
    show_table(("name", "size"), [(HOSTILE, "1"), ("y" * 300, "22")], right=("size",))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[1].startswith(f"{SHOWN} ")
    assert lines[2].split() == ["y" * 300, "22"]


def test_no_display_in_a_pipe(capsys):
    """Bars and the waiting line write nothing there."""
    with guarded(), Waiting("x") as waiting, Bars() as bars:
        waiting.update("y")
        bars.begin("z", 1)
        bars.done(1)
        assert not bars.shown
    assert capsys.readouterr() == ("", "")
