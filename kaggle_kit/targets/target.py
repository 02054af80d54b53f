"""One target: what is known of the image and the machine that a notebook will meet."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kaggle_kit.errors import ProjectError, UsageError
from kaggle_kit.suggest import did_you_mean, first_problem

_SHIPPED = Path(__file__).parent


class Target(BaseModel):
    """An image profile. Sizes in bytes, times in seconds, versions as text."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    summary: str
    python: str = Field(pattern=r"^3\.\d+$")
    glibc: str = Field(pattern=r"^2\.\d+$")
    machine: str = "x86_64"
    engine: str
    extras: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    torch_backend: str | None = None
    accelerator: str | None = None
    """Kaggle's `machine_shape`; None for a session without a GPU."""
    gpus: int = Field(default=0, ge=0)
    session_seconds: int = Field(gt=0)
    working_bytes: int = Field(gt=0)
    engine_options: dict[str, bool | int | float | str] = Field(default_factory=dict)
    worker_environment: dict[str, str] = Field(default_factory=dict)


def target_names(*, project: Path | None = None) -> list[str]:
    """The names of all targets: the project's own (`targets/*.toml`) and the shipped ones, sorted."""
    return sorted({path.stem for folder in _folders(project) for path in folder.glob("*.toml")})


def load_target(name: str, *, project: Path | None = None) -> Target:
    """Read the target `name`: the project's own file, else the shipped one.

    Raises UsageError for an unknown name, ProjectError for a file that is wrong.
    """
    for folder in _folders(project):
        path = folder / f"{name}.toml"
        if path.is_file():
            return _read(path)
    names = target_names(project=project)
    raise UsageError(f"there is no target {name!r}{did_you_mean(name, names)}; known: {', '.join(names)}")


def _folders(project: Path | None) -> list[Path]:
    own = [project / "targets"] if project and (project / "targets").is_dir() else []
    return [*own, _SHIPPED]


def _read(path: Path) -> Target:
    try:
        body: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        if "name" in body:
            raise ProjectError(f"{path}: unknown key 'name'; a target is named by its file")
        return Target.model_validate({"name": path.stem} | body)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ProjectError(f"{path} is not valid TOML: {error}") from error
    except ValidationError as error:
        raise ProjectError(f"{path}: {first_problem(error, Target)}") from error
