"""One target: what is known of the image and the machine that a notebook will meet."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from kaggle_kit.errors import OutsideError, ProjectError, UsageError
from kaggle_kit.outside import read_text, read_toml
from kaggle_kit.places import inside
from kaggle_kit.runtime.engines import is_vllm
from kaggle_kit.runtime.permitted import variable_problem
from kaggle_kit.suggest import did_you_mean, first_problem

FOLDER = "targets"
"""The project's folder of its own targets."""
_SHIPPED = Path(__file__).parent
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_Python = Annotated[str, Field(pattern=r"^3\.[0-9]{1,3}$")]
_Dotted = Annotated[str, Field(pattern=r"^[0-9]{1,6}(\.[0-9]{1,6}){0,7}$")]
_Bytes = Annotated[int, Field(gt=0, le=1 << 60)]
_MOST_FILE_BYTES = 1 << 20
_PIN = re.compile(r"(?P<name>[A-Za-z0-9][\w.-]*)(\[[\w,. -]*\])?===?(?P<version>[^\s;#]+)")
_PYTHON = re.compile(r"#\s*python[:\s]+(?P<python>3\.\d+)", re.IGNORECASE)
_MOST_FREEZE_BYTES = 4 << 20


class Fact(BaseModel):
    """Where a target's value is from: the day it was seen, by whom, and how sure that makes it.

    `confidence`: "measured" here, "read" in a primary source, "reported" by a third party, "inferred".
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    date: date
    source: str
    confidence: Literal["measured", "read", "reported", "inferred"]


class Target(BaseModel):
    """An image profile. Sizes in bytes, times in seconds, versions as text; None if nothing is known."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    summary: str
    pythons: Annotated[tuple[_Python, ...], Field(min_length=1)]
    """The Pythons of its images; one wheelhouse serves all of them. A file may say `python` for a single one."""
    glibc: str = Field(pattern=r"^2\.[0-9]{1,3}$")
    """The oldest glibc of its images."""
    machine: str = "x86_64"
    engine: str
    mode: Literal["isolated", "overlay"] = "isolated"
    """How its wheelhouse is installed: all of it in an empty environment, or what the image lacks over the image."""
    extras: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    torch_backend: str | None = None
    accelerator: str | None = None
    """Kaggle's `machine_shape`; None for a session without a GPU."""
    gpus: int = Field(default=0, ge=0, le=1024)
    gpu_name: str | None = None
    gpu_memory_bytes: _Bytes | None = None
    """What one GPU offers to programs."""
    compute_capability: _Dotted | None = None
    driver: _Dotted | None = None
    cuda: _Dotted | None = None
    """The newest CUDA that the driver runs."""
    cores: int | None = Field(default=None, gt=0, le=100_000)
    memory_bytes: _Bytes | None = None
    scratch_bytes: _Bytes | None = None
    """Free space outside the working folder, where wheels are installed."""
    session_seconds: int = Field(gt=0, le=100_000_000)
    working_bytes: _Bytes
    mounts: tuple[str, ...] = ()
    """The forms of path under which inputs are met."""
    freeze: dict[_Python, str] = Field(default_factory=dict)
    """Python → the file beside the target's that lists what the image has installed."""
    installed: dict[_Python, dict[str, str]] = Field(default_factory=dict)
    """Python → package → version of what the image has: the freeze, read."""
    engine_options: dict[str, bool | int | float | str] = Field(default_factory=dict)
    worker_environment: dict[str, str] = Field(default_factory=dict)
    facts: dict[str, Fact] = Field(default_factory=dict)
    """Key of this table → where its value is from."""

    @property
    def python(self) -> str:
        """The first of its Pythons."""
        return self.pythons[0]

    @model_validator(mode="before")
    @classmethod
    def _one_python(cls, data: Any) -> Any:
        """`python = "3.12"` is `pythons = ["3.12"]`."""
        if not isinstance(data, dict):
            return data
        if "python" in data:
            if "pythons" in data:
                raise ValueError("say `python` or `pythons`, not both")
            return {key: value for key, value in data.items() if key != "python"} | {"pythons": (data["python"],)}
        if "pythons" not in data:
            raise ValueError("the key 'python' is missing (or `pythons`, for images of several)")
        return data

    @property
    def capability(self) -> tuple[int, int] | None:
        """The compute capability of its cards; None if there are none or nothing is known."""
        if not self.gpus or self.compute_capability is None:
            return None
        major, _, minor = self.compute_capability.partition(".")
        return int(major), int(minor or 0)

    @property
    def engine_version(self) -> tuple[int, int, int]:
        """Its engine's version as three numbers; zeros if `engine` pins none."""
        match = re.match(r"([0-9]{1,9})(?:\.([0-9]{1,9}))?(?:\.([0-9]{1,9}))?", self.engine.partition("==")[2])
        return (int(match[1]), int(match[2] or 0), int(match[3] or 0)) if match else (0, 0, 0)

    def options_for(self, engine: str) -> dict[str, bool | int | float | str]:
        """Its options for an engine by kit's name: they are vLLM's, and another engine gets none."""
        return dict(self.engine_options) if is_vllm(engine) else {}

    @model_validator(mode="after")
    def _variables_are_settings(self) -> Target:
        for name, value in self.worker_environment.items():
            if problem := variable_problem(name, value):
                raise ValueError(f"worker_environment.{name}: {problem}")
        return self

    @model_validator(mode="after")
    def _facts_are_of_keys(self) -> Target:
        known = type(self).model_fields
        for table, keys in (("facts", self.facts), ("freeze", self.freeze), ("installed", self.installed)):
            for key in keys:
                if table == "facts" and key not in known:
                    raise ValueError(f"[facts] has no value of {key!r} to speak of{did_you_mean(key, known)}")
                if table != "facts" and key not in self.pythons:
                    raise ValueError(f"{table} is of Python {key}, and `pythons` does not list it")
        return self


