"""Sent files as the parts of a new version, those with a path inside its folders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kaggle_kit.remote.client.uploads import Sent


def attach(request: Any, files: Sequence[Sent]) -> None:
    """Put the files' tokens into a request (its `files` and `directories`), which names them by their tokens only."""
    _fill(request, [(one.name.split("/"), one) for one in files])


def _fill(place: Any, below: list[tuple[list[str], Sent]]) -> None:
    from kagglesdk.datasets.types.dataset_api_service import ApiUploadDirectoryInfo

    place.files = [_new_file(one) for parts, one in below if len(parts) == 1]
    folders = []
    for name in sorted({parts[0] for parts, _ in below if len(parts) > 1}):
        folder = ApiUploadDirectoryInfo()
        folder.name = name
        _fill(folder, [(parts[1:], one) for parts, one in below if len(parts) > 1 and parts[0] == name])
        folders.append(folder)
    if folders:
        place.directories = folders


def _new_file(one: Sent) -> Any:
    from kagglesdk.datasets.types.dataset_api_service import ApiDatasetNewFile

    file = ApiDatasetNewFile()
    file.token = one.token
    return file
