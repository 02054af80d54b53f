"""`kit plan`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kaggle_kit.cli.displays import show_table
from kaggle_kit.cli.options import open_project, project_option, trust_option
from kaggle_kit.cli.remote_options import (
    PlanOptions,
    builds_option,
    json_option,
    open_client,
    plan_of,
    plan_options,
    records_option,
)
from kaggle_kit.cli.terminal import show, show_json

if TYPE_CHECKING:
    from pathlib import Path

    from kaggle_kit.remote.plan.plan import Plan


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME…]")
@plan_options
@json_option
@builds_option
@records_option
@trust_option
@project_option
def plan(
    names: tuple[str, ...],
    unproved: bool,
    overwrite: bool,
    accept: tuple[str, ...],
    as_json: bool,
    builds: Path | None,
    records: Path | None,
    project_folder: Path | None,
) -> int:
    """Show what kit push would do to each dataset, model and notebook. Nothing is sent.

    Compares the builds, wheelhouses and models here with the last push and with what Kaggle has now, by content.
    Whatever forbids a push is listed with its way out.

    \b
    Examples:
      kit plan
      kit plan lmsys --json

    Exit code 0 where a push may begin, 1 where something forbids it.
    """
    project = open_project(project_folder)
    for name in names:
        project.notebook(name)
    options = PlanOptions(unproved, overwrite, accept, builds)
    with open_client() as client:
        found, _ = plan_of(project, names, client=client, records=records or project.root, options=options)
    if as_json:
        show_json(found.to_json())
    else:
        show_plan(found)
    return 0 if found.allowed else 1


def show_plan(found: Plan) -> None:
    """The plan as a table, and below it what speaks against it."""
    rows = [
        (key, action, versions, _amount(size, seconds), reason)
        for key, action, versions, reason, size, seconds in found.rows()
    ]
    show_table(("what", "action", "version", "to send", "why"), rows, right=("to send",))
    if found.sent:
        show("", "To be sent, with all that it holds:")
    for step in found.sent:
        for origin in step.resource.origins:
            show(f"- {step.resource.key}: {origin}")
    for title, problems in (("This forbids a push:", found.refusals), ("Worth knowing:", found.warnings)):
        if problems:
            show("", title)
            for problem in problems:
                show(f"- {problem}")
    if found.allowed:
        whole = _amount(found.send_bytes, found.seconds())
        show("", f"To send: {whole or 'nothing'}" if found.sent else "Nothing to push.")


def _amount(size: int, seconds: float | None) -> str:
    if not size:
        return ""
    amount = f"{size / 1e6:,.1f} MB" if size >= 100_000 else f"{size:,} B"
    return f"{amount}, about {_time(seconds)}" if seconds and seconds >= 1 else amount


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
