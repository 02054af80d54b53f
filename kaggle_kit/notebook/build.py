"""`kit build`: a notebook's folder, the same bytes on every run."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kaggle_kit import __version__
from kaggle_kit.errors import ProjectError
from kaggle_kit.files import write_atomic
from kaggle_kit.notebook.paired import pairing_problem
from kaggle_kit.notebook.render import render
from kaggle_kit.notebook.source import Cell, Source, paired_magics, parse_source, read_source
from kaggle_kit.project.config import CONFIG
from kaggle_kit.runtime.checkpoint import read_checkpoint
from kaggle_kit.runtime.engines import is_vllm
from kaggle_kit.runtime.kernels import obstacle
from kaggle_kit.runtime.manifest import (
    MANIFEST,
    FileEntry,
    Manifest,
    dump_manifest,
    file_entry,
    kit_part_reference,
    read_manifest,
)
from kaggle_kit.runtime.permitted import check_options
from kaggle_kit.suggest import did_you_mean
from kaggle_kit.targets import load_target
from kaggle_kit.targets.rates import load_rates
from kaggle_kit.wheelhouse.folder import kit_wheel_sha256
from kaggle_kit.wheelhouse.lock import dump_lock, read_lock

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from kaggle_kit.notebook.parameters import Value
    from kaggle_kit.project import Notebook, Project
    from kaggle_kit.targets import Target
    from kaggle_kit.wheelhouse.lock import Lock

METADATA = "kernel-metadata.json"
PACKAGES = "pylock.toml"
"""The lock that a notebook with internet was given in place of the kit's own, kept: the notebook is made of it."""

_LIMIT, _MARGIN = "time_limit_hours", "margin_minutes"
"""The parameters by which the offline frame reckons its deadline."""


@dataclass(frozen=True)
class Build:
    """A built notebook: its folder, and the parts that a dry run needs to know."""

    name: str
    folder: Path
    target: Target
    source: Source
    parameters: Mapping[str, Value]
    root: Path | None = None
    """The project's folder."""

    @property
    def notebook(self) -> Path:
        """The notebook's file."""
        return self.folder / f"{self.name}.ipynb"

    @property
    def values(self) -> dict[str, Value]:
        """The parameters' values, overrides included."""
        return self.source.defaults | dict(self.parameters)

    @property
    def warnings(self) -> list[str]:
        """What builds, and will most likely not do what was meant; further lines of a text say what to do."""
        remedy = "this magic or command of Jupyter is only a comment here: write it in Python, or take it out"
        warnings = [f"{self.source.path}, {line}\n{remedy}" for line in paired_magics(self.source)]
        if unnamed := [cell for cell in self.source.cells if cell.unnamed]:
            warnings.append(
                f"{self.source.path}: {len(unnamed)} cells have no name and are called after their text, such as "
                f"{unnamed[0].name} ({unnamed[0].text.strip()[:40]!r})\n"
                f'a cell keeps its identity by a name: # %% name="some-name", in Jupyter "name" in its metadata'
            )
        if problem := pairing_problem(self.source, root=self.root or self.source.path.parent):
            warnings.append(problem)
        if problem := time_problem(self.values):
            warnings.append(f"{self.name}: {problem}")
        return warnings

    def literals(self) -> dict[str, Any]:
        """The plain values that the author's cells assign, overridden parameters included."""
        return self.source.literals() | dict(self.parameters)


def build(
    project: Project,
    name: str,
    *,
    target: Target,
    assignments: Sequence[str] = (),
    out: Path | None = None,
    gate: Callable[[Target], None] | None = None,
    packages: Lock | None = None,
) -> Build:
    """Render the notebook `name` for `target` into `out` (`build/NAME` of the project by default).

    `assignments` are `name=value` texts that override parameters; `gate` may raise to refuse the target, and is asked
    only where the target's wheels are used. `packages`: the lock that a notebook with internet installs from, by
    default the kit's own for the target. Raises KitError before anything is written.
    """
    rendered = render_build(project, name, target=target, assignments=assignments, packages=packages)
    if gate is not None and not project.notebook(name).internet:
        gate(target)

    folder = out or project.place("build", name)
    (folder / PACKAGES).unlink(missing_ok=True)
    for file, content in rendered.files.items():
        write_atomic(folder / file, content)
    return Build(name, folder, target, rendered.source, rendered.overrides, project.root)


@dataclass(frozen=True)
class RenderedBuild:
    """A build that stands nowhere yet: its files by name, the manifest last."""

    source: Source
    overrides: Mapping[str, Value]
    files: Mapping[str, bytes]
    manifest: Manifest


