"""The one writer: lines, texts, JSON, encodings; and the guard over whatever else is written."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaggle_kit.cli import main, terminal
from kaggle_kit.cli.terminal import Guard, guarded, say, say_error, show, show_json, show_log, show_text
from kaggle_kit.errors import KitError, UsageError
from kaggle_kit.visible import unseen

HOSTILE = "evil\x1b]52;c;eA==\x07\x9b31m\rfake\u202e\U000e0041\u2028\x7f\ud800"
SHOWN = r"evil\x1b]52;c;eA==\x07\x9b31m\rfake\u202e\U000e0041\u2028\x7f\ud800"
# Replaces what a command does, and runs it as the installed `kit` does.
PROGRAM = "import sys; from kaggle_kit.cli import main, terminal; sys.argv = ['kit', 'targets']\n"


@pytest.fixture
def streams(monkeypatch):
    """Standard output and error of these encodings; returns the bytes that came to both."""

    def made(encoding: str = "utf-8", errors: str = "strict"):
        found = io.BytesIO(), io.BytesIO()
        for name, raw in zip(("stdout", "stderr"), found, strict=True):
            monkeypatch.setattr(sys, name, io.TextIOWrapper(raw, encoding, errors, newline="\n"))
        return found

    return made


@pytest.fixture
def callback(monkeypatch):
    """A function: let `kit targets` do this instead."""
    return lambda do: monkeypatch.setattr(main.kit.commands["targets"], "callback", lambda **_: do())


def in_a_process(code: str, *, shell: str = '"$0" -c "$1"') -> subprocess.CompletedProcess:
    """What the installed command does when `kit targets` does this; `shell` may pipe it elsewhere."""
    body = f"{PROGRAM}def do(**_):\n    {code}\nmain.kit.commands['targets'].callback = do\nmain.main()\n"
    return subprocess.run(["bash", "-c", shell, sys.executable, body], capture_output=True, check=False)


@pytest.mark.parametrize(("write", "stream"), [(show, 0), (say, 1)])
def test_each_argument_is_a_line(write, stream, capsys):
    """A newline inside of one is shown, and none at all is an empty line."""
    write("one", "two\nfake", Path("three"))
    write()
    told = capsys.readouterr()
    assert told[stream] == "one\ntwo\\nfake\nthree\n\n"
    assert told[1 - stream] == ""


@pytest.mark.parametrize(("write", "stream"), [(show, 0), (say, 1)])
def test_a_line_commands_nothing(write, stream, capsys):
    """Every unseen character is an escape."""
    write(HOSTILE)
    assert capsys.readouterr()[stream] == f"{SHOWN}\n"


def test_an_errors_further_lines_are_set_in(capsys):
    """A text from elsewhere cannot write a line that looks like kit's own."""
    say_error(UsageError("a\nerror: b\n\n  c\x1b"))
    assert capsys.readouterr().err == "error: a\n  error: b\n\n    c\\x1b\n"


def test_a_text_keeps_its_lines(capsys):
    """Windows' line ends too, and it ends with a newline; a lone return is seen."""
    show_text("a\r\n\tb\rc")
    show_text("d\n")
    out = capsys.readouterr().out
    assert out.encode() == b"a\r\n\tb\\rc\nd\n"


def test_a_log_is_read_without_colours_and_returns(capsys):
    """A bar that was written over itself is a line each time."""
    show_log("\x1b[32mok\x1b[0m\r\n10%\r20%\rdone\x1b]0;title\nnext")
    assert capsys.readouterr().out == "ok\n10%\n20%\ndone\\x1b]0;title\nnext\n"


@given(st.recursive(st.text() | st.integers(), lambda inner: st.dictionaries(st.text(), inner, max_size=3)))
def test_json_is_ascii_and_whole(value):
    """Any reader gets back what went in; nothing on its way needs to be seen."""
    out = io.StringIO()
    before, sys.stdout = sys.stdout, out
    try:
        with guarded():
            show_json({"it": value}, sort_keys=True)
    finally:
        sys.stdout = before
    assert out.getvalue().isascii()
    assert unseen(out.getvalue()) == ()
    assert json.loads(out.getvalue()) == {"it": value}


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "koi8-r", "utf-8", "utf-16"])
@pytest.mark.parametrize("write", [show, show_text, say, print, click.echo])
def test_no_encoding_fails(streams, encoding, write):
    """What the terminal's encoding does not have is an escape, whoever writes."""
    found = streams(encoding)
    with guarded():
        write(f"é – 好 😀 {HOSTILE}")
        sys.stdout.flush()
    text = b"".join(raw.getvalue() for raw in found).decode(encoding)
    assert SHOWN in text
    assert ("😀" in text) == encoding.startswith("utf")


