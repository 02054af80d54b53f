"""`kit dryrun` of a notebook that makes a model: on Kaggle with internet, here with what it would download at hand."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kaggle_kit.errors import DataError, ModelError, UsageError
from kaggle_kit.files import link_or_copy, write_atomic
from kaggle_kit.model.folder import read_folder
from kaggle_kit.model.inspect import inspect_model
from kaggle_kit.model.merge import check_adapter
from kaggle_kit.notebook.build import Build, build
from kaggle_kit.notebook.task import literal_task
from kaggle_kit.runtime.manifest import MANIFEST, dump_manifest, kit_part_reference, make_manifest
from kaggle_kit.runtime.prepare import open_prompt
from kaggle_kit.runtime.rows import read_records
from kaggle_kit.sandbox.dryrun import chosen_seal, refuse_cards, run_sealed
from kaggle_kit.sandbox.image import ready_image
from kaggle_kit.sandbox.kaggle_room import room_folder
from kaggle_kit.sandbox.layout import input_mounts
from kaggle_kit.sandbox.model_report import ModelReport, make_model_report
from kaggle_kit.sandbox.preflight import check_model
from kaggle_kit.sandbox.report import swapped_in, write_report
from kaggle_kit.wheelhouse.dataset import make_kit_part
from kaggle_kit.wheelhouse.fetch import Progress, silent
from kaggle_kit.wheelhouse.offer import ready_offer
from kaggle_kit.wheelhouse.quantizers import ARCHIVES, notebook_quantizer, quantizer_lock, quantizer_target
from kaggle_kit.wheelhouse.ready import FittingLock, fitting_lock, this_host

if TYPE_CHECKING:
    from pathlib import Path

    from kaggle_kit.project import Project
    from kaggle_kit.sandbox.dryrun import Listener, Options
    from kaggle_kit.sandbox.seal import Mount
    from kaggle_kit.targets import Target

_TABLE = "train.csv"
_LISTED = 5


def model_run(
    project: Project, name: str, *, target: Target, options: Options, out: Path, listener: Listener
) -> ModelReport:
    """Build, check, seal, execute, report, as `dry_run` does. `out` then holds the model, and what `dry_run` leaves.

    The notebook is the one that is pushed. Its packages come from the user's cache instead of the index, with the same
    hashes; anything else that it wants of the network fails. Raises KitError where the run cannot begin.
    """
    since = time.monotonic()
    refuse_cards(target)
    _refuse(options)
    seal = chosen_seal(options.seal, listener.say)
    with room_folder() as scratch, swapped_in(out) as results:
        packages = packages_of(target)
        built = build(
            project,
            name,
            target=target,
            assignments=options.assignments,
            out=scratch / "build",
            packages=packages.lock,
        )
        data = _checked(project, built, options)
        offer = offer_of(target, packages, progress=listener.fetching)
        image = ready_image(progress=listener.say)
        inputs = _inputs(project, built, data, options, scratch)
        prepared = time.monotonic() - since
        listener.say(f"{name}: makes a model, in a sealed Kaggle whose package index is a folder")
        execution = run_sealed(
            built,
            seal=seal,
            image=image,
            inputs=inputs,
            scratch=scratch,
            results=results,
            options=options,
            listener=listener,
            offer=offer,
        )
        report = make_model_report(
            built,
            results=results,
            seal=seal,
            execution=execution,
            preparing_seconds=prepared,
            notes=(packages.note,) if packages.note else (),
        )
        write_report(report, results)
    return report


def _refuse(options: Options) -> None:
    if options.rows is not None:
        raise UsageError("--rows is of notebooks that score; how many rows a model is calibrated on: -p rows=N")
    if options.solution is not None or options.hidden:
        given = "--solution" if options.solution else "--hidden"
        raise UsageError(f"{given} is of notebooks that are handed in; this one makes a model")


def packages_of(target: Target) -> FittingLock:
    """The lock of the quantiser for this machine's Python. Raises WheelhouseError."""
    name = notebook_quantizer(target)
    return fitting_lock(quantizer_target(name), quantizer_lock(name), host=this_host())


def offer_of(target: Target, packages: FittingLock, *, progress: Progress = silent) -> Path:
    """The folder that stands in for the package index in a run with internet, fetched where it must be."""
    archives = ARCHIVES[notebook_quantizer(target)]
    return ready_offer(packages.lock, archives, urls=packages.urls, progress=progress)


@dataclass(frozen=True)
class _Given:
    """What the run is given: the competition's files, the base, the adapter."""

    data: Path
    base: Path
    adapter: Path | None


def _checked(project: Project, built: Build, options: Options) -> _Given:
    """The inputs of the run. Raises KitError for all that would fail in it and can be known now."""
    notebook = project.notebook(built.name)
    data = project.data_folder(built.name, options.data)
    base = project.model_folder(notebook.model)
    check_model(notebook.model, base)
    found = inspect_model(base)
    if found.errors:
        raise ModelError(f"{base} cannot be quantised: " + "; ".join(map(str, found.errors[:_LISTED])))
    adapter = None
    if notebook.adapter:
        adapter = project.model_folder(notebook.adapter)
        check_adapter(adapter, found)
    task = literal_task(built.source, built.literals())
    if task:
        open_prompt(task, base)
    _check_table(data / _TABLE, list(task.fields) if task else [])
    return _Given(data, base, adapter)


def _check_table(path: Path, fields: list[str]) -> None:
    """Raise DataError where the table is missing, lacks a column, or is empty."""
    if next(read_records(path, columns=fields), None) is None:
        raise DataError(f"{path} has no rows: there is nothing to calibrate on")


def _inputs(project: Project, built: Build, given: _Given, options: Options, scratch: Path) -> tuple[Mount, ...]:
    """What is attached: the competition, the part with the kit's own wheel, the base, and the adapter."""
    notebook = project.notebook(built.name)
    models = [(project.models[notebook.model], given.base)]
    if notebook.adapter and given.adapter:
        folder = _as_pushed(given.adapter, notebook.adapter, scratch / "adapter")
        models.append((project.models[notebook.adapter], folder))
    reference = project.wheelhouses[built.target.name]
    kit = make_kit_part(built.target.name, reference=reference, out=scratch / "parts")
    return input_mounts(
        project,
        style=options.mounts,
        data=given.data,
        wheelhouse=(kit_part_reference(reference), kit),
        models=models,
    )


def _as_pushed(source: Path, name: str, folder: Path) -> Path:
    """A copy of what of an adapter's folder is sent to Kaggle, with the manifest that a push makes."""
    for path, file in read_folder(source).files.items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        link_or_copy(file.resolve(), place)
    write_atomic(folder / MANIFEST, dump_manifest(make_manifest(folder, kind="model", name=name)))
    return folder