def render_build(
    project: Project,
    name: str,
    *,
    target: Target,
    assignments: Sequence[str] = (),
    packages: Lock | None = None,
    text: str | None = None,
) -> RenderedBuild:
    """What `build` would write; nothing is. `text` is taken for the text of the notebook's source."""
    notebook = project.notebook(name)
    path = project.source(name)
    source = read_source(path) if text is None else parse_source(text, path)
    overrides = source.overrides(project, name, assignments)

    wheelhouse = _wheelhouse(project, target)
    _check_kernel(project, name, target)
    options = target.options_for(notebook.engine) | notebook.engine_options
    check_options(options, where=f"engine_options of {name} for {target.name}", trusted=project.trusted)
    measured = load_rates(target.name, project=project.root)
    kit_wheel = kit_wheel_sha256()

    cells = render(
        source,
        template=notebook.template,
        project=project.root,
        parameters={key: overrides[key] for key in source.defaults if key in overrides},
        context={
            "notebook": name,
            "target": target.name,
            "kit_version": __version__,
            "kit_wheel": kit_wheel,
            "wheelhouse": target.name,
            "model": notebook.model,
            "ensemble": [list(pair) for pair in notebook.ensemble.items()],
            "references": _references(project, notebook),
            "engine": notebook.engine,
            "engine_options": options,
            "worker_environment": target.worker_environment,
            "rates": measured.kernels if measured else {},
            "kernel": notebook.kernel,
            "adapter": notebook.adapter,
            "packages": _packages(target, packages) if notebook.internet else {},
        },
    )
    _check_session(project, name, target, cells, source.defaults | overrides)
    metadata = _metadata(project, name, notebook, target, wheelhouse)
    texts = {
        f"{name}.ipynb": _notebook_text(cells),
        METADATA: json.dumps(metadata, indent=2, ensure_ascii=False) + "\n",
    }
    if packages and notebook.internet:
        texts[PACKAGES] = dump_lock(packages)
    files = {file: content.encode() for file, content in texts.items()}
    entries = tuple(
        FileEntry(file, hashlib.sha256(content).hexdigest(), len(content)) for file, content in files.items()
    )
    # The wheel's hash is of the one that goes with this build.
    extra = {"target": target.name, "kit": __version__, "assignments": list(assignments), "kit_wheel": kit_wheel}
    manifest = Manifest("build", name, entries, extra)
    return RenderedBuild(source, overrides, files | {MANIFEST: dump_manifest(manifest).encode()}, manifest)


def _references(project: Project, notebook: Notebook) -> dict[str, str]:
    """The notebook's models of other owners, which need not have kit's manifest: name → the reference on Kaggle."""
    places = {name: project.models[name] for name in notebook.model_names}
    named = {name: table.kaggle_model or table.place for name, table in places.items()}
    return {name: place for name, place in named.items() if place.split("/")[0].lower() != project.owner.lower()}


def _wheelhouse(project: Project, target: Target) -> str:
    if target.name not in project.wheelhouses:
        known = project.wheelhouses
        raise ProjectError(
            f"{project.root / CONFIG}: wheelhouses has no dataset for the target {target.name!r}"
            f'{did_you_mean(target.name, known)}; add: {target.name} = "{project.owner}/kit-wheels-{target.name}"'
        )
    return project.wheelhouses[target.name]


def _check_session(
    project: Project, name: str, target: Target, cells: Sequence[Cell], values: Mapping[str, Value]
) -> None:
    """Raise ProjectError if Kaggle would end the session before the time that the notebook's cells go by is over."""
    own, hours = project.notebook(name).session_hours, values.get(_LIMIT)
    session = own or target.session_seconds / 3600
    if own is None and target.accelerator is None:
        return  # none of Kaggle's machines with a GPU: who runs the notebook there decides how long

    used = any(_LIMIT in cell.text for cell in cells if not {"parameters", "injected-parameters"} & {*cell.tags})
    if not used or not isinstance(hours, int | float) or hours <= session:
        return

    given = f"notebooks.{name}.session_hours" if own else f"the session of the target {target.name}"
    raise ProjectError(
        f"{project.root / CONFIG}: {given} is {session:g} hours, and the notebook's {_LIMIT} is {hours:g}: Kaggle "
        f"would end the run with an error; set notebooks.{name}.parameters.{_LIMIT} (or -p) to {session:g} at "
        f"most, or {'raise' if own else 'give the notebook'} session_hours"
    )


def time_problem(values: Mapping[str, Value]) -> str | None:
    """Why the parameters leave no time to score a row, or more than the session has; None if they leave some."""
    hours, minutes = values.get(_LIMIT), values.get(_MARGIN)
    if not isinstance(hours, int | float) or not isinstance(minutes, int | float):
        return None
    given = f"{_LIMIT} = {hours:g} ({hours * 60:g} minutes) less {_MARGIN} = {minutes:g}"
    remedy = f"set a {_MARGIN} from 0 to less than the limit, in the source, in kit.toml or with -p"
    if minutes < 0:
        return f"{given} ends after the limit\n{remedy}"
    return None if hours * 60 > minutes else f"{given} leaves no time to score a row\n{remedy}"


