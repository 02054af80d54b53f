"""`kit model compare`."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kaggle_kit.cli.options import Number, open_project, run_options
from kaggle_kit.cli.terminal import say, say_error, show, show_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kaggle_kit.evaluation.divergence import Comparison, Figures, Pairs
    from kaggle_kit.project import Project
    from kaggle_kit.runtime.job import Task

_FOLDER = click.Path(path_type=Path)
_ROWS = 500


@click.command()
@click.argument("reference", metavar="REF", type=_FOLDER)
@click.argument("quantised", metavar="QUANT", type=_FOLDER)
@click.option("--notebook", "name", metavar="NAME", help="The notebook whose task is used (if several).")
@click.option("--data", metavar="DIR", type=_FOLDER, help="A folder with train.csv, or a table (default: kit.toml's).")
@click.option(
    "--rows",
    metavar="N",
    type=click.IntRange(min=1),
    default=_ROWS,
    show_default=True,
    help="The first N that calibrated neither model.",
)
@click.option(
    "--limit",
    metavar="KL",
    type=Number(min=0),
    help="End with 1 where the mean KL is above this (default: most_kl of QUANT's table in kit.toml).",
)
@click.option(
    "--engine",
    type=click.Choice(["vllm", "transformers"]),
    default="vllm",
    show_default=True,
    help="Which engine scores REF: the same as QUANT, or an exact one in float32.",
)
@click.option("--id", "id_column", metavar="COLUMN", help="The id column (default: id, else the row's number).")
@click.option("--record", is_flag=True, help="Write the figures into QUANT's manifest.json.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@run_options
def compare(reference: Path, quantised: Path, as_json: bool, limit: float | None, **given: Any) -> int:
    """Say how far a quantised model is from its reference, by the answers that both give to the same rows.

    KL is in nats, of the labels' probabilities; the log loss needs rows with outcomes. In brackets: 95 % intervals,
    paired for differences. Rows that calibrated QUANT or REF are left out, by what their manifests say: there a model
    is better than elsewhere. A call that was interrupted goes on where it stopped.

    \b
    Examples:
      kit model compare models/merged models/awq --data data --rows 1000
      kit model compare models/merged models/awq --limit 0.01 --json
    """
    from kaggle_kit.errors import ModelError
    from kaggle_kit.evaluation.divergence import compare as figures_of
    from kaggle_kit.runtime.manifest import MANIFEST

    for path in (reference, quantised):
        if not (path / MANIFEST).is_file():
            raise ModelError(f"{path} has no {MANIFEST}; write it with: kit model inspect {path} --write")
    project = open_project(given["project_folder"])
    limit, table = (limit, "--limit") if limit is not None else _own_limit(project, quantised)
    pairs, unseen, seal = _score(project, reference, quantised, given)
    found = figures_of(pairs)
    if given["record"]:
        _record(reference, quantised, found, unseen)
    beyond = limit is not None and found.all.kl_mean.value > limit
    if as_json:
        facts: dict[str, Any] = {
            "reference": str(reference),
            "quantised": str(quantised),
            "limit": limit,
            "limit_from": table,
        }
        facts |= {"within": not beyond, "calibration_rows_left_out": unseen.left_out}
        facts["reference_rows_left_out"] = unseen.reference_only
        facts["seal"] = seal
        show_json(facts | found.to_json())
    else:
        show(*_lines(found, unseen), *_limit_lines(limit, table, beyond=beyond))
    if beyond:
        say_error(f"the mean KL {found.all.kl_mean.value:.5f} is above the limit {limit} ({table})")
    return int(beyond)


def _own_limit(project: Project, quantised: Path) -> tuple[float | None, str | None]:
    """The `most_kl` of the tables under models whose folder this is, the smallest, and where it stands."""
    here = quantised.resolve()
    found = [
        (model.most_kl, f"models.{name}.most_kl of kit.toml")
        for name, model in project.models.items()
        if model.most_kl is not None and (project.root / model.path).resolve() == here
    ]
    return min(found, default=(None, None))


@dataclass(frozen=True)
class _Unseen:
    """Rows that calibrated neither model, and how many were left out.

    `left_out` are those that calibrated the quantised one, None where its manifest does not say; `reference_only` those
    that calibrated the reference alone.
    """

    records: Sequence[Mapping[str, Any]]
    left_out: int | None
    reference_only: int


def _unseen(source: Path, task: Task, rows: int, *, reference: Path, quantised: Path) -> _Unseen:
    """The first `rows` rows of `source` that calibrated neither model. Raises DataError where none is left."""
    from kaggle_kit.errors import DataError
    from kaggle_kit.evaluation.tables import read_table
    from kaggle_kit.model.calibration import calibrated_on, record_digest
    from kaggle_kit.runtime.manifest import MANIFEST, read_manifest

    records = read_table(source)
    known = {path: calibrated_on(read_manifest(path / MANIFEST)) for path in (reference, quantised)}
    own, others = known[quantised] or frozenset(), known[reference] or frozenset()
    digests = [record_digest(record, task) if own or others else None for record in records]
    left = [record for record, digest in zip(records, digests, strict=True) if digest not in own | others]
    by_own = sum(digest in own for digest in digests)
    if records and not left:
        used = ((quantised, by_own > 0), (reference, by_own < len(records)))
        which = " or ".join(str(path) for path, some in used if some)
        raise DataError(
            f"all {len(records):,} rows of {source} calibrated {which}: on these a model is better than it is; name a "
            "table with others with --data"
        )
    left_out = by_own if known[quantised] is not None else None
    return _Unseen(left[:rows], left_out, len(records) - len(left) - by_own)


def _score(
    project: Project, reference: Path, quantised: Path, given: Mapping[str, Any]
) -> tuple[Pairs, _Unseen, dict[str, Any]]:
    from kaggle_kit.cli.scoring import labelled_rows, notebook_name, open_vllm
    from kaggle_kit.evaluation.divergence import pair
    from kaggle_kit.evaluation.score_file import score_records
    from kaggle_kit.files import user_cache
    from kaggle_kit.notebook.source import notebook_task
    from kaggle_kit.runtime.progress import ProgressLine

    name = notebook_name(project, given["name"])
    source = labelled_rows(project, name, given["data"], named="the rows")
    task, _ = notebook_task(project, name, assignments=given["assignments"])
    unseen = _unseen(source, task, given["rows"], reference=reference, quantised=quantised)
    records = unseen.records
    scoring = open_vllm(project, name, given)
    state = user_cache() / "comparisons" / _key(reference, quantised, source, name)
    found = []
    for what, path, engine in (("reference", reference, given["engine"]), ("quantised", quantised, "vllm")):
        say(f"{what}: {path}, {len(records):,} rows")
        line = ProgressLine(deadline=float("inf"), write=say)
        found.append(
            score_records(
                records,
                source=source,
                state=state / what,
                scoring=replace(scoring, model=path, setup=scoring.setup.with_engine(engine)),
                id_column=given["id_column"],
                on_event=line.show,
            )
        )
    pairs = pair(*found, records=records, columns=list(scoring.task.labels), source=source)
    shutil.rmtree(state, ignore_errors=True)
    return pairs, unseen, {"name": scoring.seal, "open": list(scoring.unsealed)}


def _key(*parts: object) -> str:
    """The name of the folder in which what was scored stands until all of it is."""
    text = "\n".join(str(part.absolute() if isinstance(part, Path) else part) for part in parts)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _record(reference: Path, quantised: Path, found: Comparison, unseen: _Unseen) -> None:
    from kaggle_kit.files import sha256_file, write_atomic
    from kaggle_kit.runtime.manifest import MANIFEST, dump_manifest, files_digest, read_manifest

    path = quantised / MANIFEST
    manifest = read_manifest(path)
    every, loss = found.all, found.all.log_loss_difference
    quality = {
        "reference_manifest_sha256": sha256_file(reference / MANIFEST),
        "files_sha256": files_digest(manifest),
        "rows": every.rows,
        "calibration_rows_left_out": unseen.left_out,
        "kl_mean": every.kl_mean.value,
        "kl_p99": every.kl_p99,
        "changed": every.changed.value,
        "log_loss_difference": loss.value if loss else None,
    }
    write_atomic(path, dump_manifest(replace(manifest, extra={**manifest.extra, "quality": quality})))


def _limit_lines(limit: float | None, table: str | None, *, beyond: bool) -> list[str]:
    if limit is None:
        return []
    return ["", f"limit {limit:g} of the mean KL ({table}): {'NOT kept' if beyond else 'kept'}"]


def _lines(found: Comparison, unseen: _Unseen) -> list[str]:
    """The figures as a person reads them."""
    every = found.all
    left = f", {found.left_out:,} left out (a rule, or no answer)" if found.left_out else ""
    lines = [
        f"{every.rows:,} rows answered by both models{left}",
        *_calibration_lines(unseen),
        f"  KL mean            {every.kl_mean.value:.5f} ({every.kl_mean.low:.5f} to {every.kl_mean.high:.5f})",
        f"  KL median, p99     {every.kl_median:.5f}, {every.kl_p99:.5f}; at most {every.kl_most:.5f}",
        f"  changed decisions  {every.changed.value:.2%} ({every.changed.low:.2%} to {every.changed.high:.2%})",
    ]
    if every.log_loss_difference is not None:
        lines += [
            f"  log loss           {every.reference_log_loss:.4f} reference, {every.quantised_log_loss:.4f} quantised",
            f"  difference         {every.log_loss_difference.signed}",
        ]
    masses = [f"{mass:.4f}" if mass is not None else "not known" for mass in found.masses]
    lines.append(f"  label mass         {masses[0]} reference, {masses[1]} quantised")
    lines += [
        "",
        f"{'prompt tokens':<20}{'rows':>8}  {'KL mean':>9}  {'KL p99':>9}  {'changed':>8}  log loss difference",
    ]
    return lines + [_length_line(one) for one in found.by_length]


def _calibration_lines(unseen: _Unseen) -> list[str]:
    """Which rows were left out since a model was calibrated on them."""
    lines = [
        f"  {unseen.left_out:,} rows of the table calibrated the quantised model, and are left out"
        if unseen.left_out is not None
        else "  the quantised model's manifest does not say which rows calibrated it: they may be among these"
    ]
    if unseen.reference_only:
        more = " more" if unseen.left_out else ""
        lines.append(f"  {unseen.reference_only:,}{more} calibrated the reference alone, and are left out")
    return lines


def _length_line(one: Figures) -> str:
    loss = one.log_loss_difference.signed if one.log_loss_difference else "not known"
    kl = f"{one.kl_mean.value:>9.5f}  {one.kl_p99:>9.5f}"
    return f"  {one.name:<18}{one.rows:>8,}  {kl}  {one.changed.value:>8.2%}  {loss}"
