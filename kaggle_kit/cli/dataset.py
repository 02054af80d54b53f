"""`kit wheels dataset`: the folders of a wheelhouse as they would be uploaded."""

from __future__ import annotations

from pathlib import Path

import click

from kaggle_kit.cli.options import open_project, project_option
from kaggle_kit.cli.terminal import show

_MEGA = 1_000_000


@click.command()
@click.option("--target", "name", required=True, metavar="T", help="Name of the target.")
@click.option(
    "--out",
    required=True,
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Where the folders engine/ and kit/ are written.",
)
@click.option("--unproved", is_flag=True, help="Also where `kit wheels prove` has not passed.")
@project_option
def dataset(name: str, out: Path, unproved: bool, project_folder: Path | None) -> None:
    """Write the wheelhouse of a target as the two datasets that Kaggle gets.

    engine/ holds the locked wheels, kit/ the kit's own wheel: a change of the kit uploads kilobytes. File names are
    those that Kaggle will show. Nothing is uploaded.

    \b
    Example:
      kit wheels dataset --target kaggle-t4x2 --out build/wheels-t4x2
    """
    from kaggle_kit.errors import ProjectError, WheelhouseError
    from kaggle_kit.project.config import CONFIG
    from kaggle_kit.targets import load_target
    from kaggle_kit.wheelhouse.dataset import make_dataset
    from kaggle_kit.wheelhouse.folder import wheelhouse_path
    from kaggle_kit.wheelhouse.prove import proof_problem

    project = open_project(project_folder)
    target = load_target(name, project=project.root)
    if target.name not in project.wheelhouses:
        raise ProjectError(
            f"{project.root / CONFIG}: wheelhouses has no dataset for the target {name!r}; "
            f'add: {name} = "{project.owner}/kit-wheels-{name}"'
        )
    if not unproved and (problem := proof_problem(project.root, name)):
        raise WheelhouseError(f"{problem}\nOr write it all the same with --unproved")
    parts = make_dataset(wheelhouse_path(project.root, name), reference=project.wheelhouses[target.name], out=out)
    for part in parts:
        show(f"{part.folder}: {part.files} wheels, {part.size / _MEGA:,.1f} MB, for {part.reference}")
