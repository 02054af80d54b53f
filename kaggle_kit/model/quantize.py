"""`kit model quantize`: a fine-tuned checkpoint, an adapter merged into it first if there is one, to 4 or 8 bits.

Everything is made in a folder beside OUT, and OUT appears when it is whole: a call that is interrupted leaves nothing.
AutoAWQ and llm-compressor quantise the layers in place, in one go, and offer no way to go on from a layer: such a call
begins again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kaggle_kit import __version__
from kaggle_kit.errors import ModelError, UsageError
from kaggle_kit.files import sha256_file, write_atomic
from kaggle_kit.model.calibration import DIGESTS, CalibrationPrompts, CalibrationSource, calibration_prompts
from kaggle_kit.model.inspect import inspect_model, write_manifest
from kaggle_kit.model.merge import Adapter, check_adapter
from kaggle_kit.model.padding import INNER, Padding, pad_model
from kaggle_kit.model.quantize_source import compute_type, make_view, plan_padding, refuse_misfit, sound_source
from kaggle_kit.model.worker_process import counts_in, names_in, run_worker, settings_in, take_files, versions_in
from kaggle_kit.runtime.allowances import read_allowances
from kaggle_kit.runtime.checkpoint import read_config
from kaggle_kit.runtime.launch import launch_plain
from kaggle_kit.runtime.manifest import MANIFEST, dump_manifest, make_manifest, read_manifest
from kaggle_kit.runtime.prepare import open_prompt

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from kaggle_kit.model.inspect import Inspection
    from kaggle_kit.model.worker_process import Tell
    from kaggle_kit.runtime.launch import Launch

AUTOAWQ = "autoawq"
LLM_COMPRESSOR = "llm-compressor"
METHODS = (AUTOAWQ, LLM_COMPRESSOR)
W4A16 = "w4a16"
"""Weights of 4 bits in groups, by AWQ; the activations stay in 16."""
W8A8 = "w8a8"
"""Weights of 8 bits, one scale an output, rounded to the nearest; the engine rounds each token's activations to 8."""
SCHEMES = {W4A16: METHODS, W8A8: (LLM_COMPRESSOR,)}
"""Each scheme, and the methods that do it."""
GROUP = 128
SHARD_SIZE = "5GB"
_CARRIED = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "generation_config.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "LICENSE*",
    "NOTICE*",
)
"""What goes with the weights, as it is."""


@dataclass(frozen=True)
class Order:
    """What is asked for. Raises UsageError for what no method does.

    `merged`: where the merged model is kept, at full precision, to be compared with; None: nowhere.
    `group_size`: inputs that share a scale and a zero point (None: 128), of w4a16 alone.
    `calibration`: w8a8 takes the task alone of it, since no prompt has a part in its rounding.
    `split`: cards that are to share the model's layers (tensor parallel); its MLPs are padded for them.
    """

    source: Path
    out: Path
    calibration: CalibrationSource
    adapter: Path | None = None
    merged: Path | None = None
    group_size: int | None = None
    method: str = AUTOAWQ
    scheme: str = W4A16
    split: int = 1

    def __post_init__(self) -> None:
        """Refuse what does not go together."""
        able = SCHEMES[self.scheme]
        if self.method not in able:
            raise UsageError(f"{self.method} does not do {self.scheme}; take --method {' or '.join(able)}")
        if self.scheme == W8A8 and self.group_size is not None:
            raise UsageError("w8a8 has one scale an output and no groups; leave --group-size away")

    @property
    def groups(self) -> int | None:
        """Inputs that share a scale; None: all of an output's."""
        return (GROUP if self.group_size is None else self.group_size) if self.scheme == W4A16 else None


@dataclass(frozen=True)
class Quantised:
    """What was made: the folder, and what its manifest says of it."""

    out: Path
    provenance: Mapping[str, Any]


@dataclass(frozen=True)
class _Bench:
    """Where the quantiser works: its Python, the staging folder, who hears it, and what starts it."""

    python: Path
    staging: Path
    tell: Tell
    launch: Launch

    @property
    def output(self) -> Path:
        """The one folder that it may write in."""
        return self.staging / "output"

    def ask(self, request: Mapping[str, Any], reads: Sequence[Path] = ()) -> dict[str, Any]:
        """Its answer; what it made lies in `output`. Raises ModelError."""
        shutil.rmtree(self.output, ignore_errors=True)
        self.output.mkdir()
        return run_worker(
            self.python,
            request,
            scratch=self.staging,
            tell=self.tell,
            launch=self.launch,
            reads=reads,
            writes=self.output,
        )