def target_names(*, project: Path | None = None) -> list[str]:
    """The names of all targets: the project's own (`targets/*.toml`) and the shipped ones, sorted."""
    return sorted({path.stem for folder in _folders(project) for path in folder.glob("*.toml")})


def load_target(name: str, *, project: Path | None = None) -> Target:
    """Read the target `name`: the project's own file, else the shipped one.

    Raises UsageError for an unknown name, ProjectError for a file that is wrong.
    """
    folders = _folders(project) if _NAME.fullmatch(name) else []
    for folder in folders:
        path = folder / f"{name}.toml"
        if path.is_file():
            return _read(path, project=project if folder != _SHIPPED else None)
    names = target_names(project=project)
    raise UsageError(f"there is no target {name!r}{did_you_mean(name, names)}; known: {', '.join(names)}")


def _folders(project: Path | None) -> list[Path]:
    own = [folder] if project and (folder := inside(project, FOLDER)).is_dir() else []
    return [*own, _SHIPPED]


def _read(path: Path, *, project: Path | None) -> Target:
    """The target in `path`, which is of `project`, or shipped (None)."""
    if project:
        inside(project, path)
    try:
        body = read_toml(path, most_bytes=_MOST_FILE_BYTES, follow=True)
        if "name" in body:
            raise ProjectError(f"{path}: unknown key 'name'; a target is named by its file")
        target = Target.model_validate({"name": path.stem} | body)
    except OutsideError as error:
        raise ProjectError(f"{path} is not valid TOML: {error}") from error
    except ValidationError as error:
        raise ProjectError(f"{path}: {first_problem(error, Target)}") from error

    freezes = {python: _beside(path, file, project=project) for python, file in target.freeze.items()}
    frozen = {python: _frozen(freeze, python) for python, freeze in freezes.items()}
    return target.model_copy(update={"installed": target.installed | frozen})


def _beside(path: Path, file: str, *, project: Path | None) -> Path:
    """The freeze `file` beside a target's `path`. Raises ProjectError if it is elsewhere."""
    if Path(file).name != file:
        raise ProjectError(f"{path}: [freeze] names {file!r}; it must be a file beside {path.name}")
    return inside(project, path.parent / file) if project else path.parent / file


def _frozen(path: Path, python: str) -> dict[str, str]:
    freeze = read_freeze(path)
    if freeze.python not in {None, python}:
        raise ProjectError(f"{path} is a freeze of Python {freeze.python}, and the target calls it {python}'s")
    return freeze.packages


@dataclass(frozen=True, kw_only=True)
class Freeze:
    """What an image has installed, as `pip freeze` writes it: packages by canonical name.

    `python` is the one that a comment `# python 3.13` names, else None.
    """

    packages: dict[str, str]
    python: str | None


def read_freeze(path: Path) -> Freeze:
    """Read a freeze file. Raises ProjectError: missing, not text, or without a single `name==version`."""
    try:
        text = read_text(path, most_bytes=_MOST_FREEZE_BYTES, follow=True)
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
