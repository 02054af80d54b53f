"""`kit targets`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kaggle_kit.cli.options import project_option

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@project_option
def targets(project_folder: Path | None) -> None:
    """List the targets that a notebook can be built for.

    A project adds its own as targets/NAME.toml.

    \b
    Example:
      kit targets
    """
    from pathlib import Path

    from kaggle_kit.errors import ProjectError
    from kaggle_kit.project import find_project
    from kaggle_kit.targets import load_target, target_names

    root = project_folder
    if root is None:
        try:
            root = find_project(Path.cwd())
        except ProjectError:
            root = None
    for name in target_names(project=root):
        target = load_target(name, project=root)
        click.echo(f"{name:<16} Python {target.python:<6} {target.engine:<18} {target.summary}")
