"""Read `kit.toml`; every error says which file, which key, what was found and what was meant."""

from __future__ import annotations

import math
import re
from os.path import normpath
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from kaggle_kit.errors import ProjectError, UsageError
from kaggle_kit.places import CONFIG, inside, inside_whole, read_config
from kaggle_kit.runtime.kernels import Kernel
from kaggle_kit.suggest import did_you_mean, first_problem

__all__ = ["CONFIG", "Model", "Notebook", "Project", "find_project", "load_project", "slug_of"]


def _matching(pattern: str, words: str) -> AfterValidator:
    """A check of a text against a pattern, whose refusal is said in words."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"write {words}")
        return value

    return AfterValidator(check)


_SLUG = r"[a-z0-9]+(?:-[a-z0-9]+)*"
_OWNER = r"[A-Za-z0-9_-]+"
_WORD = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
Slug = Annotated[str, _matching(_SLUG, "lower-case letters, digits and single hyphens between them")]
Owner = Annotated[str, _matching(r"[a-z0-9_-]+", "an account's name as in its address: lower case, digits, - and _")]
TargetName = Annotated[str, _matching(r"[A-Za-z0-9][A-Za-z0-9._-]*", "letters, digits, ., _ and -, the first no sign")]
DatasetRef = Annotated[
    str, _matching(rf"[a-z0-9_-]+/{_SLUG}", "owner/name as in the dataset's address: lower case, digits and hyphens")
]
ModelRef = Annotated[
    str,
    _matching(
        rf"{_OWNER}/{_WORD}/[A-Za-z][A-Za-z0-9_]*/{_WORD}/[1-9][0-9]*",
        "owner/model/framework/variation/version as the model's page does, such as "
        "qwen-lm/qwen2.5/transformers/7b-instruct-awq/1",
    ),
]
Place = Annotated[str, Field(pattern=r"^[^\x00]+$")]
QUANTIZE_TEMPLATE = "quantize.py.j2"
OFFLINE_TEMPLATES = ("offline.py.j2", "bench.py.j2")
_IMAGE = r"(?:original|latest|[a-z0-9.-]+(?:/[a-z0-9._-]+)+@sha256:[0-9a-f]{64})"


def _finite(value: bool | float | str) -> bool | int | float | str:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number must be finite")
    return value


def _with_slug(title: str) -> str:
    if len(slug_of(title)) < 5:
        raise ValueError("a title needs five letters or digits, of which Kaggle makes the notebook's address")
    return title


def slug_of(title: str) -> str:
    """What Kaggle makes of a title in an address, by the library that its client asks: "Café" becomes `cafe`."""
    from slugify import slugify

    return slugify(title)


Value = Annotated[bool | int | float | str, AfterValidator(_finite)]
Title = Annotated[str, Field(min_length=5, max_length=50), AfterValidator(_with_slug)]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Model(_Table):
    """A checkpoint: its folder here, and where Kaggle has it (a dataset, or a version of a Kaggle Model)."""

    path: Place
    dataset: DatasetRef | None = None
    kaggle_model: ModelRef | None = None
    title: Annotated[str, Field(min_length=6, max_length=50)] | None = None
    """What Kaggle shows above the dataset or model; by default made of the slug."""
    licence: str | None = None
    """A licence as Kaggle names it (`apache-2.0`); a dataset without one is under `unknown`."""
    most_kl: Annotated[float, Field(gt=0, strict=False)] | None = None
    """The largest mean KL from its reference (nats, `kit model compare --record`) with which it may be pushed."""

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.dataset is None) == (self.kaggle_model is None):
            raise ValueError("give either dataset or kaggle_model, and not both")
        return self

    @property
    def place(self) -> str:
        """The dataset, or the variation of a Kaggle Model, of which it is a version."""
        return self.dataset or str(self.kaggle_model).rpartition("/")[0]


class Notebook(_Table):
    """One notebook to build. Paths are below the project's root."""

    source: Place
    title: Title
    model: str
    target: str
    template: str = "offline.py.j2"
    data: Place | None = None
    """The competition's files for a dry run: a folder with test.csv and sample_submission.csv."""
    solution: Place | None = None
    private: bool = True
    parameters: dict[str, Value] = Field(default_factory=dict)
    ensemble: dict[str, Annotated[float, Field(gt=0, strict=False)]] = Field(default_factory=dict)
    """Further models with their weights beside `model`'s 1: averaged in log space."""
    engine: Literal["vllm", "vllm-classify", "transformers"] = "vllm"
    engine_options: dict[str, Value] = Field(default_factory=dict)
    kernel: Kernel | None = None
    """The 4-bit kernel; by default the fastest measured on the target (`kit bench`), of those with exact answers."""
    image: Annotated[str, Field(pattern=rf"^{_IMAGE}$")] = "original"
    """Kaggle's image: the one of the notebook's first version, `latest`, or a reference with its digest."""
    session_hours: Annotated[float, Field(gt=0, le=12, strict=False)] | None = None
    """After how many hours Kaggle ends the run; by default the target's session."""
    internet: bool = False
    """Whether its run gets the network: for a notebook that makes a model, never for one that is submitted."""
    adapter: str | None = None
    """The table under models whose folder is a LoRA adapter, to be merged into `model`."""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.internet:
            given = [key for key in ("solution", "ensemble", "engine_options", "kernel") if getattr(self, key)]
            if given:
                raise ValueError(f"with internet = true it makes a model and scores nothing: leave out {given[0]}")
            if self.template in OFFLINE_TEMPLATES:
                raise ValueError(
                    f"the template {self.template} is of notebooks without internet; "
                    f'say template = "{QUANTIZE_TEMPLATE}", or leave out internet'
                )
        elif self.template == QUANTIZE_TEMPLATE:
            raise ValueError(f"the template {self.template} installs from the package index: say internet = true")
        elif self.adapter is not None:
            raise ValueError("adapter is for a notebook that makes a model: say internet = true")
        return self

    @property
    def model_names(self) -> tuple[str, ...]:
        """All models that the notebook is given, `model` first; the adapter is one."""
        return (self.model, *self.ensemble, *([self.adapter] if self.adapter else []))

    @property
    def slug(self) -> str:
        """What Kaggle makes of the title in the notebook's address."""
        return slug_of(self.title)


