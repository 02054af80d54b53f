"""What datasets and models have in common: who sees them, and a version's way from its upload until it is READY."""

from __future__ import annotations

import gzip
import shutil
import tarfile
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, TypeVar

from kaggle_kit.loopback.protocol import Json, Refusal
from kaggle_kit.loopback.records import READY, Dataset, Kernel, Model, StoredFile, Variation, Version, current, numbered
from kaggle_kit.loopback.uploads import finished_blob

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kaggle_kit.loopback.service import Service
    from kaggle_kit.loopback.store import Store

# What has versions of files, and what has a page that is private or public.
Versioned = TypeVar("Versioned", Dataset, Variation)
Owned = TypeVar("Owned", Dataset, Model, Kernel)

_TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2")


def find_owned(service: Service, kind: type[Owned], ref: str) -> Owned:
    """What the user may read. Raises Refusal: 404 for one's own, 403 for another's, as if it were private."""
    record = service.store.get(kind, ref)
    if record is not None and _visible(service, record):
        return record
    service.check_own(ref, f"{kind.__name__.lower()}s.get")
    raise Refusal(404, f"{kind.__name__} not found: {ref}")


def search_owned(service: Service, kind: type[Owned], *, owner: object, text: object) -> list[Owned]:
    """Everything of a kind that the user may see, of one owner, with a text in its reference or title."""
    wanted = str(text or "").lower()
    return [
        record
        for record in service.store.all(kind)
        if (not owner or record.ref.startswith(f"{owner}/"))
        and wanted in f"{record.ref} {record.title}".lower()
        and _visible(service, record)
    ]


def _visible(service: Service, record: Dataset | Model | Kernel) -> bool:
    return not record.private or service.is_own(record.ref)


def new_version(
    service: Service, number: int, body: Json, *, notes: str, unpack: bool = False, fault: str = ""
) -> Version:
    """A version of the files that a request names, at the beginning of its processing.

    A file name with @ makes the processing fail, as on Kaggle; so does `fault`, where it was asked for. Raises Refusal
    where the files cannot be used.
    """
    files = _sent_files(service, body)
    if unpack:
        files = tuple(part for file in files for part in _unpacked(service.store, file))
    failing = bool(fault) and service.faults.strikes(fault)

    return Version(
        number=number,
        files=files,
        notes=notes,
        created=service.now(),
        polls_left=service.settings.polls_until_ready,
        failed=failing or any("@" in file.name for file in files),
    )


def count_poll(service: Service, known: Versioned) -> None:
    """Note that a client has asked once more: whatever is processed is one step further."""
    steps = tuple(replace(version, polls_left=max(0, version.polls_left - 1)) for version in known.versions)
    service.store.put(known.ref, replace(known, versions=steps))


def readable(known: Versioned, number: object) -> Version:
    """The version with this number, or the current one. Raises Refusal if it is not there or not ready."""
    version = numbered(known.versions, int(str(number))) if number else current(known.versions)
    if version is None or version.status != READY:
        raise Refusal(404, f"{known.ref} has no {f'version {number}' if number else 'version'} that is ready")
    return version


def current_size(versions: tuple[Version, ...]) -> tuple[int, int]:
    """The number of the newest version that is ready, and its bytes; zeros if none is."""
    ready = current(versions)
    return (ready.number, sum(file.size for file in ready.files)) if ready else (0, 0)


def _sent_files(service: Service, body: Json) -> tuple[StoredFile, ...]:
    """The uploaded files that a request names by their tokens, those in folders too.

    Raises Refusal if there is none, a token is not known, an upload not finished, or a name used twice.
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


def _unpacked(store: Store, file: StoredFile) -> list[StoredFile]:
    """A file, or what an archive holds, in a folder of the archive's own name: zip, tar and gz, no wheels.

    An archive's single top folder is taken off. An archive that cannot be read stays as it is, as does every one where
    the store keeps no bytes.
    """
    path, suffix = store.object(file.sha256), _archive_suffix(file.name)
    if not suffix or not path.is_file():
        return [file]

    stem = file.name[: -len(suffix)]
    with tempfile.TemporaryDirectory(dir=store.uploads) as name:
        target = Path(name) / stem
        try:
            _extract(path, suffix, target)
        except (OSError, EOFError, tarfile.TarError, zipfile.BadZipFile):
            return [file]

        if suffix == ".gz":
            return [store.adopt(target, stem)]
        top = _single_top(target)
        members = sorted(member for member in top.rglob("*") if member.is_file())
        return [store.adopt(member, str(PurePosixPath(stem) / member.relative_to(top))) for member in members]


def _archive_suffix(name: str) -> str:
    suffixes = (".zip", *_TARS, ".gz")
    return next((suffix for suffix in suffixes if name.lower().endswith(suffix)), "")


def _extract(archive: Path, suffix: str, target: Path) -> None:
    if suffix == ".gz":
        target.parent.mkdir(parents=True, exist_ok=True)
        with gzip.open(archive) as source, target.open("wb") as stream:
            shutil.copyfileobj(source, stream)
        return

    target.mkdir(parents=True)
    if suffix == ".zip":
        with zipfile.ZipFile(archive) as opened:
            opened.extractall(target)  # noqa: S202 - zipfile keeps members below the target
        return
    with tarfile.open(archive) as opened_tar:
        opened_tar.extractall(target, filter="data")


def _single_top(folder: Path) -> Path:
    entries = list(folder.iterdir())
    return entries[0] if len(entries) == 1 and entries[0].is_dir() else folder
