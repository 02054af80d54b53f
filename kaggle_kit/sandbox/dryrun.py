"""`kit dryrun`: the built notebook, executed in a sealed /kaggle on this machine."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kaggle_kit.errors import UsageError
from kaggle_kit.notebook.build import Build, build
from kaggle_kit.runtime.record import LOG
from kaggle_kit.sandbox.competition import cut_competition
from kaggle_kit.sandbox.execute import execute
from kaggle_kit.sandbox.image import ready_image
from kaggle_kit.sandbox.kaggle_room import kaggle_room, room_folder
from kaggle_kit.sandbox.layout import input_mounts
from kaggle_kit.sandbox.preflight import Checked, check
from kaggle_kit.sandbox.report import make_report, swapped_in, write_report
from kaggle_kit.sandbox.seal import choose_seal
from kaggle_kit.sandbox.space import TEMPORARY_BYTES, SpaceWatch
from kaggle_kit.wheelhouse.ready import ready_wheelhouse

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from kaggle_kit.project import Project
    from kaggle_kit.sandbox.execute import Execution
    from kaggle_kit.sandbox.image import Image
    from kaggle_kit.sandbox.report import Report
    from kaggle_kit.sandbox.seal import Mount, Seal
    from kaggle_kit.targets import Target
    from kaggle_kit.wheelhouse.fetch import Progress


@dataclass(frozen=True)
class Options:
    """What a user chooses for a dry run.

    `rows`: only the first so many of the sample; `limit_seconds`: the session's time (None: the target's);
    `hidden`: as in the hidden scoring run; `mounts`: "2026" or "flat".
    """

    data: Path | None = None
    solution: Path | None = None
    rows: int | None = None
    assignments: tuple[str, ...] = ()
    limit_seconds: float | None = None
    seal: str | None = None
    mounts: str = "2026"
    hidden: bool = False


@dataclass(frozen=True)
class Listener:
    """Who is told what goes on: `say` a sentence, `line` a line of the notebook's log, `fetching` of downloads."""

    say: Callable[[str], None]
    line: Callable[[str], None]
    fetching: Progress


def dry_run(project: Project, name: str, *, target: Target, options: Options, out: Path, listener: Listener) -> Report:
    """Build, check, seal, execute, report. Leaves in `out`: the executed notebook, the log, what the notebook wrote
    to /kaggle/working (`submission.csv` with it), and the report as text and JSON.

    `out` holds either the last run's files or this one's. Raises KitError where the run cannot begin.
    """
    since = time.monotonic()
    refuse_cards(target)
    seal = chosen_seal(options.seal, listener.say)
    with room_folder() as scratch, swapped_in(out) as results:
        built = build(project, name, target=target, assignments=options.assignments, out=scratch / "build")
        checked = check_build(project, built, options)
        competition = checked.competition
        if options.rows is not None and options.rows < len(competition.sample.ids):
            competition = cut_competition(competition, rows=options.rows, out=scratch / "data")
        wheelhouse = ready_wheelhouse(target, project=project.root, progress=listener.fetching)
        if wheelhouse.note:
            listener.say(wheelhouse.note)
        image = ready_image(progress=listener.say)
        prepared = time.monotonic() - since
        inputs = input_mounts(
            project,
            style=options.mounts,
            data=competition.folder,
            wheelhouse=(project.wheelhouses[target.name], wheelhouse.folder),
            models=[
                (project.models[model], project.model_folder(model)) for model in project.notebook(name).model_names
            ],
        )
        listener.say(f"{name}: {len(competition.sample.ids):,} rows, in a sealed Kaggle")
        execution = run_sealed(
            built,
            seal=seal,
            image=image,
            inputs=inputs,
            scratch=scratch,
            results=results,
            options=options,
            listener=listener,
        )
        report = make_report(
            built,
            results=results,
            sample=competition.sample,
            solution=checked.solution,
            seal=seal,
            execution=execution,
            preparing_seconds=prepared,
            notes=(wheelhouse.note,) if wheelhouse.note else (),
        )
        write_report(report, results)
    return report


def refuse_cards(target: Target) -> None:
    """Raise UsageError for a target whose notebooks need cards: this machine stands in for a session without."""
    if target.gpus:
        raise UsageError(f"the target {target.name} needs {target.gpus} GPUs; a dry run here is for local-cpu")


def chosen_seal(wanted: str | None, say: Callable[[str], None]) -> Seal:
    """The seal of a run, which is told before anything else happens. Raises SealError if there is none."""
    seal = choose_seal(wanted)
    for sentence in (f"seal: {seal.name}", *(f"NOT SEALED: {each}" for each in seal.unsealed)):
        say(sentence)
    return seal


def run_sealed(
    built: Build,
    *,
    seal: Seal,
    image: Image,
    inputs: Sequence[Mount],
    scratch: Path,
    results: Path,
    options: Options,
    listener: Listener,
    offer: Path | None = None,
) -> Execution:
    """Execute the build in its room, and bring what it leaves to `results`; `offer` as `kaggle_room` takes it."""
    room = kaggle_room(
        built.notebook,
        inputs=inputs,
        image=image,
        scratch=scratch,
        working_bytes=built.target.working_bytes,
        hidden=options.hidden,
        offer=offer,
    )
    return execute(
        seal,
        room,
        python=image.python,
        results=results,
        log=results / LOG,
        limit_seconds=options.limit_seconds or built.target.session_seconds,
        show=listener.line,
        space=SpaceWatch(scratch, TEMPORARY_BYTES),
    )


def check_build(project: Project, built: Build, options: Options) -> Checked:
    """The competition's files and the solution that a run of `built` needs, checked with its models."""
    notebook = project.notebook(built.name)
    key = f"notebooks.{built.name}"
    data = project.data_folder(built.name, options.data)
    solution = options.solution
    # The project's own solution belongs to the project's own data.
    if solution is None and options.data is None and notebook.solution is not None:
        solution = project.path(notebook.solution, key=f"{key}.solution")
    models = {name: project.model_folder(name) for name in notebook.model_names}
    return check(built, models=models, data=data, solution=solution)
