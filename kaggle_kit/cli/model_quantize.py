"""`kit model quantize`."""

from __future__ import annotations

import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kaggle_kit.cli.options import open_project, run_options
from kaggle_kit.cli.terminal import say, show, show_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kaggle_kit.model.quantize import Order
    from kaggle_kit.project import Project

_FOLDER = click.Path(path_type=Path)
METHODS = {"autoawq": "autoawq", "llm-compressor": "llmcompressor"}
"""Each method and its environment."""
W4A16, W8A8 = "w4a16", "w8a8"
CALIBRATION_ROWS = 128
PROOF_ROWS = 8
MOST_CARDS = 64


@click.command()
@click.argument("source", metavar="SRC", type=_FOLDER)
@click.argument("out", metavar="OUT", type=_FOLDER)
@click.option("--notebook", "name", metavar="NAME", help="The notebook whose prompts are used (if several).")
@click.option("--data", metavar="DIR", type=_FOLDER, help="A folder with train.csv, or a CSV (default: kit.toml's).")
@click.option(
    "--method", type=click.Choice(list(METHODS)), default="autoawq", show_default=True, help="The library that does it."
)
@click.option(
    "--scheme",
    type=click.Choice([W4A16, W8A8]),
    default=W4A16,
    show_default=True,
    help="4-bit weights, or 8-bit weights and activations.",
)
@click.option(
    "--rows",
    metavar="N",
    type=click.IntRange(min=1),
    help=f"To calibrate on (w4a16: {CALIBRATION_ROWS}), or to prove with (w8a8: {PROOF_ROWS}).",
)
@click.option("--adapter", metavar="PATH", type=_FOLDER, help="A LoRA adapter (as peft saves it) to merge first.")
@click.option("--keep-merged", "merged", metavar="DIR", type=_FOLDER, help="Keep the merged model, to compare with.")
@click.option(
    "--group-size",
    metavar="N",
    type=click.Choice(["32", "64", "128"]),
    help="Weights that share a scale (w4a16: 128).",
)
@click.option(
    "--split",
    metavar="CARDS",
    type=click.IntRange(min=1, max=MOST_CARDS),
    help="Pad the MLPs so that so many cards can share them (default: if the notebook's target needs it; 1: never).",
)
@click.option("--seed", metavar="N", type=click.IntRange(min=0), help="Of the rows drawn (w4a16: 0).")
@click.option("--id", "id_column", metavar="COLUMN", default="id", show_default=True, help="The id column.")
@click.option("--no-proof", is_flag=True, help="Do not score a few rows in vLLM at the end.")
@click.option("--json", "as_json", is_flag=True, help="Print what was made as JSON.")
@run_options
def quantize(source: Path, out: Path, as_json: bool, **given: Any) -> int:
    """Quantise a checkpoint to 4 or 8 bits, and prove on the notebook's own prompts that vLLM reads it.

    SRC is a model in full precision (safetensors and tokenizer), OUT a folder that is not there yet: it appears when
    it is whole. The quantiser runs in an environment of its own, made on first use (about 400 MB). It cannot go on from
    a layer: an interrupted call leaves nothing and begins anew. What was used stands in OUT/manifest.json.

    autoawq writes AWQ's own format, which every engine reads; llm-compressor writes compressed-tensors, and knows
    newer architectures.

    w4a16 packs weights in 4 bits, by AWQ on the notebook's prompts. w8a8 rounds them to 8, and the engine does the same
    with each token's activations: twice the size, nearer to the original, and prompts are read faster, since integers
    are multiplied (NVIDIA's cards from Turing to Hopper, a T4 too). It needs no calibration: the first --rows of the
    data are scored at the end, and nothing else is done with them.

    Cards can share a model only if each one's part of an MLP is whole groups of weights. If the cards of the notebook's
    target have to share it and its MLPs do not divide so, zeros are added to them: that is exact, and most often less
    than 1 % more. --split CARDS does it for another target.

    \b
    Examples:
      kit model quantize models/full models/awq --data data
      kit model quantize models/qwen2-72b models/awq --split 4
      kit model quantize base models/awq --adapter runs/lora --keep-merged models/merged
      kit model quantize models/full models/int8 --method llm-compressor --scheme w8a8
    """
    from kaggle_kit.cli.scoring import notebook_name, open_seal
    from kaggle_kit.cli.wheels import fetch_progress
    from kaggle_kit.errors import UsageError
    from kaggle_kit.model.make_session import Stages
    from kaggle_kit.model.quantize import quantize as run
    from kaggle_kit.runtime.machine import find_cards
    from kaggle_kit.wheelhouse.environments import quantizer_environment

    project = open_project(given["project_folder"])
    name = notebook_name(project, given["name"])
    order = _order(project, name, source, out, given)
    order = replace(order, split=given["split"] or split_for_notebook(project, name, order))
    seal = open_seal(given["seal_name"])
    # Wrong names are seen before anything is fetched.
    if not source.is_dir():
        raise UsageError(f"{source} is no folder; name the folder of the checkpoint")
    with fetch_progress() as progress:
        python = quantizer_environment(METHODS[given["method"]], progress=progress)
    since = time.monotonic()
    made = run(order, python=python, tell=Stages(say), launch=seal.launch(cards=bool(find_cards())))
    seconds = time.monotonic() - since
    rows = given["rows"] if order.scheme == W8A8 and given["rows"] else PROOF_ROWS
    proof = None if given["no_proof"] else _prove(project, name, order, given, rows=rows)
    if as_json:
        facts = {"out": str(out), "seconds": round(seconds, 1), **made.provenance, "proof": proof}
        facts["seal"] = {"name": seal.name, "open": list(seal.unsealed)}
        show_json(facts, sort_keys=True)
    else:
        show(*summary_lines(out, made.provenance, proof, seconds))
    return 0


