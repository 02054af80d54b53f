"""Tables for people, which a pipe or a file gets unbroken."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

_ANY_WIDTH = 10_000


def show_table(table: Table) -> None:
    """Print `table`: on a terminal as wide as that is, elsewhere as wide as its longest cells."""
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        width = Console(width=_ANY_WIDTH, markup=False).measure(table).maximum
        console = Console(highlight=False, markup=False, width=width)
    console.print(table)
