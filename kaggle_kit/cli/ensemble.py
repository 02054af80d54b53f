"""`kit ensemble`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from kaggle_kit.cli.terminal import say, show, show_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kaggle_kit.evaluation.ensemble import Ensemble, Member
    from kaggle_kit.evaluation.scores import Scores

_FILE = click.Path(path_type=Path)


@click.command()
@click.argument("sources", metavar="SCORES...", type=_FILE, nargs=-1, required=True)
@click.option(
    "--minutes", metavar="A,B,…", help="What each model takes on the target, in the files' order (default: not known)."
)
@click.option(
    "--calibrated", is_flag=True, help="Each with a temperature of its own, as if `kit calibrate` had been used."
)
@click.option("--seed", metavar="N", type=click.IntRange(min=0), default=0, show_default=True, help="Of the folds.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def ensemble(sources: tuple[Path, ...], minutes: str | None, calibrated: bool, seed: int, as_json: bool) -> None:
    """Weigh models by their scores files, and say what each adds to the others for its minutes.

    The answers are averaged in log space, as the notebook does it, and each row is judged by weights that did not see
    it. Without --calibrated a model has the calibration that its folder carried when it was scored. Takes 100 rows
    that all models answered, for each model but one.

    \b
    Examples:
      kit ensemble big.parquet small.parquet
      kit ensemble big.parquet small.parquet other.parquet --minutes 310,45,60 --calibrated
    """
    from kaggle_kit.evaluation.ensemble import weigh
    from kaggle_kit.evaluation.scores import read_scores

    files = [read_scores(path) for path in sources]
    found = weigh(_members(sources, files, minutes), calibrate=calibrated, seed=seed)
    notes = _notes(files)
    if as_json:
        show_json(found.to_json() | {"notes": notes})
        return
    show(*_lines(found))
    for note in notes:
        say(f"note: {note}")


def _members(sources: Sequence[Path], files: Sequence[Scores], minutes: str | None) -> list[Member]:
    from kaggle_kit.errors import UsageError
    from kaggle_kit.evaluation.answers import answers_of
    from kaggle_kit.evaluation.ensemble import Member
    from kaggle_kit.runtime.combine import parse_calibration

    names = [scores.name for scores in files]
    if len(set(names)) < len(names):
        # kit.toml knows a model once: two files of one are told apart, and never pasted.
        names = [f"{path.stem}" for path in sources]
    if len(set(names)) < len(names):
        raise UsageError(f"two files are called {max(names, key=names.count)!r}; give them different names")
    times = [None] * len(files) if minutes is None else _times(minutes, len(files))
    members = []
    for path, scores, name, time in zip(sources, files, names, times, strict=True):
        carried = scores.facts.get("calibration")
        calibration = (
            parse_calibration(carried, columns=scores.columns, where=f"the calibration in {path}") if carried else None
        )
        members.append(Member(name, answers_of(scores, path), calibration, time))
    return members


def _times(text: str, count: int) -> list[float]:
    import math

    from kaggle_kit.errors import UsageError

    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if len(found) != count or not all(0 < one < math.inf for one in found):
        raise UsageError(f"--minutes {text}: give {count} numbers above 0 with commas between, one for each file")
    return found


def _notes(files: Sequence[Scores]) -> list[str]:
    """What stands in the way of pasting the lines."""
    notes = []
    if len({scores.name for scores in files}) < len(files):
        notes.append("two files are of one model of kit.toml; a notebook can use a model once")
    parts = {(scores.facts["hashes"].get("task"), scores.facts["token_budget"]) for scores in files}
    if len(parts) > 1:
        notes.append(
            "the files were scored with different prompts or token budgets; a notebook gives all its models the same"
        )
    return notes


def _lines(found: Ensemble) -> list[str]:
    """The ensemble as a person reads it."""
    width = max(len(one.name) for one in found.members) + 2
    lines = [
        f"{found.rows:,} rows that all models answered; each judged by weights that did not see it",
        f"log loss {found.loss}, less {found.best} alone {found.over_best.signed}",
        "",
        f"{'':<{width}}{'weight':<24}{'alone':<29}{'ensemble less that without it':<34}minutes   per hour",
    ]
    for one in found.members:
        weight = f"{one.weight:.3f} ({one.spread[0]:.3f} to {one.spread[1]:.3f})"
        time = f"{one.minutes:>7g}" if one.minutes is not None else f"{'?':>7}"
        rate = f"{one.gain_per_hour:+.4f}" if one.gain_per_hour is not None else ""
        noise = "  within noise" if one.gain.in_noise else ""
        line = f"{one.name:<{width}}{weight:<24}{one.loss!s:<29}{one.gain.signed:<34}{time}   {rate}{noise}"
        lines.append(line.rstrip())
    lines += ["", f"{'errors correlate':<{max(width, 18)}}" + "".join(f"{one.name:>10}" for one in found.members)]
    for one, row in zip(found.members, found.correlation, strict=True):
        lines.append(f"{one.name:<{max(width, 18)}}" + "".join(f"{value:>10.3f}" for value in row))
    return [*lines, "", "for the notebook's table in kit.toml:", *found.kit_toml().splitlines()]
