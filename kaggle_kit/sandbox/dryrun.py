"""`kit dryrun`: the built notebook, executed in a sealed /kaggle on this machine.

A notebook with internet makes a model. It is the one that is pushed; here its packages come from the user's cache
instead of the index, with the same hashes, and anything else that it wants of the network fails.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from kaggle_kit.errors import UsageError
from kaggle_kit.files import link_or_copy, write_atomic
from kaggle_kit.model.folder import read_folder
from kaggle_kit.notebook.build import build
from kaggle_kit.runtime.manifest import MANIFEST, dump_manifest, kit_part_reference, make_manifest
from kaggle_kit.runtime.record import LOG
from kaggle_kit.sandbox.execute import execute
from kaggle_kit.sandbox.image import ready_image
from kaggle_kit.sandbox.kaggle_layout import input_mounts, kaggle_sandbox, scratch_folder
from kaggle_kit.sandbox.model_report import make_model_report
from kaggle_kit.sandbox.preflight import check_making, check_scoring, cut_competition
from kaggle_kit.sandbox.report import Ran, make_report, swapped_in, write_report
from kaggle_kit.sandbox.seal import choose_seal
from kaggle_kit.sandbox.watch import SpaceWatch
from kaggle_kit.wheelhouse.dataset import make_kit_part
from kaggle_kit.wheelhouse.environments import (
    ARCHIVES,
    notebook_quantizer,
    quantizer_lock,
    quantizer_target,
    ready_bytecode,
    ready_offer,
)
from kaggle_kit.wheelhouse.fetch import Progress, silent
from kaggle_kit.wheelhouse.folder import ready_wheelhouse
from kaggle_kit.wheelhouse.resolve import FittingLock, fitting_lock, this_host

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kaggle_kit.notebook.build import Build
    from kaggle_kit.project import Project
    from kaggle_kit.sandbox.mounts import Mount
    from kaggle_kit.sandbox.report import RunReport
    from kaggle_kit.sandbox.seal import Seal
    from kaggle_kit.targets import Target


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
    seal_name: str | None = None
    mounts: str = "2026"
    hidden: bool = False


@dataclass(frozen=True)
class Listener:
    """Who is told what goes on: `say` a sentence, `line` a line of the notebook's log, `fetching` of downloads."""

    say: Callable[[str], None]
    line: Callable[[str], None]
    fetching: Progress


@dataclass(frozen=True)
class _Prepared:
    """What the run of a build needs that was checked. `packages`, `bytecode`: see `kaggle_sandbox`."""

    inputs: tuple[Mount, ...]
    note: str | None
    beginning: str
    report: Callable[[Path, Ran], RunReport]
    packages: Path | None = None
    bytecode: Path | None = None


def dry_run(
    project: Project,
    name: str,
    *,
    target: Target,
    options: Options,
    out: Path,
    listener: Listener,
    placed: Callable[[Path], None] = lambda _: None,
) -> RunReport:
    """Build, check, seal, execute, report. Leaves in `out`: the executed notebook, the log, what the notebook wrote
    to /kaggle/working (its submission or its model), and the report as text and JSON.

    `out` holds either the last run's files or this one's; `placed` hears where they are, which is beside it if another
    run has ended there meanwhile. Raises KitError where the run cannot begin.
    """
    since = time.monotonic()
    refuse_cards(target, "a dry run")
    makes_model = project.notebook(name).internet
    if makes_model:
        _refuse_scoring_options(options)
    seal = chosen_seal(options.seal_name, listener.say)

    with scratch_folder() as scratch, swapped_in(out, placed=placed) as results:
        given, folder = options.assignments, scratch / "build"
        lock = quantizer_packages(target) if makes_model else None
        built = build(project, name, target=target, assignments=given, out=folder, packages=lock.lock if lock else None)
        for warning in built.warnings:
            listener.say(f"warning: {warning.replace(chr(10), ': ')}")
        prepared = (
            _prepare_making(project, built, lock, options=options, scratch=scratch, listener=listener)
            if lock
            else _prepare_scoring(project, built, options=options, scratch=scratch, listener=listener)
        )
        image = ready_image(progress=listener.say)
        preparing_seconds = time.monotonic() - since
        listener.say(f"{name}: {prepared.beginning}")

        sandbox = kaggle_sandbox(
            built.notebook,
            inputs=prepared.inputs,
            image=image,
            scratch=scratch,
            working_bytes=target.working_bytes,
            hidden=options.hidden,
            packages=prepared.packages,
            bytecode=prepared.bytecode,
        )
        execution = execute(
            seal,
            sandbox,
            python=image.python,
            results=results,
            log=results / LOG,
            limit_seconds=options.limit_seconds or target.session_seconds,
            show=listener.line,
            space=SpaceWatch(scratch),
        )
        notes = (prepared.note,) if prepared.note else ()
        report = prepared.report(results, Ran(seal, execution, preparing_seconds, notes))
        write_report(report, results)
    return report