class Project(_Table):
    """A whole `kit.toml`, and the folder that it stands in."""

    root: Path
    trusted: bool = False
    """Whether the user said that engine options may name code: never kit.toml's to say."""
    owner: Owner
    competition: Slug
    wheelhouses: dict[TargetName, DatasetRef]
    """Target name → the dataset that holds its wheels."""
    models: dict[str, Model]
    notebooks: dict[str, Notebook]
    outside: list[str] = Field(default_factory=list)
    """Folders outside of the project that it may use, once the user has allowed them (`places`)."""

    @model_validator(mode="after")
    def _places_differ(self) -> Self:
        """What is pushed to one place would be pushed over what is pushed there from another."""
        names: dict[str, str] = {}
        for name, notebook in self.notebooks.items():
            if (other := names.setdefault(notebook.slug, name)) != name:
                raise ValueError(
                    f"notebooks.{other} and notebooks.{name} would be one notebook on Kaggle, "
                    f"{self.owner}/{notebook.slug}: give one of them another title"
                )

        sent = [(f"wheelhouses.{name}", place, name) for name, place in self.wheelhouses.items()]
        for name, model in self.models.items():
            sent.append((f"models.{name}", model.place, normpath(self.root / model.path)))
        owners: dict[str, tuple[str, str]] = {}
        for key, place, path in sent:
            other, first = owners.setdefault(place, (key, path))
            if first != path:
                raise ValueError(f"{other} and {key} would both lie in {place} on Kaggle: give one another place")
        return self

    @model_validator(mode="after")
    def _names_agree(self) -> Self:
        for name, notebook in self.notebooks.items():
            key = f"notebooks.{name}"
            others = [model for model in self.models if model != notebook.model]
            if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
                raise ValueError(f"{key}: a notebook's name has letters, digits, - and _ only")

            for other in notebook.ensemble:
                if other not in others:
                    near = did_you_mean(other, self.models)
                    raise ValueError(f"{key}.ensemble names {other!r}, which is not another table under models{near}")
            if notebook.adapter is not None and notebook.adapter not in others:
                near = did_you_mean(notebook.adapter, self.models)
                raise ValueError(f"{key}.adapter = {notebook.adapter!r} is not another table under models{near}")
            if notebook.model not in self.models:
                near = did_you_mean(notebook.model, self.models)
                raise ValueError(f"{key}.model = {notebook.model!r} is not a table under models{near}")
        return self

    def notebook(self, name: str) -> Notebook:
        """The notebook `name`; raises UsageError for an unknown name."""
        if name not in self.notebooks:
            raise UsageError(
                f"{self.root / CONFIG} has no notebook {name!r}{did_you_mean(name, self.notebooks)}; "
                f"known: {', '.join(sorted(self.notebooks)) or 'none'}"
            )
        return self.notebooks[name]

    def data_folder(self, name: str, given: Path | None) -> Path:
        """The competition's files for the notebook `name`: `given`, else those of its table.

        Raises UsageError if neither names any, ProjectError if the table names no folder that may be used.
        """
        own = self.notebook(name).data
        if given is None and own is None:
            raise UsageError(f"no data: name a folder with --data DIR, or as notebooks.{name}.data in kit.toml")
        return given or self.path(str(own), key=f"notebooks.{name}.data")

    def source(self, name: str) -> Path:
        """The source of the notebook `name`. Raises as `path` does."""
        relative, key = self.notebook(name).source, f"notebooks.{name}.source"
        try:
            return self.path(relative, key=key)
        except ProjectError as error:
            source = inside(self.root, relative, key=key)
            beside = inside(self.root, source.with_suffix(".ipynb"), key=key)
            if source.exists() or not beside.is_file():
                raise
            raise ProjectError(
                f"{error}; {beside} is there: name it in {CONFIG}, or convert it with: "
                f"jupytext --to py:percent {beside}"
            ) from error

    def model_folder(self, name: str) -> Path:
        """The folder of the model `name` of kit.toml. Raises as `path` does."""
        return self.path(self.models[name].path, key=f"models.{name}.path")

    def path(self, relative: str, *, key: str) -> Path:
        """A file or folder that `kit.toml` names under `key`.

        Raises ProjectError if it does not exist, or if it, or a link in it, leads out of the project to a place
        that the user has not allowed.
        """
        path = inside_whole(self.root, relative, key=key)
        if not path.exists():
            raise ProjectError(f"{self.root / CONFIG}: {key} = {relative!r}, but {path} does not exist")
        return path

    def place(self, *parts: str) -> Path:
        """A place of kit's own in the project's folder, such as build/NAME; it need not be there.

        Raises ProjectError if it leads out of the project to a place that the user has not allowed.
        """
        return inside(self.root, Path(*parts))


def find_project(start: Path) -> Path:
    """The nearest folder at or above `start` that holds a `kit.toml`; raises ProjectError if none does."""
    for folder in [start.resolve(), *start.resolve().parents]:
        if (folder / CONFIG).is_file():
            return folder
    raise ProjectError(
        f"no {CONFIG} in {start.resolve()} or any folder above it: go into a project, or name it with --project DIR"
    )


def load_project(root: Path) -> Project:
    """Read `root`/kit.toml.

    Raises ProjectError if it is missing, is not TOML, has an unknown key or a value of the wrong kind, or is a link
    out of its folder.
    """
    body, path = read_config(root), root / CONFIG
    for key in ("root", "trusted"):
        if key in body:
            raise ProjectError(f"{path}: unknown key {key!r}")
    try:
        return Project.model_validate({"root": root.resolve()} | body)
    except ValidationError as error:
        raise ProjectError(f"{path}: {first_problem(error, Project)}") from error
