"""A project's notebooks and what they need, in the order in which it is pushed: datasets, models, the notebook."""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, TypeVar

from kaggle_kit.errors import KitError, OutsideError, ProjectError
from kaggle_kit.outside import read_json, read_text
from kaggle_kit.places import homes, inside
from kaggle_kit.project.config import CONFIG
from kaggle_kit.remote.client.notebooks import source_identity
from kaggle_kit.remote.plan.folders import Contents, model_contents, origins, part_contents
from kaggle_kit.remote.plan.hashes import HashCache, digest_of, hash_files
from kaggle_kit.remote.plan.resources import (
    NOTEBOOK_BYTES,
    Dataset,
    Kind,
    Model,
    Notebook,
    NotebookSettings,
    Origin,
    Problem,
    Resource,
    SentFile,
)
from kaggle_kit.remote.references import split_version
from kaggle_kit.runtime.manifest import MANIFEST, FileEntry, read_manifest
from kaggle_kit.targets import load_target

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from kaggle_kit.project import Project

METADATA = "kernel-metadata.json"
_DATASET_METADATA = "dataset-metadata.json"
_UNKNOWN = "unknown"
"""Kaggle's name for a licence that nobody has stated."""
# How many parts the references of each kind have.
_PARTS = {"competition": 1, "dataset": 2, "model": 5, "kernel": 2}


def notebook_resources(
    project: Project,
    name: str,
    *,
    build: Path,
    parts: Mapping[str, Path],
    cache: HashCache,
) -> tuple[Resource, ...]:
    """What the notebook `name`, built in `build`, needs on Kaggle, itself last.

    `parts` maps datasets of wheelhouses to their folders here, the engine's first. Raises ProjectError where the build
    is not whole, KitError where a file cannot be read; all else that is wrong is in the resources' `problems`.
    """
    notebook = notebook_resource(project, name, build=build, cache=cache)
    wanted = set(notebook.settings.datasets)
    needed: list[Resource] = [
        part_resource(reference, folder, project=project, cache=cache)
        for reference, folder in parts.items()
        if reference in wanted
    ]
    models = project.notebook(name).model_names
    needed += [model_resource(project, model, cache=cache) for model in models]
    unmade = sorted(wanted - {resource.reference for resource in needed})
    needed += [_attached(project, _dataset(reference)) for reference in unmade]
    return merge([*needed, notebook])


def merge(resources: Iterable[Resource]) -> tuple[Resource, ...]:
    """Each resource once, notebooks last: several notebooks share their datasets.

    Two that differ and would lie in one place keep the first, with a problem.
    """
    merged: dict[str, Resource] = {}
    for resource in resources:
        first = merged.setdefault(resource.key, resource)
        if _content(first) != _content(resource):
            what = f"{first.name} and {resource.name} are to lie there, and differ"
            other = resource.problem(what, f"give one of them another place in {CONFIG}")
            merged[resource.key] = replace(first, problems=(*first.problems, other))
    order: tuple[Kind, ...] = ("dataset", "model", "notebook")
    return tuple(sorted(merged.values(), key=lambda resource: order.index(resource.kind)))


def _content(resource: Resource) -> tuple[str, int | None]:
    return resource.digest, resource.version if isinstance(resource, Model) else None