def quantize(order: Order, *, python: Path, tell: Tell, launch: Launch = launch_plain) -> Quantised:
    """Do it, in the environment of `python`; `tell` hears the stages and the layers, `launch` starts the quantiser.

    Raises UsageError if an output is there already, ModelError for a model or adapter that cannot be quantised,
    DataError and LabelError if data, task and model do not fit together.
    """
    _refuse_existing(order)
    source = sound_source(order.source)
    adapter = check_adapter(order.adapter, source) if order.adapter else None
    refuse_misfit(source, order.groups)
    padding = plan_padding(source, order.groups, order.split)
    prompts = None
    if order.scheme == W4A16:
        prompts = calibration_prompts(order.calibration, model=order.source)
    else:
        # No prompt has a part in it; whether task and model fit together is looked at all the same.
        open_prompt(order.calibration.task, order.source, note=lambda text: tell({"event": "note", "message": text}))
    with _staging(order.out) as staging:
        tell({"event": "stage", "name": f"checking what {order.method} supports"})
        bench = _Bench(python, staging, tell, launch)
        versions = _refuse_unsupported(source, order, bench)
        numbers = sum(tensor.numbers for tensor in source.weights.tensors.values())
        compute = compute_type(numbers, where=order.source)
        facts = _Facts(order, adapter, prompts, padding, compute=compute, versions=versions)
        provenance = facts.provenance(_source_hash(order.source, tell))
        base = order.source
        for note in adapter.notes if adapter else ():
            tell({"event": "note", "message": note})
        if adapter:
            base = _merge(facts, adapter, provenance, bench)
        counts = _quantize(facts, base, bench)
        provenance = provenance | {"quantisation": provenance["quantisation"] | counts}
        _finish(staging / "model", provenance, name=order.out.name, source=order.source)
        if order.merged and adapter:
            (staging / "merged").replace(order.merged)
        (staging / "model").replace(order.out)
    return Quantised(order.out, provenance)


@dataclass(frozen=True)
class _Facts:
    """What is known before anything is computed."""

    order: Order
    adapter: Adapter | None
    prompts: CalibrationPrompts | None
    """None if none is needed."""
    padding: Padding | None
    """None if none is needed."""
    compute: str
    versions: Mapping[str, str]

    @property
    def quant_config(self) -> dict[str, Any]:
        """Of w4a16 in AutoAWQ's words: the one of its forms that vLLM's kernels and the kit's reference engine both
        read."""
        if self.order.scheme == W8A8:
            return {"w_bit": 8, "rounding": "nearest", "activations": "int8, a scale for each token"}
        return {"zero_point": True, "q_group_size": self.order.groups, "w_bit": 4, "version": "GEMM"}

    def provenance(self, source_hash: str) -> dict[str, Any]:
        """What the manifest says."""
        return {
            "source": {"name": self.order.source.resolve().name, "manifest_sha256": source_hash},
            "adapter": self.adapter.to_json() if self.adapter else None,
            "quantisation": {
                "method": self.order.method,
                "scheme": self.order.scheme,
                "options": self.quant_config,
                "compute_dtype": self.compute,
                "seed": self.order.calibration.seed if self.prompts else None,
                "versions": dict(self.versions) | {"kaggle_kit": __version__},
                "calibration": self._calibration(self.prompts) if self.prompts else None,
                **({"padding": self.padding.to_json()} if self.padding else {}),
            },
        }

    def _calibration(self, prompts: CalibrationPrompts) -> dict[str, Any]:
        calibration, task = self.order.calibration, self.order.calibration.task
        return {
            "table": calibration.table.name,
            "rows": len(prompts.row_ids),
            "row_ids_sha256": prompts.sha256,
            DIGESTS: " ".join(prompts.digests),
            "tokens": prompts.tokens,
            "token_budget": calibration.budget,
            "task_sha256": hashlib.sha256(json.dumps(task.to_json()).encode()).hexdigest(),
        }


def _refuse_existing(order: Order) -> None:
    if order.merged and not order.adapter:
        raise UsageError("a merged model is made only with an adapter; name one, or leave the merged folder away")
    for path in (order.out, order.merged):
        if path is not None and (path.exists() or path.is_symlink()):
            raise UsageError(f"{path} is there already; name another folder, or remove it")
        if path is not None and not path.absolute().parent.is_dir():
            raise UsageError(f"{path.absolute().parent} is not a folder; make it first")


def _refuse_unsupported(source: Inspection, order: Order, bench: _Bench) -> dict[str, str]:
    """The versions of the environment's libraries. Raises ModelError for an architecture that the method cannot do."""
    method = order.method
    answer = bench.ask({"do": "supported", "method": method, "scheme": order.scheme})
    versions, supported = versions_in(answer), names_in(answer, "supported")
    shape = source.architecture
    name = (shape.model_type if method == AUTOAWQ else shape.name) if shape else None
    if name in supported:
        return versions
    what = f"{source.folder.root} has the architecture {name!r}, which {method} cannot quantise"
    if order.scheme == W8A8:
        # Whatever transformers builds: a list of some 200.
        known = versions.get("transformers", "of its environment")
        raise ModelError(f"{what}: transformers {known} does not know it. Take a model of another architecture")
    other = next(name for name in METHODS if name != method)
    raise ModelError(
        f"{what}. It can: {', '.join(supported)}. Try --method {other}, whose list is another one, or take a "
        f"model that is offered as AWQ already"
    )


