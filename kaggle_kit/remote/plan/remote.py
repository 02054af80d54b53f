"""Kaggle as a plan reads it: what a plan asks, and no more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from kaggle_kit.remote.client import datasets, models, notebooks
from kaggle_kit.remote.client.versions import UNDER_WAY
from kaggle_kit.remote.references import parse_variation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kaggle_kit.remote.client.client import Client


@dataclass(frozen=True, kw_only=True)
class SeenDataset:
    """A dataset as Kaggle has it now: newest version, its status in capitals, path → bytes of its files."""

    version: int
    status: str
    files: Mapping[str, int]
    title: str
    private: bool


@dataclass(frozen=True, kw_only=True)
class SeenModel:
    """A variation of a Kaggle model: its newest version that is ready, 0 where none is yet.

    `processing`: Kaggle is still at work on the one after it.
    """

    version: int
    processing: bool = False


@dataclass(frozen=True, kw_only=True)
class SeenNotebook:
    """A notebook as Kaggle has it now: newest version, its text, and what it runs with."""

    version: int
    source: str
    datasets: tuple[str, ...]
    """References, with the version (owner/slug/3) where Kaggle says it."""
    models: tuple[str, ...]
    internet: bool | None
    accelerator: str | None
    """Empty where Kaggle says that it is a machine without any; None where it says nothing."""
    private: bool
    competitions: tuple[str, ...] | None = None
    kernels: tuple[str, ...] | None = None
    """These two None where they are not known."""


class Remote(Protocol):
    """Kaggle, for reading. None means that it is not there; whatever else goes wrong raises RemoteError."""

    def dataset(self, reference: str) -> SeenDataset | None:
        """The dataset owner/slug."""

    def dataset_file(self, reference: str, version: int, path: str) -> bytes | None:
        """A small file of one version of a dataset."""

    def model(self, reference: str) -> SeenModel | None:
        """The variation owner/model/framework/variation."""

    def model_file(self, reference: str, version: int, path: str) -> bytes | None:
        """A small file of one version of a variation."""

    def notebook(self, reference: str) -> SeenNotebook | None:
        """The notebook owner/slug."""

    def failed(self, reference: str, version: int) -> str | None:
        """How the run of one version of a notebook failed, in a word; None where it did not, or goes on."""


class KaggleRemote:
    """The `Remote` that asks the service (or the loopback) behind a client."""

    def __init__(self, client: Client) -> None:
        """Ask through `client`."""
        self._client = client

    def dataset(self, reference: str) -> SeenDataset | None:
        """The dataset as it is now; a version that is still processed is its newest."""
        found = datasets.read(self._client, reference)
        if found is None:
            return None
        return SeenDataset(
            version=max(found.newest, 1),
            status=found.status,
            files=found.sizes,
            title=found.title,
            private=found.private,
        )

    def dataset_file(self, reference: str, version: int, path: str) -> bytes | None:
        """One small file of one version."""
        return datasets.read_file(self._client, reference, version, path)

    def model(self, reference: str) -> SeenModel | None:
        """The variation's newest version that is ready, and whether another is on its way."""
        found = models.read(self._client, parse_variation(reference), files=False)
        if found is None:
            return None
        newest = models.newest(self._client, parse_variation(reference))
        return SeenModel(version=found.version or 0, processing=newest is not None and newest.status in UNDER_WAY)

    def model_file(self, reference: str, version: int, path: str) -> bytes | None:
        """One small file of one version."""
        return models.read_file(self._client, parse_variation(reference), version, path)

    def notebook(self, reference: str) -> SeenNotebook | None:
        """The notebook's newest version, which Kaggle must name. What else it does not say counts as asked for."""
        found = notebooks.read(self._client, reference)
        if found is None:
            return None
        return SeenNotebook(
            version=notebooks.newest_version(found),
            source=found.source,
            datasets=found.dataset_sources,
            models=found.model_sources,
            internet=found.internet,
            accelerator=found.machine_shape or ("" if found.gpu is False and not found.tpu else None),
            private=found.private is not False,
            competitions=found.competition_sources,
            kernels=found.kernel_sources,
        )

    def failed(self, reference: str, version: int) -> str | None:
        """The state in which a run ended badly."""
        state = notebooks.status(self._client, reference, version)
        return state.state if state.ended and not state.complete else None
