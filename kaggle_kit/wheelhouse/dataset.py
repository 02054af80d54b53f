"""A wheelhouse as the two datasets in which Kaggle gets it.

`engine` holds the locked wheels, gigabytes that change with the lock only; `kit` holds the kit's own wheel, which
changes with every line of the runtime. The names are those that Kaggle will show; the manifests know the true ones.
"""

import json
import re
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from kaggle_kit.errors import KitError, UsageError, WheelhouseError
from kaggle_kit.files import fresh_folder, link_or_copy, write_atomic
from kaggle_kit.runtime.manifest import (
    KIT_WHEEL,
    MANIFEST,
    FileEntry,
    Manifest,
    dump_manifest,
    file_entry,
    kaggle_name,
    kit_part_reference,
    read_manifest,
)
from kaggle_kit.wheelhouse.archive import read_archive
from kaggle_kit.wheelhouse.fetch import disk_error
from kaggle_kit.wheelhouse.folder import KIND, build_kit_wheel, verify

METADATA = "dataset-metadata.json"
README = "README.md"
_MADE_OF = "made-of.json"
WHEELS = "wheels"
"""The sub-folder of the engine's part: Kaggle counts files at the top (50), not below."""
_SLUG = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_LENGTHS = range(6, 51)
"""Letters of a dataset's slug, and of its title, as Kaggle's client and server check them."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One dataset to upload: `name` "engine" or "kit", `reference` owner/slug, its folder, files and bytes."""

    name: str
    reference: str
    folder: Path
    files: int
    size: int


def make_dataset(wheelhouse: Path, *, reference: str, out: Path) -> tuple[Part, Part]:
    """Write the parts of `wheelhouse` to `out`/engine and `out`/kit, as hard links where the file system allows.

    The same wheelhouse gives the same bytes, and a new wheel of the kit leaves the engine's part as it was.
    Raises WheelhouseError if the wheelhouse is not whole or two files would have one name on Kaggle; UsageError for
    a reference that Kaggle would refuse, or an `out` that is something else.
    """
    references = {"engine": reference, "kit": kit_part_reference(reference)}
    for checked in references.values():
        _check_reference(checked)

    manifest = verify(wheelhouse)
    own = tuple(entry for entry in manifest.files if entry.path.startswith(KIT_WHEEL))
    locked = tuple(entry for entry in manifest.files if entry not in own)
    if not own:
        raise WheelhouseError(f"{wheelhouse} lacks the kit's own wheel; fetch the wheelhouse again")

    engine = _part_manifest(manifest, locked, wheelhouse, part="engine", below=f"{WHEELS}/")
    text = dump_manifest(engine)
    kit = _part_manifest(manifest, own, wheelhouse, part="kit", below="", engine=sha256(text.encode()).hexdigest())
    try:
        return (
            _write(engine, wheelhouse, out / "engine", references["engine"]),
            _write(kit, wheelhouse, out / "kit", references["kit"]),
        )
    except OSError as error:
        raise disk_error(error, out) from error


def make_kit_part(target: str, *, reference: str, out: Path) -> Path:
    """Write the kit's part alone to `out`/kit, of no wheelhouse: all that a notebook needs that makes a model.

    `reference` is that of the wheelhouse's dataset. Raises UsageError as `make_dataset` does.
    """
    kit = kit_part_reference(reference)
    _check_reference(kit)
    try:
        (out / _MADE_OF).unlink(missing_ok=True)
        with tempfile.TemporaryDirectory() as scratch:
            entry = file_entry(build_kit_wheel(Path(scratch)), Path(scratch))
            return _write(Manifest(KIND, target, (entry,), {"part": "kit"}), Path(scratch), out / "kit", kit).folder
    except OSError as error:
        raise disk_error(error, out) from error


def make_stand_in(target: str, wheelhouse: Path, *, reference: str, out: Path) -> None:
    """Write both parts of a wheelhouse to `out`, the engine's without a wheel: for a rehearsal that runs no notebook.

    They count as those of `wheelhouse`, if it is on this machine. Raises UsageError as `make_dataset` does.
    """
    make_kit_part(target, reference=reference, out=out)
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch) / "stand-in.txt"
        place.write_text("This stands for the wheels of a rehearsal without a run.\n", encoding="utf-8")
        entry = file_entry(place, Path(scratch))
        _write(Manifest(KIND, target, (entry,), {"part": "engine"}), Path(scratch), out / "engine", reference)
    if (wheelhouse / MANIFEST).is_file():
        write_atomic(out / _MADE_OF, _stamp(wheelhouse, reference))


