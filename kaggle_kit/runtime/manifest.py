"""`manifest.json`: what a folder must hold, so that it can be found and checked wherever Kaggle mounts it."""

from __future__ import annotations

import hashlib
import json
import stat
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import KitError, ModelError, OutsideError, WheelhouseError
from kaggle_kit.files import sha256_file
from kaggle_kit.outside import read_json, shown

if TYPE_CHECKING:
    from collections.abc import Mapping


MANIFEST = "manifest.json"
VERSION = 1
_METADATA = (
    "dataset-metadata.json",
    "datapackage.json",
    "kernel-metadata.json",
    "model-metadata.json",
    "model-instance-metadata.json",
    "dataset-cover-image.*",
)
"""Files that Kaggle's client reads and never sends."""
LEFT_OUT = (
    *_METADATA,
    ".*",
    "__pycache__",
    "*.pyc",
    "*.tmp",
    "*.lock",
    "*.incomplete",
    "optimizer.*",
    "scheduler.pt",
    "scaler.pt",
    "rng_state*.pth",
    "training_args.bin",
    "trainer_state.json",
    "global_step*",
)
"""Names that are sent nowhere: metadata, hidden files, caches, what a training run leaves beside its weights."""
_LONGEST_PATH = 4096
_ERRORS: dict[str, type[KitError]] = {"wheelhouse": WheelhouseError, "model": ModelError}


@dataclass(frozen=True)
class FileEntry:
    """One file of a folder: its path below the folder (with `/`), SHA-256 in hex, and size in bytes."""

    path: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Manifest:
    """What a folder of some `kind` ("wheelhouse", "model" or "build") and `name` must hold."""

    kind: str
    name: str
    files: tuple[FileEntry, ...]
    extra: Mapping[str, object] = field(default_factory=dict)


def file_entry(path: Path, folder: Path) -> FileEntry:
    """The entry of one file below `folder`, as it is now."""
    return FileEntry(path.relative_to(folder).as_posix(), sha256_file(path), path.stat().st_size)


def make_manifest(folder: Path, *, kind: str, name: str, extra: Mapping[str, object] | None = None) -> Manifest:
    """The manifest of what `folder` holds now, `manifest.json` itself left out."""
    entries = [file_entry(path, folder) for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST]
    return Manifest(kind, name, tuple(sorted(entries, key=lambda entry: entry.path)), extra or {})


def dump_manifest(manifest: Manifest) -> str:
    """The text of `manifest.json`: keys sorted, files by path."""
    files = [
        {"path": entry.path, "sha256": entry.sha256, "size": entry.size}
        for entry in sorted(manifest.files, key=lambda entry: entry.path)
    ]
    body = {
        **manifest.extra,
        "kind": manifest.kind,
        "name": manifest.name,
        "version": VERSION,
        "files": files,
    }
    return json.dumps(body, indent=2, sort_keys=True) + "\n"


def read_manifest(path: Path) -> Manifest:
    """Read a `manifest.json`.

    Raises KitError where it is missing, is no manifest of this version, or names a path outside its folder.
    """
    if not path.exists():
        raise KitError(f"{path} is missing: the folder cannot be checked; make it anew")
    try:
        body = read_json(path, follow=True)
    except OutsideError as error:
        raise KitError(f"{path} cannot be read as a manifest: {error}; make it anew") from error
    return _parse(body, path)


def _parse(body: Any, path: Path) -> Manifest:
    if not isinstance(body, dict) or body.get("version") != VERSION:
        raise KitError(f"{path} is not a kit manifest of version {VERSION}; make it anew with this kit")
    try:
        files = tuple(_entry(entry) for entry in body["files"])
        kind, name = _text(body, "kind"), _text(body, "name")
    except (KeyError, TypeError, ValueError) as error:
        raise KitError(f"{path} is not a whole manifest ({error!r}); make it anew") from error
    for entry in files:
        pure = PurePosixPath(entry.path)
        if pure.is_absolute() or ".." in pure.parts:
            raise KitError(f"{path} names {shown(entry.path)}, outside its folder; do not use this folder")
    known = {"kind", "name", "version", "files"}
    return Manifest(kind, name, files, {key: value for key, value in body.items() if key not in known})


def _entry(entry: Any) -> FileEntry:
    size = entry["size"]
    if type(size) is not int or not 0 <= size < 1 << 63:
        raise ValueError(f"the size {shown(size)}")
    return FileEntry(_text(entry, "path"), _text(entry, "sha256"), size)


def _text(body: Mapping[str, Any], key: str) -> str:
    value = body[key]
    if not isinstance(value, str) or len(value) > _LONGEST_PATH or not value.isprintable():
        raise ValueError(f"the {key} {shown(value)}")
    return value


def verify_files(folder: Path, manifest: Manifest, *, hashes: bool = True) -> None:
    """Check that `folder` holds every file of `manifest` in its right size and, with `hashes`, its right SHA-256.

    Raises WheelhouseError or ModelError, by the manifest's kind (else KitError), naming the first bad file.
    """
    error = _ERRORS.get(manifest.kind, KitError)
    for entry in manifest.files:
        path = folder / entry.path
        try:
            found_file = path.stat()
        except OSError:
            raise error(
                f"{entry.path} is missing from the {manifest.kind} {manifest.name} in {folder}; "
                f"fetch or upload it again"
            ) from None
        if not stat.S_ISREG(found_file.st_mode):
            raise error(
                f"{entry.path} of the {manifest.kind} {manifest.name} in {folder} is no regular file; "
                f"fetch or upload it again"
            )
        size = found_file.st_size
        if size != entry.size:
            raise error(
                f"{entry.path} of the {manifest.kind} {manifest.name} in {folder} has {size:,} bytes, "
                f"its manifest says {entry.size:,}: it was cut or changed; fetch or upload it again"
            )
        if hashes and (found := sha256_file(path)) != entry.sha256:
            raise error(
                f"{entry.path} of the {manifest.kind} {manifest.name} in {folder} has SHA-256 {found}, "
                f"its manifest says {entry.sha256}: it is corrupt; fetch or upload it again"
            )


def files_digest(manifest: Manifest) -> str:
    """SHA-256 over what a manifest lists: the same as long as no file changes, whatever else the manifest says."""
    listed = sorted((entry.path, entry.sha256, entry.size) for entry in manifest.files)
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()


KIT_WHEEL = "kaggle_kit_runtime-"
"""How the file name of the kit's own wheel begins."""
_TAKEN_OUT = "+~"
"""Signs that uploads lost in reports of 2024 to 2026; letters that are not ASCII go too."""


def kaggle_name(name: str) -> str:
    """What Kaggle calls a file that was uploaded as `name`: `torch-2.13.0+cu126-…` becomes `torch-2.13.0cu126-…`."""
    return "".join(sign for sign in name if sign.isascii() and sign not in _TAKEN_OUT)


def kaggle_path(path: str) -> str:
    """The same for the last part of a path with `/`."""
    pure = PurePosixPath(path)
    return str(pure.with_name(kaggle_name(pure.name)))


def kit_part_reference(reference: str) -> str:
    """The dataset of the small part (the kit's own wheel) that goes with a wheelhouse's dataset `owner/slug`."""
    return f"{reference}-kit"
