"""Numbered versions of datasets, variations and notebooks: one from its upload until it is ready, read, counted."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, TypeVar

from kaggle_kit.loopback.blobs import finished_blob
from kaggle_kit.loopback.records import READY, Dataset, StoredFile, Variation, Version
from kaggle_kit.loopback.replies import Json, Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kaggle_kit.loopback.service import Service

# What has versions of files.
Versioned = TypeVar("Versioned", Dataset, Variation)


class Numbered(Protocol):
    """Anything that has a version number."""

    @property
    def number(self) -> int:
        """1 for the first one."""


Some = TypeVar("Some", bound=Numbered)


def numbered(versions: Sequence[Some], number: int) -> Some | None:
    """The version with this number, or None."""
    return next((version for version in versions if version.number == number), None)


def following(versions: Sequence[Numbered]) -> int:
    """The number of the next version."""
    return versions[-1].number + 1 if versions else 1


def sent_files(service: Service, body: Json) -> tuple[StoredFile, ...]:
    """The uploaded files that a request names by their tokens, those in folders too.

    Raises Refusal where there is none, a token is not known, an upload not finished, or a name used twice.
    """
    files = tuple(_files(service, body))
    if not files:
        raise Refusal(400, "a version needs at least one file")
    return files


def _files(service: Service, body: Json, prefix: str = "") -> Iterator[StoredFile]:
    names: set[str] = set()
    for entry in body.get("files") or ():
        blob = finished_blob(service, entry.get("token"))
        if blob.name in names:
            raise Refusal(400, f"two files are called {prefix}{blob.name}")
        names.add(blob.name)
        yield StoredFile(prefix + blob.name, blob.sha256, blob.size)
    for folder in body.get("directories") or ():
        yield from _files(service, folder, f"{prefix}{folder.get('name', '')}/")


def new_version(
    service: Service, number: int, files: tuple[StoredFile, ...], *, notes: str, failing: bool = False
) -> Version:
    """A version at the beginning of its processing; a file name with @ makes that fail, as on Kaggle."""
    return Version(
        number=number,
        files=files,
        notes=notes,
        created=service.now(),
        polls_left=service.settings.polls_until_ready,
        failed=any("@" in file.name for file in files) or failing,
    )


def asked_about(service: Service, known: Versioned) -> None:
    """Note that a client has asked once more: whatever is processed is one step further."""
    steps = tuple(replace(version, polls_left=max(0, version.polls_left - 1)) for version in known.versions)
    service.store.put(known.ref, replace(known, versions=steps))


def current(versions: Sequence[Version]) -> Version | None:
    """The newest version that is ready: the one that readers get."""
    return next((version for version in reversed(versions) if version.status == READY), None)


def readable(known: Versioned, number: object) -> Version:
    """The version with this number, or the current one. Raises Refusal where it is not there or not ready."""
    version = numbered(known.versions, int(str(number))) if number else current(known.versions)
    if version is None or version.status != READY:
        raise Refusal(404, f"{known.ref} has no {f'version {number}' if number else 'version'} that is ready")
    return version
