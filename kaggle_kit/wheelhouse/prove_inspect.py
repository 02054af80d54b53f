"""Every wheel opened once: its texts, its names and its libraries, kept in the user's cache by SHA-256.

Reading a CUDA wheelhouse through takes minutes; the same bytes need it once.
"""

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kaggle_kit.errors import OutsideError, WheelhouseError
from kaggle_kit.files import write_atomic
from kaggle_kit.outside import read_json
from kaggle_kit.wheelhouse.archive import Archive, read_archive
from kaggle_kit.wheelhouse.elf import Elf, read_elf

_FORMAT = 2
_MOST_KEPT_BYTES = 256 << 20
_MAGIC = b"\x7fELF"


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """One wheel: what its archive holds, and its libraries by their names in it."""

    archive: Archive
    libraries: Mapping[str, Elf]
    unreadable: Mapping[str, str]
    """Files that begin as ELF files do and are none: why."""


@dataclass(frozen=True, kw_only=True)
class Inspected:
    """All wheels of a wheelhouse: by file name, and those that are unsafe or broken, with the reason."""

    wheels: Mapping[str, Inspection]
    refused: Mapping[str, str]


def inspect_all(
    wheels: Mapping[Path, str], *, cache: Path, progress: Callable[[int, int], None] | None = None
) -> Inspected:
    """Inspect `wheels` (path → SHA-256, checked before), several at a time, the largest first."""
    found: dict[str, Inspection] = {}
    refused: dict[str, str] = {}
    total = sum(path.stat().st_size for path in wheels)
    done = 0
    ordered = sorted(wheels, key=lambda path: -path.stat().st_size)
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # inflating and hashing let other threads run
        jobs = {path: pool.submit(inspect_wheel, path, sha256=wheels[path], cache=cache) for path in ordered}
        for path, job in jobs.items():
            try:
                found[path.name] = job.result()
            except WheelhouseError as error:
                refused[path.name] = str(error)
            done += path.stat().st_size
            if progress:
                progress(done, total)
    return Inspected(wheels=dict(sorted(found.items())), refused=dict(sorted(refused.items())))


def inspect_wheel(path: Path, *, sha256: str, cache: Path) -> Inspection:
    """Inspect one wheel of the given SHA-256. Raises WheelhouseError where its archive is unsafe or broken."""
    kept = cache / "inspected" / f"{sha256}.json"
    if (known := _read(kept, path.name)) is not None:
        return known
    libraries: dict[str, Elf] = {}
    unreadable: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="kit-inspect-") as folder:

        def read(name: str, pieces: Iterator[bytes]) -> None:
            first = next(pieces, b"")
            if not first.startswith(_MAGIC) or ".so" not in name.rsplit("/", 1)[-1]:
                return
            copy = Path(folder) / "library"
            with copy.open("wb") as stream:
                stream.write(first)
                for piece in pieces:
                    stream.write(piece)
            try:
                libraries[name] = read_elf(copy)
            except WheelhouseError as error:
                unreadable[name] = str(error).replace(copy.name, name, 1)

        archive = read_archive(path, reader=read)
    inspection = Inspection(archive=archive, libraries=libraries, unreadable=unreadable)
    write_atomic(kept, json.dumps({"format": _FORMAT} | asdict(inspection), sort_keys=True))
    return inspection


def _read(kept: Path, file: str) -> Inspection | None:
    """What the cache knows of a wheel; None where it knows nothing that can be read."""
    try:
        body: dict[str, Any] = read_json(kept, most_bytes=_MOST_KEPT_BYTES)
        if body.pop("format") != _FORMAT:
            return None
        told = body["archive"]
        archive = told | {"file": file, "members": tuple(told["members"]), "warnings": tuple(told["warnings"])}
        return Inspection(
            archive=Archive(**archive),
            libraries={name: _elf(fields) for name, fields in body["libraries"].items()},
            unreadable=body["unreadable"],
        )
    except (OutsideError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _elf(fields: dict[str, Any]) -> Elf:
    return Elf(
        **fields
        | {
            "needed": tuple(fields["needed"]),
            "versions": {library: tuple(versions) for library, versions in fields["versions"].items()},
            "machine_code": {int(code): count for code, count in fields["machine_code"].items()},
            "ptx": {int(code): count for code, count in fields["ptx"].items()},
        }
    )
