"""What moves or is laid out on a terminal: tables, bars, a line that waits. Their texts are made visible first."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from kaggle_kit.cli.terminal import Encodable, guard, innermost
from kaggle_kit.visible import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Self

    from rich.console import Console
    from rich.progress import ProgressColumn
    from rich.text import Text

_ANY_WIDTH = 10_000


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

    file: Any = Encodable(innermost(stream))
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
