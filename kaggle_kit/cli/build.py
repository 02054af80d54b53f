"""`kit build`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kaggle_kit.cli.options import open_project, parameter_option, project_option, trust_option
from kaggle_kit.cli.terminal import say, show

if TYPE_CHECKING:
    from pathlib import Path

    from kaggle_kit.targets import Target


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME…]")
@click.option("--target", "target_name", metavar="T", help="Build for this target instead of kit.toml's.")
@click.option("--unproved", is_flag=True, help="Build although the target's wheelhouse was not proved.")
@parameter_option
@trust_option
@project_option
def build(
    names: tuple[str, ...],
    target_name: str | None,
    unproved: bool,
    assignments: tuple[str, ...],
    project_folder: Path | None,
) -> None:
    """Render notebooks into build/NAME: the notebook, kernel-metadata.json and manifest.json.

    Without a NAME, every notebook of the project. The same inputs give the same bytes. A target whose wheelhouse
    was not proved (kit wheels prove) is refused, unless you say --unproved.

    What builds, and will most likely not do what was meant, is a warning: magics that are comments in a source, cells
    without a name, a paired notebook with other cells, a margin that leaves no time to score.

    \b
    Examples:
      kit build
      kit build lmsys --target kaggle-t4x2
      kit build lmsys --unproved -p token_budget=768
    """
    from kaggle_kit.errors import UsageError, WheelhouseError
    from kaggle_kit.notebook.build import build as build_notebook
    from kaggle_kit.project.config import CONFIG
    from kaggle_kit.targets import load_target
    from kaggle_kit.wheelhouse.prove import proof_problem

    project = open_project(project_folder)
    if not names and not project.notebooks:
        raise UsageError(f"{project.root / CONFIG} has no notebooks to build; add a table [notebooks.NAME]")
    chosen = {
        name: load_target(target_name or project.notebook(name).target, project=project.root)
        for name in names or sorted(project.notebooks)
    }

    def refuse_unproved(target: Target) -> None:
        if not unproved and (problem := proof_problem(project.root, target.name)):
            raise WheelhouseError(f"{problem}; or build as it is with --unproved")

    for name, target in chosen.items():
        built = build_notebook(project, name, target=target, assignments=assignments, gate=refuse_unproved)
        show(f"{built.folder}  for {target.name}")
        for warning in built.warnings:
            first, *more = warning.split("\n")
            say(f"warning: {first}", *(f"  {line}" for line in more))
