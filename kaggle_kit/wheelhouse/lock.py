"""A lock: the exact wheels of one target, as a text file that a reviewer can read and git can diff.

TOML, one line a wheel, no addresses: any index that offers a file with the same SHA-256 will do. A lock may
serve several Pythons: a wheel that loads on all of them stands there once, any other one says for which it is.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from kaggle_kit.errors import OutsideError, WheelhouseError
from kaggle_kit.files import write_atomic
from kaggle_kit.outside import MEGA, parse_toml, read_text, shown
from kaggle_kit.places import inside

FORMAT = 2

Mode = Literal["isolated", "overlay"]
"""Everything, into an empty environment; or only what the image lacks, over the image's packages."""

MODES: tuple[Mode, ...] = ("isolated", "overlay")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PYTHON = re.compile(r"3\.[0-9]{1,3}")
_MOST_BYTES = 16 * MEGA
_MOST_WHEEL_BYTES = 1 << 40
_LONGEST_NAME = 255
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
    """Where a project keeps the lock of a target. Raises ProjectError where a link leads out of the project."""
    return inside(project, Path("wheels", f"{target}.lock"))


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
    if not path.exists():
        raise WheelhouseError(f"{path} is missing. Make it with: kit wheels lock --target {path.stem}")
    try:
        text = read_text(path, most_bytes=_MOST_BYTES, follow=True)
    except OutsideError as error:
        raise WheelhouseError(f"{path} cannot be read: {error}") from error
    return parse_lock(text, where=str(path))


def parse_lock(text: str, *, where: str = "lock") -> Lock:
    """The lock that `text` holds; `where` names its file in errors. Raises WheelhouseError."""
    try:
        data = parse_toml(text, where)
    except OutsideError as error:
        raise WheelhouseError(f"{where} is not valid TOML: {error}. {_REMAKE}") from error
    found = data.pop("format", None)
    if found != FORMAT:
        raise WheelhouseError(f"{where}: format = {shown(found)}, but this kit reads format = {FORMAT}. {_REMAKE}")
    wheels = tuple(_wheel(entry, where=at) for entry, at in _entries(data, "wheels", where=where))
    if not wheels:
        raise WheelhouseError(f"{where}: `wheels` must be a list of at least one wheel. {_REMAKE}")
    preinstalled = tuple(_package(entry, where=at) for entry, at in _entries(data, "preinstalled", where=where))
    lock = Lock(
        wheels=tuple(sorted(wheels, key=lambda wheel: wheel.file)),
        preinstalled=tuple(sorted(preinstalled, key=lambda package: (package.name, package.version))),
        target=_text(data, "target", where=where),
        pythons=_texts(data, "pythons", where=where),
        machine=_text(data, "machine", where=where),
        glibc=_text(data, "glibc", where=where),
        engine=_text(data, "engine", where=where),
        mode=_mode(data, where=where),
        engine_given=data.pop("engine_given", False) is True,
        extras=_texts(data, "extras", where=where),
        exclude=_texts(data, "exclude", where=where),
        torch_backend=_text(data, "torch_backend", where=where) if "torch_backend" in data else None,
        exclude_newer=_text(data, "exclude_newer", where=where) if "exclude_newer" in data else None,
    )
    if data:
        raise WheelhouseError(f"{where}: unknown key {shown(min(data))}. {_REMAKE}")
    _check_whole(lock, where=where)
    return lock


_REMAKE = "Take it from git again, or make it anew with: kit wheels lock --target NAME"


def _wheel(entry: object, *, where: str) -> LockedWheel:
    fields = _table(entry, where=where)
    file = _text(fields, "file", where=where)
    where = f"{where} ({file})"
    sha256 = _text(fields, "sha256", where=where)
    if not _SHA256.fullmatch(sha256):
        raise WheelhouseError(f"{where}: sha256 {shown(sha256)} is not 64 lower-case hex digits. {_REMAKE}")
    size = fields.pop("size", None)
    if type(size) is not int or not 0 < size <= _MOST_WHEEL_BYTES:
        raise WheelhouseError(f"{where}: size {shown(size)} is not a number of bytes above 0. {_REMAKE}")
    wheel = LockedWheel(
        name=_text(fields, "name", where=where),
        version=_text(fields, "version", where=where),
        file=file,
        sha256=sha256,
        size=size,
        pythons=_texts(fields, "pythons", where=where),
    )
    _refuse_more(fields, where=where)
    _check_file_name(wheel, where=where)
    return wheel


def _check_file_name(wheel: LockedWheel, *, where: str) -> None:
    """A file name becomes a path on disk, so nothing but a plain wheel name of this package passes."""
    try:
        name, version, _, _ = parse_wheel_filename(wheel.file)
        same = name == canonicalize_name(wheel.name) and version == Version(wheel.version)
    except (InvalidWheelFilename, InvalidVersion, ValueError) as error:  # ValueError: a number of 5,000 digits
        raise WheelhouseError(f"{where}: {error}. {_REMAKE}") from error
    if len(wheel.file) > _LONGEST_NAME or "/" in wheel.file or "\\" in wheel.file or not wheel.file.isprintable():
        raise WheelhouseError(f"{where}: a wheel's name must not hold a path. {_REMAKE}")
    if not same:
        raise WheelhouseError(f"{where}: the file's name is not that of {wheel.name} {wheel.version}. {_REMAKE}")


