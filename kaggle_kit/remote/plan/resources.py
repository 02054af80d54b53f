"""What a notebook needs on Kaggle, in the order in which it is pushed: datasets, model versions, the notebook."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from kaggle_kit.errors import KitError, OutsideError, ProjectError
from kaggle_kit.outside import MEGA, read_json, read_text
from kaggle_kit.places import homes, inside
from kaggle_kit.project.config import CONFIG
from kaggle_kit.remote.client.notebooks import source_identity
from kaggle_kit.remote.plan.folders import Contents, Origin, SentFile, model_contents, origins, part_contents
from kaggle_kit.remote.plan.hashes import HashCache, Tell, digest_of, hash_files
from kaggle_kit.remote.plan.kernel_build import METADATA, Kernel, read_kernel
from kaggle_kit.remote.plan.problem import Problem
from kaggle_kit.runtime.manifest import MANIFEST, FileEntry, read_manifest
from kaggle_kit.targets import load_target

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from kaggle_kit.project import Model, Project

Kind = Literal["dataset", "model", "notebook"]
_DATASET_METADATA = "dataset-metadata.json"
_NOTEBOOK_BYTES = 16 * MEGA
_UNKNOWN = "unknown"
"""Kaggle's name for a licence that nobody has stated."""


@dataclass(frozen=True, kw_only=True)
class Resource:
    """One thing on Kaggle and what it should hold.

    `reference` is owner/slug, of a model owner/model/framework/variation; `version` is the one that `kit.toml` names
    for a model. One that is not `sent` is attached as Kaggle has it: it is another's, or its files are not here.
    """

    kind: Kind
    reference: str
    name: str
    """Its name in this project: `engine`, `kit`, a model's, a notebook's."""
    title: str
    files: tuple[SentFile, ...] = ()
    origins: tuple[Origin, ...] = ()
    """The folders here of which its files are."""
    digest: str = ""
    sent: bool = True
    private: bool = True
    licence: str | None = None
    subtitle: str = ""
    version: int | None = None
    model: str | None = None
    """Of a model, wherever it lies: its name in `kit.toml`, by which a notebook finds its manifest."""
    kernel: Kernel | None = None
    source: str = ""
    """Of a notebook: the hash of what it says (see `source_identity`)."""
    target: str | None = None
    """Of a notebook: the target that it was built for."""
    kit_wheel: str = ""
    """Of a notebook: the SHA-256 of the kit's own wheel that it was built for; empty where its build does not say."""
    online: bool = False
    """Of a notebook: whether `kit.toml` asks for internet: it makes something, and is never handed in."""
    most_kl: float | None = None
    """Of a model: how far its answers may be from its reference's, where `kit.toml` says."""
    left_out: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def key(self) -> str:
        """What tells it from all others: a dataset and a notebook may have one reference."""
        return f"{self.kind} {self.reference}"

    @property
    def owner(self) -> str:
        """Whose it is."""
        return self.reference.split("/", 1)[0]

    @property
    def slug(self) -> str:
        """The second part of its reference."""
        return self.reference.split("/")[1]

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(file.size for file in self.files)

    @property
    def source_text(self) -> str:
        """Of a notebook: its file's text; of all else nothing."""
        code_file = self.kernel.code_file if self.kernel else None
        paths = [file.source for file in self.files if file.path == code_file]
        return read_text(paths[0], most_bytes=_NOTEBOOK_BYTES) if paths else ""

    def manifest(self) -> SentFile | None:
        """The file that identifies its content, where it has one."""
        return next((file for file in self.files if file.path == MANIFEST), None)


def notebook_resources(
    project: Project,
    name: str,
    *,
    build: Path,
    parts: Mapping[str, Path],
    cache: HashCache,
    tell: Tell | None = None,
) -> tuple[Resource, ...]:
    """What the notebook `name`, built in `build`, needs on Kaggle, itself last.

    `parts` maps datasets of wheelhouses to their folders here, the engine's first. Raises ProjectError where the build
    is not whole, KitError where a file cannot be read; all else that is wrong is in the resources' `problems`.
    """
    notebook = notebook_resource(project, name, build=build, cache=cache, tell=tell)
    wanted = set(notebook.kernel.datasets) if notebook.kernel else set()
    found = [
        part_resource(reference, folder, project=project, cache=cache, tell=tell)
        for reference, folder in parts.items()
        if reference in wanted
    ]
    models = project.notebook(name).model_names
    found += [model_resource(project, model, cache=cache, tell=tell) for model in models]
    unmade = sorted(wanted - {resource.reference for resource in found})
    found += [_attached(project, "dataset", reference, name=reference.split("/", 1)[1]) for reference in unmade]
    return merge([*found, notebook])


def merge(resources: Iterable[Resource]) -> tuple[Resource, ...]:
    """Each resource once, notebooks last: several notebooks share their datasets.

    Two that differ and would lie in one place keep the first, with a problem.
    """
    found: dict[str, Resource] = {}
    for resource in resources:
        first = found.setdefault(resource.key, resource)
        if first.digest != resource.digest or first.version != resource.version:
            other = Problem(
                resource=resource.key,
                what=f"{first.name} and {resource.name} are to lie there, and differ",
                next_step=f"give one of them another place in {CONFIG}",
            )
            found[resource.key] = replace(first, problems=(*first.problems, other))
    order: tuple[Kind, ...] = ("dataset", "model", "notebook")
    return tuple(sorted(found.values(), key=lambda resource: order.index(resource.kind)))


