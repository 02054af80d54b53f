"""Everything about a checkpoint that would fail later, found now, all at once, without reading its weights."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import KitError, ModelError, UsageError
from kaggle_kit.files import write_atomic
from kaggle_kit.model import checks
from kaggle_kit.model.folder import Folder, Problem, by_check, read_folder
from kaggle_kit.model.headers import Weights, read_weights
from kaggle_kit.model.packing import PackedLayer, Tally, packed_layers, tally
from kaggle_kit.model.tokenizer_check import Labels, TokenizerFacts, check_tokenizer
from kaggle_kit.runtime.allowances import CHECKS, KEY, Allowance, allowances_json, read_allowances
from kaggle_kit.runtime.architecture import Architecture, read_architecture
from kaggle_kit.runtime.checkpoint import Checkpoint, read_table
from kaggle_kit.runtime.engine_facts import engine_facts
from kaggle_kit.runtime.guard import Guard
from kaggle_kit.runtime.manifest import MANIFEST, FileEntry, Manifest, dump_manifest, file_entry, read_manifest
from kaggle_kit.runtime.packing_methods import read_quantisation
from kaggle_kit.runtime.quantisation import Packing, Quantisation, quant_method
from kaggle_kit.runtime.tokenizer_settings import TOKENIZER

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping
    from pathlib import Path

    from kaggle_kit.targets import Target


CONFIG = "config.json"
_MODELOPT = "hf_quant_config.json"
_NEWEST = (1 << 30, 0, 0)
"""The engine of a checkpoint that is inspected for no target."""


@dataclass(frozen=True)
class Inspection:
    """The findings. `architecture` and `tally` are None if config.json or the weights could not be read."""

    folder: Folder
    config: Mapping[str, Any]
    architecture: Architecture | None
    method: str | None
    quantisation: Quantisation | None
    weights: Weights
    packed: Mapping[str, PackedLayer]
    tally: Tally
    tokenizer: TokenizerFacts | None
    not_checked: tuple[str, ...] = ()
    """What kit cannot know of it."""
    problems: tuple[Problem, ...] = field(default=())
    recorded: tuple[Allowance, ...] = ()
    """What manifest.json says that its author allowed."""

    @property
    def errors(self) -> tuple[Problem, ...]:
        """What would fail later."""
        return tuple(problem for problem in self.problems if problem.severity == "error")

    @property
    def allowed(self) -> tuple[Allowance, ...]:
        """What would fail later, and is allowed all the same."""
        return tuple(Allowance(problem.check, str(problem)) for problem in self.problems if problem.allowed)

    @property
    def dtypes(self) -> tuple[str, ...]:
        """The safetensors types of its tensors, sorted."""
        return tuple(sorted({tensor.dtype for tensor in self.weights.tensors.values()}))

    @property
    def packings(self) -> list[tuple[Packing, int]]:
        """The ways in which its packed layers are packed, and how many layers each; the most frequent first."""
        return Counter(layer.packing for layer in self.packed.values()).most_common()

    def checkpoint(self) -> Checkpoint:
        """The checkpoint, its weights as an engine's memory holds them.

        Raises UsageError if its configuration or weights could not be read.
        """
        if self.architecture is None or not self.weights.whole:
            raise UsageError(f"{self.folder.root} is not whole: see kit model inspect {self.folder.root}")
        parts = self.tally.parts
        return Checkpoint(
            name=str(self.folder.root),
            architecture=self.architecture,
            method=self.method,
            quantisation=self.quantisation,
            weight_bytes=self.tally.memory_bytes,
            layer_parameters=self.tally.layer_parameters,
            end_bytes=sum(parts[part].parameters for part in ("embeddings", "head", "other")) * 2,
            allowed=self.recorded,
        )

    def to_json(self) -> dict[str, Any]:
        """A JSON object of all findings; sizes in bytes."""
        shape, packing = self.architecture, self.quantisation
        return {
            "not_checked": list(self.not_checked),
            "path": str(self.folder.root),
            "architecture": shape and shape.name,
            "model_type": shape and shape.model_type,
            "layers": shape and shape.layers,
            "vocabulary": shape and shape.vocabulary,
            "classes": list(shape.score_head.classes) if shape and shape.score_head else None,
            "most_tokens": shape and shape.most_tokens,
            "parameters": self.tally.parameters,
            "dtypes": list(self.dtypes),
            "quantisation": packing
            and {
                "method": packing.method,
                "bits": packing.bits,
                "group_size": packing.group_size,
                "activations": packing.activations,
                "layers": [
                    {"bits": way.bits, "group_size": way.group_size, "layers": count} for way, count in self.packings
                ],
            },
            "parts": {
                name: {"parameters": part.parameters, "bytes": part.bytes} for name, part in self.tally.parts.items()
            },
            "tensor_bytes": self.tally.bytes,
            "memory_bytes": self.tally.memory_bytes,
            "files": len(self.folder.files),
            "file_bytes": self.folder.bytes,
            "left_out": list(self.folder.left_out),
            "tokens": self.tokenizer and self.tokenizer.tokens,
            "label_ids": list(self.tokenizer.label_ids) if self.tokenizer else [],
            "problems": [
                {key: getattr(problem, key) for key in ("severity", "check", "allowed", "file", "what", "next_step")}
                for problem in self.problems
            ],
        }


def inspect_model(
    root: Path,
    *,
    target: Target | None = None,
    labels: Labels | None = None,
    longest: int | None = None,
    manifest: bool = True,
    tokenizer: bool = True,
    allow: Collection[str] | None = None,
) -> Inspection:
    """Inspect the checkpoint in the folder `root`.

    `target` adds what its engine and cards refuse, `labels` whether each is one token, `longest` whether prompts of so
    many tokens are within the model's length. `manifest`: whether sizes are compared with manifest.json, if there
    is one. `tokenizer`: whether it is looked at, which takes the library tokenizers. `allow` names the checks whose
    errors are warnings: if it is None, those that manifest.json records. Raises ModelError if `root` is not a folder,
    UsageError for a check that is unknown or cannot be allowed; every other fault is a problem of the result.
    """
    refuse_unknown_checks(allow or ())
    folder = read_folder(root)
    guard = Guard(root) if tokenizer and TOKENIZER in folder.files else None  # it starts while the weights are read
    problems = list(folder.problems)
    config = _read_config(folder, problems)
    weights = read_weights(folder)
    stored = {tensor.dtype for tensor in weights.tensors.values()}
    architecture = _caught(lambda: read_architecture(config, stored=stored), problems) if config else None
    problems = by_check("config", problems)
    quantisation = _caught(lambda: read_quantisation(config), problems) if config else None
    method = _caught(lambda: quant_method(config), problems) if config else None

    problems = by_check("method", problems)
    problems += weights.problems
    version = target.engine_version if target else _NEWEST
    joined = engine_facts(version).fused_layers(architecture.name, architecture.model_type) if architecture else {}
    packed = packed_layers(weights.tensors, quantisation, joined) if quantisation else {}
    if architecture and weights.whole:
        problems += checks.check_completeness(
            architecture,
            weights.tensors,
            packed,
            quantisation,
            joined,
            method=method,
        )
    if architecture:
        problems += by_check("length", checks.check_length(architecture, longest=longest))
    if target and not target.gpus:
        problems += by_check("method", checks.check_experts(packed))
    if config:
        problems += by_check("code", checks.check_code(folder, config, architecture, engine_facts(version)))
        problems += by_check("packing", checks.check_integers(method, weights.tensors))
    if architecture:
        problems += by_check("head", checks.check_head(architecture, version))
    if target and architecture:
        problems += checks.check_engine(target, architecture, method, quantisation)
        problems += by_check("dtype", checks.check_dtype(target, architecture, stored, packed=bool(packed)))

    facts = None
    if tokenizer:
        rows = architecture.vocabulary if architecture else None
        facts, tokenizer_problems = check_tokenizer(
            folder, config, rows=rows, labels=labels, head=architecture and architecture.score_head, guard=guard
        )
        problems += by_check("special-tokens", tokenizer_problems)
    recorded, manifest_problems = _recorded(folder)
    if manifest:
        problems += by_check("manifest", manifest_problems or _against_manifest(folder))
    names = {allowance.check for allowance in recorded} if allow is None else set(allow)
    problems = [_allowed(problem) if problem.check in names else problem for problem in by_check("engine", problems)]

    return Inspection(
        folder=folder,
        config=config,
        architecture=architecture,
        method=method,
        quantisation=quantisation,
        weights=weights,
        packed=packed,
        tally=tally(weights.tensors, packed, architecture),
        tokenizer=facts,
        not_checked=tuple(checks.unchecked(target, architecture, method, quantisation)),
        problems=tuple(sorted(problems, key=lambda problem: (problem.severity, problem.file))),
        recorded=recorded,
    )


def refuse_unknown_checks(names: Iterable[str]) -> None:
    """Raise UsageError for a name that no check has, or whose findings nobody can allow."""
    known = [name for name, check in CHECKS.items() if not check.kept]
    listed = f"those that can be allowed: {', '.join(known)}"
    for name in names:
        if name not in CHECKS:
            # Not at the top: the part of kit that inspects on Kaggle has no such module.
            from kaggle_kit.suggest import did_you_mean

            raise UsageError(f"there is no check {name!r}{did_you_mean(name, CHECKS)}; {listed}")
        if CHECKS[name].kept:
            raise UsageError(f"the check {name!r} cannot be allowed: {CHECKS[name].kept}; {listed}")


def _allowed(problem: Problem) -> Problem:
    return replace(problem, severity="warning", allowed=True) if problem.severity == "error" else problem


def _recorded(folder: Folder) -> tuple[tuple[Allowance, ...], list[Problem]]:
    """What manifest.json records as allowed, or why that cannot be read."""
    try:
        return read_allowances(folder.root), []
    except KitError as error:
        return (), [Problem(MANIFEST, str(error), "write it again (--write)")]


def _caught(read: Any, problems: list[Problem]) -> Any:
    """What `read` gives; None and a problem of config.json if it raises ModelError."""
    try:
        return read()
    except ModelError as error:
        problems.append(Problem(CONFIG, str(error), "take the config.json that was saved with these weights"))
        return None


def _read_config(folder: Folder, problems: list[Problem]) -> dict[str, Any]:
    path = folder.files.get(CONFIG)
    if path is None:
        problems.append(Problem(CONFIG, "is missing", "download or copy the model again, whole"))
        return {}
    if CONFIG in folder.unreadable:
        return {}
    try:
        body = read_table(path, "a configuration")
        own = folder.files.get(_MODELOPT)
        if own is None or body.get("quantization_config") is not None:
            return body
        # ModelOpt's older saves say in a file of their own how the weights are packed, and the engine reads it.
        return body | {"quantization_config": read_table(own, "ModelOpt's configuration")}
    except ModelError as error:
        what, _, step = str(error).removeprefix(f"{path} ").rpartition("; ")
        problems.append(Problem(CONFIG, what, step))
        return {}


def _against_manifest(folder: Folder) -> list[Problem]:
    """Sizes only: the notebook checks hashes, and writing the manifest makes them again. It can be read."""
    path = folder.root / MANIFEST
    if not path.is_file():
        return []
    again = "restore the file, or write the manifest again (--write)"
    manifest = read_manifest(path)
    problems = []
    listed = {entry.path: entry.size for entry in manifest.files}
    for name, size in sorted(listed.items()):
        if name not in folder.files:
            problems.append(Problem(name, f"is missing, and {MANIFEST} lists it", again))
        elif (actual := folder.files[name].stat().st_size) != size:
            problems.append(Problem(name, f"has {actual:,} bytes, and {MANIFEST} says {size:,}", again))
    step = "write the manifest again (--write), or delete the file"
    extra = sorted(set(folder.files) - set(listed))
    return [*problems, *(Problem(name, f"is not in {MANIFEST}", step) for name in extra)]


def write_manifest(
    inspection: Inspection,
    *,
    name: str | None = None,
    extra: Mapping[str, object] | None = None,
    tell: Callable[[str, int], None] | None = None,
) -> Manifest:
    """Hash every file and write the manifest beside them, in one step.

    The name is the given one, else the old manifest's, else the folder's; what else the old one says (where the model
    is from, how it was quantised) is kept and joined by `extra`. What the inspection allowed is recorded, and nothing
    that was allowed before. `tell` hears each file's path and bytes before it is hashed. Raises ModelError if the
    inspection found errors: a manifest would call a broken model whole.
    """
    folder = inspection.folder
    if inspection.errors:
        raise ModelError(
            f"{folder.root} has {len(inspection.errors)} errors, so no manifest was written; fix them first"
        )
    path = folder.root / MANIFEST
    old_extra: Mapping[str, object] = {}
    if path.is_file():
        try:
            old = read_manifest(path)
            name, old_extra = name or old.name, old.extra
        except KitError:
            # It is written again for that very reason.
            old_extra = {}
    entries: list[FileEntry] = []
    for path_below, file in folder.files.items():
        if tell:
            tell(path_below, file.stat().st_size)
        entries.append(file_entry(file, folder.root))
    kept = {key: value for key, value in old_extra.items() if key != KEY}
    known = {**kept, **(extra or {}), **allowances_json(inspection.allowed)}
    manifest = Manifest("model", name or folder.root.resolve().name, tuple(entries), known)
    write_atomic(path, dump_manifest(manifest))
    return manifest
