"""`kit wheels lock`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from kaggle_kit.cli.options import project_option
from kaggle_kit.cli.terminal import show
from kaggle_kit.cli.wheels_options import MEGA, open_target, summary, target_option

if TYPE_CHECKING:
    from pathlib import Path

    from kaggle_kit.targets import Target
    from kaggle_kit.wheelhouse.lock import Mode
    from kaggle_kit.wheelhouse.resolve import Resolution


@click.command()
@target_option
@click.option(
    "--engine", metavar="E", help='Another engine than the target\'s, "vllm==0.31.0"; "auto": the best known.'
)
@click.option(
    "--mode",
    type=click.Choice(["isolated", "overlay"]),
    help="Everything, into an empty environment, or only what the image lacks (default: as the target says).",
)
@click.option("--exclude-newer", metavar="DATE", help="Take nothing that its index dates later (UTC).")
@project_option
def lock(
    name: str, engine: str | None, mode: Mode | None, exclude_newer: str | None, project_folder: Path | None
) -> None:
    """Resolve a target, for all of its Pythons and from any machine, and write its lock.

    An engine that cannot run on the target is refused, with the reason and with what would work. What is locked is
    what is fetched, on any day: keep the lock in git. To lock again may give other versions, with --exclude-newer too,
    because an index may show a release late or withdraw it.

    \b
    Examples:
      kit wheels lock --target kaggle-t4x2
      kit wheels lock --target kaggle-t4x2 --engine vllm==0.31.0 --exclude-newer 2026-11-23
      kit wheels lock --target offline-h200 --mode overlay
    """
    from kaggle_kit.wheelhouse.lock import lock_path, write_lock
    from kaggle_kit.wheelhouse.resolve import resolve

    folder, target = open_target(name, project_folder)
    started = time.monotonic()
    made = resolve(target, engine=engine, mode=mode, exclude_newer=exclude_newer)
    write_lock(lock_path(folder, name), made.lock)
    seconds = time.monotonic() - started
    show(f"{lock_path(folder, name)}: {summary(made.lock)}, resolved in {seconds:.0f} s")
    _explain(made, target)


def _explain(made: Resolution, target: Target) -> None:
    """Why this engine, what it must be told, and what the lock comes to for each Python."""
    from kaggle_kit.wheelhouse.engine_table import choose_engine
    from kaggle_kit.wheelhouse.resolve import replaced

    for reason in made.reasons:
        show(f"  {reason}")
    choice = choose_engine(target, requirement=made.lock.engine)
    for table, told in (("engine_options", choice.engine_options), ("worker_environment", choice.worker_environment)):
        have = getattr(target, table)
        for key, value in told.items():
            if have.get(key) != value:
                show(f"  set in the target's [{table}]: {key} = {value!r}")
    if len(made.lock.pythons) > 1:
        for python in made.lock.pythons:
            wheels = made.lock.wheels_for(python)
            show(f"  Python {python}: {len(wheels)} wheels, {sum(w.size for w in wheels) / MEGA:,.0f} MB")
    if made.lock.preinstalled:
        show(f"  {len(made.lock.preinstalled)} packages of the image will do as they are")
    for package, there, ours in replaced(made.lock, target):
        show(f"  {package} {there} of the image will not do: {ours} is laid over it")
