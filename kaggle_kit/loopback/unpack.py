"""Archives in a dataset become folders: zip and tar files are unpacked, a .gz is gunzipped. Wheels are not."""

from __future__ import annotations

import gzip
import shutil
import tarfile
import tempfile
import zipfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kaggle_kit.loopback.records import StoredFile
    from kaggle_kit.loopback.store import Store

_TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2")


def unpacked(store: Store, files: tuple[StoredFile, ...]) -> tuple[StoredFile, ...]:
    """The files of a version once its archives are unpacked, each into a folder of its own name.

    An archive's single top folder is taken off. An archive that cannot be read stays as it is, as does every one where
    the store keeps no bytes.
    """
    found: list[StoredFile] = []
    for file in files:
        found += _unpacked(store, file)
    return tuple(found)


def _unpacked(store: Store, file: StoredFile) -> list[StoredFile]:
    path, suffix = store.object(file.sha256), _archive_suffix(file.name)
    if not suffix or not path.is_file():
        return [file]
    stem = file.name[: -len(suffix)]
    with tempfile.TemporaryDirectory(dir=store.uploads) as name:
        room = Path(name)
        try:
            _extract(path, suffix, room / stem)
        except (OSError, EOFError, tarfile.TarError, zipfile.BadZipFile):
            return [file]
        if suffix == ".gz":
            return [store.adopt(room / stem, stem)]
        top = _single_top(room / stem)
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
