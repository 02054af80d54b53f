"""A lock: the exact wheels of one target, as a text file that a reviewer can read and git can diff.

TOML, one line a wheel, no addresses: any index that offers a file with the same SHA-256 will do. A lock may
serve several Pythons: a wheel that loads on all of them stands there once, any other one says for which it is.
"""

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from kaggle_kit.errors import WheelhouseError
from kaggle_kit.files import write_atomic

FORMAT = 2

Mode = Literal["isolated", "overlay"]
"""Everything, into an empty environment; or only what the image lacks, over the image's packages."""

MODES: tuple[Mode, ...] = ("isolated", "overlay")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PLAIN = re.compile(r"[\w .,;:<>=!~+*()\[\]'/@-]*", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class LockedWheel:
    """One file: its package (canonical name) and version, its own name, SHA-256 and size in bytes.

    `pythons` names those of the lock's Pythons that it is for; empty means all of them.
    """

    name: str
    version: str
    file: str
    sha256: str
    size: int
    pythons: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Preinstalled:
    """A package of the image that an overlay stands on: canonical name, version as the image has it."""

    name: str
    version: str
    pythons: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Lock:
    """What was asked for (target to exclude_newer) and what it came to (wheels, sorted by file name).

    `engine_given`: the engine was named on the command line, not by the target. `preinstalled` is empty in
    the mode "isolated".
    """

    target: str
    pythons: tuple[str, ...]
    machine: str
    glibc: str
    engine: str
    wheels: tuple[LockedWheel, ...]
    mode: Mode = "isolated"
    engine_given: bool = False
    extras: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    torch_backend: str | None = None
    exclude_newer: str | None = None
    preinstalled: tuple[Preinstalled, ...] = ()

    @property
    def python(self) -> str:
        """The first of its Pythons."""
        return self.pythons[0]

    @property
    def size(self) -> int:
        """Bytes of all wheels together."""
        return sum(wheel.size for wheel in self.wheels)

    def wheels_for(self, python: str) -> tuple[LockedWheel, ...]:
        """The wheels that an install on `python` ("3.12") takes. Raises WheelhouseError for a Python not served."""
        if python not in self.pythons:
            raise WheelhouseError(
                f"the lock of {self.target} is for Python {' and '.join(self.pythons)}, not for {python}. "
                f"Add {python} to the target's `pythons`, and make it anew with: kit wheels lock --target {self.target}"
            )
        return tuple(wheel for wheel in self.wheels if not wheel.pythons or python in wheel.pythons)


def lock_path(project: Path, target: str) -> Path:
    """Where a project keeps the lock of a target."""
    return project / "wheels" / f"{target}.lock"


def write_lock(path: Path, lock: Lock) -> None:
    """Write `lock` to `path`, whole or not at all. Raises WheelhouseError where the disk refuses."""
    text = dump_lock(lock)
    try:
        write_atomic(path, text)
    except OSError as error:
        raise WheelhouseError(f"{path} cannot be written: {error}") from error


def dump_lock(lock: Lock) -> str:
    """The text of a lock file: the same text for the same lock, always.

    Raises WheelhouseError for text that has no place in a lock (quotes, control characters).
    """
    lines = [
        f"# The wheels of the target {lock.target}, each by its name, size and SHA-256. Made by",
        f"#     {_command(lock)}",
        "# Make it again rather than edit it.",
        "",
        f"format = {FORMAT}",
        f"target = {_quoted(lock.target)}",
        f"pythons = {_list(lock.pythons)}",
    ]
    lines += [
        f"{key} = {_quoted(getattr(lock, key))}"
        for key in ("machine", "glibc", "mode", "engine", "torch_backend", "exclude_newer")
        if getattr(lock, key) is not None
    ]
    lines += ["engine_given = true"] if lock.engine_given else []
    lines += [f"{key} = {_list(getattr(lock, key))}" for key in ("extras", "exclude")]
    if lock.preinstalled:
        found = sorted(lock.preinstalled, key=lambda package: (package.name, package.version))
        lines += ["", "preinstalled = [", *(_package_line(package) for package in found), "]"]
    wheels = sorted(lock.wheels, key=lambda wheel: wheel.file)
    return "\n".join([*lines, "", "wheels = [", *(_wheel_line(wheel) for wheel in wheels), "]", ""])


def read_lock(path: Path) -> Lock:
    """Read a lock file. Raises WheelhouseError: missing, not TOML, a key or an entry that is wrong."""
    from kaggle_kit.wheelhouse.lock_reading import parse_lock

    try:
        text = path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise WheelhouseError(f"{path} is missing. Make it with: kit wheels lock --target {path.stem}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise WheelhouseError(f"{path} cannot be read: {error}") from error
    return parse_lock(text, where=str(path))


def parse_lock(text: str, *, where: str = "lock") -> Lock:
    """The lock that `text` holds; `where` names its file in errors. Raises WheelhouseError."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise WheelhouseError(f"{where} is not valid TOML: {error}. {_REMAKE}") from error
    found = data.pop("format", None)
    if found != FORMAT:
        raise WheelhouseError(f"{where}: format = {found!r}, but this kit reads format = {FORMAT}. {_REMAKE}")
    entries = data.pop("wheels", None)
    if not isinstance(entries, list) or not entries:
        raise WheelhouseError(f"{where}: `wheels` must be a list of at least one wheel. {_REMAKE}")
    wheels = tuple(_wheel(entry, where=f"{where}: wheel {n}") for n, entry in enumerate(entries, start=1))
    _refuse_twice(wheels, where=where)
    lock = Lock(
        wheels=tuple(sorted(wheels, key=lambda wheel: wheel.file)),
        target=_text(data, "target", where=where),
        python=_text(data, "python", where=where),
        machine=_text(data, "machine", where=where),
        glibc=_text(data, "glibc", where=where),
        engine=_text(data, "engine", where=where),
        extras=_texts(data, "extras", where=where),
        exclude=_texts(data, "exclude", where=where),
        torch_backend=_text(data, "torch_backend", where=where) if "torch_backend" in data else None,
        exclude_newer=_text(data, "exclude_newer", where=where) if "exclude_newer" in data else None,
    )
    if data:
        raise WheelhouseError(f"{where}: unknown key {min(data)!r}. {_REMAKE}")
    return lock


_REMAKE = "Take it from git again, or make it anew with: kit wheels lock --target NAME"


def _wheel(entry: object, *, where: str) -> LockedWheel:
    if not isinstance(entry, dict):
        raise WheelhouseError(f"{where} is {entry!r}, not a table. {_REMAKE}")
    fields = dict(entry)
    file = _text(fields, "file", where=where)
    where = f"{where} ({file})"
    sha256 = _text(fields, "sha256", where=where)
    if not _SHA256.fullmatch(sha256):
        raise WheelhouseError(f"{where}: sha256 {sha256!r} is not 64 lower-case hex digits. {_REMAKE}")
    size = fields.pop("size", None)
    if type(size) is not int or size <= 0:
        raise WheelhouseError(f"{where}: size {size!r} is not a number of bytes above 0. {_REMAKE}")
    wheel = LockedWheel(
        name=_text(fields, "name", where=where),
        version=_text(fields, "version", where=where),
        file=file,
        sha256=sha256,
        size=size,
    )
    if fields:
        raise WheelhouseError(f"{where}: unknown key {min(fields)!r}. {_REMAKE}")
    _check_file_name(wheel, where=where)
    return wheel


def _check_file_name(wheel: LockedWheel, *, where: str) -> None:
    """A file name becomes a path on disk, so nothing but a plain wheel name of this package passes."""
    try:
        name, version, _, _ = parse_wheel_filename(wheel.file)
        same = name == canonicalize_name(wheel.name) and version == Version(wheel.version)
    except (InvalidWheelFilename, InvalidVersion) as error:
        raise WheelhouseError(f"{where}: {error}. {_REMAKE}") from error
    if "/" in wheel.file or "\\" in wheel.file or not wheel.file.isprintable():
        raise WheelhouseError(f"{where}: a wheel's name must not hold a path. {_REMAKE}")
    if not same:
        raise WheelhouseError(f"{where}: the file's name is not that of {wheel.name} {wheel.version}. {_REMAKE}")


def _refuse_twice(wheels: tuple[LockedWheel, ...], *, where: str) -> None:
    seen: set[str] = set()
    for wheel in wheels:
        if wheel.file in seen:
            raise WheelhouseError(f"{where}: {wheel.file} is listed twice. {_REMAKE}")
        seen.add(wheel.file)


def _text(data: dict[str, object], key: str, *, where: str) -> str:
    value = data.pop(key, None)
    if not isinstance(value, str) or not value:
        raise WheelhouseError(f"{where}: `{key}` must be a text, found {value!r}. {_REMAKE}")
    return value


def _texts(data: dict[str, object], key: str, *, where: str) -> tuple[str, ...]:
    value = data.pop(key, [])
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise WheelhouseError(f"{where}: `{key}` must be a list of texts, found {value!r}. {_REMAKE}")
    return tuple(value)


def _wheel_line(wheel: LockedWheel) -> str:
    fields = {
        "name": _quoted(wheel.name),
        "version": _quoted(wheel.version),
        "file": _quoted(wheel.file),
        "size": str(wheel.size),
        "sha256": _quoted(wheel.sha256),
    }
    return "    { " + ", ".join(f"{key} = {value}" for key, value in fields.items()) + " },"


def _quoted(text: str) -> str:
    if not _PLAIN.fullmatch(text):
        raise WheelhouseError(f"{text!r} cannot stand in a lock: it holds quotes or unusual characters")
    return f'"{text}"'
