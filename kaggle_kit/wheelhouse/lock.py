"""A lock: the exact wheels of one target, as a text file that a reviewer can read and git can diff.

The file is a PEP 751 lock, `pylock.TARGET.toml`, which uv and pip-audit read too. Of each wheel it holds size, SHA-256
and, as its path, the place to which `kit wheels fetch` brings it; no addresses: any index that offers a file with the
same SHA-256 will do. A lock may serve several Pythons: a wheel that loads on all of them stands there once, any other
one has a marker. What the standard has no field for stands in `[tool.kaggle-kit]`.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from packaging.pylock import Pylock, PylockValidationError, is_valid_pylock_path
from pydantic import ConfigDict, Field, StrictBool, StrictInt, TypeAdapter, ValidationError

from kaggle_kit.errors import OutsideError, WheelhouseError
from kaggle_kit.files import write_atomic
from kaggle_kit.outside import MEGA, parse_toml, read_text, shown
from kaggle_kit.places import inside
from kaggle_kit.suggest import first_problem

LOCK_VERSION = "1.0"
"""Of PEP 751."""
TABLE = "kaggle-kit"
"""The name of kit's own table below `[tool]`."""

Mode = Literal["isolated", "overlay"]
"""Everything, into an empty environment; or only what the image lacks, over the image's packages."""

_MOST_BYTES = 4 * MEGA
_MOST_WHEEL_BYTES = 1 << 40
_LONGEST_NAME = 255
_LONGEST_ERROR = 300
_PLAIN = re.compile(r"[\w .,;:<>=!~+*()\[\]'/@-]*", re.ASCII)
_MARKER = re.compile(r'python_version == "([0-9.]{1,8})"')
_Text = Annotated[str, Field(min_length=1)]
_Python = Annotated[str, Field(pattern=r"^3\.[0-9]{1,3}$")]


