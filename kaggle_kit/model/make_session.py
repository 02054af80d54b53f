"""What a notebook on Kaggle does to make a model: check, install, merge and quantise, and hand over one folder.

It runs in the notebook's own Python, which has neither torch nor tokenizers to rely on: what needs them is done by
`make_program.py` in the quantiser's environment, with the code of `kit model quantize`.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import time
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import KitError, ModelError, UsageError
from kaggle_kit.model.headers import read_header
from kaggle_kit.model.merge import check_adapter
from kaggle_kit.model.quantize_source import compute_type, plan_padding, refuse_misfit, sound_source
from kaggle_kit.model.worker_process import run_worker
from kaggle_kit.runtime.allowances import read_allowances
from kaggle_kit.runtime.install import install_from_index, installed_bytes, refuse_python
from kaggle_kit.runtime.manifest import MANIFEST, read_manifest, verify_files
from kaggle_kit.runtime.progress import duration

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kaggle_kit.model.headers import Tensor
    from kaggle_kit.model.padding import Padding
    from kaggle_kit.runtime.job import Task


PROGRAM = "kaggle_kit/model/make_program.py"
_NAME = re.compile(r"[a-z0-9]+(?:[.-][a-z0-9]+)*")
_GROUPS = (32, 64, 128)
_HALF = 2
_PACKED = 0.5
_SCALE_AND_ZERO = 2.5
"""Bytes of a number in fp16, of one of 4 bits, and of what each group has besides."""
_SPARE_BYTES = 256 << 20
_FILE_BYTES = 5_000_000_000
"""The largest file of a quantised model, which padding writes again."""


@dataclass(frozen=True)
class Packages:
    """What is installed: requirements by hash, the Pythons that they are for, and how many bytes come."""

    pythons: Sequence[str]
    wheels: str
    archives: str
    download: int


@dataclass
class MakeSession:
    """One run. `kit` is the kit's own wheel; `tell` writes a line; `record` is what the notebook keeps of the run."""

    name: str
    """What the model is called, and its folder in `working`."""
    task: Task
    table: Path
    base: Path
    adapter: Path | None
    kit: Path
    working: Path
    scratch: Path
    packages: Packages
    token_budget: int
    rows: int
    group_size: int
    seed: int
    tell: Callable[[str], None]
    record: dict[str, Any]
    id_column: str = "id"
    split: int = 1
    """Cards that are to share the model's layers: its MLPs are padded for them."""
    _python: Path | None = None

    def __post_init__(self) -> None:
        """Start the clock; name the folders."""
        self._stages = Stages(self.tell)
        self._quantiser = self.scratch / "quantiser"
        self._making = self.scratch / "made"
        self._made = self._making / self.name
        self._replaced = (self.working / self.name, self.working / f".{self.name}.part")

    def check(self) -> None:
        """All that can be known before anything is downloaded: without the tokenizer's and the quantiser's libraries.

        Raises KitError: a setting that AutoAWQ does not take, a folder that is not as its manifest says, a base that
        cannot be quantised, an adapter of another base, a Python without packages, too little memory or space.
        """
        self._refuse_settings()
        refuse_python(self.packages.pythons)
        if allowed := tuple(map(str, read_allowances(self.base))):
            self._stages.say("; ".join(f"allowed {text}" for text in allowed))
            self.record["allowed"] = {self.base.name: allowed}
        tensors = _tensors(self.base)
        kind = compute_type(sum(tensor.numbers for tensor in tensors), where=self.base)
        base_bytes = sum(tensor.size for tensor in tensors)
        padding = self._refuse_unfit()
        expected, written_again = _quantised_bytes(tensors, self.group_size), 0
        if padding:
            expected = math.ceil(expected * padding.wanted / padding.inner)
            written_again = min(expected, _FILE_BYTES)
        self._refuse_space(expected, besides=written_again + (base_bytes if self.adapter else 0))
        verify_files(self.base, read_manifest(self.base / MANIFEST))
        self.record["make"] = {"compute": kind, "base_bytes": base_bytes, "expected_bytes": expected}
        self._stages.say(
            f"the base is whole: {_size(base_bytes)}, about {_size(expected)} when it is quantised"
            + (f"; the adapter {self.adapter.name} is whole" if self.adapter else "")
        )

    def _refuse_settings(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise UsageError(f"name = {self.name!r}: take small letters and digits, with single - or . between them")
        if self.group_size not in _GROUPS:
            raise UsageError(f"group_size = {self.group_size!r}: take one of {', '.join(map(str, _GROUPS))}")
        for setting, value in (("rows", self.rows), ("token_budget", self.token_budget), ("split", self.split)):
            if value < 1:
                raise UsageError(f"{setting} = {value!r}: take 1 or more")

    def _refuse_space(self, needed: int, *, besides: int) -> None:
        """`needed`, `besides`: bytes of the new model, and of what lies beside it in scratch while it is made."""
        packages = installed_bytes(self.packages.download)
        earlier = (self._quantiser, self._making)
        what = "the packages and what is made on the way"
        _refuse_small(self.scratch, packages + needed + besides, what, replaced=earlier)
        _refuse_small(self.working, needed, f"the model {self.name}", replaced=self._replaced)
        if self.scratch.stat().st_dev == self.working.stat().st_dev:
            both = f"the packages and the model {self.name}, there and in {self.working}, which is on the same disk,"
            _refuse_small(self.scratch, packages + 2 * needed, both, replaced=earlier + self._replaced)

    def _refuse_unfit(self) -> Padding | None:
        """By the headers: base and adapter are what can be merged and quantised. Raises ModelError.

        Returns the padding of the quantised model.
        """
        source = sound_source(self.base, tokenizer=False)
        refuse_misfit(source, self.group_size)
        if self.adapter:
            verify_files(self.adapter, read_manifest(self.adapter / MANIFEST))
            check_adapter(self.adapter, source, tokenizer=False)
        return plan_padding(source, self.group_size, self.split)

    def install(self) -> None:
        """The quantiser's environment, from the package index, by hash. Raises WheelhouseError."""
        shutil.rmtree(self._making, ignore_errors=True)  # an earlier run's, in whose place the packages may come
        packages = self.packages
        self._stages.say(f"{_size(packages.download)} of packages, by their hashes")
        installed = install_from_index(wheels=packages.wheels, archives=packages.archives, scratch=self._quantiser)
        self._python = installed.python
        with zipfile.ZipFile(self.kit) as archive:
            archive.extractall(self.scratch / "kit")
        made_by = {"installer": installed.installer, "packages": installed.wheels}
        self.record["make"]["install"] = made_by | dict(installed.seconds)
        self._stages.say(f"{installed.wheels} packages installed by {installed.installer}")

    def quantize(self) -> None:
        """Merge and quantise, as `kit model quantize` does, into scratch. Raises ModelError."""
        if self._python is None:
            raise UsageError("install() comes before quantize()")
        out = self._made
        shutil.rmtree(self._making, ignore_errors=True)
        self._making.mkdir(parents=True)
        request = {
            "do": "make",
            "source": str(self.base),
            "out": str(out),
            "adapter": str(self.adapter) if self.adapter else None,
            "group_size": self.group_size,
            "split": self.split,
            "calibration": {
                "task": self.task.to_json(),
                "budget": self.token_budget,
                "table": str(self.table),
                "rows": self.rows,
                "seed": self.seed,
                "id_column": self.id_column,
            },
        }
        program = self.scratch / "kit" / PROGRAM
        try:
            done = run_worker(self._python, request, scratch=self.scratch, tell=self._stages, program=program)
        finally:
            self._stages.end()
            self.record["make"]["seconds"] = self._stages.seconds
        self.record["make"]["provenance"] = done["provenance"]

    def finish(self) -> None:
        """The model as NAME in the notebook's output, whole or not at all, and what to do next. Raises ModelError."""
        source, (place, part) = self._made, self._replaced
        try:
            shutil.rmtree(part, ignore_errors=True)
            size = sum(path.stat().st_size for path in source.iterdir())
            _refuse_small(self.working, size, f"the model {self.name}", replaced=[place])
            if shutil.disk_usage(self.working).free < size + _SPARE_BYTES:
                shutil.rmtree(place, ignore_errors=True)  # the old one and the new one do not fit side by side
            shutil.copytree(source, part)
            verify_files(part, read_manifest(part / MANIFEST))
            shutil.rmtree(place, ignore_errors=True)
            part.replace(place)
        except OSError as error:
            raise ModelError(
                f"the model {self.name} could not be copied from {source} into {self.working}: {error}; "
                f"see that there is space, and run the notebook again"
            ) from error
        finally:
            shutil.rmtree(part, ignore_errors=True)
        self.record["make"]["model"] = {"name": self.name, "bytes": size}
        self._stages.say(f"{self.name}: {_size(size)} in this notebook's output")
        for line in _next_steps(self.name):
            self.tell(line)


def _tensors(base: Path) -> list[Tensor]:
    """The tensors of a checkpoint, by the headers of its files. Raises ModelError if there are none."""
    tensors = [
        tensor
        for path in sorted(base.glob("*.safetensors"))
        if not path.name.startswith("adapter_model")
        for tensor in read_header(path).tensors.values()
    ]
    if not tensors:
        raise ModelError(f"{base} holds no weights in safetensors; save the model so, and upload it again")
    return tensors


def _quantised_bytes(tensors: Sequence[Tensor], group_size: int) -> int:
    """What the model takes when its layers' matrices are of 4 bits and all else of 16."""
    packed = _PACKED + _SCALE_AND_ZERO / group_size
    in_layers = [tensor.numbers for tensor in tensors if ".layers." in tensor.name and len(tensor.shape) == 2]
    others = sum(tensor.numbers for tensor in tensors) - sum(in_layers)
    return int(packed * sum(in_layers) + _HALF * others)


def _refuse_small(folder: Path, needed: int, what: str, *, replaced: Sequence[Path]) -> None:
    """Raise KitError if what is free, and what the folders `replaced` will give back, is less than `needed`."""
    folder.mkdir(parents=True, exist_ok=True)
    earlier = sum(map(_bytes_in, replaced))
    free = shutil.disk_usage(folder).free + earlier
    if free < needed + _SPARE_BYTES:
        counted = f" ({_size(earlier)} of it held by an earlier run)" if earlier else ""
        raise KitError(
            f"{folder} has {_size(free)} free{counted}, and {what} need about {_size(needed)}: "
            f"make it on a machine with more space, with kit model quantize"
        )


def _bytes_in(folder: Path) -> int:
    """What the disk gives back for a folder, 0 if there is none: a file of two names counts once."""
    files = (Path(root, name).lstat() for root, _, names in os.walk(folder) for name in names)
    return sum({status.st_ino: status.st_blocks * 512 for status in files}.values())


def _size(size: int) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"


def _next_steps(name: str) -> tuple[str, ...]:
    return (
        f"Not proved: no engine has read {name}. Bring it home (kit output), then:",
        f"  kit model inspect {name}",
        f"  kit model compare REFERENCE {name} --rows 1000 --record",
        f"and name it [models.{name}] in kit.toml, by which a notebook finds it.",
    )


@dataclass
class Stages:
    """Hears the events; `tell` hears the lines, each with the time since this was made."""

    tell: Callable[[str], None]
    seconds: dict[str, float] = field(default_factory=dict)
    _started: float = field(default_factory=time.monotonic)
    _name: str | None = None
    _since: float = 0.0

    def __call__(self, event: dict[str, Any]) -> None:
        """Take one event."""
        match event["event"]:
            case "stage":
                self.end()
                self._name, self._since = str(event["name"]), time.monotonic()
                self.say(self._name)
            case "layer":
                self.say(self._layer(int(event["done"]), int(event["total"])))
            case other:
                self.say(str(event.get("message", other)))

    def say(self, text: str) -> None:
        """A line, with the time."""
        self.tell(f"[{duration(time.monotonic() - self._started):>7}] {text}")

    def end(self) -> None:
        """The stage that runs is over."""
        if self._name is not None:
            self.seconds[self._name] = round(time.monotonic() - self._since, 3)
        self._name = None

    def _layer(self, done: int, total: int) -> str:
        if self._name != "layers":
            # They are a stage of their own, though no event says so.
            self.end()
            self._name, self._since = "layers", time.monotonic()
        left = (time.monotonic() - self._since) / done * (total - done) if done else 0.0
        return f"layer {done}/{total}" + (f"  {duration(left)} left" if left else "")