def _package(entry: object, *, where: str) -> Preinstalled:
    fields = _table(entry, where=where)
    package = Preinstalled(
        name=_text(fields, "name", where=where),
        version=_text(fields, "version", where=where),
        pythons=_texts(fields, "pythons", where=where),
    )
    _refuse_more(fields, where=where)
    return package


def _check_whole(lock: Lock, *, where: str) -> None:
    """What no single entry shows: Pythons that the lock does not serve, files and packages that stand twice."""
    if not lock.pythons or not all(_PYTHON.fullmatch(python) for python in lock.pythons):
        raise WheelhouseError(
            f"{where}: `pythons` must list versions like 3.12, found {shown(lock.pythons)}. {_REMAKE}"
        )
    entries: tuple[LockedWheel | Preinstalled, ...] = (*lock.wheels, *lock.preinstalled)
    for entry in entries:
        if not set(entry.pythons) <= set(lock.pythons):
            raise WheelhouseError(
                f"{where}: {entry.name} is for Python {', '.join(entry.pythons)}, "
                f"the lock for {', '.join(lock.pythons)}. {_REMAKE}"
            )
    if file := _first_twice(wheel.file for wheel in lock.wheels):
        raise WheelhouseError(f"{where}: {file} is listed twice. {_REMAKE}")
    for python in lock.pythons:
        if name := _first_twice(wheel.name for wheel in lock.wheels_for(python)):
            raise WheelhouseError(f"{where}: there are two wheels of {name} for Python {python}. {_REMAKE}")


def _first_twice(names: Iterable[str]) -> str | None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def _entries(data: dict[str, object], key: str, *, where: str) -> list[tuple[object, str]]:
    """The entries of the list `key`, each with its place for an error."""
    entries = data.pop(key, [])
    if not isinstance(entries, list):
        raise WheelhouseError(f"{where}: `{key}` must be a list of tables, at least one wheel. {_REMAKE}")
    one = key.removesuffix("s")
    return [(entry, f"{where}: {one} {n}") for n, entry in enumerate(entries, start=1)]


def _table(entry: object, *, where: str) -> dict[str, object]:
    if not isinstance(entry, dict):
        raise WheelhouseError(f"{where} is {shown(entry)}, not a table. {_REMAKE}")
    return dict(entry)


def _refuse_more(fields: dict[str, object], *, where: str) -> None:
    if fields:
        raise WheelhouseError(f"{where}: unknown key {shown(min(fields))}. {_REMAKE}")


def _mode(data: dict[str, object], *, where: str) -> Mode:
    found = data.pop("mode", None)
    for mode in MODES:
        if found == mode:
            return mode
    raise WheelhouseError(f"{where}: mode = {shown(found)} is none of {', '.join(MODES)}. {_REMAKE}")


def _text(data: dict[str, object], key: str, *, where: str) -> str:
    value = data.pop(key, None)
    if not isinstance(value, str) or not value:
        raise WheelhouseError(f"{where}: `{key}` must be a text, found {shown(value)}. {_REMAKE}")
    return value


def _texts(data: dict[str, object], key: str, *, where: str) -> tuple[str, ...]:
    value = data.pop(key, [])
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise WheelhouseError(f"{where}: `{key}` must be a list of texts, found {shown(value)}. {_REMAKE}")
    return tuple(value)


def _command(lock: Lock) -> str:
    parts = [f"kit wheels lock --target {lock.target}"]
    parts += [f'--engine "{lock.engine}"'] if lock.engine_given else []
    parts += [f"--mode {lock.mode}"] if lock.mode != "isolated" else []
    parts += [f"--exclude-newer {lock.exclude_newer}"] if lock.exclude_newer else []
    return " ".join(parts)


def _wheel_line(wheel: LockedWheel) -> str:
    fields = {
        "name": _quoted(wheel.name),
        "version": _quoted(wheel.version),
        "file": _quoted(wheel.file),
        "size": str(wheel.size),
        "sha256": _quoted(wheel.sha256),
    }
    return _line(fields, wheel.pythons)


def _package_line(package: Preinstalled) -> str:
    return _line({"name": _quoted(package.name), "version": _quoted(package.version)}, package.pythons)


def _line(fields: dict[str, str], pythons: Sequence[str]) -> str:
    said = fields | ({"pythons": _list(pythons)} if pythons else {})
    return "    { " + ", ".join(f"{key} = {value}" for key, value in said.items()) + " },"


def _list(items: Iterable[str]) -> str:
    return f"[{', '.join(_quoted(item) for item in items)}]"


def _quoted(text: str) -> str:
    if not _PLAIN.fullmatch(text):
        raise WheelhouseError(f"{text!r} cannot stand in a lock: it holds quotes or unusual characters")
    return f'"{text}"'