def part_resource(reference: str, folder: Path, *, project: Project, cache: HashCache) -> Dataset:
    """A part of a wheelhouse as a dataset. Raises KitError where `folder` is none."""
    dataset = _dataset(reference)
    if not _is_own(project, dataset):
        return _attached(project, dataset)
    path = folder / _DATASET_METADATA
    try:
        body = read_json(path)
        title, licence = str(body["title"]), str(body["licenses"][0]["name"])
        subtitle = str(body.get("subtitle", ""))
        part = str(read_manifest(folder / MANIFEST).extra.get("part", folder.name))
    except (OutsideError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise KitError(f"{path} cannot be read ({error!r}); write it again with: kit wheels dataset") from error
    contents = part_contents(folder, resource=dataset.key, cache=cache)
    dataset = replace(dataset, name=part, title=title, licence=licence, subtitle=subtitle)
    return _filled(dataset, contents, origins(folder, contents.files, root=project.root))


def model_resource(project: Project, name: str, *, cache: HashCache) -> Dataset | Model:
    """The model `name` of `kit.toml` as a dataset or as a version of a Kaggle model."""
    table, resource = project.models[name], _model(project, name)
    if not _is_own(project, resource):
        return _attached(project, resource)
    folder = inside(project.root, table.path, key=f"models.{name}.path")
    if not folder.is_dir():
        what = f"models.{name}.path = {table.path!r} is not a folder here, so what Kaggle has is used as it is"
        missing = resource.problem(what, "put the model there to push it", warning=True)
        return replace(resource, sent=False, problems=(missing,))
    _, *linked = homes(project.root)
    contents = model_contents(folder, name=name, resource=resource.key, cache=cache, linked=linked)
    return _filled(resource, contents, origins(folder, contents.files, root=project.root))


def _model(project: Project, name: str) -> Dataset | Model:
    """The model `name` by its table alone, without its files."""
    table = project.models[name]
    known: dict[str, Any] = {"reference": table.place, "name": name, "title": table.title or _title(table.place)}
    known |= {"model": name, "most_kl": table.most_kl}
    if table.dataset:
        return Dataset(**known, licence=table.licence or _UNKNOWN)
    return Model(**known, licence=table.licence, version=split_version(str(table.kaggle_model))[1] or 0)


def _dataset(reference: str) -> Dataset:
    """A dataset by its reference alone."""
    return Dataset(reference=reference, name=reference.split("/")[1], title=_title(reference))


def _title(reference: str) -> str:
    return reference.split("/")[1].replace("-", " ")


def _is_own(project: Project, resource: Resource) -> bool:
    """Whether a resource is of the project's owner, however its name is spelt."""
    return resource.owner.lower() == project.owner.lower()


_Files = TypeVar("_Files", Dataset, Model, Dataset | Model)


def _filled(resource: _Files, contents: Contents, places: tuple[Origin, ...]) -> _Files:
    return replace(
        resource,
        files=contents.files,
        origins=places,
        digest=digest_of(file.entry for file in contents.files),
        left_out=contents.left_out,
        problems=contents.problems,
    )


def _attached(project: Project, resource: _Files) -> _Files:
    """What is used as Kaggle has it. Of the owner's own datasets this is worth a word."""
    if not _is_own(project, resource):
        return replace(resource, sent=False, by_reference=resource.model is not None)
    what = "nothing here makes it, so what Kaggle has is used as it is"
    missing = resource.problem(what, "for a wheelhouse, fetch and prove it here to push it", warning=True)
    return replace(resource, sent=False, problems=(missing,))


def notebook_resource(project: Project, name: str, *, build: Path, cache: HashCache) -> Notebook:
    """The notebook `name`, built in `build`. Raises ProjectError where the build is not whole."""
    notebook = project.notebook(name)
    again = f"build it again with: kit build {name}"
    try:
        manifest = read_manifest(build / MANIFEST)
    except KitError as error:
        raise ProjectError(f"{build} holds no whole build ({error}); {again}") from error

    target = load_target(str(manifest.extra.get("target", notebook.target)), project=project.root)
    seconds = round(notebook.session_hours * 3600) if notebook.session_hours else target.session_seconds
    reference, settings = read_settings(build, image=notebook.image, session_seconds=seconds)

    sources = {path: build / path for path in (settings.code_file, METADATA)}
    if lacking := [path for path, source in sources.items() if source.is_symlink() or not source.is_file()]:
        raise ProjectError(f"{build} lacks {lacking[0]}; {again}")

    entries = hash_files(sources, cache=cache)
    problems = tuple(
        Problem(
            resource=f"notebook {reference}",
            what=f"{build / entry.path} was changed after it was built",
            next_step=f"bring the change into its source, then {again}",
        )
        for entry in entries
        if entry not in manifest.files
    )

    try:
        text = read_text(sources[settings.code_file], most_bytes=NOTEBOOK_BYTES)
    except OutsideError as error:
        raise ProjectError(f"{error}; or {again}") from error

    files = tuple(SentFile(path=e.path, size=e.size, sha256=e.sha256, source=sources[e.path]) for e in entries)
    return Notebook(
        reference=reference,
        name=name,
        title=settings.title,
        files=files,
        origins=origins(build, files, root=project.root),
        digest=digest_of([*entries, FileEntry("settings", settings.hash(), 0)]),
        private=settings.private,
        settings=settings,
        source=source_identity(text),
        target=target.name,
        kit_wheel=str(manifest.extra.get("kit_wheel") or ""),
        online=notebook.internet,
        problems=problems,
    )


def read_settings(folder: Path, *, image: str, session_seconds: int) -> tuple[str, NotebookSettings]:
    """The reference owner/slug and the settings of the notebook built in `folder`.

    `image` is `kit.toml`'s. What the metadata leaves out is what Kaggle's client makes of it, internet on included.
    Raises ProjectError where there is no whole build.
    """
    path = folder / METADATA
    try:
        body: dict[str, Any] = read_json(path, follow=True)
        code_file, accelerator = str(body["code_file"]), body.get("machine_shape") or None
        _refuse_unless(PurePath(code_file).name == code_file, "code_file", code_file)
        _refuse_unless(_is_reference(reference := body["id"], 2), "id", reference)
        _refuse_unless(isinstance(accelerator, str | None), "machine_shape", accelerator)
        sources = {f"{kind}s": _sources(body, f"{kind}_sources", parts) for kind, parts in _PARTS.items()}
    except OutsideError as error:
        raise ProjectError(f"{error}; or build the notebook again with: kit build") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ProjectError(f"{path} cannot be read ({error!r}); build the notebook again with: kit build") from error
    pinning = image if image in {"original", "latest"} else None
    return reference, NotebookSettings(
        title=str(body.get("title", "")),
        code_file=code_file,
        private=bool(body.get("is_private", True)),
        gpu=bool(body.get("enable_gpu", False)),
        tpu=bool(body.get("enable_tpu", False)),
        internet=bool(body.get("enable_internet", True)),
        accelerator=accelerator,
        **sources,
        docker_image=None if pinning else image,
        image_pinning=pinning,
        session_seconds=session_seconds,
    )


def _sources(body: Mapping[str, Any], key: str, parts: int) -> tuple[str, ...]:
    """A list of references of so many parts. Raises ValueError."""
    value = body.get(key) or []
    _refuse_unless(isinstance(value, list) and all(_is_reference(source, parts) for source in value), key, value)
    return tuple(sorted(value))


def _refuse_unless(right: bool, key: str, value: object) -> None:
    if not right:
        raise ValueError(f"{key} = {value!r}")


def _is_reference(text: object, parts: int) -> bool:
    return isinstance(text, str) and text.count("/") == parts - 1 and all(text.split("/"))