def test_bytes_of_a_file_name_do_not_pass(streams):
    """Where the stream would let the bytes of a name through, C1 among them, they are escapes all the same."""
    out, _ = streams("ascii", "surrogateescape")
    show(os.fsdecode(b"x\x9b31m"))
    assert out.getvalue() == b"x\\udc9b31m\n"


WRITERS = {
    "print": lambda: print(HOSTILE),
    "print in parts": lambda: print("a", HOSTILE, sep="\x1b", end="\x9b\n"),
    "click": lambda: click.echo(HOSTILE),
    "click, styled": lambda: click.secho(HOSTILE, fg="red", color=True),
    "standard error": lambda: print(HOSTILE, file=sys.stderr),
    "many": lambda: sys.stdout.writelines([HOSTILE, "\n"]),
    "no reader of bytes": lambda: print(hasattr(sys.stdout, "buffer"), HOSTILE),
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_nobody_writes_round_the_guard(callback, capsys, write):
    """Whatever a library prints while a command runs is made visible."""
    callback(write)
    assert main.run(["targets"]) == 0
    told = "".join(capsys.readouterr())
    assert SHOWN in told
    assert unseen(told) == ()
    assert "True" not in told


@pytest.mark.parametrize(
    "error",
    [KitError(HOSTILE), UsageError(HOSTILE), click.UsageError(HOSTILE), FileNotFoundError(2, HOSTILE, HOSTILE)],
    ids=lambda error: type(error).__name__,
)
def test_an_error_is_guarded(callback, capsys, error):
    """Whatever it repeats."""

    def fail() -> None:
        raise error

    callback(fail)
    assert main.run(["targets"]) in {1, 2}
    assert SHOWN in capsys.readouterr().err


@pytest.mark.parametrize("words", [[HOSTILE], ["targets", f"--{HOSTILE}"], ["dryrun", "x", "--rows", HOSTILE]])
def test_wrong_words_are_guarded(capsys, words):
    """A script may have them from elsewhere."""
    assert main.run(words) == 2
    err = capsys.readouterr().err
    assert "evil" in err
    assert unseen(err) == ()


def test_the_streams_are_as_before():
    """After a command, and after one that failed."""
    before = sys.stdout, sys.stderr
    for words in (["targets"], ["targets", "nothing"]):
        main.run(words)
        assert (sys.stdout, sys.stderr) == before
    with guarded():
        assert isinstance(sys.stdout, Guard)
    assert (sys.stdout, sys.stderr) == before


def test_a_guard_is_put_on_once():
    """A command within a guarded process leaves its guard alone."""
    with guarded():
        inner = sys.stdout
        with guarded():
            assert sys.stdout is inner
        assert sys.stdout is inner
        assert terminal.innermost(sys.stdout) is inner.stream


def test_no_streams_at_all(monkeypatch):
    """A program without a console has none, and the command goes on."""
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert main.run(["targets"]) == 0


@pytest.mark.parametrize("code", ["raise ZeroDivisionError({})", "import warnings; warnings.warn({})"])
def test_what_python_itself_writes_is_guarded(code):
    """A fault of kit shows its traceback, a library its warning, with the text in it made visible."""
    err = in_a_process(code.format(ascii(HOSTILE))).stderr
    assert SHOWN.encode() in err
    assert not set(err) & (set(range(32)) - set(b"\n"))


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
@pytest.mark.parametrize("words", [["targets"], ["targets", "kaggle-t4x2"], ["model", "--help"], ["--help"]])
def test_another_terminals_encoding(encoding, words):
    """No command ends for a character that the terminal does not have."""
    settings = os.environ | {"PYTHONIOENCODING": encoding, "LC_ALL": "C", "PYTHONUTF8": "0"}
    command = [Path(sys.executable).with_name("kit"), *words]
    done = subprocess.run(command, env=settings, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode(encoding)


@pytest.mark.parametrize("words", ["targets", "targets kaggle-t4x2", "targets --json", "--help"])
def test_a_reader_that_went_away_is_no_trouble(words):
    """`kit … | true` ends without a word."""
    program = Path(sys.executable).with_name("kit")
    command = f"{program} {words} | true; echo ended"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("ended\n", "")


def test_a_reader_that_goes_in_the_middle():
    """Neither does it where much was still to be written."""
    done = in_a_process("terminal.show(*['x' * 100] * 100_000)", shell='"$0" -c "$1" | head -1')
    assert (done.stdout, done.stderr) == (b"x" * 100 + b"\n", b"")
