"""Kaggle as a plan reads it, through the door."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kaggle_kit.remote.door import datasets, kernels, models
from kaggle_kit.remote.door.model_ref import parse_ref
from kaggle_kit.remote.door.small_file import dataset_file, model_file
from kaggle_kit.remote.plan.seen import SeenDataset, SeenKernel, SeenModel

if TYPE_CHECKING:
    from kaggle_kit.remote.door.door import Door


class OnKaggle:
    """The `Remote` that asks the service (or the loopback) behind a door."""

    def __init__(self, door: Door) -> None:
        """Ask through `door`."""
        self._door = door

    def dataset(self, reference: str) -> SeenDataset | None:
        """The dataset as it is now; a version that is still processed is its newest."""
        found = datasets.read(self._door, reference)
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
        return dataset_file(self._door, reference, version, path)

    def model(self, reference: str) -> SeenModel | None:
        """The variation's newest version."""
        found = models.read(self._door, parse_ref(reference), files=False)
        return SeenModel(version=found.version) if found is not None and found.version else None

    def model_file(self, reference: str, version: int, path: str) -> bytes | None:
        """One small file of one version."""
        return model_file(self._door, parse_ref(reference), version, path)

    def kernel(self, reference: str) -> SeenKernel | None:
        """The notebook's newest version. What Kaggle does not say counts as what kit asks for."""
        found = kernels.read(self._door, reference)
        if found is None or found.version is None:
            return None
        return SeenKernel(
            version=found.version,
            source=found.source,
            datasets=found.dataset_sources,
            models=found.model_sources,
            internet=bool(found.internet),
            accelerator=found.machine_shape,
            private=found.private is not False,
        )