def _order(project: Project, name: str, source: Path, out: Path, given: Mapping[str, Any]) -> Order:
    from kaggle_kit.cli.scoring import labelled_rows
    from kaggle_kit.errors import UsageError
    from kaggle_kit.model.calibration import CalibrationSource
    from kaggle_kit.model.quantize import Order
    from kaggle_kit.notebook.source import notebook_task

    if given["scheme"] == W8A8 and given["seed"] is not None:
        raise UsageError("w8a8 draws no rows; leave --seed away")
    table = labelled_rows(project, name, given["data"], named="the folder of train.csv")
    task, parameters = notebook_task(project, name, assignments=given["assignments"])
    return Order(
        source=source,
        out=out,
        calibration=CalibrationSource(
            task=task,
            budget=int(parameters["token_budget"]),
            table=table,
            rows=given["rows"] or CALIBRATION_ROWS,
            seed=given["seed"] or 0,
            id_column=given["id_column"],
        ),
        adapter=given["adapter"],
        merged=given["merged"],
        group_size=int(given["group_size"]) if given["group_size"] else None,
        method=given["method"],
        scheme=given["scheme"],
    )


def split_for_notebook(project: Project, name: str, order: Order) -> int:
    """The cards of the notebook's target that have to share the quantised model, if it must be padded for that."""
    from kaggle_kit.errors import ModelError, UsageError
    from kaggle_kit.model.fit import split_for
    from kaggle_kit.runtime.architecture import read_architecture
    from kaggle_kit.runtime.checkpoint import read_config
    from kaggle_kit.runtime.quantisation import Quantisation
    from kaggle_kit.targets import load_target

    target = load_target(project.notebook(name).target, project=project.root)
    packed = Quantisation("awq", 4, order.groups, zero_points=True)
    if order.groups is None:
        packed = Quantisation("compressed-tensors", 8, None, zero_points=False, activations="int8")
    try:
        shape = read_architecture(read_config(order.source))
    except ModelError:
        return 1  # the check of the whole model says what is wrong with it
    try:
        return split_for(shape, packed, target, context=order.calibration.budget)
    except UsageError as error:
        say(f"nothing is padded, as for one card ({error}); --split pads for several")
        return 1


def _prove(project: Project, name: str, order: Order, given: Mapping[str, Any], *, rows: int) -> dict[str, Any]:
    """Score the first `rows` rows of the data in vLLM, and write into the manifest what it said."""
    from kaggle_kit.cli.scoring import open_vllm
    from kaggle_kit.errors import KitError, RunError
    from kaggle_kit.evaluation.divergence import proof_of
    from kaggle_kit.evaluation.score_file import score_records
    from kaggle_kit.evaluation.tables import read_table
    from kaggle_kit.model.quantize import add_proof

    scoring = open_vllm(project, name, given)
    scoring = replace(scoring, model=order.out)
    source = order.calibration
    records = read_table(source.table)[:rows]
    say(f"scoring {len(records)} rows in vLLM")
    with tempfile.TemporaryDirectory(prefix="kit-proof-") as folder:
        try:
            scored = score_records(
                records,
                source=source.table,
                state=Path(folder),
                scoring=scoring,
                id_column=source.id_column,
                on_event=lambda _event: None,
            )
            proof = asdict(proof_of(scored))
        except KitError as error:
            raise RunError(f"{order.out} is whole, but vLLM does not score with it: {error}") from error
    add_proof(order.out, proof)
    return proof


def summary_lines(
    out: Path, provenance: Mapping[str, Any], proof: Mapping[str, Any] | None, seconds: float
) -> list[str]:
    """What the user reads of the model that was made."""
    packed, calibration = provenance["quantisation"], provenance["quantisation"]["calibration"]
    options, adapter = packed["options"], provenance["adapter"]
    merged = f", {adapter['layers']} layers of the adapter {adapter['name']} merged" if adapter else ""
    size = sum(path.stat().st_size for path in out.iterdir())
    kind = f"groups of {options['q_group_size']}" if "q_group_size" in options else "int8 activations"
    lines = [
        f"{out}: {options['w_bit']} bits, {kind}, {size / 1e6:,.1f} MB{merged}",
        f"  made by {packed['method']} in {seconds:.0f} s",
    ]
    if padding := packed.get("padding"):
        widths = f"{padding['unpadded_intermediate_size']:,} to {padding['intermediate_size']:,}"
        lines.append(f"  its MLPs padded with zeros, {widths}, so that {padding['split']} cards can share them")
    if calibration is None:
        lines.append("  rounded to the nearest: no row calibrated it")
    else:
        told = f"{calibration['rows']} rows, {calibration['tokens']:,} tokens, of {calibration['table']}"
        lines.append(f"  calibrated on {told}")
    if proof is not None:
        from kaggle_kit.runtime.record import LEAST_MASS

        mass = proof["label_mass_mean"]
        share = f"{mass:.4f}" if mass is not None else "an unknown part"
        lines.append(f"  vLLM scores {proof['rows']} rows; the labels have {share} of the probability")
        if mass is not None and mass < LEAST_MASS:
            lines.append("  warning: that is little; was the model trained on another template or other labels?")
    else:
        lines.append("  not proved: no row was scored with it")
    return lines
