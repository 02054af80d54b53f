"""`kit dryrun`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from kaggle_kit.cli.options import Number, open_project, run_options
from kaggle_kit.cli.terminal import Waiting, say, show, show_json
from kaggle_kit.visible import without_colours

_FOLDER = click.Path(path_type=Path)


@click.command()
@click.argument("name")
@click.option("--data", metavar="DIR", type=_FOLDER, help="A folder with test.csv and sample_submission.csv.")
@click.option("--solution", metavar="FILE", type=_FOLDER, help="The true outcomes, for the log loss.")
@click.option("--rows", metavar="N", type=click.IntRange(min=1), help="Only the first N rows of the sample.")
@click.option("--out", metavar="DIR", type=_FOLDER, help="Where the results go (default: runs/NAME).")
@click.option("--target", "target_name", metavar="T", default="local-cpu", show_default=True, help="The target.")
@click.option(
    "--limit", "limit_seconds", metavar="SECONDS", type=Number(min=1), help="End the session after this time."
)
@click.option(
    "--mounts",
    type=click.Choice(["2026", "flat"]),
    default="2026",
    show_default=True,
    help="How the inputs are mounted: Kaggle's way of 2026, or the one before.",
)
@click.option("--hidden", is_flag=True, help="As in the hidden scoring run: failures end in the fallback.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON, and nothing else.")
@run_options
def dryrun(
    name: str, as_json: bool, out: Path | None, target_name: str, project_folder: Path | None, **given: Any
) -> int:
    """Run a notebook in a sealed copy of Kaggle on this machine.

    Builds the notebook for the local target, lays out /kaggle with the wheelhouse, the model and the data,
    closes the network, executes it with papermill, and reports: rows, seconds, speed, memory, log loss. A notebook
    with internet, which makes a model, finds its packages in a folder, and the report is of the model. Rows without an
    answer are counted by their reason. Where another dry run has ended at the same place meanwhile, this one's files
    stand beside it, as NAME-2.

    \b
    Examples:
      kit dryrun lmsys
      kit dryrun lmsys --rows 20 --json
      kit dryrun lmsys --data ~/lmsys --solution ~/lmsys/solution.csv --out runs/full
      kit dryrun quantize -p rows=4

    Exit code 0 where every readable row was scored by a model that says the labels (a label mass of 0.5 and more) and
    the submission is valid, or the model that was made is whole; else 1.
    """
    from kaggle_kit.cli.wheels import fetch_progress
    from kaggle_kit.sandbox.dryrun import Listener, Options, dry_run
    from kaggle_kit.targets import load_target

    project = open_project(project_folder)
    target, options = load_target(target_name, project=project.root), Options(**given)
    folder = out or project.place("runs", name)
    places: list[Path] = []
    with _Screen(quiet=as_json) as screen, fetch_progress() as fetching:
        listener = Listener(say=screen.say, line=screen.line, fetching=fetching)
        report = dry_run(
            project,
            name,
            target=target,
            options=options,
            out=folder.absolute(),
            listener=listener,
            placed=places.append,
        )
    if places != [folder.absolute()]:
        folder = places[0]
        say(f"another dry run has ended meanwhile and its files are where these were to be: these are in {folder}")
    if as_json:
        show_json(report.to_json() | {"out": str(folder)}, sort_keys=True)
    else:
        show("", *report.lines(), f"{'files':<18}{folder}")
    return 0 if report.complete else 1


class _Screen(Waiting):
    """What a person sees while a dry run goes on: its lines; on a terminal, a moving line while it waits."""

    def __init__(self, *, quiet: bool) -> None:
        super().__init__("checking", hidden=quiet)
        self._quiet = quiet

    def say(self, text: str) -> None:
        if not self._quiet:
            say(text)

    def line(self, line: str) -> None:
        """A line of papermill's log: which cell runs becomes the status, what the notebook prints is shown."""
        if "Executing Cell" in line:
            self.update(line.strip("- "))
        elif is_notebook_line(line):
            self.say(f"  {without_colours(line)}")


_PAPERMILL = ("Input Notebook:", "Output Notebook:", "Executing notebook", "Ending Cell", "Black is")


def is_notebook_line(line: str) -> bool:
    """Whether a line of papermill's log is what the notebook prints."""
    return bool(line) and "Executing Cell" not in line and not line.startswith(_PAPERMILL)
