"""`kit eval`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kaggle_kit.cli.options import open_project, parameter_option, project_option, seal_option, trust_option
from kaggle_kit.cli.terminal import say, show, show_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kaggle_kit.evaluation.answers import Answers
    from kaggle_kit.evaluation.assess import Assessment, Difference
    from kaggle_kit.evaluation.scores import Scores
    from kaggle_kit.runtime.combine import Calibration

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
@parameter_option
@click.option("--json", "as_json", is_flag=True, help="Print the metrics as JSON, and nothing else.")
@seal_option
@trust_option
@project_option
def evaluate(name: str, out: Path | None, as_json: bool, **given: Any) -> None:
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
    """
    from kaggle_kit.errors import UsageError
    from kaggle_kit.evaluation.answers import answers_of
    from kaggle_kit.evaluation.assess import assess, difference, kinds_of
    from kaggle_kit.evaluation.scores import read_scores

    there = Path(name) if name.endswith(".parquet") else None
    if there is None and out is None:
        raise UsageError(f"name the scores file to write with -o: kit eval {name} -o {name}.parquet")
    if there is not None and out is not None:
        raise UsageError(f"{name} is a scores file that is there already: leave -o away to see its metrics")
    # What is compared is read before hours of scoring, not after.
    other = read_scores(given["against"]) if given["against"] else None
    path = there or Path(str(out))
    scores = read_scores(there) if there else _run(name, path, given)
    answers, calibration = answers_of(scores, path), _calibration(scores, given["calibration"])
    found = assess(answers, calibration=calibration, seed=given["seed"])
    compared = None
    if other is not None:
        before = answers_of(other, given["against"])
        last = list(kinds_of(before, _calibration(other, None)).values())[-1]
        now = kinds_of(answers, calibration)[found.final]
        compared = difference((before, last), (answers, now), seed=given["seed"])
    if as_json:
        body = {"scores": str(path), "facts": dict(scores.facts), **found.to_json()}
        show_json(body | ({"against": compared.to_json()} if compared else {}))
    else:
        show(*_lines(path, answers, found))
        if compared is not None:
            show(*_against(given["against"], compared))


def _run(name: str, out: Path, given: Mapping[str, Any]) -> Scores:
    from kaggle_kit.cli.scoring import model_of, open_scoring
    from kaggle_kit.errors import UsageError
    from kaggle_kit.evaluation.evaluate import Names, evaluate, labelled_table
    from kaggle_kit.evaluation.tables import check_ending
    from kaggle_kit.runtime.progress import ProgressLine

    if out.suffix != ".parquet":
        raise UsageError(f"{out} must end in .parquet: a scores file is one")
    project = open_project(given["project_folder"])
    notebook = project.notebook(name)
    model = model_of(project, name, given["model_name"])
    if given["data"] is None and notebook.data is None:
        raise UsageError(f"notebooks.{name} of kit.toml has no data; name the labelled rows with --data")
    data = project.data_folder(name, given["data"])
    source = labelled_table(data)
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


def _calibration(scores: Scores, path: Path | None) -> Calibration | None:
    """The calibration of a file, or else the one that the model carried when it was scored."""
    from kaggle_kit.runtime.combine import parse_calibration, read_calibration_file

    if path is not None:
        return read_calibration_file(path, columns=scores.columns)
    carried = scores.facts.get("calibration")
    return parse_calibration(carried, columns=scores.columns, where="the model's calibration") if carried else None


def _lines(path: Path, answers: Answers, found: Assessment) -> list[str]:
    """The metrics as a person reads them."""
    by_model, both = int(answers.by_model.sum()), int((answers.in_both & answers.by_model).sum())
    rows = f"{len(answers):,} rows, {by_model:,} answered by the model ({both:,} in both orders)"
    names = list(found.figures[found.final])
    lines = [f"{path}: {rows}", "", f"{'':<14}" + "".join(f"{name:<29}" for name in names).rstrip()]
    for kind, figures in found.figures.items():
        lines.append(f"{kind:<14}" + "".join(f"{figures[name]!s:<29}" for name in names).rstrip())
    lines += [f"{'':<14}in brackets: 95 % intervals; an ECE of {found.chance_ece:.4f} would be chance alone", ""]
    lines += [f"{kind} less plain, log loss: {gain.signed}" for kind, gain in found.gains.items()]
    if found.swap:
        apart, place, changed = (found.swap[name] for name in ("apart", "first place", "changed"))
        apart_text = f"exchanged answers: probabilities {apart} apart, {place.signed} for the first place"
        lines.append(f"{apart_text}, another favourite in {changed.value:.1%} of rows")
    for by in dict.fromkeys(one.by for one in found.slices):
        lines += ["", f"{f'by {by} ({found.final})':<34}{'rows':>8}  {'log loss':<29}accuracy"]
        lines += [
            f"  {one.name:<32}{one.rows:>8,}  {one.log_loss!s:<29}{one.accuracy}"
            for one in found.slices
            if one.by == by
        ]
    return lines


def _against(path: Path, found: Difference) -> list[str]:
    left = f"; {found.left_out:,} are in one file only" if found.left_out else ""
    head = f"less {path}, over {found.rows:,} rows of both (paired{left})"
    return ["", head, *(f"  {name:<12}{one.signed}" for name, one in found.figures.items())]
