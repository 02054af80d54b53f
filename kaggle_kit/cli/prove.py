"""`kit wheels prove`: the install rehearsed with no network, before anything is pushed."""

from __future__ import annotations

import time
from pathlib import Path

import click

from kaggle_kit.cli.options import project_option
from kaggle_kit.cli.terminal import say, show, show_json


@click.command()
@click.option("--target", "name", required=True, metavar="T", help="Name of the target.")
@click.option("--json", "as_json", is_flag=True, help="Print the proof as JSON.")
@click.option("--no-install", is_flag=True, help="Check files, metadata and libraries only; the proof says so.")
@project_option
def prove(name: str, as_json: bool, no_install: bool, project_folder: Path | None) -> None:
    """Prove that wheels/T/ installs and loads on the target, as far as this machine can tell.

    Checks every file, archive, tag, requirement, library and GPU code, and installs it all with no network where this
    machine has the target's Python. Each check says what it found, or why it could not be run. The proof is kept in
    wheels/T/proof.json. Ends with 1 where a check failed.

    \b
    Examples:
      kit wheels prove --target local-cpu
      kit wheels prove --target kaggle-t4x2 --json
    """
    from kaggle_kit.project import find_project
    from kaggle_kit.targets import load_target
    from kaggle_kit.wheelhouse.prove import prove as prove_wheelhouse

    folder = project_folder or find_project(Path.cwd())
    target = load_target(name, project=folder)
    started = time.monotonic()

    def tell(text: str) -> None:
        say(f"{text} …")

    proof = prove_wheelhouse(target, project=folder, install=not no_install, say=tell)
    if as_json:
        show_json(proof.to_json(), sort_keys=True)
    else:
        for line in proof.lines():
            show(line)
        say(f"({time.monotonic() - started:.0f} s)")
    if proof.verdict == "failed":
        click.get_current_context().exit(1)
