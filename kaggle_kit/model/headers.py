"""The header of a safetensors file, read with distrust and without the weights.

Format (github.com/huggingface/safetensors, README, "Format"): 8 bytes, the header's length as an unsigned little-endian
integer; the header, a JSON object that begins with `{`; then the bytes of the tensors, without holes or overlaps.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MOST_HEADER_BYTES = 32_000_000
"""The format allows 100 MB. 72B models have headers of 0.3 MB a file, and 32 MB are over 200,000 tensors."""
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
    """One tensor as the header tells it; `begin` and `end` are bytes after the header."""

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
    shape, or do not end where the file ends.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
        if size < _LENGTH_BYTES + 2:
            raise ModelError(f"{path}: {size} bytes are too few for a safetensors file; {_AGAIN}")
        if length > MOST_HEADER_BYTES:
            raise ModelError(
                f"{path}: the header should have {length:,} bytes, and {MOST_HEADER_BYTES:,} are the most that kit "
                f"reads: this is no safetensors file, or a hostile one; {_AGAIN}"
            )
        if _LENGTH_BYTES + length > size:
            raise ModelError(
                f"{path}: the header should have {length:,} bytes, and the file has {size:,}: it was cut off; {_AGAIN}"
            )
        raw = stream.read(length)
    body = _parse(raw, path)
    metadata = body.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ModelError(f"{path}: the header's __metadata__ is not a table of texts; {_AGAIN}")
    tensors = {name: _tensor(name, told, path) for name, told in body.items()}
    _check_offsets(sorted(tensors.values(), key=lambda tensor: (tensor.begin, tensor.end)), size - 8 - length, path)
    return Header(tensors, metadata)


def _parse(raw: bytes, path: Path) -> dict[str, Any]:
    if not raw.startswith(b"{"):
        raise ModelError(f"{path}: the header is no JSON object: this is no safetensors file; {_AGAIN}")
    try:
        body: dict[str, Any] = json.loads(raw.decode("utf-8"), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: the header cannot be read: {error}; {_AGAIN}") from error
    return body


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object in which no name stands twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice[:80]!r} stands twice")
    return found


def _tensor(name: str, told: Any, path: Path) -> Tensor:
    where = f"{path}: tensor {name[:80]!r}"
    if not isinstance(told, dict):
        raise ModelError(f"{where} is no table; {_AGAIN}")
    dtype: Any = told.get("dtype")
    shape: Any = told.get("shape")
    offsets: Any = told.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        raise ModelError(f"{where} has the dtype {dtype!r}, which safetensors does not know; {_AGAIN}")
    if not _whole_numbers(shape) or not _whole_numbers(offsets) or len(offsets) != 2:
        raise ModelError(f"{where} has the shape {shape!r} and the offsets {offsets!r}; {_AGAIN}")
    begin, end = offsets
    bits = math.prod(shape) * DTYPE_BITS[dtype]
    if begin > end or bits != (end - begin) * 8:
        raise ModelError(
            f"{where} is {dtype} of shape {shape}, which takes {bits // 8:,} bytes; its offsets {offsets} do not; "
            f"{_AGAIN}"
        )
    return Tensor(name, dtype, tuple(shape), begin, end)


def _whole_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(type(one) is int and 0 <= one < 1 << 63 for one in value)


def _check_offsets(tensors: list[Tensor], data: int, path: Path) -> None:
    """The tensors must fill the `data` bytes after the header, each byte once."""
    end = 0
    for tensor in tensors:
        if tensor.begin != end:
            what = "overlaps the one before it" if tensor.begin < end else f"leaves {tensor.begin - end:,} bytes unused"
            raise ModelError(f"{path}: tensor {tensor.name[:80]!r} {what} (offset {tensor.begin:,}); {_AGAIN}")
        end = tensor.end
    if end > data:
        raise ModelError(
            f"{path}: the tensors take {end:,} bytes, and the file has {data:,} of them: it was cut off; {_AGAIN}"
        )
    if end < data:
        raise ModelError(f"{path}: {data - end:,} bytes follow the last tensor, and none may; {_AGAIN}")
