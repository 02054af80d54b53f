"""The tensors of a checkpoint: every shard's header, and whether the index tells the same."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import ModelError, OutsideError
from kaggle_kit.model.headers import Tensor, read_header
from kaggle_kit.model.problem import Problem, warning
from kaggle_kit.outside import read_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kaggle_kit.model.folder import Folder

INDEX = "model.safetensors.index.json"
_NUMBERED = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.safetensors")
MOST_TENSORS = 500_000
"""Of all files together; one of 384 experts in 4 bits has 210,000."""
_MOST_MISSING = 100
_LISTED = 5
_LONGEST = 120


@dataclass(frozen=True)
class Weights:
    """All tensors by name, the file of each, and what is wrong with the files.

    `whole` is False where a file could not be read: what is missing then says nothing about the model.
    """

    tensors: Mapping[str, Tensor]
    places: Mapping[str, str]
    problems: tuple[Problem, ...]
    whole: bool


def read_weights(folder: Folder) -> Weights:
    """Read the header of every safetensors file at the top of the folder, and the index where there is one."""
    names = [name for name in folder.files if name.endswith(".safetensors") and not name.startswith("adapter_model")]
    problems: list[Problem] = []
    tensors: dict[str, Tensor] = {}
    places: dict[str, str] = {}
    whole = bool(names)
    for name in names:
        if name in folder.unreadable or len(tensors) > MOST_TENSORS:
            whole = False
            continue
        try:
            header = read_header(folder.files[name])
        except ModelError as error:
            what, _, step = str(error).removeprefix(f"{folder.files[name]}: ").rpartition("; ")
            problems.append(Problem(name, what, step))
            whole = False
            continue
        for tensor in header.tensors.values():
            if tensor.name in places:
                what = f"holds the tensor {tensor.name}, and so does {places[tensor.name]}"
                problems.append(Problem(name, what, "keep one of the two sets of files"))
            tensors[tensor.name] = tensor
            places[tensor.name] = name
    if not names:
        problems.append(Problem("*.safetensors", "there is no file of weights", "save the model as safetensors"))
    if len(tensors) > MOST_TENSORS:
        what = f"hold more than {MOST_TENSORS:,} tensors, and no model has so many"
        problems.append(Problem("*.safetensors", what, "see that it is the right folder"))
    missing = _missing_numbers(names)
    problems += missing
    index = _read_index(folder, problems)
    if index is not None:
        told = {problem.file for problem in missing}
        problems += [
            problem for problem in _against_index(index, places, names, whole=whole) if problem.file not in told
        ]
    elif len(names) > 1 and INDEX not in folder.files:
        what = f"is missing beside {len(names)} files of weights: vLLM reads them all, transformers none"
        problems.append(warning(INDEX, what, "save the model again, or download the index"))
    return Weights(tensors, places, tuple(problems), whole and not missing)


def _missing_numbers(names: list[str]) -> list[Problem]:
    """Shards that `-00001-of-00003` tells of, and that are not there."""
    found: dict[tuple[str, str], set[str]] = {}
    for name in names:
        if match := _NUMBERED.fullmatch(name):
            found.setdefault((match[1], match[3]), set()).add(match[2])
    problems = []
    for (stem, count), there in sorted(found.items()):
        # A hostile name must not make millions of problems.
        lacking = [n for n in range(1, min(int(count), 1000) + 1) if f"{n:05}" not in there]
        problems += [
            Problem(f"{stem}-{n:05}-of-{count}.safetensors", "is missing", "download it") for n in lacking[:_LISTED]
        ]
    return problems


def _read_index(folder: Folder, problems: list[Problem]) -> dict[str, Any] | None:
    path = folder.files.get(INDEX)
    if path is None or INDEX in folder.unreadable:
        return None
    again = "download it, or save the model again"
    try:
        body = read_json(path, follow=True)
    except OutsideError as error:
        problems.append(Problem(INDEX, f"is no index: {error}", again))
        return None
    mapped = body.get("weight_map") if isinstance(body, dict) else None
    if not isinstance(mapped, dict) or not all(isinstance(file, str) for file in mapped.values()):
        problems.append(Problem(INDEX, "is no index: it has no weight_map from names to files", again))
        return None
    return dict(body)


def _against_index(
    index: Mapping[str, Any], places: Mapping[str, str], names: list[str], *, whole: bool
) -> list[Problem]:
    mapped: Mapping[str, str] = index["weight_map"]
    listed = set(mapped.values())
    missing = sorted(listed - set(names))
    problems = [
        Problem(shorten([name]), f"is missing, and {INDEX} lists it", "download it") for name in missing[:_MOST_MISSING]
    ]
    if len(missing) > _MOST_MISSING:
        what = f"lists {len(missing):,} files that are missing"
        problems.append(Problem(INDEX, what, "download index and weights from one place"))
    problems += [
        Problem(name, f"is not in {INDEX}: it is of another save, and would be sent for nothing", "delete it")
        for name in sorted(set(names) - listed)
    ]
    if whole and listed <= set(names):
        problems += _tensors_against_index(index, places, listed)
    return problems


def _tensors_against_index(index: Mapping[str, Any], places: Mapping[str, str], listed: set[str]) -> list[Problem]:
    mapped: Mapping[str, str] = index["weight_map"]
    problems = []
    again = "download index and weights from one place, or save the model again"
    if lacking := sorted(set(mapped) - set(places)):
        problems.append(Problem(INDEX, f"lists tensors that no file holds: {shorten(lacking)}", again))
    if extra := sorted(name for name, file in places.items() if name not in mapped and file in listed):
        problems.append(Problem(INDEX, f"lacks tensors that the files hold: {shorten(extra)}", again))
    if moved := sorted(name for name in set(mapped) & set(places) if mapped[name] != places[name]):
        problems.append(Problem(INDEX, f"names another file than the one that holds them: {shorten(moved)}", again))
    return problems


def shorten(names: list[str]) -> str:
    """The first names of a list, and how many more there are."""
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(name if len(name) <= _LONGEST else f"{name[:_LONGEST]}…" for name in names[:_LISTED]) + more
