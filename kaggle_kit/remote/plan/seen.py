"""What a plan asks Kaggle, and no more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping


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
class SeenKernel:
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

    def kernel(self, reference: str) -> SeenKernel | None:
        """The notebook owner/slug."""

    def failed(self, reference: str, version: int) -> str | None:
        """How the run of one version of a notebook failed, in a word; None where it did not, or goes on."""