def _check_kernel(project: Project, name: str, target: Target) -> None:
    """Raise ProjectError if the notebook's kernel cannot run, or cannot be selected, on the target's cards."""
    notebook = project.notebook(name)
    kernel = notebook.kernel
    if kernel is None:
        return

    paths = [project.model_folder(model) for model in notebook.model_names]
    methods = [method for path in paths if (method := read_checkpoint(path).kernel_method)]
    reasons: list[str | None] = []
    if not is_vllm(notebook.engine):
        reasons.append(f"the engine {notebook.engine} has no such kernels")
    elif not methods:
        reasons.append("no model of the notebook has 4-bit weights")
    elif target.capability and any(target.engine_version):
        cards, version = target.capability, target.engine_version
        reasons += [obstacle(kernel, capability=cards, version=version, method=method) for method in methods]

    for reason in filter(None, reasons):
        raise ProjectError(f"{project.root / CONFIG}: notebooks.{name}.kernel = {kernel!r}: {reason}; leave it out")


def _packages(target: Target, lock: Lock | None) -> dict[str, object]:
    """What a notebook with internet installs: the Pythons that it is for, requirements by hash, bytes at most."""
    from kaggle_kit.wheelhouse.environments import ARCHIVES, notebook_quantizer, quantizer_lock
    from kaggle_kit.wheelhouse.lock import requirement_lines

    name = notebook_quantizer(target)
    lock = lock or read_lock(quantizer_lock(name))
    return {
        "pythons": list(lock.pythons),
        "wheels": "\n".join(requirement_lines(lock)),
        "archives": "\n".join(archive.requirement for archive in ARCHIVES[name]),
        "bytes": max(sum(wheel.size for wheel in lock.wheels_for(python)) for python in lock.pythons),
    }


def _notebook_text(cells: Sequence[Cell]) -> str:
    """The notebook as JSON: no outputs, cell ids from cell names, nothing that a clock or a machine decides."""
    import nbformat.v4
    import nbformat.validator

    # nbformat's own functions for new cells check each by itself: a third of a build's time, before the whole's check.
    nodes: list[dict[str, Any]] = []
    for cell in cells:
        others = {key: json.loads(value) for key, value in cell.metadata}
        metadata = {"name": cell.name} | ({"tags": list(cell.tags)} if cell.tags else {}) | others
        node = {"id": cell.name, "cell_type": cell.kind, "metadata": metadata, "source": cell.text}
        nodes.append(node | ({"execution_count": None, "outputs": []} if cell.kind == "code" else {}))
    notebook = nbformat.from_dict(
        {
            "nbformat": 4,
            "nbformat_minor": 5,
            "cells": nodes,
            "metadata": {
                "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
                "language_info": {"name": "python", "file_extension": ".py", "mimetype": "text/x-python"},
            },
        }
    )
    nbformat.validator.validate(notebook)
    return str(nbformat.v4.writes(notebook)) + "\n"  # nbformat.writes would check it once more


def _metadata(project: Project, name: str, notebook: Notebook, target: Target, wheelhouse: str) -> dict[str, object]:
    """`kernel-metadata.json`: internet and the accelerator written out, since the client's defaults differ.

    A notebook with internet takes of the wheelhouse only the part with the kit's own wheel.
    """
    models = [project.models[model] for model in notebook.model_names]
    wheels = {kit_part_reference(wheelhouse)} if notebook.internet else {wheelhouse, kit_part_reference(wheelhouse)}
    return {
        "id": f"{project.owner}/{notebook.slug}",
        "title": notebook.title,
        "code_file": f"{name}.ipynb",
        "language": "python",
        "kernel_type": "notebook",
        "is_private": notebook.private,
        "enable_gpu": target.gpus > 0,
        "enable_tpu": False,
        "enable_internet": notebook.internet,
        "machine_shape": target.accelerator or "",
        "competition_sources": [project.competition],
        "dataset_sources": sorted({*wheels, *(model.dataset for model in models if model.dataset)}),
        "model_sources": sorted({model.kaggle_model for model in models if model.kaggle_model}),
        "kernel_sources": [],
    }


def stale(project: Project, name: str, folder: Path) -> str | None:
    """Why the build in `folder` is not what its sources give now, by content; None if it is.

    Raises KitError if it cannot be rendered again, or `folder` holds no build.
    """
    manifest = read_manifest(folder / MANIFEST)
    target = load_target(str(manifest.extra.get("target")), project=project.root)
    given = manifest.extra.get("assignments")
    assignments = [str(text) for text in given] if isinstance(given, list) else []
    before = {entry.path: entry for entry in manifest.files}

    packages = None
    if kept := before.get(PACKAGES):
        if not (folder / PACKAGES).is_file() or file_entry(folder / PACKAGES, folder) != kept:
            return f"{folder / PACKAGES} is not the lock that the notebook beside it was built with"
        packages = read_lock(folder / PACKAGES)

    now = render_build(project, name, target=target, assignments=assignments, packages=packages).manifest
    if now.extra != manifest.extra:
        return f"{folder} was built by another version of kit"
    changed = [entry.path for entry in now.files if before.get(entry.path) != entry]
    return f"{folder / changed[0]} is older than its sources" if changed else None
