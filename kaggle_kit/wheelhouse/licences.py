"""Under which licence each wheel is, as its own metadata says."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path

from kaggle_kit.wheelhouse.archive import UNREADABLE, open_wheel
from kaggle_kit.wheelhouse.fetch import cached_path
from kaggle_kit.wheelhouse.lock import Lock

_LARGEST_METADATA = 4_000_000
_LONGEST_NAME = 80
_CLASSIFIER = "License :: "


@dataclass(frozen=True, kw_only=True)
class Licence:
    """`text` is an SPDX expression (`is_expression`), or what the authors call their licence."""

    text: str
    is_expression: bool


def licences(lock: Lock, *, cache: Path, folder: Path) -> Mapping[str, Licence]:
    """The licences of those wheels of `lock` that are in `folder` or `cache`, by file name.

    A wheel that is not there, cannot be read, or says nothing has no entry.
    """
    found = {}
    for wheel in lock.wheels:
        places = (folder / wheel.file, cached_path(cache, wheel))
        path = next((place for place in places if place.is_file()), None)
        if path and (licence := read_licence(path)):
            found[wheel.file] = licence
    return found


def read_licence(path: Path) -> Licence | None:
    """What the METADATA of the wheel at `path` says; None where it says nothing or cannot be read."""
    try:
        with open_wheel(path) as archive:
            # The wheel's own folder stands at the top; vendored packages may bring others, deeper down.
            entry = next(e for e in archive.infolist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", e.filename))
            if entry.file_size > _LARGEST_METADATA:
                return None
            text = archive.read(entry).decode("utf-8", errors="replace")
    except (*UNREADABLE, OSError, StopIteration):
        return None
    return parse_licence(HeaderParser().parsestr(text))


def parse_licence(metadata: Message) -> Licence | None:
    """The licence of core metadata: License-Expression (PEP 639), else a short License, else the classifiers."""
    if expression := _line(metadata["License-Expression"]):
        return Licence(text=expression, is_expression=True)
    name = _line(metadata["License"])
    if name and len(name) <= _LONGEST_NAME and name.upper() != "UNKNOWN":
        return Licence(text=name, is_expression=False)
    classifiers = [str(value) for value in metadata.get_all("Classifier", [])]
    names = [value.rpartition(" :: ")[2] for value in classifiers if value.startswith(_CLASSIFIER)]
    named = [name for name in names if name != "OSI Approved"]
    return Licence(text=" and ".join(named), is_expression=False) if named else None


def _line(value: object) -> str:
    """A header's text if it is one line; a whole licence pasted into the header names nothing."""
    text = str(value or "").strip()
    return "" if "\n" in text else text
