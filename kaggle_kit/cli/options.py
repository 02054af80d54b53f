"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
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


def open_project(folder: Path | None) -> Project:
    """The project that a command works on."""
    from kaggle_kit.project import find_project, load_project

    return load_project(folder or find_project(Path.cwd()))
