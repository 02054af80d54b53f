"""Files that leave the server: calls that answer with an address, and the files behind those addresses.

An address carries the server's signature (see `Service.file_url`), which is checked before anything is looked up.
"""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from kaggle_kit.loopback import datasets, kernels, models
from kaggle_kit.loopback.competitions import data_files, find_competition
from kaggle_kit.loopback.replies import Json, Refusal
from kaggle_kit.loopback.service import reference, version_asked
from kaggle_kit.loopback.versions import readable

if TYPE_CHECKING:
    from collections.abc import Callable

    from kaggle_kit.loopback.records import StoredFile
    from kaggle_kit.loopback.service import Service

Files = tuple[tuple[str, Path], ...]
# How many parts of an address name the version; the rest is the file's path in it.
_DEPTHS = {"dataset": 3, "model": 5, "competition": 1, "output": 3}


def dataset(service: Service, request: Json) -> str:
    """A dataset's version, or one file of it."""
    found = datasets.find_dataset(service, reference(request.get("ownerSlug"), request.get("datasetSlug")))
    version = readable(found, request.get("datasetVersionNumber"))
    return _address(service, f"dataset/{found.ref}/{version.number}", request.get("fileName"))


def model(service: Service, request: Json) -> str:
    """A variation's version, or one file of it."""
    owner = reference(request.get("ownerSlug"), request.get("modelSlug"))
    ref = f"{owner}/{request.get('framework')}/{request.get('instanceSlug')}"
    found = models.find_variation(service, ref)
    version = readable(found, request.get("versionNumber"))
    return _address(service, f"model/{found.ref}/{version.number}", request.get("path"))


def competition_file(service: Service, request: Json) -> str:
    """One file of a competition."""
    slug = find_competition(service, request.get("competitionName")).slug
    return _address(service, f"competition/{slug}", request.get("fileName"))


def competition_files(service: Service, request: Json) -> str:
    """All files of a competition."""
    return _address(service, f"competition/{find_competition(service, request.get('competitionName')).slug}", None)


def kernel_output(service: Service, request: Json) -> str:
    """One file of a run's output."""
    found = kernels.find_kernel(service, reference(request.get("ownerSlug"), request.get("kernelSlug")))
    number = request.get("versionNumber") or found.versions[-1].number
    return _address(service, f"output/{found.ref}/v{number}", request.get("filePath"))


ROUTES: dict[str, Callable[[Service, Json], str]] = {
    "datasets.DatasetApiService/DownloadDataset": dataset,
    "datasets.DatasetApiService/DownloadDatasetRaw": dataset,
    "models.ModelApiService/DownloadModelInstanceVersion": model,
    "competitions.CompetitionApiService/DownloadDataFile": competition_file,
    "competitions.CompetitionApiService/DownloadDataFiles": competition_files,
    "kernels.KernelsApiService/DownloadKernelOutput": kernel_output,
}


def file_behind(service: Service, path: str) -> Path:
    """The file behind `/files/…`. Raises Refusal."""
    kind, _, rest = path.partition("/")
    parts = rest.split("/")
    depth = _DEPTHS.get(kind, 0)
    name = "/".join(parts[depth:])
    for known, found in _files(service, kind, parts[:depth]):
        if known == name and found.is_file():
            return found
    raise Refusal(404, f"there is no file {path}")


def archive_behind(service: Service, path: str) -> Path:
    """The zip file behind `/archives/….zip`, made at the first request. Raises Refusal."""
    kind, _, rest = path.removesuffix(".zip").partition("/")
    files = _files(service, kind, rest.split("/"))
    if not files:
        raise Refusal(404, f"there is no archive {path}")
    target = service.store.folder / "archives" / path
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_suffix(".part")
        with zipfile.ZipFile(part, "w") as archive:
            for name, found in files:
                archive.write(found, name)
        shutil.move(part, target)
    return target


def _address(service: Service, place: str, name: object) -> str:
    return service.file_url(f"{place}/{name}") if name else service.file_url(f"{place}.zip", kind="archives")


def _files(service: Service, kind: str, parts: list[str]) -> Files:
    """The files of the version that an address names; `parts` are those of the address after the kind."""
    if len(parts) != _DEPTHS.get(kind):
        return ()
    match kind:
        case "dataset":
            found = datasets.find_dataset(service, "/".join(parts[:2]))
            return _stored(service, readable(found, parts[2]).files)
        case "model":
            variation = models.find_variation(service, "/".join(parts[:4]))
            return _stored(service, readable(variation, parts[4]).files)
        case "competition":
            return data_files(find_competition(service, parts[0]))
        case _:
            return service.runs.output("/".join(parts[:2]), version_asked(parts[2]) or 0)


def _stored(service: Service, files: tuple[StoredFile, ...]) -> Files:
    return tuple((file.name, service.store.object(file.sha256)) for file in files)
