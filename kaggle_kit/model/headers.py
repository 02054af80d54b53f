"""A checkpoint's safetensors files by their headers alone: each file's tensors, and all of them by the index."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO

from kaggle_kit.errors import ModelError, OutsideError
from kaggle_kit.model.folder import Problem, by_check, warning
from kaggle_kit.outside import open_file, parse_json, read_json, shown
from kaggle_kit.runtime.checkpoint import MOST_HEADER_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from kaggle_kit.model.folder import Folder


MOST_DIMENSIONS = 8
"""Weights have up to five."""
MOST_NAME = 512
_MOST_DEPTH = 3
_LENGTH_BYTES = 8
DTYPE_BITS = {
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "F8_E4M3": 8,
    "F8_E5M2": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "C64": 64,
    "F64": 64,
    "I64": 64,
    "U64": 64,
}
"""Bits of one number (the library's Dtype, version 0.8)."""
_AGAIN = "download or copy the file again"


@dataclass(frozen=True)
class Tensor:
    """One tensor as the header describes it; `begin` and `end` are bytes after the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def numbers(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)

    @property
    def size(self) -> int:
        """Its bytes in the file."""
        return self.end - self.begin


@dataclass(frozen=True)
class Header:
    """What a file's header says."""

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str] = field(default_factory=dict)


def read_header(path: Path) -> Header:
    """Read and check the header of one file; its weights are not read.

    Raises ModelError for a file that the format forbids: no such header, a length beyond the file or beyond
    MOST_HEADER_BYTES, names that stand twice, unknown dtypes, offsets that overlap, leave holes, do not agree with the
    shape, or do not end where the file ends; and for what no checkpoint has: a link to a device, a tensor of more than
    MOST_DIMENSIONS, a name of more than MOST_NAME letters.
    """
    try:
        with open_file(path, follow=True) as stream:
            raw, data = _raw_header(stream, path)
    except OutsideError as error:
        raise ModelError(f"{path}: {str(error).removeprefix(f'{path} ')}") from error
    except OSError as error:
        raise ModelError(f"{path}: it cannot be read: {error.strerror or error}; {_AGAIN}") from error

    body = _parse(raw, path)
    metadata = body.pop("__metadata__", None)
    if metadata is None:  # as the library reads `null`
        metadata = {}
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ModelError(f"{path}: the header's __metadata__ is not a table of texts; {_AGAIN}")
    tensors = {name: _tensor(name, entry, path) for name, entry in body.items()}
    _check_offsets(sorted(tensors.values(), key=lambda tensor: (tensor.begin, tensor.end)), data, path)
    return Header(tensors, metadata)


def _raw_header(stream: BinaryIO, path: Path) -> tuple[bytes, int]:
    """The header's bytes, and how many follow it."""
    size = os.fstat(stream.fileno()).st_size
    length = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
    if size < _LENGTH_BYTES + 2:
        raise ModelError(f"{path}: {size} bytes are too few for a safetensors file; {_AGAIN}")
    if length > MOST_HEADER_BYTES:
        raise ModelError(
            f"{path}: the header should have {length:,} bytes, and {MOST_HEADER_BYTES:,} are the most that kit "
            f"reads: this is not a safetensors file, or a hostile one; {_AGAIN}"
        )
    if _LENGTH_BYTES + length > size:
        raise ModelError(
            f"{path}: the header should have {length:,} bytes, and the file has {size:,}: it was cut off; {_AGAIN}"
        )
    return stream.read(length), size - _LENGTH_BYTES - length


def _parse(raw: bytes, path: Path) -> dict[str, Any]:
    if not raw.lstrip(b" \t\r\n").startswith(b"{"):
        raise ModelError(f"{path}: the header is not a JSON object: this is not a safetensors file; {_AGAIN}")
    try:
        body: dict[str, Any] = parse_json(raw, f"{path}: the header", most_depth=_MOST_DEPTH, once=True)
    except OutsideError as error:
        raise ModelError(f"{str(error).rpartition('; ')[0]}; {_AGAIN}") from error
    return body


def _tensor(name: str, entry: Any, path: Path) -> Tensor:
    where = f"{path}: tensor {shown(name)}"
    if len(name) > MOST_NAME or not name.isprintable():
        raise ModelError(f"{where} has a name that no checkpoint has ({len(name):,} letters); {_AGAIN}")
    if not isinstance(entry, dict):
        raise ModelError(f"{where} is not a table; {_AGAIN}")
    dtype: Any = entry.get("dtype")
    shape: Any = entry.get("shape")
    offsets: Any = entry.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        raise ModelError(f"{where} has the dtype {shown(dtype)}, which safetensors does not know; {_AGAIN}")
    if not _whole_numbers(shape, MOST_DIMENSIONS) or not _whole_numbers(offsets, 2) or len(offsets) != 2:
        raise ModelError(f"{where} has the shape {shown(shape)} and the offsets {shown(offsets)}; {_AGAIN}")

    begin, end = offsets
    bits = math.prod(shape) * DTYPE_BITS[dtype]
    if begin > end or bits != (end - begin) * 8:
        raise ModelError(
            f"{where} is {dtype} of shape {shape}, which takes {bits // 8:,} bytes; its offsets {offsets} do not; "
            f"{_AGAIN}"
        )
    return Tensor(name, dtype, tuple(shape), begin, end)


