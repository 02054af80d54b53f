"""What the loopback Kaggle remembers, one record for each thing that a client can name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence


READY = "READY"
FAILED = "FAILED"
# What a client sees while a version is processed, in this order; the last one stays until READY.
PROCESSING = ("BLOBS_RECEIVED", "BLOBS_DECOMPRESSED", "BLOBS_COPIED_TO_SDS")

QUEUED = "QUEUED"
RUNNING = "RUNNING"
COMPLETE = "COMPLETE"
ERROR = "ERROR"
NEVER_RUN = "NEW_SCRIPT"

SourceKind = Literal["dataset", "model", "kernel", "competition"]


@dataclass(frozen=True)
class StoredFile:
    """One file of a version: its path there, its bytes' SHA-256 and how many they are."""

    name: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Blob:
    """An upload session. `sha256` is empty until all `size` bytes have come."""

    token: str
    kind: str
    name: str
    size: int
    sha256: str = ""


@dataclass(frozen=True)
class Version:
    """A version of a dataset or of a model's variation: a full snapshot, usable once it is READY.

    `polls_left` is how often a client will still hear that it is being processed.
    """

    number: int
    files: tuple[StoredFile, ...]
    notes: str
    created: str
    polls_left: int = 0
    failed: bool = False

    @property
    def status(self) -> str:
        """READY, FAILED, or how far the processing is."""
        if self.polls_left:
            return PROCESSING[max(0, len(PROCESSING) - self.polls_left)]
        return FAILED if self.failed else READY


@dataclass(frozen=True)
class Dataset:
    """A dataset, known as `OWNER/SLUG`."""

    id: int
    ref: str
    title: str
    licence: str
    private: bool
    subtitle: str = ""
    description: str = ""
    versions: tuple[Version, ...] = ()


@dataclass(frozen=True)
class Model:
    """A model's page, known as `OWNER/SLUG`; its files belong to its variations."""

    id: int
    ref: str
    title: str
    private: bool
    subtitle: str = ""
    description: str = ""


@dataclass(frozen=True)
class Variation:
    """A variation (the protocol says instance), known as `OWNER/MODEL/FRAMEWORK/SLUG`, framework in lower case."""

    id: int
    ref: str
    framework: str
    licence: str
    overview: str = ""
    usage: str = ""
    versions: tuple[Version, ...] = ()


@dataclass(frozen=True)
class Source:
    """An input of a kernel. `text` is how the client wrote it; `version` is the one that this run uses."""

    kind: SourceKind
    ref: str
    text: str
    version: int


@dataclass(frozen=True)
class KernelVersion:
    """One push of a notebook, and the run that it started."""

    number: int
    text: str
    sources: tuple[Source, ...]
    machine_shape: str
    gpu: bool
    tpu: bool
    internet: bool
    docker_image: str
    timeout: int
    created: str
    status: str = QUEUED
    failure: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Kernel:
    """A notebook, known as `OWNER/SLUG`."""

    id: int
    ref: str
    title: str
    language: str
    kernel_type: str
    private: bool
    versions: tuple[KernelVersion, ...] = ()


@dataclass(frozen=True)
class Competition:
    """A competition whose data lie in a folder of this machine."""

    slug: str
    folder: str
    daily_submissions: int
    code_only: bool
    internet_allowed: bool


@dataclass(frozen=True)
class Submission:
    """A submission, of a kernel version's output file or of an uploaded file.

    `polls_left` is how often a client will still hear PENDING after the judge has spoken.
    """

    id: int
    competition: str
    file_name: str
    sha256: str
    size: int
    description: str
    date: str
    kernel: str = ""
    polls_left: int = 0
    judged: bool = False
    score: float | None = None
    error: str = ""


@dataclass(frozen=True)
class Counter:
    """The last number that was given out, so that no id is given twice."""

    name: str = "ids"
    last: int = field(default=100_000)


Some = TypeVar("Some", Version, KernelVersion)


def numbered(versions: Sequence[Some], number: int) -> Some | None:
    """The version with this number, or None."""
    return next((version for version in versions if version.number == number), None)


def following(versions: Sequence[Version | KernelVersion]) -> int:
    """The number of the next version."""
    return versions[-1].number + 1 if versions else 1


def current(versions: Sequence[Version]) -> Version | None:
    """The newest version that is ready: the one that readers get."""
    return next((version for version in reversed(versions) if version.status == READY), None)
