"""`kit bench`."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kaggle_kit.cli.options import Number, open_project, run_options
from kaggle_kit.cli.terminal import say, show, show_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kaggle_kit.runtime.bench import Measured


@click.command()
@click.argument("name")
@click.option("--data", metavar="DIR", type=click.Path(path_type=Path), help="A folder with train.csv or test.csv.")
@click.option("--minutes", type=Number(min=0.5), default=10.0, show_default=True, help="The time for it.")
@click.option("--rows", type=click.IntRange(min=32), default=2000, show_default=True, help="Rows to measure with.")
@click.option("-o", "--out", metavar="FILE", type=click.Path(path_type=Path), help="Default: rates/local-cpu.json.")
@click.option("--json", "as_json", is_flag=True, help="Print the rates file instead of a table.")
@run_options
def bench(
    name: str,
    data: Path | None,
    minutes: float,
    rows: int,
    out: Path | None,
    as_json: bool,
    assignments: tuple[str, ...],
    seal_name: str | None,
    project_folder: Path | None,
) -> None:
    """Measure this machine with a notebook's own prompts: 4-bit kernels, the engine settings that matter, and start.

    Writes a rates file, by which kit build chooses the kernel of the target. To measure a machine of Kaggle's, push the
    notebook whose template is bench.py.j2, and put the rates-TARGET.json of its output into rates/ as TARGET.json.

    \b
    Examples:
      kit bench lmsys --minutes 3
      kit bench lmsys --data ~/lmsys -o rates/my-card.json
    """
    from kaggle_kit.cli.scoring import HERE, open_scoring
    from kaggle_kit.files import write_atomic
    from kaggle_kit.runtime.bench import bench as measure
    from kaggle_kit.targets.rates import FOLDER

    until = time.monotonic() + minutes * 60
    project = open_project(project_folder)
    folder = project.data_folder(name, data)
    scoring = open_scoring(
        project, name, assignments=assignments, engine=None, python=None, swapped=False, seal_name=seal_name
    )
    with tempfile.TemporaryDirectory() as place:
        scratch = Path(place)
        job = scoring.setup.job(
            None,
            task=scoring.task,
            test=scratch / "bench.csv",
            id_column="id",
            model=scoring.model,
            journal=scratch / "journal.sqlite",
            token_budget=scoring.token_budget,
        )
        found, body = measure(
            job,
            setup=scoring.setup,
            data=folder,
            rows=rows,
            python=scoring.python,
            scratch=scratch,
            environment=scoring.setup.environment,
            target=HERE,
            seconds=max(5.0, minutes * 60 / 20),
            deadline=until,
            tell=say,
            launch=scoring.launch,
        )
    body["seal"] = {"name": scoring.seal, "open": list(scoring.unsealed)}
    path = out or project.place(FOLDER, f"{HERE}.json")
    write_atomic(path, json.dumps(body, indent=1, sort_keys=True) + "\n")
    if as_json:
        show_json(body, indent=1, sort_keys=True)
        return
    show(*_table(found))
    show(f"rates: {path}")


def _table(found: Sequence[Measured]) -> list[str]:
    lines = [f"{'trial':<24}{'tokens/s':>12}{'of the first':>14}{'start, s':>10}{'apart':>9}"]
    for one in found:
        if one.problem:
            lines.append(f"{one.trial.name:<24}{one.problem}")
            continue
        apart = "–" if one.apart is None else f"{one.apart:.4f}"
        ratio = one.tokens_per_second / found[0].tokens_per_second
        lines.append(
            f"{one.trial.name:<24}{one.tokens_per_second:>12,.0f}{ratio:>14.2f}{one.start_seconds:>10.1f}{apart:>9}"
        )
    return lines
