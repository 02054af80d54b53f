"""Kaggle as a plan reads it: what a plan asks, and no more."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from kaggle_kit.remote.client import datasets, models, notebooks
from kaggle_kit.remote.references import parse_variation

if TYPE_CHECKING:
    from kaggle_kit.remote.client.client import Client
    from kaggle_kit.remote.client.versions import RemoteFile


class Remote:
    """Kaggle, for reading. None means that it is not there; whatever else goes wrong raises RemoteError."""

    def __init__(self, client: Client) -> None:
        """Ask through `client`."""
        self._client = client

    def dataset(self, reference: str) -> datasets.Dataset | None:
        """The dataset owner/slug as it is now; a version that is still processed is its newest."""
        return datasets.read(self._client, reference)

    def dataset_file(self, reference: str, version: int, path: str) -> bytes | None:
        """A small file of one version of a dataset."""
        return datasets.read_file(self._client, reference, version, path)

    def model(self, reference: str) -> models.Variation | None:
        """The variation owner/model/framework/variation, with the status of its newest version, ready or not."""
        variation = parse_variation(reference)
        ready = models.read(self._client, variation, files=False)
        newest = models.newest(self._client, variation) if ready is not None else None
        return replace(ready, status=newest.status) if ready is not None and newest is not None else ready

    def model_files(self, reference: str, version: int) -> tuple[RemoteFile, ...] | None:
        """The files of one version of a variation; None where Kaggle does not list them."""
        return models.list_files(self._client, parse_variation(reference), version)

    def model_file(self, reference: str, version: int, path: str) -> bytes | None:
        """A small file of one version of a variation."""
        return models.read_file(self._client, parse_variation(reference), version, path)

    def notebook(self, reference: str, version: int | None = None) -> notebooks.RemoteNotebook | None:
        """The notebook owner/slug in its newest version, which Kaggle must name, or in another one."""
        there = notebooks.read(self._client, reference, version=version)
        if there is not None:
            notebooks.newest_version(there)
        return there

    def failed(self, reference: str, version: int) -> str | None:
        """How the run of one version of a notebook failed, in a word; None where it did not, or goes on."""
        state = notebooks.status(self._client, reference, version)
        return state.state if state.ended and not state.complete else None
