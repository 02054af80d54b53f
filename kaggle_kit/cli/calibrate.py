"""`kit calibrate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kaggle_kit.cli.terminal import show, show_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kaggle_kit.evaluation.calibrate import Calibrated
    from kaggle_kit.runtime.combine import Bin

_FILE = click.Path(path_type=Path)


@click.command()
@click.argument("source", metavar="SCORES", type=_FILE)
@click.option("-o", "--out", metavar="FILE", type=_FILE, required=True, help="The calibration.json to write.")
@click.option(
    "--kind",
    type=click.Choice(["auto", "temperature", "bias", "lengths"]),
    default="auto",
    show_default=True,
    help="One temperature; with a bias for each label; both by prompt length; or the simplest that is as good.",
)
@click.option("--seed", metavar="N", type=click.IntRange(min=0), default=0, show_default=True, help="Of the folds.")
@click.option("--json", "as_json", is_flag=True, help="Print what was fitted as JSON.")
def calibrate(source: Path, out: Path, kind: str, seed: int, as_json: bool) -> None:
    """Fit how much surer or less sure a model should be, on a scores file of `kit eval`.

    The gain is of rows that no fit saw. Labels that a swapped pass exchanges are treated alike. Put the file into the
    model's folder as calibration.json: the notebook applies it. Takes 100 rows for each figure that is fitted.

    \b
    Examples:
      kit calibrate scores.parquet -o models/big/calibration.json
      kit calibrate scores.parquet -o calibration.json --kind temperature --json
    """
    from kaggle_kit.errors import UsageError
    from kaggle_kit.evaluation.answers import answers_of
    from kaggle_kit.evaluation.calibrate import calibrate as fit
    from kaggle_kit.evaluation.calibrate import write_calibration
    from kaggle_kit.evaluation.scores import read_scores

    if out.suffix != ".json":
        raise UsageError(f"{out} must end in .json: the notebook reads calibration.json in the model's folder")
    scores = read_scores(source)
    found = fit(answers_of(scores, source), kind=kind, seed=seed)
    hashes = {name: scores.facts["hashes"].get(name) for name in ("model", "task", "data")}
    body = found.body(seed=seed, model_name=scores.name, notebook=scores.facts["notebook"], hashes=hashes)
    write_calibration(out, body)
    if as_json:
        tried = {name: one.to_json() for name, one in found.tried.items()}
        facts: dict[str, Any] = {"out": str(out), "kind": found.kind, "gain": found.gain.to_json(), "tried": tried}
        facts |= {"within_noise": found.in_noise, "refused": dict(found.refused), "calibration": body}
        show_json(facts)
    else:
        show(*_lines(out, scores.columns, found, model=scores.name))


def _lines(out: Path, columns: Sequence[str], found: Calibrated, *, model: str) -> list[str]:
    """The fit as a person reads it."""
    passes = "rows in both orders" if found.both else "rows"
    lines = [f"{out}: {found.kind}, fitted on {found.gain.rows:,} {passes}"]
    lines += _bins(found.bins, columns, "both orders" if found.both else "")
    lines += _bins(found.one_pass, columns, "one pass")
    lines += ["", f"{'on rows that no fit saw':<26}{'log loss':<30}{'less uncalibrated':<34}less plain, uncalibrated"]
    for kind, gain in found.tried.items():
        mark = "*" if kind == found.kind else " "
        same, plain = gain.over_same.signed, gain.over_plain.signed
        lines.append(f"{mark} {kind:<24}{gain.loss!s:<30}{same:<34}{plain}")
    lines += [f"  {kind} not tried: {reason}" for kind, reason in found.refused.items()]
    if found.in_noise:
        return [*lines, "", "the gain is within noise: on these rows the model does as well without the calibration"]
    return [*lines, "", f"to use it, put it into the folder of models.{model} as calibration.json"]


def _bins(bins: Sequence[Bin], columns: Sequence[str], name: str) -> list[str]:
    lines = []
    for one in bins:
        length = f"up to {one.up_to_tokens:,.0f} tokens" if one.up_to_tokens != float("inf") else "any length"
        length = "longer" if length == "any length" and len(bins) > 1 else length
        bias = ", ".join(f"{column} {one.bias[column]:+.3f}" for column in columns if one.bias.get(column))
        place = ", ".join(part for part in (name, length) if part)
        lines.append(f"  {place:<34}temperature {one.temperature:.4f}{f', bias: {bias}' if bias else ''}")
    return lines
