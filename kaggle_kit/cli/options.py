"""Options that several commands share."""

from __future__ import annotations

import math
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kaggle_kit.cli.terminal import say

if TYPE_CHECKING:
    from collections.abc import Callable

    from kaggle_kit.project import Project

project_option = click.option(
    "--project",
    "project_folder",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="The project's folder (default: the nearest one upward that holds a kit.toml).",
)
parameter_option = click.option(
    "-p",
    "--parameter",
    "assignments",
    metavar="NAME=VALUE",
    multiple=True,
    help="Override a parameter of the notebook; may be given several times.",
)

seal_option = click.option(
    "--seal",
    "seal_name",
    type=click.Choice(["bwrap", "unshare", "none"]),
    help="Default: the stronger that works. none: unsealed, for what you trust like a program of your own.",
)
_TRUSTED = "kaggle_kit.trusted"


def _trust(context: click.Context, _: click.Parameter, said: bool) -> None:
    context.meta[_TRUSTED] = said


trust_option = click.option(
    "--trust-remote-code",
    is_flag=True,
    expose_value=False,
    callback=_trust,
    help="Take engine options that let the model, or a module, bring code of its own.",
)
"""`open_project` hands it on as `Project.trusted`."""


def stacked(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Several options as one decorator, listed by a command's help in this order."""
    return lambda command: reduce(lambda below, option: option(below), reversed(options), command)


run_options = stacked(parameter_option, seal_option, trust_option, project_option)
"""What every command takes that runs a model, or a notebook, on this machine."""


class Number(click.FloatRange):
    """A range of numbers, in which neither nan nor inf is one."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number. Ends the command where it is none."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


def project_root(folder: Path | None) -> Path | None:
    """The project's folder; None outside of any: what kit ships is there all the same."""
    from kaggle_kit.errors import ProjectError
    from kaggle_kit.project import find_project

    try:
        return folder or find_project(Path.cwd())
    except ProjectError:
        return None


def open_project(folder: Path | None) -> Project:
    """The project that a command works on; what the user trusts of it by `trust_option` is said."""
    from kaggle_kit.project import find_project, load_project

    project = load_project(folder or find_project(Path.cwd()))
    context = click.get_current_context(silent=True)
    if context is None or not context.meta.get(_TRUSTED):
        return project
    say("trusted: engine options of this project may bring code of their own")
    return project.model_copy(update={"trusted": True})
