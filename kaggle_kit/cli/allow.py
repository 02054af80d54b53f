"""`kit allow`."""

from __future__ import annotations

from pathlib import Path

import click

from kaggle_kit.cli.options import project_option
from kaggle_kit.cli.terminal import show


@click.command()
@click.argument("folders", nargs=-1, metavar="[DIR…]")
@click.option("--forget", is_flag=True, help="Allow none any more.")
@project_option
def allow(folders: tuple[str, ...], forget: bool, project_folder: Path | None) -> None:
    """Let the project use folders outside of it, or show which it asks for.

    A project may be somebody else's, so nothing outside of its folder is read, sent or written for it. Where it needs
    such a folder, kit.toml lists it (outside = ["../models"], at the top), and each user allows it here, once. What is
    below an allowed folder can then be sent to Kaggle: kit plan names every folder that is.

    \b
    Examples:
      kit allow
      kit allow ../models
      kit allow --forget
    """
    from kaggle_kit.errors import UsageError
    from kaggle_kit.places import CONFIG, KEY, allowed, asked
    from kaggle_kit.places import allow as keep
    from kaggle_kit.project import find_project

    root = project_folder or find_project(Path.cwd())
    listed = asked(root)
    if forget and folders:
        raise UsageError("--forget takes back all folders: name none")
    wanted = set()
    for folder in folders:
        real = listed.get(folder) or (Path.cwd() / folder).resolve()
        if real not in listed.values():
            raise UsageError(
                f"{root / CONFIG} does not ask for {real}; it asks for {', '.join(listed) or 'none'}. List the folder "
                f'at the top of {CONFIG} first: {KEY} = ["{folder}"]'
            )
        wanted.add(real)
    if folders or forget:
        keep(root, () if forget else wanted | allowed(root).intersection(listed.values()))
    now = allowed(root)
    for written, real in listed.items():
        show(f"{'allowed    ' if real in now else 'not allowed'}  {real}  ({written})")
    if not listed:
        show(f"{root / CONFIG} asks for no folder outside of the project")
