"""`kit report` and `kit compare`: a run, or two side by side, as a page to look at."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kaggle_kit.cli.options import project_option
from kaggle_kit.cli.terminal import say, show

if TYPE_CHECKING:
    from collections.abc import Callable

_PATH = click.Path(path_type=Path)


def _row_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What both commands take about a run's rows."""
    options = (
        click.option("--data", metavar="DIR", type=_PATH, help="The rows' folder with test.csv (default: kit.toml's)."),
        click.option("--solution", metavar="FILE", type=_PATH, help="The true outcomes (default: kit.toml's)."),
        click.option("--calibration", metavar="FILE", type=_PATH, help="Another calibration.json for a scores file."),
        project_option,
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command()
@click.argument("run", type=_PATH)
@click.option("-o", "--out", metavar="FILE", type=_PATH, help="The page (default: report.html in the run's folder).")
@_row_options
def report(run: Path, out: Path | None, **given: Any) -> None:
    """Make one HTML page of a run: what ran, how it ended, where the time went, how good the answers are.

    RUN is the folder of a dry run or of a pushed run, a name in runs/, a receipt, or a scores file of kit eval. The
    page needs nothing else: no network, no script.

    \b
    Examples:
      kit report runs/lmsys
      kit report lmsys-v3 -o lmsys-v3.html
      kit report big.parquet --calibration calibration.json
    """
    from kaggle_kit.cli.run_material import Given, load_run
    from kaggle_kit.evaluation.report_page import report_page

    found, default = load_run(run, Given(**given))
    _write(out or default, report_page(found))
    show(found.outcome)


@click.command()
@click.argument("first", metavar="A", type=_PATH)
@click.argument("second", metavar="B", type=_PATH)
@click.option("-o", "--out", metavar="FILE", type=_PATH, help="The page (default: compare-A-B.html here).")
@_row_options
def compare(first: Path, second: Path, out: Path | None, **given: Any) -> None:
    """Make one HTML page of two runs side by side: what differs, metrics with paired differences, time.

    A and B are runs as in kit report, of any kind. Differences are B less A, over the rows of both,
    with 95 % intervals.

    \b
    Examples:
      kit compare small.parquet big.parquet
      kit compare runs/lmsys lmsys-v3 -o compare.html
    """
    from kaggle_kit.cli.run_material import Given, load_run
    from kaggle_kit.evaluation.judged import apart
    from kaggle_kit.evaluation.report_page import compare_page

    one, other = (load_run(named, Given(**given))[0] for named in (first, second))
    page = compare_page(one, other)
    _write(out or Path(f"compare-{_stem(first)}-{_stem(second)}.html"), page)
    found = apart(one.predictions, other.predictions) if one.predictions and other.predictions else None
    for name, less in (found.figures if found else {}).items():
        show(f"{name:<12}{less.signed}")


def _stem(path: Path) -> str:
    return path.stem if path.suffix in (".parquet", ".json") else path.absolute().name


def _write(path: Path, page: str) -> None:
    from kaggle_kit.files import write_atomic

    body = page.encode("utf-8")
    write_atomic(path, body)
    say(f"{path}  {len(body):,} bytes")
