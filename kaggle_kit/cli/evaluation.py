"""`kit eval`, `kit calibrate`, `kit ensemble`: how good a model's answers are, and what would make them better."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kaggle_kit.cli.options import open_project, run_options
from kaggle_kit.cli.terminal import say, show, show_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kaggle_kit.evaluation.answers import Answers
    from kaggle_kit.evaluation.assess import Assessment, Difference
    from kaggle_kit.evaluation.calibrate import Calibrated
    from kaggle_kit.evaluation.ensemble import Ensemble, Member
    from kaggle_kit.evaluation.scores import Scores
    from kaggle_kit.runtime.combine import Bin

_FILE = click.Path(path_type=Path)
_PASSES = {"plain": False, "plain,swapped": True}
_ENGINES = click.Choice(["vllm", "vllm-classify", "transformers"])


@click.command("eval")
@click.argument("name", metavar="NAME|SCORES")
@click.option("-o", "--out", metavar="FILE", type=_FILE, help="The scores file to write (.parquet).")
@click.option("--data", metavar="DIR", type=_FILE, help="A folder with train.csv, or a table (default: kit.toml's).")
@click.option("--rows", metavar="N", type=click.IntRange(min=1), help="Only the first N rows.")
@click.option(
    "--passes",
    type=click.Choice(list(_PASSES)),
    default="plain,swapped",
    show_default=True,
    help="In one order, or in both.",
)
@click.option("--model", "model_name", metavar="M", help="Another model of kit.toml in place of the notebook's.")
@click.option("--engine", type=_ENGINES, help="Another engine than the notebook's.")
@click.option("--target", metavar="T", default="local-cpu", show_default=True, help="Whose wheelhouse is used here.")
@click.option("--python", metavar="FILE", type=_FILE, help="An environment's Python that has the engine already.")
@click.option("--id", "id_column", metavar="COLUMN", help="The id column (default: id, else the row's number).")
@click.option("--calibration", metavar="FILE", type=_FILE, help="Show the metrics under this calibration.json too.")
@click.option("--against", metavar="FILE", type=_FILE, help="Show the paired difference to another scores file.")
@click.option("--seed", metavar="N", type=click.IntRange(min=0), default=0, show_default=True, help="Of the intervals.")
@click.option("--json", "as_json", is_flag=True, help="Print the metrics as JSON, and nothing else.")
@run_options
def evaluate(name: str, out: Path | None, as_json: bool, **given: Any) -> int:
    """Score labelled rows with a notebook's own prompt, model and worker, and say how good the answers are.

    Writes a scores file (a line for each row and pass) for `kit calibrate`, `kit ensemble` and `kit report`, and prints
    log loss, accuracy, Brier and calibration error with 95 % intervals. Given a scores file instead of a notebook's
    name, it prints the metrics of that one. A call that was interrupted goes on where it stopped.

    \b
    Examples:
      kit eval lmsys --data tests/demo/data -o plain.parquet --passes plain
      kit eval lmsys --rows 2000 -o big.parquet --model big
      kit eval big.parquet --against small.parquet
      kit eval holdout.parquet --calibration calibration.json --json

    Exit code 1 where the label mass is low: the model would rather say something else than a label.
    """
    from kaggle_kit.cli.scoring import low_mass
    from kaggle_kit.errors import UsageError
    from kaggle_kit.evaluation.answers import answers_of
    from kaggle_kit.evaluation.assess import Predictions, assess, difference, kinds_of
    from kaggle_kit.evaluation.scores import read_scores
    from kaggle_kit.runtime.combine import read_calibration_file
    from kaggle_kit.runtime.record import RunRecord

    there = Path(name) if name.endswith(".parquet") else None
    if there is None and out is None:
        raise UsageError(f"name the scores file to write with -o: kit eval {name} -o {name}.parquet")
    if there is not None and out is not None:
        raise UsageError(f"{name} is a scores file that is there already: leave -o away to see its metrics")

    # What is compared is read before hours of scoring, not after.
    other = read_scores(given["against"]) if given["against"] else None
    path = there or Path(str(out))
    scores = read_scores(there) if there else _run(name, path, given)

    answers, calibration = answers_of(scores, path), scores.calibration()
    if given["calibration"]:
        calibration = read_calibration_file(given["calibration"], columns=scores.columns)
    assessment = assess(answers, calibration=calibration, seed=given["seed"])

    compared = None
    if other is not None:
        before = answers_of(other, given["against"])
        last = list(kinds_of(before, other.calibration()).values())[-1]
        now = kinds_of(answers, calibration)[assessment.final]
        compared = difference(
            Predictions(before.ids, before.columns, last, before.outcome),
            Predictions(answers.ids, answers.columns, now, answers.outcome),
            seed=given["seed"],
        )

    if as_json:
        body = {"scores": str(path), "facts": dict(scores.facts), **assessment.to_json()}
        show_json(body | ({"against": compared.to_json()} if compared else {}))
    else:
        show(*_evaluation_lines(path, answers, assessment))
        if compared is not None:
            show(*_difference_lines(given["against"], compared))
    return low_mass(RunRecord(label_mass=scores.label_mass))


def _run(name: str, out: Path, given: Mapping[str, Any]) -> Scores:
    from kaggle_kit.cli.scoring import labelled_rows, model_of, open_scoring
    from kaggle_kit.errors import UsageError
    from kaggle_kit.evaluation.evaluate import Names, evaluate
    from kaggle_kit.evaluation.tables import check_ending
    from kaggle_kit.runtime.progress import ProgressLine

    if out.suffix != ".parquet":
        raise UsageError(f"{out} must end in .parquet: a scores file is one")

    project = open_project(given["project_folder"])
    model = model_of(project, name, given["model_name"])
    source = labelled_rows(project, name, given["data"], named="the labelled rows")
    check_ending(source)

    scoring = open_scoring(
        project,
        name,
        assignments=given["assignments"],
        engine=given["engine"],
        python=given["python"],
        swapped=_PASSES[given["passes"]],
        target_name=given["target"],
        model_name=model,
        seal_name=given["seal_name"],
    )
    return evaluate(
        source,
        out,
        scoring=scoring,
        names=Names(name, model, given["target"]),
        id_column=given["id_column"],
        rows=given["rows"],
        line=ProgressLine(deadline=float("inf"), write=say),
    )


def _evaluation_lines(path: Path, answers: Answers, assessment: Assessment) -> list[str]:
    """The metrics as a person reads them."""
    by_model, both = int(answers.by_model.sum()), int((answers.in_both & answers.by_model).sum())
    rows = f"{len(answers):,} rows, {by_model:,} answered by the model ({both:,} in both orders)"
    names = list(assessment.figures[assessment.final])
    lines = [f"{path}: {rows}", "", f"{'':<14}" + "".join(f"{name:<29}" for name in names).rstrip()]
    for kind, figures in assessment.figures.items():
        lines.append(f"{kind:<14}" + "".join(f"{figures[name]!s:<29}" for name in names).rstrip())
    lines += [f"{'':<14}in brackets: 95 % intervals; an ECE of {assessment.chance_ece:.4f} would be chance alone", ""]

    lines += [f"{kind} less plain, log loss: {gain.signed}" for kind, gain in assessment.gains.items()]
    if assessment.swap:
        apart, place, changed = (assessment.swap[name] for name in ("apart", "first place", "changed"))
        apart_text = f"exchanged answers: probabilities {apart} apart, {place.signed} for the first place"
        lines.append(f"{apart_text}, another favourite in {changed.value:.1%} of rows")

    for by in dict.fromkeys(one.by for one in assessment.slices):
        lines += ["", f"{f'by {by} ({assessment.final})':<34}{'rows':>8}  {'log loss':<29}accuracy"]
        lines += [
            f"  {one.name:<32}{one.rows:>8,}  {one.log_loss!s:<29}{one.accuracy}"
            for one in assessment.slices
            if one.by == by
        ]
    return lines


def _difference_lines(path: Path, difference: Difference) -> list[str]:
    left = f"; {difference.left_out:,} are in one file only" if difference.left_out else ""
    head = f"less {path}, over {difference.rows:,} rows of both (paired{left})"
    return ["", head, *(f"  {name:<12}{one.signed}" for name, one in difference.figures.items())]


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
    from kaggle_kit.evaluation.bootstrap import json_of
    from kaggle_kit.evaluation.calibrate import calibrate as fit
    from kaggle_kit.evaluation.calibrate import write_calibration
    from kaggle_kit.evaluation.scores import read_scores

    if out.suffix != ".json":
        raise UsageError(f"{out} must end in .json: the notebook reads calibration.json in the model's folder")
    scores = read_scores(source)

    fitted = fit(answers_of(scores, source), kind=kind, seed=seed)
    hashes = {name: scores.evaluation.hashes.get(name) for name in ("model", "task", "data")}
    body = fitted.body(seed=seed, model_name=scores.name, notebook=scores.evaluation.notebook, hashes=hashes)
    write_calibration(out, body)

    if as_json:
        facts: dict[str, Any] = {"out": str(out), "kind": fitted.kind}
        facts |= {"gain": json_of(fitted.gain), "tried": json_of(fitted.tried)}
        facts |= {"within_noise": fitted.in_noise, "refused": dict(fitted.refused), "calibration": body}
        show_json(facts)
    else:
        show(*_calibration_lines(out, scores.columns, fitted, model=scores.name))


def _calibration_lines(out: Path, columns: Sequence[str], fitted: Calibrated, *, model: str) -> list[str]:
    """The fit as a person reads it."""
    passes = "rows in both orders" if fitted.both else "rows"
    lines = [f"{out}: {fitted.kind}, fitted on {fitted.gain.rows:,} {passes}"]
    lines += _bin_lines(fitted.bins, columns, "both orders" if fitted.both else "")
    lines += _bin_lines(fitted.one_pass, columns, "one pass")

    lines += ["", f"{'on rows that no fit saw':<26}{'log loss':<30}{'less uncalibrated':<34}less plain, uncalibrated"]
    for kind, gain in fitted.tried.items():
        mark = "*" if kind == fitted.kind else " "
        same, plain = gain.over_same.signed, gain.over_plain.signed
        lines.append(f"{mark} {kind:<24}{gain.log_loss!s:<30}{same:<34}{plain}")

    lines += [f"  {kind} not tried: {reason}" for kind, reason in fitted.refused.items()]
    if fitted.in_noise:
        return [*lines, "", "the gain is within noise: on these rows the model does as well without the calibration"]
    return [*lines, "", f"to use it, put it into the folder of models.{model} as calibration.json"]


def _bin_lines(bins: Sequence[Bin], columns: Sequence[str], name: str) -> list[str]:
    lines = []
    for one in bins:
        length = f"up to {one.up_to_tokens:,.0f} tokens" if one.up_to_tokens != float("inf") else "any length"
        length = "longer" if length == "any length" and len(bins) > 1 else length
        bias = ", ".join(f"{column} {one.bias[column]:+.3f}" for column in columns if one.bias.get(column))
        place = ", ".join(part for part in (name, length) if part)
        lines.append(f"  {place:<34}temperature {one.temperature:.4f}{f', bias: {bias}' if bias else ''}")
    return lines


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
    weighed = weigh(_members(sources, files, minutes), calibrate=calibrated, seed=seed)
    notes = _notes(files)
    if as_json:
        show_json(weighed.to_json() | {"notes": notes})
        return
    show(*_ensemble_lines(weighed))
    for note in notes:
        say(f"note: {note}")


def _members(sources: Sequence[Path], files: Sequence[Scores], minutes: str | None) -> list[Member]:
    from kaggle_kit.errors import UsageError
    from kaggle_kit.evaluation.answers import answers_of
    from kaggle_kit.evaluation.ensemble import Member

    names = [scores.name for scores in files]
    if len(set(names)) < len(names):
        # kit.toml knows a model once: two files of one are told apart, and never pasted.
        names = [f"{path.stem}" for path in sources]
    if len(set(names)) < len(names):
        raise UsageError(f"two files are called {max(names, key=names.count)!r}; give them different names")

    times = [None] * len(files) if minutes is None else _times(minutes, len(files))
    members = []
    for path, scores, name, time in zip(sources, files, names, times, strict=True):
        calibration = scores.calibration(where=f"the calibration in {path}")
        members.append(Member(name, answers_of(scores, path), calibration, time))
    return members


def _times(text: str, count: int) -> list[float]:
    import math

    from kaggle_kit.errors import UsageError

    try:
        minutes = [float(part) for part in text.split(",")]
    except ValueError:
        minutes = []
    if len(minutes) != count or not all(0 < one < math.inf for one in minutes):
        raise UsageError(f"--minutes {text}: give {count} numbers above 0 with commas between, one for each file")
    return minutes


def _notes(files: Sequence[Scores]) -> list[str]:
    """What stands in the way of pasting the lines."""
    notes = []
    if len({scores.name for scores in files}) < len(files):
        notes.append("two files are of one model of kit.toml; a notebook can use a model once")
    parts = {(scores.evaluation.hashes.get("task"), scores.evaluation.token_budget) for scores in files}
    if len(parts) > 1:
        notes.append(
            "the files were scored with different prompts or token budgets; a notebook gives all its models the same"
        )
    return notes


def _ensemble_lines(ensemble: Ensemble) -> list[str]:
    """The ensemble as a person reads it."""
    width = max(len(one.name) for one in ensemble.members) + 2
    lines = [
        f"{ensemble.rows:,} rows that all models answered; each judged by weights that did not see it",
        f"log loss {ensemble.log_loss}, less {ensemble.best} alone {ensemble.over_best.signed}",
        "",
        f"{'':<{width}}{'weight':<24}{'alone':<29}{'ensemble less that without it':<34}minutes   per hour",
    ]
    for one in ensemble.members:
        least, most = one.weight_over_folds
        weight = f"{one.weight:.3f} ({least:.3f} to {most:.3f})"
        time = f"{one.minutes:>7g}" if one.minutes is not None else f"{'?':>7}"
        rate = f"{one.gain_per_hour:+.4f}" if one.gain_per_hour is not None else ""
        noise = "  within noise" if one.gain.in_noise else ""
        line = f"{one.name:<{width}}{weight:<24}{one.log_loss!s:<29}{one.gain.signed:<34}{time}   {rate}{noise}"
        lines.append(line.rstrip())
    lines += ["", f"{'errors correlate':<{max(width, 18)}}" + "".join(f"{one.name:>10}" for one in ensemble.members)]
    for one, row in zip(ensemble.members, ensemble.correlation, strict=True):
        lines.append(f"{one.name:<{max(width, 18)}}" + "".join(f"{value:>10.3f}" for value in row))
    return [*lines, "", "for the notebook's table in kit.toml:", *ensemble.kit_toml().splitlines()]
