"""`kit score`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from kaggle_kit.cli.options import open_project, parameter_option, project_option, seal_option, trust_option
from kaggle_kit.cli.terminal import say, show, show_json

_FILE = click.Path(path_type=Path)


@click.command()
@click.argument("source", metavar="INPUT", type=_FILE)
@click.option("-o", "--out", metavar="OUT", type=_FILE, required=True, help="Where the probabilities go.")
@click.option("--notebook", "name", metavar="NAME", help="The notebook whose task and model are used (if several).")
@click.option("--id", "id_column", metavar="COLUMN", help="The id column (default: id, else the row's number).")
@click.option("--rows", metavar="N", type=click.IntRange(min=1), help="Only the first N rows.")
@click.option("--engine", metavar="E", help="vllm, vllm-classify, or transformers (default: the notebook's).")
@click.option("--python", metavar="FILE", type=_FILE, help="An environment's Python that has the engine already.")
@click.option("--plain", is_flag=True, help="Without the swapped pass.")
@parameter_option
@click.option("--json", "as_json", is_flag=True, help="Print the run's figures as JSON.")
@seal_option
@trust_option
@project_option
def score(source: Path, out: Path, as_json: bool, project_folder: Path | None, **given: Any) -> None:
    """Score the rows of a table on this machine, with a notebook's own prompt, model and worker.

    INPUT and OUT are .csv, .jsonl or .parquet. OUT gets each row's id, the labels' probabilities, the label mass,
    and what was cut or could not be read. A call that was interrupted goes on where it stopped.

    \b
    Examples:
      kit score validation.csv -o scores.csv
      kit score pseudo.jsonl -o labels.parquet --notebook lmsys --plain
      kit score train.csv -o reference.csv --engine transformers --rows 200
    """
    from kaggle_kit.cli.scoring import notebook_name, open_scoring
    from kaggle_kit.evaluation.score_file import score_file
    from kaggle_kit.evaluation.tables import check_ending
    from kaggle_kit.runtime.progress import ProgressLine

    check_ending(source)
    check_ending(out)
    project = open_project(project_folder)
    scoring = open_scoring(
        project,
        notebook_name(project, given["name"]),
        assignments=given["assignments"],
        engine=given["engine"],
        python=given["python"],
        swapped=not given["plain"],
        seal_name=given["seal_name"],
    )
    line = ProgressLine(deadline=float("inf"), write=say)
    figures = score_file(
        source, out, scoring=scoring, id_column=given["id_column"], rows=given["rows"], on_event=line.show
    )
    rows = figures["rows"]
    if as_json:
        show_json({**figures, "out": str(out)}, sort_keys=True)
    else:
        show(
            f"{out}: {rows['total']:,} rows, {rows['scored']:,} scored by the model ({rows['swapped']:,} in both "
            f"orders), {rows['ruled']:,} by a rule, {rows['prior']:,} with the prior"
        )
