"""A built notebook as Kaggle gets it: its source by content, and the settings of its runs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import OutsideError, ProjectError
from kaggle_kit.outside import read_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

METADATA = "kernel-metadata.json"
# How many parts the references of each kind have.
_PARTS = {"competition_sources": 1, "dataset_sources": 2, "model_sources": 5, "kernel_sources": 2}


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """How a notebook runs on Kaggle. References are owner/slug, of models with the version; tuples are sorted."""

    title: str
    code_file: str
    private: bool
    gpu: bool
    tpu: bool
    internet: bool
    accelerator: str | None
    competitions: tuple[str, ...]
    datasets: tuple[str, ...]
    models: tuple[str, ...]
    kernels: tuple[str, ...]
    docker_image: str | None
    """A reference with its digest, where `kit.toml` names one."""
    image_pinning: str | None
    """`original` or `latest`, where it does not."""
    session_seconds: int

    def hash(self) -> str:
        """SHA-256 over all settings."""
        return sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


def read_kernel(folder: Path, *, image: str, session_seconds: int) -> tuple[str, Kernel]:
    """The reference owner/slug and the settings of the notebook built in `folder`.

    `image` is `kit.toml`'s. What the metadata leaves out is what Kaggle's client makes of it, internet on included.
    Raises ProjectError where there is no whole build.
    """
    path = folder / METADATA
    try:
        body: dict[str, Any] = read_json(path, follow=True)
        code_file, accelerator = str(body["code_file"]), body.get("machine_shape") or None
        _refuse_unless(PurePath(code_file).name == code_file, "code_file", code_file)
        _refuse_unless(_is_reference(reference := body["id"], 2), "id", reference)
        _refuse_unless(isinstance(accelerator, str | None), "machine_shape", accelerator)
        sources = {key: _sources(body, key, parts) for key, parts in _PARTS.items()}
    except OutsideError as error:
        raise ProjectError(f"{error}; or build the notebook again with: kit build") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ProjectError(f"{path} cannot be read ({error!r}); build the notebook again with: kit build") from error
    pinning = image if image in {"original", "latest"} else None
    return reference, Kernel(
        title=str(body.get("title", "")),
        code_file=code_file,
        private=bool(body.get("is_private", True)),
        gpu=bool(body.get("enable_gpu", False)),
        tpu=bool(body.get("enable_tpu", False)),
        internet=bool(body.get("enable_internet", True)),
        accelerator=accelerator,
        competitions=sources["competition_sources"],
        datasets=sources["dataset_sources"],
        models=sources["model_sources"],
        kernels=sources["kernel_sources"],
        docker_image=None if pinning else image,
        image_pinning=pinning,
        session_seconds=session_seconds,
    )


def _sources(body: Mapping[str, Any], key: str, parts: int) -> tuple[str, ...]:
    """A list of references of so many parts. Raises ValueError."""
    found = body.get(key) or []
    _refuse_unless(isinstance(found, list) and all(_is_reference(source, parts) for source in found), key, found)
    return tuple(sorted(found))


def _refuse_unless(right: bool, key: str, found: object) -> None:
    if not right:
        raise ValueError(f"{key} = {found!r}")


def _is_reference(text: object, parts: int) -> bool:
    return isinstance(text, str) and text.count("/") == parts - 1 and all(text.split("/"))
