"""The tensors of a checkpoint: every shard's header, and whether the index tells the same."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import ModelError
from kaggle_kit.model.headers import Tensor, read_header
from kaggle_kit.model.problem import Problem, warning

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kaggle_kit.model.folder import Folder

INDEX = "model.safetensors.index.json"
_NUMBERED = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.safetensors")
_LISTED = 5


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
        if name in folder.unreadable:
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
    found = [match for name in names if (match := _NUMBERED.fullmatch(name))]
    problems = []
    for stem, count in sorted({(match[1], match[3]) for match in found}):
        there = {match[2] for match in found if (match[1], match[3]) == (stem, count)}
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
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
        mapped = body["weight_map"]
        if not all(isinstance(key, str) and isinstance(value, str) for key, value in mapped.items()):
            raise TypeError("weight_map does not map names to files")  # noqa: TRY301
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        problems.append(Problem(INDEX, f"is no index: {error!r}", "download it, or save the model again"))
        return None
    return dict(body)


def _against_index(
    index: Mapping[str, Any], places: Mapping[str, str], names: list[str], *, whole: bool
) -> list[Problem]:
    mapped: Mapping[str, str] = index["weight_map"]
    listed = set(mapped.values())
    problems = [
        Problem(name, f"is missing, and {INDEX} lists it", "download it") for name in sorted(listed - set(names))
    ]
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
    return ", ".join(names[:_LISTED]) + more