def made_kit_part(reference: str, out: Path) -> dict[str, Path]:
    """The part that `make_kit_part` has written to `out`, by its reference; none where another's lies there."""
    folder = out / "kit"
    if not _are_whole([folder]) or "parts" in read_manifest(folder / MANIFEST).extra:
        return {}
    return {kit_part_reference(reference): folder}


def ready_parts(wheelhouse: Path, *, reference: str, out: Path) -> dict[str, Path]:
    """The parts of `wheelhouse` by reference, the engine's first; made in `out` only where it has not got them yet.

    Raises what `make_dataset` raises.
    """
    made_of = out / _MADE_OF
    stamp = _stamp(wheelhouse, reference)
    folders = _folders(reference, out)
    if not (made_of.is_file() and made_of.read_text(encoding="utf-8") == stamp and _are_whole(folders.values())):
        made_of.unlink(missing_ok=True)
        make_dataset(wheelhouse, reference=reference, out=out)
        write_atomic(made_of, stamp)
    return folders


def _stamp(wheelhouse: Path, reference: str) -> str:
    """What parts are made of."""
    return json.dumps([sha256((wheelhouse / MANIFEST).read_bytes()).hexdigest(), reference]) + "\n"


def made_parts(reference: str, out: Path) -> dict[str, Path]:
    """The parts that `out` has already, as `ready_parts` tells them; none where they are not whole."""
    folders = _folders(reference, out)
    return folders if _are_whole(folders.values()) else {}


def _folders(reference: str, out: Path) -> dict[str, Path]:
    return {reference: out / "engine", kit_part_reference(reference): out / "kit"}


def _are_whole(folders: Iterable[Path]) -> bool:
    """Whether each folder has the files of its manifest, by name and size."""
    try:
        return all(
            (folder / entry.path).stat().st_size == entry.size
            for folder in folders
            for entry in read_manifest(folder / MANIFEST).files
        )
    except (OSError, KitError):
        return False


def _check_reference(reference: str) -> None:
    owner, _, slug = reference.partition("/")
    if not owner or not _SLUG.fullmatch(slug) or len(slug) not in _LENGTHS:
        raise UsageError(
            f"{reference!r} ({len(slug)} letters after the owner) is no dataset for Kaggle: owner/slug, the slug "
            f"of {_LENGTHS[0]} to {_LENGTHS[-1]} small letters, digits and single hyphens"
        )


def _part_manifest(
    whole: Manifest,
    entries: tuple[FileEntry, ...],
    wheelhouse: Path,
    *,
    part: str,
    below: str,
    engine: str | None = None,
) -> Manifest:
    """The manifest of one part: stored names as paths, the true ones where they differ."""
    stored = stored_names(entry.path for entry in entries)
    only = whole.extra.get("only")
    pythons_of: Mapping[str, list[str]] = only if isinstance(only, dict) else {}
    pythons = whole.extra.get("pythons")
    extra: dict[str, object] = {
        **{key: value for key, value in whole.extra.items() if key != "only"},
        "part": part,
        "parts": ["engine", "kit"],
        "installed_bytes": _installed(entries, wheelhouse, pythons_of, pythons if isinstance(pythons, list) else []),
    }

    if names := {f"{below}{stored[entry.path]}": entry.path for entry in entries if stored[entry.path] != entry.path}:
        extra["true_names"] = names
    if chosen := {
        f"{below}{stored[entry.path]}": pythons_of[entry.path] for entry in entries if entry.path in pythons_of
    }:
        extra["only"] = chosen
    if engine:
        extra["engine_manifest"] = engine

    files = tuple(FileEntry(f"{below}{stored[entry.path]}", entry.sha256, entry.size) for entry in entries)
    return Manifest(KIND, whole.name, files, extra)


