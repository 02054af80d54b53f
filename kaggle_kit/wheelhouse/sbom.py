"""The bill of materials of a wheelhouse: CycloneDX 1.6 (https://cyclonedx.org/docs/1.6/json/).

The same lock gives the same text: there is no time in it, and the serial number comes of the content.
"""

import hashlib
import json
import uuid
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import kaggle_kit
from kaggle_kit.wheelhouse.kit_wheel import kit_wheel_bytes, kit_wheel_name
from kaggle_kit.wheelhouse.licences import Licence
from kaggle_kit.wheelhouse.lock import Lock, LockedWheel, dump_lock

_SCHEMA = "http://cyclonedx.org/schema/bom-1.6.schema.json"
_NAMESPACE = uuid.UUID("4d9a2c2e-7f0e-5b0a-9a36-2f1f3f6f4a11")


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
    found = _component(wheel.name, wheel.version, wheel.file, wheel.sha256, size=wheel.size, pythons=pythons)
    if licence is None:
        return found
    said = {"expression": licence.text} if licence.is_expression else {"license": {"name": licence.text}}
    return found | {"licenses": [said]}


def _kit_wheel() -> dict[str, Any]:
    content = kit_wheel_bytes()
    name, version, *_ = kit_wheel_name().split("-")
    sha256 = hashlib.sha256(content).hexdigest()
    found = _component(name.replace("_", "-"), version, kit_wheel_name(), sha256, size=len(content), pythons="all")
    return found | {"licenses": [{"expression": "Apache-2.0"}]}


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
