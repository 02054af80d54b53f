"""The bill of materials and the licences in it."""

import json
import subprocess
import sys
import zipfile
from email.message import Message
from pathlib import Path

import pytest

from kaggle_kit.wheelhouse.folder import kit_wheel_name
from kaggle_kit.wheelhouse.lock import Lock, read_lock
from kaggle_kit.wheelhouse.sbom import Licence, dump_sbom, licences, parse_licence, purl, read_licence

_LOCKS = sorted((Path(__file__).parents[2] / "wheels").glob("pylock.*.toml"))


def _metadata(**headers: str | list[str]) -> Message:
    message = Message()
    for name, values in headers.items():
        for value in [values] if isinstance(values, str) else values:
            message[name.replace("_", "-")] = value
    return message


_VALIDATE = """
import json, sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from rfc3987_syntax import is_valid_syntax
validator = JsonStrictValidator(SchemaVersion.V1_6)
print(json.dumps([str(validator.validate_str(bill) or "") for bill in json.load(sys.stdin)]))
"""


def _bill(path: Path) -> str:
    lock = read_lock(path)
    known = {wheel.file: Licence(text="MIT", is_expression=True) for wheel in lock.wheels[:3]}
    known[lock.wheels[4].file] = Licence(text="Some licence of its own", is_expression=False)
    return dump_sbom(lock, known)


def test_valid_cyclonedx() -> None:
    """The bill of each committed lock passes CycloneDX's own strict schema for 1.6, and its check finds a wrong one."""
    bills = [_bill(path) for path in _LOCKS]
    wrong = json.loads(bills[0])
    wrong["components"][0]["externalReferences"] = [{"type": "website", "url": "no address"}]
    program = [sys.executable, "-c", _VALIDATE]
    done = subprocess.run(
        program, input=json.dumps([*bills, json.dumps(wrong)]), capture_output=True, text=True, check=True
    )
    *good, bad = json.loads(done.stdout)
    assert good == [""] * len(_LOCKS)
    assert "no address" in bad


def test_the_same_text_for_the_same_lock(lock: Lock) -> None:
    """There is no time and no chance in a bill."""
    assert dump_sbom(lock, {}) == dump_sbom(lock, {})


def test_another_lock_has_another_serial_number(lock: Lock) -> None:
    """Two locks that differ have bills with different serial numbers."""
    other = Lock(**(vars(lock) | {"wheels": lock.wheels[1:]}))
    numbers = {json.loads(dump_sbom(one, {}))["serialNumber"] for one in (lock, other)}
    assert len(numbers) == 2


def test_every_file_is_listed_with_its_hash(lock: Lock) -> None:
    """Each locked file and the kit's own wheel is a component with its SHA-256 and package URL."""
    components = json.loads(dump_sbom(lock, {}))["components"]
    found = {
        next(p["value"] for p in component["properties"] if p["name"] == "kit:file"): component["hashes"][0]["content"]
        for component in components
    }
    assert {file: sha for file, sha in found.items() if file != kit_wheel_name()} == {
        wheel.file: wheel.sha256 for wheel in lock.wheels
    }
    assert kit_wheel_name() in found


def test_purl_of_a_local_version() -> None:
    """The plus of a local version is quoted, as package URLs want it."""
    assert purl("torch", "2.13.0+cpu", "torch-2.13.0+cpu-py3-none-any.whl") == (
        "pkg:pypi/torch@2.13.0%2Bcpu?file_name=torch-2.13.0%2Bcpu-py3-none-any.whl"
    )


@pytest.mark.parametrize(
    ("headers", "licence"),
    [
        ({"License_Expression": "MIT", "License": "other"}, Licence(text="MIT", is_expression=True)),
        ({"License": "Apache 2.0"}, Licence(text="Apache 2.0", is_expression=False)),
        (
            {"License": "Copyright\n  all of it", "Classifier": ["License :: OSI Approved :: BSD License"]},
            Licence(text="BSD License", is_expression=False),
        ),
        ({"License": "UNKNOWN", "Classifier": ["License :: OSI Approved"]}, None),
        ({"Classifier": ["Topic :: Text"]}, None),
        (
            {"Classifier": ["License :: OSI Approved :: MIT License", "License :: Public Domain"]},
            Licence(text="MIT License and Public Domain", is_expression=False),
        ),
    ],
)
def test_licence_of_metadata(headers: dict[str, str | list[str]], licence: Licence | None) -> None:
    """The expression wins over the short text, that over the classifiers; a pasted licence names nothing."""
    assert parse_licence(_metadata(**headers)) == licence


def test_licence_of_a_wheel_that_cannot_be_read(tmp_path: Path) -> None:
    """A file that is no archive has no licence, and stops nothing."""
    (tmp_path / "a-1-py3-none-any.whl").write_bytes(b"no zip")
    assert read_licence(tmp_path / "a-1-py3-none-any.whl") is None


def test_licences_of_what_is_there(lock: Lock, tmp_path: Path) -> None:
    """Only wheels that are on the disk have a licence; the others are left out."""
    wheel = lock.wheels[0]
    with zipfile.ZipFile(tmp_path / wheel.file, "w") as archive:
        archive.writestr("x/vendored-1.dist-info/METADATA", "Metadata-Version: 2.4\nLicense-Expression: GPL-3.0-only\n")
        archive.writestr("binary-2.0.dist-info/METADATA", "Metadata-Version: 2.4\nLicense-Expression: BSD-3-Clause\n")
    found = licences(lock, cache=tmp_path / "cache", folder=tmp_path)
    assert found == {wheel.file: Licence(text="BSD-3-Clause", is_expression=True)}