def _installed(
    entries: tuple[FileEntry, ...], wheelhouse: Path, only: Mapping[str, list[str]], pythons: list[str]
) -> dict[str, int]:
    """Bytes when installed, for each Python."""
    sizes = {entry.path: read_archive(wheelhouse / entry.path).installed_bytes for entry in entries}
    return {
        python: sum(size for path, size in sizes.items() if python in (only.get(path) or [python]))
        for python in pythons
    }


def _write(manifest: Manifest, wheelhouse: Path, folder: Path, reference: str) -> Part:
    true_names = manifest.extra.get("true_names")
    names: Mapping[str, str] = true_names if isinstance(true_names, dict) else {}
    if folder.exists() and not (folder / METADATA).is_file() and any(folder.iterdir()):
        raise UsageError(f"{folder} is no part of a wheelhouse's dataset; name an empty or a new folder")
    with fresh_folder(folder) as fresh:
        for entry in manifest.files:
            source = wheelhouse / names.get(entry.path, Path(entry.path).name)
            target = fresh / entry.path
            target.parent.mkdir(exist_ok=True)
            link_or_copy(source, target)
        write_atomic(fresh / METADATA, _metadata(manifest, reference))
        write_atomic(fresh / README, _readme(manifest, reference))
        write_atomic(fresh / MANIFEST, dump_manifest(manifest))
    size = sum(entry.size for entry in manifest.files)
    return Part(
        name=str(manifest.extra["part"]), reference=reference, folder=folder, files=len(manifest.files), size=size
    )


def _metadata(manifest: Manifest, reference: str) -> str:
    """`dataset-metadata.json`: Kaggle makes a dataset private unless told; `isPrivate` says it to readers."""
    slug = reference.split("/", 1)[1]
    body = {
        "id": reference,
        "title": slug.replace("-", " "),
        "subtitle": f"Wheels for offline notebooks, part {manifest.extra['part']}"[:80],
        "licenses": [{"name": "other"}],
        "isPrivate": True,
        "keywords": [],
    }
    return json.dumps(body, indent=2, ensure_ascii=True) + "\n"


def _readme(manifest: Manifest, reference: str) -> str:
    """The dataset's description: what it is, what goes with it, what each file is."""
    pythons = manifest.extra.get("pythons")
    served = ", ".join(map(str, pythons)) if isinstance(pythons, list) else "any"
    part = str(manifest.extra["part"])
    other = (
        f"It goes with the dataset `{kit_part_reference(reference)}`, which holds the kit's own wheel."
        if part == "engine"
        else f"It goes with the dataset `{reference.removesuffix('-kit')}`, which holds the engine's wheels."
    )
    size = sum(entry.size for entry in manifest.files)
    true_names = manifest.extra.get("true_names")
    renamed = len(true_names) if isinstance(true_names, dict) else 0
    return "\n".join(
        [
            f"# Wheels for the target {manifest.name}, part {part}",
            "",
            f"{len(manifest.files)} wheels, {size / 1e6:,.0f} MB, for Python {served}. {other}",
            "",
            "A notebook finds this folder by `manifest.json`, checks the SHA-256 of each file that it installs, and",
            "installs with no index. Made by `kit wheels dataset`; do not edit it: upload a new version instead.",
            "",
            f"Kaggle shows {renamed} of the files without the + of their names; `true_names` in the manifest has them."
            if renamed
            else "All files have their own names.",
            "Each wheel is under the licence in its own metadata.",
            "",
        ]
    )


def stored_names(names: Iterable[str]) -> dict[str, str]:
    """The name that Kaggle will show, for each true name.

    Raises WheelhouseError if two files would get one name, or where Kaggle refuses a sign: an `@` makes the
    processing of an upload fail later, without an error at the upload (reported on Kaggle's client, issue 430).
    """
    stored: dict[str, str] = {}
    taken: dict[str, str] = {}
    for name in sorted(names):
        shown = kaggle_name(name)
        if "@" in name or not shown:
            raise WheelhouseError(f"Kaggle takes no file named {name}; leave this package out of the wheelhouse")
        if (other := taken.setdefault(shown, name)) != name:
            raise WheelhouseError(
                f"{other} and {name} would both be {shown} on Kaggle, which takes + and ~ out of names; keep one"
            )
        stored[name] = shown
    return stored
