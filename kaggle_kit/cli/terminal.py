"""The one way out: every text that a command writes passes here, and none of it commands the terminal.

`show` writes the command's answer to standard output, `say` a line for the person who waits to standard error. Each
argument is one line; a newline in it came with a text from elsewhere and is shown as an escape, so that no title and no
file name makes a line of its own. `show_text` is for a text that is many lines: a log, a patch. What the stream's
encoding does not have is written as an escape too.

`guarded` puts the same rule over whatever else is written while a command runs: warnings, tracebacks, click's messages,
a library's prints. Programs that kit starts write into pipes and files, `kit` itself excepted.

What moves or is laid out on a terminal, tables, bars and a line that waits, gets its texts made visible first.
"""

from __future__ import annotations

import io
import json
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TextIO, cast

from kaggle_kit.visible import one_line, visible, without_colours

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.console import Console
    from rich.progress import ProgressColumn
    from rich.text import Text

_ANY_WIDTH = 10_000


def show(*lines: object) -> None:
    """Write lines of the command's answer; an empty one where none is given."""
    _write(sys.stdout, "".join(f"{one_line(str(line))}\n" for line in lines or ("",)))


def say(*lines: object) -> None:
    """Write lines for the person who waits, beside the command's answer."""
    _write(sys.stderr, "".join(f"{one_line(str(line))}\n" for line in lines or ("",)))


def say_error(error: object) -> None:
    """Write why a command ends. Further lines of its text are set in: none of them can pass for one of kit's own."""
    first, *more = str(error).split("\n")
    say(f"error: {first}", *(f"  {line}" if line else "" for line in more))


def show_log(text: str) -> None:
    """Write a run's log: without colours, and with a new line where a progress bar returned to begin its line again."""
    show_text(without_colours(text).replace("\r\n", "\n").replace("\r", "\n"))


def show_text(text: str) -> None:
    """Write a text of many lines, ended by a newline. CRLF stays as it is: a patch must, and it hides nothing."""
    _write(sys.stdout, visible(text if text.endswith("\n") else f"{text}\n"))


def show_json(value: Any, *, indent: int = 2, sort_keys: bool = False) -> None:
    """Write a value as JSON, in ASCII alone: no character needs to be seen, and a reader gets each back."""
    text = json.dumps(value, indent=indent, sort_keys=sort_keys, ensure_ascii=True)
    # The one control character that JSON leaves as it is. It can only stand in a string.
    _write(sys.stdout, text.replace("\x7f", "\\u007f") + "\n")


@contextmanager
def guarded() -> Iterator[None]:
    """Standard output and standard error let nothing unseen pass, whoever writes; they are as before at the end."""
    before = sys.stdout, sys.stderr
    wrapped = guard()
    try:
        yield
    finally:
        if wrapped:
            sys.stdout, sys.stderr = before


def guard() -> bool:
    """The same from now on, to the last traceback. Returns whether one of the two was not guarded before."""
    bare = [name for name in ("stdout", "stderr") if not isinstance(getattr(sys, name), Guard | type(None))]
    for name in bare:
        setattr(sys, name, Guard(getattr(sys, name)))
    return bool(bare)


class Encodable:
    """A stream that writes as an escape what its encoding does not have: it never fails for a character."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write `text`; returns its length."""
        with _named(self.stream):
            self.stream.write(_encodable(text, self.stream))
        return len(text)

    def flush(self) -> None:
        """Write what waits."""
        with _named(self.stream):
            self.stream.flush()

    def writelines(self, lines: Any) -> None:
        """Write texts, one after the other."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class Guard(Encodable):
    """A stream through which no unseen character passes. There is no way round it by way of bytes."""

    def write(self, text: str) -> int:
        """Write `text` made visible; returns its length."""
        super().write(visible(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        if name == "buffer":
            raise AttributeError(name)
        return super().__getattr__(name)


def innermost(stream: Any) -> TextIO:
    """The stream below guards and the proxies of a live display: for styles, which are kit's own commands."""
    while True:
        inner = stream.stream if isinstance(stream, Encodable) else getattr(stream, "rich_proxied_file", None)
        if inner is None:
            return cast("TextIO", stream)
        stream = inner


