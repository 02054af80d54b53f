"""`kit targets`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from kaggle_kit.cli.options import project_option, project_root
from kaggle_kit.cli.terminal import show, show_json

if TYPE_CHECKING:
    from pathlib import Path

    from kaggle_kit.targets import Target

_LONG = ("engine_options", "worker_environment")
_ELSEWHERE = {"name", "summary", "facts", "installed", *_LONG}
_GIGA = 1_000_000_000


@click.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
@project_option
def targets(name: str | None, as_json: bool, project_folder: Path | None) -> None:
    """List the targets that a notebook can be built for, or show all of one, with dates and sources.

    A project adds its own as targets/NAME.toml.

    \b
    Examples:
      kit targets
      kit targets kaggle-t4x2
      kit targets kaggle-t4x2 --json
    """
    from kaggle_kit.targets import load_target, target_names

    root = project_root(project_folder)
    names = [name] if name else target_names(project=root)
    chosen = [load_target(each, project=root) for each in names]
    if as_json:
        bodies = [target.model_dump(mode="json") for target in chosen]
        show_json(bodies[0] if name else bodies, sort_keys=True)
    elif name:
        _show(chosen[0])
    else:
        for target in chosen:
            pythons = ", ".join(target.pythons)
            show(f"{target.name:<16} Python {pythons:<11} {target.engine:<18} {target.summary}")


def _show(target: Target) -> None:
    show(f"{target.name}: {target.summary}")
    keys = [key for key in type(target).model_fields if key not in _ELSEWHERE]
    for key in keys:
        value = getattr(target, key)
        if value in (None, (), {}):
            continue
        first, *more = _lines(key, value)
        show(f"  {key:<20} {first}")
        for line in more:
            show(f"  {'':<20} {line}")
        _say_source(target, key)
    for key in _LONG:
        for option, value in getattr(target, key).items():
            show(f"  {key}.{option} = {value}")
        _say_source(target, key)
    for python, packages in target.installed.items():
        show(f"  Python {python} of the image: {len(packages)} packages known")


def _say_source(target: Target, key: str) -> None:
    if fact := target.facts.get(key):
        show(f"  {'':<20} └ {fact.confidence}, {fact.date}: {fact.source}")


def _lines(key: str, value: Any) -> list[str]:
    """A value as a reader wants it: bytes in GB beside the exact number, lists one item a line where they are paths."""
    if key.endswith("_bytes"):
        return [f"{value:,} ({value / _GIGA:,.1f} GB)"]
    if key == "session_seconds":
        return [f"{value:,} ({value / 3600:.2g} h)"]
    if isinstance(value, dict):
        return [f"{name}: {item}" for name, item in value.items()]
    if isinstance(value, tuple):
        return [str(item) for item in value] if key == "mounts" else [", ".join(map(str, value))]
    return [str(value)]
