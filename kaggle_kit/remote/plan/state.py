"""`kit.state.json`: what the last push left on Kaggle, in a file that a team keeps in git.

It holds no secret and nothing of a clock: two who push the same content write the same lines.
"""

from __future__ import annotations

import json
import math
import os
import re
import time
from contextlib import contextmanager, suppress
from hashlib import sha256
from typing import TYPE_CHECKING, Annotated, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kaggle_kit.errors import OutsideError, ProjectError, UsageError
from kaggle_kit.files import user_cache, write_atomic
from kaggle_kit.outside import MEGA, parse_json, read_text
from kaggle_kit.places import inside
from kaggle_kit.suggest import first_problem

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kaggle_kit.remote.plan.resources import Artifact, Notebook, Resource

STATE = "kit.state.json"
VERSION = 1
_MOST_BYTES = 64 * MEGA
_MARKER = re.compile(r"^(<{7}|\|{7}|={7}|>{7})(\s|$)", re.MULTILINE)
_REMEDY = "it may be deleted: the next push asks Kaggle and writes it again"

_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Number = Annotated[int, Field(gt=0)]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Pushed(_Table):
    """A dataset or a model as it was pushed: Kaggle's version, and what that holds."""

    version: _Number
    digest: _Sha256
    size: Annotated[int, Field(ge=0)]
    files: dict[str, Annotated[str, Field(pattern=r"^[0-9a-f]{64} \d+$")]]
    """Path → SHA-256 and size, with a space between."""


class Merged(_Table):
    """A version of a notebook that was edited in the browser, and whose edits were brought here: its source's hash."""

    version: _Number
    source: _Sha256


class PushedNotebook(_Table):
    """A notebook as it was pushed: Kaggle's version, the hash of its source, and the inputs that it was given."""

    version: _Number
    digest: _Sha256
    source: _Sha256
    inputs: list[str]
    """References with their versions, sorted."""
    merged: Merged | None = None
    """The newest version that kit pull has brought here since."""


class State(_Table):
    """All that was pushed, by reference."""

    version: int = VERSION
    datasets: dict[str, Pushed] = Field(default_factory=dict)
    models: dict[str, Pushed] = Field(default_factory=dict)
    notebooks: dict[str, PushedNotebook] = Field(default_factory=dict)
    pending: dict[str, Pushed | PushedNotebook] = Field(default_factory=dict)
    """By kind and reference: what is being asked for, as it will be noted when it is made."""

    def pushed(self, resource: Artifact) -> Pushed | None:
        """What is known of a dataset or a model."""
        return (self.datasets if resource.kind == "dataset" else self.models).get(resource.reference)

    def with_pushed(self, resource: Artifact, version: int) -> State:
        """The state after `resource` became `version` of its dataset or model."""
        return self.with_made(resource, _pushed(resource, version))

    def with_merged(self, reference: str, merged: Merged) -> State:
        """The state after the edits of a later version of a notebook that was pushed were brought here."""
        notebook = self.notebooks[reference].model_copy(update={"merged": merged})
        return self.model_copy(update={"notebooks": self.notebooks | {reference: notebook}})

    def with_notebook(self, resource: Notebook, version: int, inputs: tuple[str, ...]) -> State:
        """The state after the notebook `resource` was pushed with `inputs`."""
        return self.with_made(resource, _pushed_notebook(resource, version, inputs))

    def with_made(self, resource: Resource, made: Pushed | PushedNotebook) -> State:
        """The state that knows what was made of `resource`, which is pending no more."""
        table = {"dataset": "datasets", "model": "models", "notebook": "notebooks"}[resource.kind]
        known = self.without_pending(resource)
        return known.model_copy(update={table: getattr(self, table) | {resource.reference: made}})

    def with_pending(self, resource: Resource, version: int, inputs: tuple[str, ...] = ()) -> State:
        """The state before `version` of `resource` is asked for; `inputs` are a notebook's."""
        if resource.kind == "notebook":
            asked: Pushed | PushedNotebook = _pushed_notebook(cast("Notebook", resource), version, inputs)
        else:
            asked = _pushed(cast("Artifact", resource), version)
        return self.model_copy(update={"pending": self.pending | {resource.key: asked}})

    def with_doubt(self, resource: Artifact, version: int, *, before: Pushed | None) -> State:
        """The state before `version` of `resource` was noted: `before` is known of it, and the version is pending."""
        table = "datasets" if resource.kind == "dataset" else "models"
        rest = {name: pushed for name, pushed in getattr(self, table).items() if name != resource.reference}
        known = rest | ({resource.reference: before} if before else {})
        return self.model_copy(update={table: known}).with_pending(resource, version)

    def without_pending(self, resource: Resource) -> State:
        """The state in which nothing of `resource` is pending."""
        rest = {key: asked for key, asked in self.pending.items() if key != resource.key}
        return self.model_copy(update={"pending": rest})


