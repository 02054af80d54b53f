"""The bill of materials of a wheelhouse, with licences: CycloneDX 1.6 (https://cyclonedx.org/docs/1.6/json/).

The same lock gives the same text: there is no time in it, and the serial number comes of the content. Under which
licence a wheel is, its own metadata says.
"""

import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path
from typing import Any
from urllib.parse import quote

import kaggle_kit
from kaggle_kit.errors import WheelhouseError
from kaggle_kit.wheelhouse.archive import UNREADABLE, read_metadata
from kaggle_kit.wheelhouse.fetch import cached_path
from kaggle_kit.wheelhouse.folder import kit_wheel_bytes, kit_wheel_name
from kaggle_kit.wheelhouse.lock import Lock, LockedWheel, dump_lock

_SCHEMA = "http://cyclonedx.org/schema/bom-1.6.schema.json"
_NAMESPACE = uuid.UUID("4d9a2c2e-7f0e-5b0a-9a36-2f1f3f6f4a11")


@dataclass(frozen=True, kw_only=True)
class Licence:
    """`text` is an SPDX expression (`is_expression`), or what the authors call their licence."""

    text: str
    is_expression: bool


def dump_sbom(lock: Lock, licences: Mapping[str, Licence]) -> str:
    """The bill of materials of `lock` and of the kit's own wheel, as JSON; `licences` by file name."""
    components = [_wheel(wheel, lock, licences.get(wheel.file)) for wheel in lock.wheels]
    body = {
        "$schema": _SCHEMA,
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "tools": {"components": [{"type": "application", "name": "kaggle-kit", "version": kaggle_kit.__version__}]},
            "component": {
                "type": "application",
                "bom-ref": f"wheelhouse:{lock.target}",
                "name": f"wheelhouse-{lock.target}",
                "description": f"wheels of {lock.engine} for Python {', '.join(lock.pythons)} ({lock.mode})",
            },
        },
        "components": sorted([*components, _kit_wheel()], key=lambda component: str(component["bom-ref"])),
    }
    content = json.dumps(body, sort_keys=True) + dump_lock(lock)
    body["serialNumber"] = uuid.uuid5(_NAMESPACE, content).urn
    return json.dumps(body, indent=2, sort_keys=True) + "\n"


def purl(name: str, version: str, file: str) -> str:
    """The package URL of one wheel file (https://github.com/package-url/purl-spec, type `pypi`)."""
    return f"pkg:pypi/{quote(name)}@{quote(version, safe='')}?file_name={quote(file, safe='')}"


def _wheel(wheel: LockedWheel, lock: Lock, licence: Licence | None) -> dict[str, Any]:
    pythons = ", ".join(wheel.pythons or lock.pythons)
    component = _component(wheel.name, wheel.version, wheel.file, wheel.sha256, size=wheel.size, pythons=pythons)
    if licence is None:
        return component
    licence_fields = {"expression": licence.text} if licence.is_expression else {"license": {"name": licence.text}}
    return component | {"licenses": [licence_fields]}


def _kit_wheel() -> dict[str, Any]:
    content = kit_wheel_bytes()
    name, version, *_ = kit_wheel_name().split("-")
    sha256 = hashlib.sha256(content).hexdigest()
    component = _component(name.replace("_", "-"), version, kit_wheel_name(), sha256, size=len(content), pythons="all")
    return component | {"licenses": [{"expression": "Apache-2.0"}]}


def _component(name: str, version: str, file: str, sha256: str, *, size: int, pythons: str) -> dict[str, Any]:
    address = purl(name, version, file)
    return {
        "type": "library",
        "bom-ref": address,
        "name": name,
        "version": version,
        "purl": address,
        "hashes": [{"alg": "SHA-256", "content": sha256}],
        "properties": [
            {"name": "kit:file", "value": file},
            {"name": "kit:pythons", "value": pythons},
            {"name": "kit:size", "value": str(size)},
        ],
    }


_LONGEST_NAME = 80
_CLASSIFIER = "License :: "


def licences(lock: Lock, *, cache: Path, folder: Path) -> Mapping[str, Licence]:
    """The licences of those wheels of `lock` that are in `folder` or `cache`, by file name.

    A wheel that is not there, cannot be read, or says nothing has no entry.
    """
    known = {}
    for wheel in lock.wheels:
        places = (folder / wheel.file, cached_path(cache, wheel))
        path = next((place for place in places if place.is_file()), None)
        if path and (licence := read_licence(path)):
            known[wheel.file] = licence
    return known


def read_licence(path: Path) -> Licence | None:
    """What the METADATA of the wheel at `path` says; None if it says nothing or cannot be read."""
    try:
        text = read_metadata(path)
    except (*UNREADABLE, OSError, WheelhouseError):
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