@dataclass(frozen=True, kw_only=True)
class LockedWheel:
    """One file: its package (canonical name) and version, its own name, SHA-256 and size in bytes.

    `pythons` names those of the lock's Pythons that it is for; empty means all of them.
    """

    name: _Text
    version: _Text
    file: Annotated[str, Field(min_length=1, max_length=_LONGEST_NAME)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    size: Annotated[StrictInt, Field(gt=0, le=_MOST_WHEEL_BYTES)]
    pythons: tuple[_Python, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Preinstalled:
    """A package of the image that an overlay stands on: canonical name, version as the image has it."""

    name: _Text
    version: _Text
    pythons: tuple[_Python, ...] = ()
    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")


@dataclass(frozen=True, kw_only=True)
class Lock:
    """What was asked for (target to exclude_newer) and what it came to (wheels, sorted by file name).

    `engine_given`: the engine was named on the command line, not by the target. `preinstalled` is empty in
    the mode "isolated".
    """

    target: _Text
    pythons: Annotated[tuple[_Python, ...], Field(min_length=1, max_length=100)]
    machine: _Text
    glibc: _Text
    mode: Mode = "isolated"
    engine: _Text
    torch_backend: _Text | None = None
    exclude_newer: _Text | None = None
    engine_given: StrictBool = False
    extras: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    preinstalled: tuple[Preinstalled, ...] = ()
    wheels: Annotated[tuple[LockedWheel, ...], Field(min_length=1)]
    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

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
                f"Add {python} to the target's `pythons`, and make it again with: "
                f"kit wheels lock --target {self.target}"
            )
        return tuple(wheel for wheel in self.wheels if not wheel.pythons or python in wheel.pythons)

    def preinstalled_for(self, python: str) -> tuple[Preinstalled, ...]:
        """The packages of the image that an overlay stands on, on `python`."""
        return tuple(package for package in self.preinstalled if not package.pythons or python in package.pythons)


def lock_path(project: Path, target: str) -> Path:
    """Where a project keeps the lock of a target.

    Raises WheelhouseError for a name that PEP 751 refuses, ProjectError if a link leads out of the project.
    """
    path = Path("wheels", lock_name(target))
    if not is_valid_pylock_path(path):
        raise WheelhouseError(f"the target {target} has a dot in its name, which its lock must not have: rename it")
    return inside(project, path)


def lock_name(target: str) -> str:
    """What the lock of `target` is called, as PEP 751 demands."""
    return f"pylock.{target}.toml"


def write_lock(path: Path, lock: Lock) -> None:
    """Write `lock` to `path`, whole or not at all. Raises WheelhouseError if the disk refuses."""
    text = dump_lock(lock)
    try:
        write_atomic(path, text)
    except OSError as error:
        raise WheelhouseError(f"{path} cannot be written: {error}") from error


def dump_lock(lock: Lock) -> str:
    """The text of a lock file: the same text for the same lock, always.

    Raises WheelhouseError for text that has no place in a lock (quotes, control characters).
    """
    on_linux = f"sys_platform == 'linux' and platform_machine == '{lock.machine}'"
    lines = [
        f"# The wheels of the target {lock.target}, each by its name, size and SHA-256. Made by",
        f"#     {_command(lock)}",
        "# Make it again rather than edit it.",
        "",
        f'lock-version = "{LOCK_VERSION}"',
        f"environments = {_value([f'{_marker([python])} and {on_linux}' for python in lock.pythons])}",
        'created-by = "kaggle-kit"',
    ]
    for wheel in sorted(lock.wheels, key=lambda wheel: wheel.file):
        lines += ["", *_package_lines(wheel, lock)]

    lines += ["", f"[tool.{TABLE}]"]
    for key in (field.name for field in fields(Lock) if field.name not in {"wheels", "preinstalled"}):
        value = getattr(lock, key)
        if value is not None and value is not False:
            lines.append(f"{key} = {_value(value)}")
    if lock.preinstalled:
        packages = sorted(lock.preinstalled, key=lambda package: (package.name, package.version))
        given = [{key: value for key, value in asdict(package).items() if value} for package in packages]
        lines += ["preinstalled = [", *(f"    {_value(fields)}," for fields in given), "]"]
    return "\n".join([*lines, ""])


def read_lock(path: Path) -> Lock:
    """Read a lock file. Raises WheelhouseError: missing, not TOML, a key or an entry that is wrong."""
    if not path.exists():
        target = path.name.removeprefix("pylock.").removesuffix(".toml")
        old = path.with_name(f"{target}.lock")
        form = f": {old.name} beside it has the form of an earlier kit" if old.exists() else ""
        raise WheelhouseError(f"{path} is missing{form}. Make it with: kit wheels lock --target {target}")
    try:
        text = read_text(path, most_bytes=_MOST_BYTES, follow=True)
    except OutsideError as error:
        raise WheelhouseError(f"{path} cannot be read: {error}") from error
    return parse_lock(text, where=str(path))


def parse_lock(text: str, *, where: str = "lock") -> Lock:
    """The lock that `text` holds; `where` names its file in errors. Raises WheelhouseError."""
    try:
        data = parse_toml(text, where)
        pylock = Pylock.from_dict(data)
        lock = _lock(pylock)
        fault = _difference(data, parse_toml(dump_lock(lock), where)) or _double(lock)
    except OutsideError as error:
        raise WheelhouseError(f"{where} is not valid TOML: {error}. {_REMAKE}") from error
    except ValidationError as error:
        fault = first_problem(error, Lock)
    except (PylockValidationError, WheelhouseError) as error:
        fault = str(error) if len(str(error)) < _LONGEST_ERROR else shown(str(error))
    if fault:
        raise WheelhouseError(f"{where}: {fault}. {_REMAKE}")
    return lock


_REMAKE = "Take it from git again, or make it again with: kit wheels lock --target NAME"


def _lock(pylock: Pylock) -> Lock:
    """The lock of a valid file. Raises ValidationError and WheelhouseError."""
    table = (pylock.tool or {}).get(TABLE)
    if not isinstance(table, dict):
        raise WheelhouseError(f"it lacks the table [tool.{TABLE}], so kit did not make it")
    wheels = [
        {
            "name": package.name,
            "version": str(package.version),
            "file": wheel.filename,
            "sha256": wheel.hashes.get("sha256"),
            "size": wheel.size,
            "pythons": _MARKER.findall(str(package.marker)),
        }
        for package in pylock.packages
        for wheel in package.wheels or ()
    ]
    return _types().validate_python(table | {"wheels": wheels})


@cache
def _types() -> TypeAdapter[Lock]:
    return TypeAdapter(Lock)


def _difference(found: Any, written: Any, place: str = "") -> str | None:
    """Where a file differs from what kit writes for the lock that was read from it; None if nowhere.

    So whatever kit does not read cannot stand in a lock: unknown keys, other hashes, addresses, paths.
    """
    if isinstance(found, dict) and isinstance(written, dict):
        faults = (
            _difference(found.get(key), written.get(key), f"{place}.{key}".lstrip(".")) for key in found | written
        )
        return next((fault for fault in faults if fault), None)
    if isinstance(found, list) and isinstance(written, list) and len(found) == len(written):
        pairs = enumerate(zip(found, written, strict=True))
        return next((fault for n, (a, b) in pairs if (fault := _difference(a, b, f"{place}[{n}]"))), None)
    return None if found == written else f"{shown(place)} is {shown(found)}, which kit does not write there"


def _double(lock: Lock) -> str | None:
    """What no single entry shows: Pythons that the lock does not serve, files and packages that stand twice."""
    entries: tuple[LockedWheel | Preinstalled, ...] = (*lock.wheels, *lock.preinstalled)
    for entry in entries:
        if not set(entry.pythons) <= set(lock.pythons):
            return f"{entry.name} is for Python {', '.join(entry.pythons)}, the lock for {', '.join(lock.pythons)}"
    if file := first_twice(wheel.file for wheel in lock.wheels):
        return f"{file} is listed twice"
    for python in lock.pythons:
        if name := first_twice(wheel.name for wheel in lock.wheels_for(python)):
            return f"there are two wheels of {name} for Python {python}"
    return None


def first_twice(names: Iterable[str]) -> str | None:
    """The first name that stands there more than once; None if all differ."""
    return next((name for name, count in Counter(names).items() if count > 1), None)


def _command(lock: Lock) -> str:
    parts = [f"kit wheels lock --target {lock.target}"]
    parts += [f'--engine "{lock.engine}"'] if lock.engine_given else []
    parts += [f"--mode {lock.mode}"] if lock.mode != "isolated" else []
    parts += [f"--exclude-newer {lock.exclude_newer}"] if lock.exclude_newer else []
    return " ".join(parts)


def _package_lines(wheel: LockedWheel, lock: Lock) -> list[str]:
    file = {"path": f"{lock.target}/{wheel.file}", "size": wheel.size, "hashes": {"sha256": wheel.sha256}}
    return [
        "[[packages]]",
        f"name = {_value(wheel.name)}",
        f"version = {_value(wheel.version)}",
        *([f"marker = {_value(_marker(wheel.pythons))}"] if wheel.pythons else []),
        f"wheels = [{_value(file)}]",
    ]


def _marker(pythons: Iterable[str]) -> str:
    return " or ".join(f"python_version == '{python}'" for python in pythons)


def _value(value: str | bool | int | Mapping[str, Any] | Iterable[Any]) -> str:
    """A value as TOML. Raises WheelhouseError for text with quotes, or with characters that a reviewer may not see."""
    if isinstance(value, str):
        if not _PLAIN.fullmatch(value):
            raise WheelhouseError(f"{shown(value)} cannot stand in a lock: it holds quotes or unusual characters")
        return f'"{value}"'
    if isinstance(value, bool | int):
        return json.dumps(value)
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_value(item)}" for key, item in value.items()) + " }"
    return f"[{', '.join(map(_value, value))}]"


def requirement_lines(lock: Lock) -> tuple[str, ...]:
    """A line for each package and set of Pythons, with the SHA-256 of each of its wheels; sorted.

    Together the lines are all that is installed: an installer takes them with --require-hashes and --no-deps.
    """
    packages: dict[tuple[str, str], list[LockedWheel]] = {}
    for wheel in lock.wheels:
        packages.setdefault((wheel.name, wheel.version), []).append(wheel)
    return tuple(_line(wheels, lock) for _, wheels in sorted(packages.items()))


def _line(wheels: Sequence[LockedWheel], lock: Lock) -> str:
    pythons = {python for wheel in wheels for python in wheel.pythons or lock.pythons}
    wanted = "" if pythons == set(lock.pythons) else f" ; {_marker(sorted(pythons))}"
    hashes = " ".join(f"--hash=sha256:{sha256}" for sha256 in sorted({wheel.sha256 for wheel in wheels}))
    return f"{wheels[0].name}=={wheels[0].version}{wanted} {hashes}"
