"""What the commands of `kit wheels` share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from kaggle_kit.targets import Target
    from kaggle_kit.wheelhouse.lock import Lock

MEGA = 1_000_000

target_option = click.option("--target", "name", required=True, metavar="T", help="Name of the target.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")


def open_target(name: str, project_folder: Path | None) -> tuple[Path, Target]:
    """The project's folder and the target that a command works on."""
    from kaggle_kit.errors import UsageError
    from kaggle_kit.project import find_project
    from kaggle_kit.project.config import CONFIG
    from kaggle_kit.targets import load_target

    if project_folder is not None and not (project_folder / CONFIG).is_file():
        raise UsageError(f"{project_folder / CONFIG} is missing; --project names the folder of a project")
    folder = project_folder or find_project(Path.cwd())
    return folder, load_target(name, project=folder)


def summary(made: Lock) -> str:
    """One line on a lock: how many wheels, how heavy, for what."""
    pythons = " and ".join(made.pythons)
    over = ", over the image's packages" if made.mode == "overlay" else ""
    return f"{len(made.wheels)} wheels, {made.size / MEGA:,.0f} MB, Python {pythons}, {made.engine}{over}"