def _whole_numbers(value: Any, most: int) -> bool:
    if not isinstance(value, list) or len(value) > most:
        return False
    return all(type(number) is int and 0 <= number < 1 << 63 for number in value)


def _check_offsets(tensors: list[Tensor], data: int, path: Path) -> None:
    """The tensors must fill the `data` bytes after the header, each byte once."""
    end = 0
    for tensor in tensors:
        if tensor.begin != end:
            what = "overlaps the one before it" if tensor.begin < end else f"leaves {tensor.begin - end:,} bytes unused"
            raise ModelError(f"{path}: tensor {shown(tensor.name)} {what} (offset {tensor.begin:,}); {_AGAIN}")
        end = tensor.end
    if end > data:
        raise ModelError(
            f"{path}: the tensors take {end:,} bytes, and the file has {data:,} of them: it was cut off; {_AGAIN}"
        )
    if end < data:
        raise ModelError(f"{path}: {data - end:,} bytes follow the last tensor, and none may; {_AGAIN}")


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

    `whole` is False if a file could not be read: what is missing then says nothing about the model.
    """

    tensors: Mapping[str, Tensor]
    places: Mapping[str, str]
    problems: tuple[Problem, ...]
    whole: bool


def read_weights(folder: Folder) -> Weights:
    """Read the header of every safetensors file at the top of the folder, and the index if there is one."""
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
            problems.append(Problem(name, what, step, check="weights"))
            whole = False
            continue
        for tensor in header.tensors.values():
            if tensor.name in places:
                what = f"holds the tensor {tensor.name}, and so does {places[tensor.name]}"
                problems.append(Problem(name, what, "keep one of the two sets of files", check="index"))
            tensors[tensor.name] = tensor
            places[tensor.name] = name

    if not names:
        step = "save the model as safetensors"
        problems.append(Problem("*.safetensors", "there is no file of weights", step, check="weights"))
    if len(tensors) > MOST_TENSORS:
        what = f"hold more than {MOST_TENSORS:,} tensors, and no model has so many"
        problems.append(Problem("*.safetensors", what, "see that it is the right folder", check="weights"))

    missing = _missing_numbers(names)
    problems += missing
    index = _read_index(folder, problems)
    if index is not None:
        known = {problem.file for problem in missing}
        against_index = _against_index(index, places, names, whole=whole)
        problems += [problem for problem in against_index if problem.file not in known]
    elif len(names) > 1 and INDEX not in folder.files:
        what = f"is missing beside {len(names)} files of weights: vLLM reads them all, transformers none"
        problems.append(warning(INDEX, what, "save the model again, or download the index"))
    return Weights(tensors, places, tuple(by_check("index", problems)), whole and not missing)


def _missing_numbers(names: list[str]) -> list[Problem]:
    """Shards that a name like `-00001-of-00003` counts, and that are not there."""
    shards: dict[tuple[str, str], set[str]] = {}
    for name in names:
        if match := _NUMBERED.fullmatch(name):
            shards.setdefault((match[1], match[3]), set()).add(match[2])
    problems = []
    for (stem, count), there in sorted(shards.items()):
        # A hostile name must not make millions of problems.
        lacking = [n for n in range(1, min(int(count), 1000) + 1) if f"{n:05}" not in there]
        problems += [
            Problem(f"{stem}-{n:05}-of-{count}.safetensors", "is missing", "download it", check="weights")
            for n in lacking[:_LISTED]
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
        problems.append(Problem(INDEX, f"is not an index: {error}", again))
        return None
    mapped = body.get("weight_map") if isinstance(body, dict) else None
    if not isinstance(mapped, dict) or not all(isinstance(file, str) for file in mapped.values()):
        problems.append(Problem(INDEX, "is not an index: it has no weight_map from names to files", again))
        return None
    return dict(body)


def _against_index(
    index: Mapping[str, Any], places: Mapping[str, str], names: list[str], *, whole: bool
) -> list[Problem]:
    mapped: Mapping[str, str] = index["weight_map"]
    listed = set(mapped.values())
    missing = sorted(listed - set(names))
    problems = [
        Problem(shorten([name]), f"is missing, and {INDEX} lists it", "download it", check="weights")
        for name in missing[:_MOST_MISSING]
    ]
    if len(missing) > _MOST_MISSING:
        what = f"lists {len(missing):,} files that are missing"
        problems.append(Problem(INDEX, what, "download index and weights from one place", check="weights"))
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
    listed = [name if len(name) <= _LONGEST else f"{name[:_LONGEST]}…" for name in names[:_LISTED]]
    return ", ".join(listed) + more
