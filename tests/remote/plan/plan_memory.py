"""A Kaggle of plain values, for tests of what a plan decides; and resources of plain values."""

import json
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path

from kaggle_kit.remote.client.datasets import Dataset as KaggleDataset
from kaggle_kit.remote.client.models import Variation
from kaggle_kit.remote.client.notebooks import RemoteNotebook, source_identity
from kaggle_kit.remote.client.versions import RemoteFile
from kaggle_kit.remote.plan.hashes import digest_of
from kaggle_kit.remote.plan.resources import Artifact, Dataset, Model, Notebook, NotebookSettings, SentFile
from kaggle_kit.remote.references import parse_variation


@dataclass
class Memory:
    """What Kaggle has: by reference, and small files by (reference, version, path)."""

    datasets: dict[str, KaggleDataset] = field(default_factory=dict)
    models: dict[str, Variation] = field(default_factory=dict)
    notebooks: dict[str, RemoteNotebook] = field(default_factory=dict)
    pages: dict[tuple[str, int], RemoteNotebook] = field(default_factory=dict)
    files: dict[tuple[str, int, str], bytes] = field(default_factory=dict)
    failures: dict[tuple[str, int], str] = field(default_factory=dict)
    listed: dict[tuple[str, int], tuple[RemoteFile, ...]] = field(default_factory=dict)

    def dataset(self, reference):
        """One dataset."""
        return self.datasets.get(reference)

    def model(self, reference):
        """One variation."""
        return self.models.get(reference)

    def notebook(self, reference, version=None):
        """One notebook, or one version of it, under which the newest one's number stands."""
        newest = self.notebooks.get(reference)
        if newest is None or version in (None, newest.version):
            return newest
        page = self.pages.get((reference, version))
        return page and replace(page, version=newest.version)

    def failed(self, reference, version):
        """How a run failed."""
        return self.failures.get((reference, version))

    def dataset_file(self, reference, version, path):
        """One small file."""
        return self.files.get((reference, version, path))

    model_file = dataset_file

    def model_files(self, reference, version):
        """The files of one version."""
        return self.listed.get((reference, version))

    def put(self, resource: Artifact, version: int, **changed) -> None:
        """Make Kaggle hold `resource` as `version`, manifest included."""
        values = {
            "version": version,
            "status": "READY",
            "files": resource.sizes,
            "title": resource.title,
            "private": True,
        }
        if isinstance(resource, Model):
            self.put_variation(resource.reference, version)
        else:
            values |= changed
            files = tuple(RemoteFile(path, size) for path, size in values.pop("files").items())
            kept = KaggleDataset(ref=resource.reference, licence=None, url="", files=files, **values)
            self.datasets[resource.reference] = kept
        if manifest := resource.manifest():
            self.files[resource.reference, version, manifest.path] = manifest.source.read_bytes()

    def put_variation(self, reference: str, version: int | None, status: str = "READY") -> None:
        """Make Kaggle hold a variation; `status` is of its newest version."""
        self.models[reference] = Variation(parse_variation(reference), version, None, "", status=status)

    def put_notebook(self, resource: Notebook, version: int, **changed) -> None:
        """Make Kaggle hold a notebook as `version`, with unpinned inputs."""
        settings = resource.settings
        values = {
            "version": version,
            "source": resource.text,
            "datasets": settings.datasets,
            "models": settings.models,
            "internet": False,
            "accelerator": settings.accelerator,
            "private": True,
            "competitions": settings.competitions,
        } | changed
        shape = values.pop("accelerator")
        kept = RemoteNotebook(
            ref=resource.reference,
            title=resource.title,
            language=None,
            kernel_type=None,
            gpu=False if shape == "" else None,
            tpu=None,
            machine_shape=shape or None,
            docker_image=None,
            kernels=settings.kernels,
            **values,
        )
        self.notebooks[resource.reference] = self.pages[resource.reference, version] = kept


def sent(folder: Path, **contents: bytes) -> tuple[SentFile, ...]:
    """Files below `folder`, written there; `__` in a name is a dot."""
    found = []
    for key, data in contents.items():
        name = key.replace("__", ".")
        path = folder / sha256(data).hexdigest()[:8] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        found.append(SentFile(path=name, size=len(data), sha256=sha256(data).hexdigest(), source=path))
    return tuple(sorted(found, key=lambda file: file.path))


def dataset(folder: Path, reference: str = "ada/small-model", *, manifest: bool = True, **contents: bytes) -> Dataset:
    """A dataset of some files, with a manifest of them."""
    files = sent(folder, **(contents or {"weights__bin2": b"one"}))
    if manifest:
        listed = json.dumps([[file.path, file.sha256] for file in files]).encode()
        files = tuple(sorted((*files, *sent(folder, manifest__json=listed)), key=lambda file: file.path))
    return Dataset(
        reference=reference,
        name="small",
        title="small model",
        licence="unknown",
        files=files,
        digest=digest_of(file.entry for file in files),
    )


def model(folder: Path, version: int, *, licence: str | None = "MIT", **contents: bytes) -> Model:
    """A version of a Kaggle model."""
    made = dataset(folder, "ada/small/pyTorch/awq", **contents)
    given = {key: value for key, value in vars(made).items() if key != "subtitle"}
    return Model(**given | {"version": version, "licence": licence, "model": "small"})


def notebook_text(*cells: str, kernel: str | None = "python3", form: type = list) -> str:
    """A notebook's JSON: each cell one text, as a list of lines or whole."""
    metadata = {"kernelspec": {"name": kernel}} if kernel else {}
    listed = [{"cell_type": "code", "source": [c] if form is list else c, "outputs": []} for c in cells]
    return json.dumps({"cells": listed, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5})


SETTINGS = NotebookSettings(
    title="Best answer",
    code_file="answer.ipynb",
    private=True,
    gpu=True,
    tpu=False,
    internet=False,
    accelerator="NvidiaTeslaT4",
    competitions=("best-answer",),
    datasets=("ada/small-model",),
    models=(),
    kernels=(),
    docker_image=None,
    image_pinning="original",
    session_seconds=32_400,
)


def notebook(folder: Path, *cells: str, kernel: str | None = "python3", **changed) -> Notebook:
    """A built notebook of some cells; `changed` are settings."""
    text = notebook_text(*(cells or ("x = 1",)), kernel=kernel)
    settings = NotebookSettings(**vars(SETTINGS) | changed)
    files = sent(folder, answer__ipynb=text.encode(), settings__json=settings.hash().encode())
    return Notebook(
        reference="ada/best-answer",
        name="answer",
        title=settings.title,
        files=files,
        digest=digest_of(file.entry for file in files),
        settings=settings,
        source=source_identity(text),
        target="kaggle-t4x2",
    )
