"""The report of a dry run that made a model: how it ended in its first line, then what was made, and at what cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import KitError, ModelError
from kaggle_kit.model.inspect import inspect_model
from kaggle_kit.runtime.manifest import MANIFEST, read_manifest, verify_files
from kaggle_kit.runtime.record import RECORD, read_record
from kaggle_kit.sandbox.report import Ran, RunReport, failure_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from kaggle_kit.notebook.build import Build

KIND = "model"
_LISTED = 3


@dataclass(frozen=True)
class MadeModel:
    """The model that a run left. Sizes in bytes."""

    name: str
    architecture: str
    layers: int
    parameters: int
    bits: int | None
    group_size: int | None
    bytes: int
    provenance: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class ModelReport(RunReport):
    """All that is known of a run that made a model.

    It is `complete` if the notebook ended well, and left one model that is whole and sound.
    """

    model: MadeModel | None

    def to_json(self) -> dict[str, Any]:
        """A JSON object with every field; `kind` tells it apart from the report of a submission."""
        return {"kind": KIND, **super().to_json()}

    def figures(self) -> list[str]:
        """The lines of the model and of times."""
        width = max([17, *map(len, self.seconds)]) + 1
        times = [f"{name:<{width}}{seconds:,.1f} s" for name, seconds in self.seconds.items()]
        return [*(_model_lines(self.model) if self.model else []), *times, *self.peak]


def _model_lines(model: MadeModel) -> list[str]:
    packed = f"{model.bits} bits" if model.bits else "not quantised"
    packed += f", groups of {model.group_size}" if model.group_size else ""
    size = f"{model.parameters / 1e6:,.1f} M parameters, {packed}, {model.bytes / 1e6:,.1f} MB"
    quantisation = model.provenance.get("quantisation")
    calibration = quantisation.get("calibration") if isinstance(quantisation, dict) else None
    padding = quantisation.get("padding") if isinstance(quantisation, dict) else None
    adapter = model.provenance.get("adapter")
    return [
        f"{'model':<18}{model.name}: {model.architecture}, {model.layers} layers, {size}",
        *_line("calibrated on", "{rows:,} rows of {table}, {tokens:,} tokens", calibration),
        *_line(
            "padded", "MLPs from {unpadded_intermediate_size:,} to {intermediate_size:,}, for {split} cards", padding
        ),
        *_line("adapter", "{name}: {layers} layers, rank {rank}, merged", adapter),
    ]


def _line(name: str, words: str, facts: Any) -> list[str]:
    """The line, if the manifest holds all that it says: what rounds to the nearest calibrates on nothing."""
    try:
        return [f"{name:<18}{words.format_map(facts)}"]
    except (KeyError, TypeError, ValueError):
        return []


def make_model_report(built: Build, results: Path, ran: Ran) -> ModelReport:
    """The report of the run whose files are in `results`."""
    record = read_record(results / RECORD)
    failure = failure_of(built, results, ran.execution, record)
    model, problem = _model_of(results)
    outcome = f"{model.name} is a whole model of {model.bytes / 1e6:,.1f} MB" if model else f"NO model: {problem}"
    making = record.make.seconds if record.make else {}
    return ModelReport(
        **ran.facts(built, *(f"{name}: {texts}" for name, texts in record.allowances.items())),
        outcome=f"{failure}; {outcome}" if failure else f"OK: {outcome}" if model else outcome,
        complete=failure is None and model is not None,
        seconds=ran.seconds(_with_inner(record.stages, making)),
        peak_bytes=ran.execution.peak_bytes,
        model=model,
    )


def _with_inner(stages: Mapping[str, float], making: Mapping[str, float]) -> dict[str, float]:
    """The notebook's stages, that of the quantiser followed by the quantiser's own."""
    seconds_of: dict[str, float] = {}
    for name, seconds in stages.items():
        seconds_of[name] = seconds
        if name == "quantize":
            seconds_of |= {f"  {inner}": part for inner, part in making.items()}
    return seconds_of


def _model_of(results: Path) -> tuple[MadeModel | None, str]:
    """The one model in a run's output, sound as `kit model inspect` sees it; or why there is none."""
    folders = sorted(path.parent for path in results.glob(f"*/{MANIFEST}"))
    if len(folders) != 1:
        names = ", ".join(folder.name for folder in folders)
        return None, f"the notebook left {len(folders)} folders with a {MANIFEST}" + (f" ({names})" if names else "")
    try:
        return _inspected(folders[0]), ""
    except KitError as error:
        return None, str(error)


def _inspected(folder: Path) -> MadeModel:
    manifest = read_manifest(folder / MANIFEST)
    if (manifest.kind, manifest.name) != ("model", folder.name):
        raise ModelError(f"{folder.name} has the manifest of the {manifest.kind} {manifest.name!r}")
    verify_files(folder, manifest)

    inspected = inspect_model(folder)
    if inspected.errors or inspected.architecture is None:
        listed = "; ".join(str(error) for error in inspected.errors[:_LISTED])
        raise ModelError(f"{folder.name} is not sound: {listed}")

    packing = inspected.quantisation
    return MadeModel(
        name=manifest.name,
        architecture=inspected.architecture.name,
        layers=inspected.architecture.layers,
        parameters=inspected.tally.parameters,
        bits=packing.bits if packing else None,
        group_size=packing.group_size if packing else None,
        bytes=inspected.folder.bytes,
        provenance=manifest.extra,
    )
