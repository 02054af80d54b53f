"""A freeze: what an image has installed, as `pip freeze` writes it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from kaggle_kit.errors import OutsideError, ProjectError
from kaggle_kit.outside import read_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_PIN = re.compile(r"(?P<name>[A-Za-z0-9][\w.-]*)(\[[\w,. -]*\])?===?(?P<version>[^\s;#]+)")
_PYTHON = re.compile(r"#\s*python[:\s]+(?P<python>3\.\d+)", re.IGNORECASE)
_MOST_BYTES = 4 << 20


@dataclass(frozen=True, kw_only=True)
class Freeze:
    """Packages by canonical name, and the Python ("3.13") that a comment `# python 3.13` names, else None."""

    packages: Mapping[str, str]
    python: str | None


def read_freeze(path: Path) -> Freeze:
    """Read a freeze file. Raises ProjectError: missing, not text, or without a single `name==version`."""
    try:
        text = read_text(path, most_bytes=_MOST_BYTES, follow=True)
    except OutsideError as error:
        raise ProjectError(f"{path} cannot be read: {error}") from error
    return parse_freeze(text, where=str(path))


def parse_freeze(text: str, *, where: str = "freeze") -> Freeze:
    """The freeze that `text` holds. Lines without a version (`name @ file://…`, `-e …`) are passed over.
    Raises ProjectError for a version that is not one, or if no line has one.
    """
    packages: dict[str, str] = {}
    python = None
    for number, line in enumerate(text.splitlines(), start=1):
        if (comment := _PYTHON.match(line.strip())) and python is None:
            python = comment["python"]
        if not (pin := _PIN.match(line.strip())):
            continue
        try:
            Version(pin["version"])
        except InvalidVersion as error:
            raise ProjectError(f"{where}, line {number}: {error}") from error
        packages[canonicalize_name(pin["name"])] = pin["version"]
    if not packages:
        raise ProjectError(f"{where} names no package as `name==version`; write it with: pip freeze > FILE")
    return Freeze(packages=packages, python=python)