def refuse_cards(target: Target, what: str) -> None:
    """Raise UsageError for a target whose notebooks need cards: this machine stands in for a session without."""
    if target.gpus:
        raise UsageError(f"the target {target.name} needs {target.gpus} GPUs; {what} here is for local-cpu")


def _refuse_scoring_options(options: Options) -> None:
    if options.rows is not None:
        raise UsageError("--rows is of notebooks that score; how many rows a model is calibrated on: -p rows=N")
    if options.solution is not None or options.hidden:
        given = "--solution" if options.solution else "--hidden"
        raise UsageError(f"{given} is of notebooks that are handed in; this one makes a model")


def chosen_seal(wanted: str | None, say: Callable[[str], None]) -> Seal:
    """The seal of a run, which is told before anything else happens. Raises SealError if there is none."""
    seal = choose_seal(wanted)
    for sentence in (f"seal: {seal.name}", *(f"NOT SEALED: {each}" for each in seal.unsealed)):
        say(sentence)
    return seal


def _prepare_scoring(
    project: Project, built: Build, *, options: Options, scratch: Path, listener: Listener
) -> _Prepared:
    name, target = built.name, built.target
    given = check_scoring(project, built, data=options.data, solution=options.solution)
    competition = cut_competition(given.competition, rows=options.rows, out=scratch / "data")
    for note in competition.match.notes:
        listener.say(f"note: {note}")
    wheelhouse = ready_wheelhouse(target, project=project.root, progress=listener.fetching)
    if wheelhouse.note:
        listener.say(wheelhouse.note)

    inputs = input_mounts(
        project,
        style=options.mounts,
        data=competition.folder,
        wheelhouse=(project.wheelhouses[target.name], wheelhouse.folder),
        models=[(project.models[model], project.model_folder(model)) for model in project.notebook(name).model_names],
    )
    return _Prepared(
        inputs,
        wheelhouse.note,
        beginning=f"{len(competition.sample.ids):,} rows, in a sealed Kaggle",
        report=partial(make_report, built, sample=competition.sample, solution=given.solution),
        bytecode=ready_bytecode(wheelhouse.folder, say=listener.say),
    )


def _prepare_making(
    project: Project, built: Build, lock: FittingLock, *, options: Options, scratch: Path, listener: Listener
) -> _Prepared:
    target = built.target
    given = check_making(project, built, data=options.data)
    packages = package_folder(target, lock, progress=listener.fetching)

    notebook = project.notebook(built.name)
    models = [(project.models[notebook.model], given.base)]
    if notebook.adapter and given.adapter:
        adapter = _as_pushed(given.adapter, notebook.adapter, scratch / "adapter")
        models.append((project.models[notebook.adapter], adapter))
    reference = project.wheelhouses[target.name]
    kit = make_kit_part(target.name, reference=reference, out=scratch / "parts")
    inputs = input_mounts(
        project,
        style=options.mounts,
        data=given.data,
        wheelhouse=(kit_part_reference(reference), kit),
        models=models,
    )
    return _Prepared(
        inputs,
        lock.note,
        beginning="makes a model, in a sealed Kaggle whose package index is a folder",
        report=partial(make_model_report, built),
        packages=packages,
    )


def quantizer_packages(target: Target) -> FittingLock:
    """The lock of the quantiser for this machine's Python. Raises WheelhouseError."""
    name = notebook_quantizer(target)
    return fitting_lock(quantizer_target(name), quantizer_lock(name), host=this_host())


def package_folder(target: Target, lock: FittingLock, *, progress: Progress = silent) -> Path:
    """The folder that stands in for the package index in a run with internet, fetched where it must be."""
    archives = ARCHIVES[notebook_quantizer(target)]
    return ready_offer(lock.lock, archives, urls=lock.urls, progress=progress)


def _as_pushed(source: Path, name: str, folder: Path) -> Path:
    """A copy of what of an adapter's folder is sent to Kaggle, with the manifest that a push makes."""
    for path, file in read_folder(source).files.items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        link_or_copy(file.resolve(), place)
    write_atomic(folder / MANIFEST, dump_manifest(make_manifest(folder, kind="model", name=name)))
    return folder