def _encodable(text: str, stream: TextIO) -> str:
    encoding = getattr(stream, "encoding", None)
    return text.encode(encoding, "backslashreplace").decode(encoding) if encoding and not text.isascii() else text


def _write(stream: TextIO | None, text: str) -> None:
    if stream is not None:
        with _named(stream):
            stream.write(_encodable(text, stream))
            stream.flush()


@contextmanager
def _named(stream: TextIO) -> Iterator[None]:
    """What the system refuses within is said of the file or device that the stream leads to."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            name = "standard error" if getattr(stream, "name", "") == "<stderr>" else "standard output"
            with suppress(OSError, ValueError, AttributeError):
                target = str(Path(f"/proc/self/fd/{stream.fileno()}").readlink())
                name = target if target.startswith("/") else name
            error.filename = name
        raise


def on_terminal() -> bool:
    """Whether standard error is a terminal, where a display can move."""
    return _console(sys.stderr).is_terminal


def show_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[str] = ()) -> None:
    """Print a table, the columns `right` set to the right: as wide as a terminal is, elsewhere with unbroken cells."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(_text, row))
    console = _console(sys.stdout)
    if not console.is_terminal:
        console.width = _console(sys.stdout, width=_ANY_WIDTH).measure(table).maximum
    console.print(table)


class Bars:
    """Bars that show how far each of several things is; nothing where standard error is no terminal.

    `counted` are rows in place of bytes; `kept` says whether the bars stay when all is done.
    """

    def __init__(self, *, counted: bool = False, kept: bool = True, hidden: bool = False) -> None:
        self.shown = not hidden and on_terminal()
        self._counted, self._kept = counted, kept
        self._display: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._display is not None:
            self._display.stop()

    def begin(self, name: str, total: float, *, completed: float = 0) -> None:
        """A bar for one more thing, of which `completed` is done."""
        if not self.shown:
            return
        if self._display is None:
            from rich.progress import Progress

            self._display = Progress(
                *self._columns(), console=_console(sys.stderr), transient=not self._kept, redirect_stdout=_both()
            )
            _start(self._display)
        self._task = self._display.add_task(one_line(name), total=total, completed=completed)

    def done(self, completed: float) -> None:
        """How much of the last thing that began is done."""
        if self._display is not None:
            self._display.update(self._task, completed=completed)

    def _columns(self) -> list[ProgressColumn]:
        from rich import progress

        # No style is read out of a name.
        name = progress.TextColumn("{task.description}", markup=False)
        if self._counted:
            return [name, progress.BarColumn(), progress.MofNCompleteColumn(), progress.TimeRemainingColumn()]
        rates = (progress.DownloadColumn(), progress.TransferSpeedColumn(), progress.TimeRemainingColumn())
        return [name, progress.BarColumn(), *rates]


class Waiting:
    """A moving line that says what goes on; nothing where standard error is no terminal."""

    def __init__(self, text: str, *, hidden: bool = False) -> None:
        self._text, self._shown = text, not hidden and on_terminal()
        self._spinner: Any = None
        self._display: Any = None

    def __enter__(self) -> Self:
        if self._shown:
            from rich.live import Live
            from rich.spinner import Spinner

            self._spinner = Spinner("line", text=_text(self._text))
            self._display = Live(self._spinner, console=_console(sys.stderr), transient=True, redirect_stdout=_both())
            _start(self._display)
        return self

    def __exit__(self, *_: object) -> None:
        if self._display is not None:
            self._display.stop()

    def update(self, text: str) -> None:
        """Another text for the line."""
        if self._spinner is not None:
            self._spinner.update(text=_text(text))


def _console(stream: Any, *, width: int | None = None) -> Console:
    """A console whose own styles pass to the terminal, and which reads no style out of a text."""
    from rich.console import Console

    file: Any = io.StringIO() if stream is None else Encodable(innermost(stream))
    return Console(file=file, width=width, highlight=False, markup=False, emoji=False)


def _text(text: str) -> Text:
    from rich.text import Text

    return Text(one_line(text))


def _start(display: Any) -> None:
    """Start a display. What is written meanwhile goes through it, to stand above: it is guarded as before."""
    display.start()
    guard()


def _both() -> bool:
    """Whether standard output is on the terminal too, and its lines must stand above a display."""
    return sys.stdout is not None and sys.stdout.isatty()