def part_resource(
    reference: str, folder: Path, *, project: Project, cache: HashCache, tell: Tell | None = None
) -> Resource:
    """A part of a wheelhouse as a dataset. Raises KitError where `folder` is none."""
    if reference.split("/", 1)[0] != project.owner:
        return _attached(project, "dataset", reference, name=reference.split("/", 1)[1])
    path = folder / _DATASET_METADATA
    try:
        body = read_json(path)
        title, licence = str(body["title"]), str(body["licenses"][0]["name"])
        subtitle = str(body.get("subtitle", ""))
        part = str(read_manifest(folder / MANIFEST).extra.get("part", folder.name))
    except (OutsideError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise KitError(f"{path} cannot be read ({error!r}); write it again with: kit wheels dataset") from error
    contents = part_contents(folder, resource=f"dataset {reference}", cache=cache, tell=tell)
    return _with(
        Resource(kind="dataset", reference=reference, name=part, title=title, licence=licence, subtitle=subtitle),
        contents,
        origins(folder, contents.files, root=project.root),
    )


def model_resource(project: Project, name: str, *, cache: HashCache, tell: Tell | None = None) -> Resource:
    """The model `name` of `kit.toml` as a dataset or as a version of a Kaggle model."""
    model = project.models[name]
    kind, reference, version = _place(model)
    if reference.split("/", 1)[0] != project.owner:
        return replace(_attached(project, kind, reference, name=name), version=version, model=name)
    folder = inside(project.root, model.path, key=f"models.{name}.path")
    if not folder.is_dir():
        missing = Problem(
            resource=f"{kind} {reference}",
            what=f"models.{name}.path = {model.path!r} is no folder here, so what Kaggle has is used as it is",
            next_step="put the model there to push it",
            warning=True,
        )
        return replace(_attached(project, kind, reference, name=name), version=version, model=name, problems=(missing,))
    _, *linked = homes(project.root)
    contents = model_contents(folder, name=name, resource=f"{kind} {reference}", cache=cache, tell=tell, linked=linked)
    resource = Resource(
        kind=kind,
        reference=reference,
        name=name,
        title=model.title or _title(reference),
        licence=model.licence or (_UNKNOWN if kind == "dataset" else None),
        version=version,
        model=name,
        most_kl=model.most_kl,
    )
    return _with(resource, contents, origins(folder, contents.files, root=project.root))


def _place(model: Model) -> tuple[Kind, str, int | None]:
    if model.dataset:
        return "dataset", model.dataset, None
    reference, _, version = str(model.kaggle_model).rpartition("/")
    return "model", reference, int(version)


def _title(reference: str) -> str:
    return reference.split("/")[1].replace("-", " ")


def _with(resource: Resource, contents: Contents, places: tuple[Origin, ...]) -> Resource:
    return replace(
        resource,
        files=contents.files,
        origins=places,
        digest=digest_of(file.entry for file in contents.files),
        left_out=contents.left_out,
        problems=contents.problems,
    )


def _attached(project: Project, kind: Kind, reference: str, *, name: str) -> Resource:
    """What is used as Kaggle has it. Of the owner's own datasets this is worth a word."""
    problems: tuple[Problem, ...] = ()
    if reference.split("/", 1)[0] == project.owner:
        missing = Problem(
            resource=f"{kind} {reference}",
            what="nothing here makes it, so what Kaggle has is used as it is",
            next_step="for a wheelhouse, fetch and prove it here to push it",
            warning=True,
        )
        problems = (missing,)
    return Resource(kind=kind, reference=reference, name=name, title=_title(reference), sent=False, problems=problems)


def notebook_resource(
    project: Project, name: str, *, build: Path, cache: HashCache, tell: Tell | None = None
) -> Resource:
    """The notebook `name`, built in `build`. Raises ProjectError where the build is not whole."""
    notebook = project.notebook(name)
    again = f"build it again with: kit build {name}"
    try:
        manifest = read_manifest(build / MANIFEST)
    except KitError as error:
        raise ProjectError(f"{build} holds no whole build ({error}); {again}") from error
    target = load_target(str(manifest.extra.get("target", notebook.target)), project=project.root)
    seconds = round(notebook.session_hours * 3600) if notebook.session_hours else target.session_seconds
    reference, kernel = read_kernel(build, image=notebook.image, session_seconds=seconds)
    sources = {path: build / path for path in (kernel.code_file, METADATA)}
    if lacking := [path for path, source in sources.items() if source.is_symlink() or not source.is_file()]:
        raise ProjectError(f"{build} lacks {lacking[0]}; {again}")
    entries = hash_files(sources, cache=cache, tell=tell)
    problems = tuple(
        Problem(
            resource=f"notebook {reference}",
            what=f"{build / entry.path} was changed after it was built",
            next_step=f"bring the change into its source, then {again}",
        )
        for entry in entries
        if entry not in manifest.files
    )
    settings = FileEntry("settings", kernel.hash(), 0)
    try:
        text = read_text(sources[kernel.code_file], most_bytes=_NOTEBOOK_BYTES)
    except OutsideError as error:
        raise ProjectError(f"{error}; or {again}") from error
    files = tuple(SentFile(path=e.path, size=e.size, sha256=e.sha256, source=sources[e.path]) for e in entries)
    return Resource(
        kind="notebook",
        reference=reference,
        name=name,
        title=kernel.title,
        files=files,
        origins=origins(build, files, root=project.root),
        digest=digest_of([*entries, settings]),
        private=kernel.private,
        kernel=kernel,
        source=source_identity(text),
        target=target.name,
        kit_wheel=str(manifest.extra.get("kit_wheel") or ""),
        online=notebook.internet,
        problems=problems,
    )
