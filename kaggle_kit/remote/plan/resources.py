"""What a notebook needs on Kaggle: datasets, versions of models, and the notebook itself."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, ClassVar, Literal

from kaggle_kit.outside import MEGA, read_text
from kaggle_kit.runtime.manifest import MANIFEST, FileEntry

if TYPE_CHECKING:
    from pathlib import Path

Kind = Literal["dataset", "model", "notebook"]
NOTEBOOK_BYTES = 16 * MEGA


@dataclass(frozen=True, order=True, kw_only=True)
class Problem:
    """What is wrong with a resource and what to do about it; a `warning` does not stop a push."""

    resource: str
    what: str
    next_step: str
    warning: bool = False

    def __str__(self) -> str:
        """The sentence that a user reads."""
        return f"{self.resource}: {self.what}; {self.next_step}"


@dataclass(frozen=True, kw_only=True)
class SentFile:
    """One file of a resource: its path on Kaggle (with `/`), size in bytes, SHA-256 in hex, and where it lies here."""

    path: str
    size: int
    sha256: str
    source: Path

    @property
    def entry(self) -> FileEntry:
        """What identifies it, wherever it lies."""
        return FileEntry(self.path, self.sha256, self.size)


@dataclass(frozen=True, kw_only=True)
class Origin:
    """A folder whose files are sent, links followed, and whether it lies outside of the project."""

    folder: Path
    outside: bool

    def __str__(self) -> str:
        """As a plan shows it."""
        return f"{self.folder}{' (OUTSIDE of the project)' if self.outside else ''}"


@dataclass(frozen=True, kw_only=True)
class Resource:
    """One thing on Kaggle and what it should hold.

    `reference` is owner/slug, of a model owner/model/framework/variation. One that is not `sent` is attached as Kaggle
    has it: it is another's, or its files are not here.
    """

    kind: ClassVar[Kind]
    reference: str
    name: str
    """Its name in this project: `engine`, `kit`, a model's, a notebook's."""
    title: str
    subtitle: str = ""
    files: tuple[SentFile, ...] = ()
    origins: tuple[Origin, ...] = ()
    """The folders here that its files come from."""
    digest: str = ""
    sent: bool = True
    private: bool = True
    left_out: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def key(self) -> str:
        """What distinguishes it from all others: a dataset and a notebook may have one reference."""
        return f"{self.kind} {self.reference}"

    @property
    def owner(self) -> str:
        """Whose it is."""
        return self.reference.split("/", 1)[0]

    @property
    def slug(self) -> str:
        """The second part of its reference."""
        return self.reference.split("/")[1]

    def problem(self, what: str, next_step: str, *, warning: bool = False) -> Problem:
        """Something that is wrong with it."""
        return Problem(resource=self.key, what=what, next_step=next_step, warning=warning)

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(file.size for file in self.files)

    @property
    def sizes(self) -> dict[str, int]:
        """The bytes of each file by its path."""
        return {file.path: file.size for file in self.files}


@dataclass(frozen=True, kw_only=True)
class Artifact(Resource):
    """Files under a licence, in versions: a dataset, or the variation of a model."""

    licence: str | None = None
    model: str | None = None
    """Of a model, wherever it lies: its name in `kit.toml`, by which a notebook finds its manifest."""
    by_reference: bool = False
    """Of a model of another owner: a notebook finds it by its reference if it has no manifest of kit."""
    most_kl: float | None = None
    """Of a model: how far its answers may be from its reference's, where `kit.toml` says."""

    def manifest(self) -> SentFile | None:
        """The file that identifies its content, where it has one."""
        return next((file for file in self.files if file.path == MANIFEST), None)


@dataclass(frozen=True, kw_only=True)
class Dataset(Artifact):
    """A dataset: a part of a wheelhouse, or a model."""

    kind = "dataset"


@dataclass(frozen=True, kw_only=True)
class Model(Artifact):
    """A variation of a Kaggle model, in the version that `kit.toml` names."""

    kind = "model"
    version: int


@dataclass(frozen=True, kw_only=True)
class NotebookSettings:
    """How a notebook runs on Kaggle. References are owner/slug, of models with the version; tuples are sorted."""

    title: str
    code_file: str
    private: bool
    gpu: bool
    tpu: bool
    internet: bool
    accelerator: str | None
    competitions: tuple[str, ...]
    datasets: tuple[str, ...]
    models: tuple[str, ...]
    kernels: tuple[str, ...]
    docker_image: str | None
    """A reference with its digest, where `kit.toml` names one."""
    image_pinning: str | None
    """`original` or `latest`, where it does not."""
    session_seconds: int

    def hash(self) -> str:
        """SHA-256 over all settings."""
        return sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Notebook(Resource):
    """A built notebook."""

    kind = "notebook"
    settings: NotebookSettings
    source: str
    """The identity of what it says (see `source_identity`)."""
    target: str
    """The target that it was built for."""
    kit_wheel: str = ""
    """The SHA-256 of the kit's own wheel that it was built for; empty where its build does not say."""
    online: bool = False
    """Whether `kit.toml` asks for internet: it makes something, and is never submitted."""

    @property
    def text(self) -> str:
        """Its file's text."""
        path = next(file.source for file in self.files if file.path == self.settings.code_file)
        return read_text(path, most_bytes=NOTEBOOK_BYTES)
