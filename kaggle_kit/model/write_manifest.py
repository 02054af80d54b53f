"""`manifest.json` of a checkpoint: SHA-256 and size of every file that is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kaggle_kit.errors import KitError, ModelError
from kaggle_kit.files import write_atomic
from kaggle_kit.runtime.manifest import MANIFEST, FileEntry, Manifest, dump_manifest, file_entry, read_manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kaggle_kit.model.inspect import Inspection


def write_manifest(
    inspection: Inspection,
    *,
    name: str | None = None,
    extra: Mapping[str, object] | None = None,
    tell: Callable[[str, int], None] | None = None,
) -> Manifest:
    """Hash every file and write the manifest beside them, in one step.

    The name is the given one, else the old manifest's, else the folder's; what else the old one says (where the model
    is from, how it was quantised) is kept and joined by `extra`. `tell` hears each file's path and bytes before it is
    hashed. Raises ModelError where the inspection found errors: a manifest would call a broken model whole.
    """
    folder = inspection.folder
    if inspection.errors:
        raise ModelError(
            f"{folder.root} has {len(inspection.errors)} errors, so no manifest was written; mend them first"
        )
    path = folder.root / MANIFEST
    kept: Mapping[str, object] = {}
    if path.is_file():
        try:
            old = read_manifest(path)
            name, kept = name or old.name, old.extra
        except KitError:
            # It is written anew for that very reason.
            kept = {}
    entries: list[FileEntry] = []
    for known, file in folder.files.items():
        if tell:
            tell(known, file.stat().st_size)
        entries.append(file_entry(file, folder.root))
    manifest = Manifest("model", name or folder.root.resolve().name, tuple(entries), {**kept, **(extra or {})})
    write_atomic(path, dump_manifest(manifest))
    return manifest
