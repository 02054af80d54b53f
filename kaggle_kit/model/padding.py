"""Zeros that widen the MLPs of a quantised model, so that several cards can share its groups of inputs.

vLLM gives each card a share of an MLP's inner channels and refuses a share that is not whole groups. One more channel
whose weights are zeros changes no output: what gate and up make of it is multiplied by zero. The zeros go into the
files after quantising, so that every other number stays what it was. A packed number and its zero point are both stored
as zeros, which makes the weight zero in each form that `kit model quantize` writes; the scales repeat the last one,
since some kernels divide by a layer's largest.

Seen in vLLM 0.32 on a CPU, with 448 channels in groups of 64: as they are, two ranks end with an error of shapes.
Padded to 512 they read the model, and one rank gives the log-probabilities that it gives without the zeros, in all four
decimals that were looked at.
"""

from __future__ import annotations

import json
import math
import mmap
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import ModelError
from kaggle_kit.files import naming, write_atomic
from kaggle_kit.model.headers import INDEX, read_header
from kaggle_kit.outside import open_file
from kaggle_kit.runtime.checkpoint import read_table

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kaggle_kit.model.headers import Header, Tensor
    from kaggle_kit.model.inspect import Inspection

INNER = "intermediate_size"
"""The key of config.json that gives the number of an MLP's inner channels."""
_INTO = {"gate_proj", "up_proj", "gate_up_proj", "fc1", "c_fc", "w1", "w3", "dense_h_to_4h"}
"""Layers whose outputs are the inner channels, as models call them."""
_OUT_OF = {"down_proj", "fc2", "c_proj", "w2", "dense_4h_to_h"}
"""Layers whose inputs they are."""
_TWICE = "gate_up_proj"
_IN_LAYER = re.compile(r"\.(layers|h)\.\d+\.")
_ATTENTION = re.compile(r"attn|attention")
_EXPERTS = re.compile(r"expert")
# Ending → the axis of the outputs, and the axis of the inputs; None where the tensor has none.
_AXES: dict[str, tuple[int | None, int | None]] = {
    "qweight": (1, 0),
    "qzeros": (1, 0),
    "scales": (1, 0),
    "weight_packed": (0, 1),
    "weight_zero_point": (0, 1),
    "weight_scale": (0, 1),
    "weight": (0, 1),
    "bias": (0, None),
}
_REPEATED = (".scales", ".weight_scale")
_SHAPE = "weight_shape"
"""The tensor whose two numbers are a packed layer's outputs and inputs."""


@dataclass(frozen=True)
class Padding:
    """How many inner channels an MLP has, how many it gets, how many cards then share them, and how many of a layer's
    inputs share a scale (None: all)."""

    inner: int
    wanted: int
    split: int
    group: int | None

    def to_json(self) -> dict[str, int]:
        """Its part of a manifest."""
        return {INNER: self.wanted, f"unpadded_{INNER}": self.inner, "split": self.split}


def refuse_unknown_layers(source: Inspection, inner: int) -> None:
    """Raise ModelError if the MLPs of `source` are not the ones that `pad_model` widens: of `inner` channels each."""
    where, step = f"{source.folder.root}: kit cannot pad its MLPs", "take --split 1, which pads nothing"
    if source.config.get(INNER) != inner:
        raise ModelError(f"{where}: config.json does not give their size as {INNER!r}; {step}")
    shapes = {name: tensor.shape for name, tensor in source.weights.tensors.items()}
    if expert := next(filter(_EXPERTS.search, shapes), None):
        raise ModelError(f"{where}: {expert} belongs to a mixture of experts; {step}")

    into = out_of = 0
    for name, shape in shapes.items():
        layer, _, ending = name.rpartition(".")
        kind = _kind(layer) if ending == "weight" else None
        if kind is None:
            continue
        expected = inner * (2 if layer.endswith(_TWICE) else 1)
        if len(shape) != 2 or shape[kind] != expected:
            raise ModelError(f"{where}: {name} has the shape {shape}, and {expected:,} belong there; {step}")
        into += kind == 0
        out_of += kind == 1
    layers = source.architecture.layers if source.architecture else 0
    if not into or out_of != layers or into % layers:
        raise ModelError(f"{where}: it knows those of {out_of} layers, and there are {layers}; {step}")


def pad_model(folder: Path, padding: Padding) -> None:
    """Widen the MLPs in the safetensors files of `folder`, and the total in their index; config.json is the caller's.

    Raises ModelError for a file that is not whole, or a tensor that cannot be widened so.
    """
    total = changed = 0
    for path in sorted(folder.glob("*.safetensors")):
        header = read_header(path)
        pieces = [_widen(tensor, padding) for tensor in header.tensors.values()]
        changed += sum(piece.wider for piece in pieces)
        total += sum(piece.size for piece in pieces)
        if any(piece.wider for piece in pieces):
            _write_again(path, header, sorted(pieces, key=lambda piece: piece.tensor.begin), padding)
    if not changed:
        raise ModelError(f"{folder} has no MLP that kit knows, so it cannot be padded; take --split 1")

    index = folder / INDEX
    if index.is_file():
        body = read_table(index, "an index")
        known = body.get("metadata")
        body["metadata"] = {**(known if isinstance(known, dict) else {}), "total_size": total}
        write_atomic(index, json.dumps(body, indent=2) + "\n")