def _source_hash(source: Path, tell: Tell) -> str:
    """The hash of the source's manifest; if it has none, of the one that it would have."""
    if (source / MANIFEST).is_file():
        return sha256_file(source / MANIFEST)
    tell({"event": "stage", "name": "hashing the source, which has no manifest"})
    return hashlib.sha256(dump_manifest(make_manifest(source, kind="model", name="")).encode()).hexdigest()


@contextmanager
def _staging(out: Path) -> Iterator[Path]:
    """A folder beside `out` in which it is made, removed at the end in any case.

    What a killed call left there is removed first. Raises UsageError if another call is at it.
    """
    folder = out.absolute().with_name(f".{out.name}.being-made")
    folder.mkdir(exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"{out} is being made by another call of kit; wait for it, or name another folder"
            ) from None
        for path in folder.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(descriptor)


def _request(facts: _Facts, what: str, source: Path, out: Path, **more: Any) -> dict[str, Any]:
    return {
        "do": what,
        "method": facts.order.method,
        "scheme": facts.order.scheme,
        "source": str(source),
        "out": str(out),
        "dtype": facts.compute,
        "seed": facts.order.calibration.seed,
        "shard_size": SHARD_SIZE,
        **more,
    }


def _merge(facts: _Facts, adapter: Adapter, provenance: Mapping[str, Any], bench: _Bench) -> Path:
    """The merged model, whole, in the staging folder."""
    view = make_view(facts.order.source, bench.staging / "base-view", old=facts.order.method == AUTOAWQ)
    merged, out = bench.output / "merged", bench.staging / "merged"
    # An absolute path: peft would take another one for a name on the hub.
    what = {"adapter": str(adapter.path.resolve()), "layers": adapter.layers, "unties": adapter.unties}
    request = _request(facts, "merge", view, merged, **what)
    bench.ask(request, (*_with_linked(view), adapter.path.resolve()))
    take_files(merged, out)
    _carry(facts.order.source, out)
    config = read_config(facts.order.source) | ({"tie_word_embeddings": False} if adapter.unties else {})
    write_atomic(out / "config.json", json.dumps(config, indent=2) + "\n")
    extra = {key: provenance[key] for key in ("source", "adapter")}
    _finish(out, extra, name=f"{facts.order.source.resolve().name}-merged", source=facts.order.source)
    return out


def _with_linked(view: Path) -> tuple[Path, ...]:
    """A view and the files that its links lead to, which are weights: whoever made it has read their headers."""
    return (view, *(path.resolve() for path in view.iterdir() if path.is_symlink()))


def _quantize(facts: _Facts, base: Path, bench: _Bench) -> dict[str, Any]:
    """The quantised model in the staging folder, all but its manifest; what the worker says of it."""
    view = make_view(base, bench.staging / "view", old=facts.order.method == AUTOAWQ)
    quantised, out = bench.output / "model", bench.staging / "model"
    tokenizer, prompts = base.resolve() / "tokenizer.json", bench.staging / "prompts.json"
    more = {"tokenizer": str(tokenizer), "quant_config": facts.quant_config}
    reads = [*_with_linked(view), tokenizer]
    if facts.prompts:
        write_atomic(prompts, json.dumps(facts.prompts.token_ids))
        more["prompts"] = str(prompts)
        reads.append(prompts)

    answer = bench.ask(_request(facts, "quantize", view, quantised, **more), reads)
    take_files(quantised, out)
    _carry(base, out)
    # The source's own words, which newer readers understand better than those of transformers 4.51.3.
    config = read_config(base)
    config["dtype" if "dtype" in config else "torch_dtype"] = "float16"
    config["quantization_config"] = settings_in(answer, "quantization_config")
    if facts.padding:
        pad_model(out, facts.padding)
        config[INNER] = facts.padding.wanted
    write_atomic(out / "config.json", json.dumps(config, indent=2) + "\n")
    return counts_in(answer, "blocks", "block_tokens", "threads")


def _carry(source: Path, out: Path) -> None:
    """Copy what goes with the weights; what the library wrote of these is replaced or removed."""
    for pattern in _CARRIED:
        for path in out.glob(pattern):
            path.unlink()
        for path in source.glob(pattern):
            shutil.copyfile(path, out / path.name)


def _finish(folder: Path, extra: Mapping[str, Any], *, name: str, source: Path) -> None:
    """Inspect what was made, and write its manifest: what is allowed of its source is allowed of it."""
    for path in folder.iterdir():
        path.chmod(0o644)
    allow = {allowance.check for allowance in read_allowances(source)}
    write_manifest(inspect_model(folder, allow=allow), name=name, extra=extra)


def add_proof(out: Path, proof: Mapping[str, Any]) -> None:
    """Write into the manifest of `out` what an engine said of it."""
    manifest = read_manifest(out / MANIFEST)
    extra = {**manifest.extra, "proof": dict(proof)}
    write_atomic(out / MANIFEST, dump_manifest(type(manifest)(manifest.kind, manifest.name, manifest.files, extra)))
