"""What was asked of Kaggle and not noted as made: a push was killed between the two, and this finds out what came.

A push notes each version that it asks for before it asks. The next one knows that version again by its source or its
manifest and by its inputs, and does not make it a second time.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from kaggle_kit.remote.client.notebooks import newest_version, source_identity
from kaggle_kit.remote.client.versions import DELETED, FAILED, UNDER_WAY
from kaggle_kit.remote.plan.resources import Dataset
from kaggle_kit.remote.plan.state import PushedNotebook
from kaggle_kit.remote.references import versions
from kaggle_kit.runtime.manifest import MANIFEST

if TYPE_CHECKING:
    from collections.abc import Callable

    from kaggle_kit.remote.client.notebooks import RemoteNotebook
    from kaggle_kit.remote.plan.remote import Remote
    from kaggle_kit.remote.plan.resources import Artifact, Resource
    from kaggle_kit.remote.plan.state import Pushed, State

_LATER = 5
"""How many versions are looked at, from the one that was asked for: another may have come just before it."""


@dataclass(frozen=True)
class Outcome:
    """The state with what became of the request; `open` says what is still to be seen, "" where nothing."""

    state: State
    open: str = ""


def settle(resource: Resource, state: State, remote: Remote, *, settled: bool) -> Outcome:
    """What became of the version of `resource` that a killed push had asked for; nothing where there was none.

    `settled`: whether that is so long ago that Kaggle shows what it made. Raises RemoteError.
    """
    asked = state.pending.get(resource.key)
    if asked is None:
        return Outcome(state)
    if isinstance(asked, PushedNotebook):
        number, busy = _notebook(resource.reference, asked, remote)
    else:
        number, busy = _artifact(resource, asked, remote)  # type: ignore[arg-type]  # by its key it is one
    if number:
        return Outcome(state.with_made(resource, asked.model_copy(update={"version": number})))
    if busy or (number is None and not settled):
        what = "is still processed" if busy else "is not there (yet)"
        return Outcome(state, f"an interrupted push asked for version {asked.version}, which {what}")
    return Outcome(state.without_pending(resource))


_Found = tuple[int | None, bool]
"""The number of the version that was made, 0 if none was, None if it may still come; whether it is processed."""


def _notebook(reference: str, asked: PushedNotebook, remote: Remote) -> _Found:
    seen = remote.notebook(reference)
    newest = newest_version(seen) if seen else 0
    if newest < asked.version:
        return None, False
    for number in range(asked.version, min(newest, asked.version + _LATER) + 1):
        page = seen if number == newest else remote.notebook(reference, number)
        if page is not None and source_identity(page.source) == asked.source and has_inputs(page, asked.inputs):
            return number, False
    return 0, False


def has_inputs(page: RemoteNotebook, inputs: list[str] | tuple[str, ...]) -> bool:
    """Whether a notebook's version can have been pushed with these inputs: Kaggle may have dropped some, or say no
    versions, but none that was not asked for and no other version is there."""
    theirs, ours = versions((*page.datasets, *page.models)), versions(inputs)
    return all(name in ours and version in {None, ours[name]} for name, version in theirs.items())


def _artifact(resource: Artifact, asked: Pushed, remote: Remote) -> _Found:
    number, busy = _version(resource, asked, remote)
    if number is None and not busy:
        # A version that becomes ready between the questions for number and state is in neither answer.
        number, busy = _version(resource, asked, remote)
    return number, busy


def _version(resource: Artifact, asked: Pushed, remote: Remote) -> _Found:
    read: Callable[[str, int, str], bytes | None]
    if isinstance(resource, Dataset):
        dataset, read = remote.dataset(resource.reference), remote.dataset_file
        newest, status = (dataset.newest, dataset.status) if dataset else (0, DELETED)
    else:
        model, read = remote.model(resource.reference), remote.model_file
        newest, status = ((model.version or 0), model.status) if model else (0, DELETED)

    if newest <= asked.version and status in UNDER_WAY:
        return None, True
    if newest < asked.version:
        return (0 if status in FAILED - {DELETED} else None), False
    if newest == asked.version and status in FAILED:
        return 0, False

    wanted = asked.files.get(MANIFEST, "").partition(" ")[0]
    for number in range(asked.version, min(newest, asked.version + _LATER) + 1):
        manifest = read(resource.reference, number, MANIFEST)
        if manifest is not None and sha256(manifest).hexdigest() == wanted:
            return number, False
    return 0, False