def _kind(layer: str) -> int | None:
    """0 if the inner channels are the outputs of `layer`, 1 if they are its inputs; None if it is no layer of an MLP.

    As the axes of a plain weight, (outputs, inputs).
    """
    leaf = layer.rpartition(".")[2]
    if leaf not in _INTO | _OUT_OF or not _IN_LAYER.search(layer) or _ATTENTION.search(layer):
        return None
    return 0 if leaf in _INTO else 1


@dataclass(frozen=True)
class _Piece:
    """A tensor, and how it is widened: along `axis` it has `blocks` parts of `old` numbers, which become `new` each.

    `axis` is None for a tensor that stays as it is, or (`kind` is not None) for the numbers of a layer's shape.
    """

    tensor: Tensor
    axis: int | None = None
    blocks: int = 1
    old: int = 1
    new: int = 1
    kind: int | None = None

    @property
    def wider(self) -> bool:
        """Whether its bytes change."""
        return self.axis is not None or self.kind is not None

    @property
    def shape(self) -> list[int]:
        """Its new shape."""
        shape = list(self.tensor.shape)
        if self.axis is not None:
            shape[self.axis] = self.blocks * self.new
        return shape

    @property
    def size(self) -> int:
        """Its new bytes."""
        return self.tensor.size // self.old * self.new


def _widen(tensor: Tensor, padding: Padding) -> _Piece:
    layer, _, ending = tensor.name.rpartition(".")
    kind = _kind(layer)
    if kind is None or (kind == 1 and ending == "weight_scale" and padding.group is None):
        return _Piece(tensor)
    cannot = ModelError(
        f"{tensor.name} is {tensor.dtype} of the shape {tensor.shape}: {padding.inner:,} inner channels cannot be "
        f"padded to {padding.wanted:,} in it; take --split 1, which pads nothing"
    )
    blocks = 2 if layer.endswith(_TWICE) else 1
    if ending == _SHAPE:
        if tensor.shape != (2,) or tensor.dtype not in {"I32", "I64"}:
            raise cannot
        return _Piece(tensor, blocks=blocks, kind=kind)
    if (axis := _AXES.get(ending, (None, None))[kind]) is None:
        return _Piece(tensor)

    length = tensor.shape[axis] if axis < len(tensor.shape) else 0
    new, left = divmod(length // blocks * padding.wanted, padding.inner)
    if not tensor.numbers or not length or length % blocks or left:
        raise cannot
    return _Piece(tensor, axis, blocks, length // blocks, new)


def _write_again(path: Path, header: Header, pieces: list[_Piece], padding: Padding) -> None:
    """Write the file again, its MLPs wider."""
    entries: dict[str, Any] = {"__metadata__": dict(header.metadata)} if header.metadata else {}
    end = 0
    for piece in pieces:
        offsets = [end, end + piece.size]
        entries[piece.tensor.name] = {"dtype": piece.tensor.dtype, "shape": piece.shape, "data_offsets": offsets}
        end += piece.size
    head = json.dumps(entries, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)

    wider = path.with_name(f"{path.name}.wider")
    with naming(wider), open_file(path) as old, wider.open("wb") as new:
        new.write(len(head).to_bytes(8, "little") + head)
        start = 8 + int.from_bytes(old.read(8), "little")
        with mmap.mmap(old.fileno(), 0, access=mmap.ACCESS_READ) as data, memoryview(data) as view:
            for piece in pieces:
                with view[start + piece.tensor.begin : start + piece.tensor.end] as numbers:
                    new.writelines(_numbers(piece, numbers, padding))
    wider.replace(path)


def _numbers(piece: _Piece, numbers: memoryview, padding: Padding) -> Iterator[bytes | memoryview]:
    """The bytes of a tensor, with those of the further channels between them."""
    if piece.kind is not None:
        half = len(numbers) // 2
        shape = [int.from_bytes(numbers[at : at + half], "little") for at in (0, half)]
        shape[piece.kind] = piece.blocks * padding.wanted
        yield b"".join(number.to_bytes(half, "little") for number in shape)
    elif piece.axis is None:
        yield numbers
    else:
        part = len(numbers) // (math.prod(piece.tensor.shape[: piece.axis]) * piece.blocks)
        channel = part // piece.old
        repeated = piece.tensor.name.endswith(_REPEATED)
        for end in range(part, len(numbers) + 1, part):
            yield numbers[end - part : end]
            more = bytes(numbers[end - channel : end]) if repeated else bytes(channel)
            yield more * (piece.new - piece.old)