def _pushed(resource: Artifact, version: int) -> Pushed:
    files = {file.path: f"{file.sha256} {file.size}" for file in resource.files}
    return Pushed(version=version, digest=resource.digest, size=resource.size, files=files)


def _pushed_notebook(resource: Notebook, version: int, inputs: tuple[str, ...]) -> PushedNotebook:
    return PushedNotebook(version=version, digest=resource.digest, source=resource.source, inputs=sorted(inputs))


def dump_state(state: State) -> str:
    """The text of the file: keys sorted, one fact a line, so that two changes meet only where they must."""
    body = state.model_dump(exclude_none=True)
    if not state.pending:
        del body["pending"]
    return json.dumps(body, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def save_state(root: Path, state: State) -> None:
    """Write the file whole or not at all; one that would say the same is not touched."""
    path, text = inside(root, STATE), dump_state(state)
    if not path.is_file() or path.read_bytes() != text.encode():
        write_atomic(path, text)


def state_age(root: Path) -> float:
    """Seconds since the file was written; without a file, since ever."""
    try:
        return time.time() - inside(root, STATE).stat().st_mtime
    except OSError:
        return math.inf


def load_state(root: Path) -> State:
    """Read the project's state; without a file, nothing was pushed.

    Raises ProjectError for a file that is half merged, of a newer kit, or damaged.
    """
    path = inside(root, STATE)
    if not os.path.lexists(path):
        return State()
    try:
        text = read_text(path, most_bytes=_MOST_BYTES, follow=True)
    except OutsideError as error:
        raise ProjectError(f"{error}; {_REMEDY}") from error
    if marker := _MARKER.search(text):
        line = text.count("\n", 0, marker.start()) + 1
        raise ProjectError(
            f"{path}, line {line}: a merge was not finished; take either side whole, or delete it: {_REMEDY}"
        )
    return _parse(text, path)


def _parse(text: str, path: Path) -> State:
    try:
        # A merge that went wrong repeats keys, of which JSON takes the last.
        body = parse_json(text.encode(), str(path), once=True)
    except OutsideError as error:
        raise ProjectError(f"{error}; {_REMEDY}") from error
    version = body.get("version") if isinstance(body, dict) else None
    if not isinstance(version, int):
        raise ProjectError(f"{path} is not a state of kit: it has no version; {_REMEDY}")
    if version != VERSION:
        raise ProjectError(f"{path} is of version {version}, this kit reads version {VERSION}; update kaggle-kit")
    try:
        return State.model_validate(body)
    except ValidationError as error:
        raise ProjectError(f"{path}: {first_problem(error, State)}; {_REMEDY}") from error


@contextmanager
def push_lock(root: Path) -> Iterator[None]:
    """Hold the right to push `root`'s project; the system gives it back when the process ends, however it ends.

    Raises UsageError where another process of this machine has it, with that process's id. The lock is on the
    project's folder itself, so no file is left behind; who holds it is noted in the user's cache.
    """
    import fcntl

    note = user_cache() / "pushes" / sha256(os.fsencode(root.resolve())).hexdigest()[:16]
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"{root} is being pushed by another process{_holder(note)}; wait until it is done, or end it"
            ) from None
        with suppress(OSError):  # it only helps whoever finds the lock held
            write_atomic(note, f"{os.getpid()}\n")
        try:
            yield
        finally:
            with suppress(OSError):
                note.unlink(missing_ok=True)
    finally:
        os.close(folder)


def _holder(note: Path) -> str:
    try:
        return f" ({int(note.read_text(encoding='utf-8'))})"
    except (OSError, ValueError):
        return ""
