"""From the folder that a dry run or a pushed run left, and its receipt, to the facts of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import UsageError
from kaggle_kit.evaluation.judged import Predictions, greatest_losses, judge
from kaggle_kit.evaluation.record import read_record, unread_line
from kaggle_kit.evaluation.run_facts import (
    DRY_RUN,
    EXECUTED,
    PUSHED_RUN,
    SUBMISSION,
    Lengths,
    Run,
    Worst,
    causes_of,
    excerpt,
    hash_lines,
    is_run_folder,
    parameters_of,
    plain,
    read_report,
    row_text,
    stages_of,
    throughput_of,
)
from kaggle_kit.evaluation.submission_facts import Check, read_submission, submission_checks
from kaggle_kit.runtime.integrity import corrupt, integrity_lines
from kaggle_kit.runtime.progress import duration
from kaggle_kit.runtime.summary import RECORD

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from kaggle_kit.evaluation.judged import Judged
    from kaggle_kit.evaluation.run_texts import Texts
    from kaggle_kit.runtime.submission import Sample

WORST_ROWS = 20
_COMPLETE = "COMPLETE"
GOING_ON = ("QUEUED", "RUNNING", "UNKNOWN", "CANCEL_REQUESTED", "NEW_SCRIPT")
_GB = 1e9


@dataclass(frozen=True)
class Material:
    """What is known of a run beside its own files.

    `log`: readable, without secrets; `findings`: its failures, decoded; `outcomes`: row id → the column that came
    true; `sample`: what the submission had to be; `texts`: the prompts; `receipt`: of a push, as its JSON says.
    """

    log: str = ""
    findings: Sequence[Mapping[str, Any]] = ()
    outcomes: Mapping[str, str] | None = None
    sample: Sample | None = None
    texts: Texts | None = None
    receipt: Mapping[str, Any] | None = None
    notes: Sequence[str] = ()


def read_run(folder: Path, material: Material) -> Run:
    """The run whose files are in `folder`: a dry run where there is a report, else a pushed run.

    Raises UsageError where the folder holds nothing of a run and there is no receipt, DataError for a damaged file.
    """
    if not is_run_folder(folder) and material.receipt is None:
        raise UsageError(f"{folder} holds no run: name the folder of a dry run or of a pushed run, or a scores file")
    report, record = read_report(folder), read_record(folder / RECORD)
    rows: dict[str, Any] = record.get("rows") or {}
    found = read_submission(folder / SUBMISSION)
    # A run that makes a model hands in nothing.
    checks = () if "make" in record else submission_checks(found, rows=rows, sample=material.sample)
    predictions = found.predictions(material.outcomes) if found else None
    judged = judge(predictions) if predictions else None
    head = _dry_run(folder, report, record) if report else _pushed_run(folder, material.receipt or {}, record, checks)
    failed = head["good"] is not True
    return Run(
        **head,
        figures=_figures(report, record, material.receipt or {}, judged),
        stages=stages_of(record),
        throughput=throughput_of(record),
        plan=[f"{model}: {line}" for model, lines in (record.get("plan") or {}).items() for line in lines],
        unreadable={str(name): str(why) for name, why in (rows.get("unreadable_rows") or {}).items()},
        unreadable_count=int(rows.get("unreadable") or 0),
        mass=record.get("label_mass") or {},
        lengths=_lengths(material.texts),
        predictions=predictions,
        judged=judged,
        worst=_worst(predictions, material.texts) if predictions else (),
        checks=checks,
        causes=causes_of(material.findings, material.log) if failed else (),
        log_end=excerpt(material.log, None) if failed else "",
        notes=(*report.get("notes", ()), *material.notes, *filter(None, [unread_line(record)])),
    )


def worst_ids(folder: Path, outcomes: Mapping[str, str]) -> tuple[str, Sequence[str], Sequence[str]]:
    """The id column of a run's submission, its ids, and those whose prompts the report will show."""
    found = read_submission(folder / SUBMISSION)
    if found is None:
        return "id", (), ()
    predictions = found.predictions(outcomes)
    worst = greatest_losses(predictions, most=WORST_ROWS) if predictions else ()
    return found.id_column, found.ids, [predictions.ids[place] for place, _ in worst] if predictions else ()


def _dry_run(folder: Path, report: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    seal = f"{report.get('seal')}, no network" if not report.get("unsealed") else f"{report.get('seal')}: NOT sealed"
    what = {"notebook": report.get("notebook", ""), "target": report.get("target", ""), "seal": seal}
    what |= _record_lines(record) | hash_lines(folder)
    outcome = report.get("outcome", "NOT KNOWN: the report has no outcome")
    return {
        "name": folder.name,
        "kind": DRY_RUN,
        "outcome": str(outcome),
        "good": bool(report.get("complete")),
        "what": {name: str(value) for name, value in what.items() if value not in ("", None)},
        "settings": parameters_of(folder / EXECUTED),
    }


def _record_lines(record: Mapping[str, Any]) -> dict[str, str]:
    """What a run's own record says of what ran."""
    installer = record.get("installer") or {}
    lines = {"kit": record.get("kit"), "engine": record.get("engine"), "installer": installer.get("name")}
    if "hidden_run" in record:
        lines["hidden run"] = "yes" if record["hidden_run"] else "no"
    if starts := (record.get("worker") or {}).get("starts"):
        lines["worker starts"] = starts
    return {name: str(value) for name, value in lines.items() if value} | integrity_lines(record)


def _pushed_run(
    folder: Path, receipt: Mapping[str, Any], record: Mapping[str, Any], checks: Sequence[Check]
) -> dict[str, Any]:
    good, outcome = _pushed_outcome(receipt, record, checks)
    target = receipt.get("target") or record.get("target")
    what = {
        "notebook": receipt.get("notebook"),
        "version": receipt.get("version"),
        "address": receipt.get("url"),
        "pushed": receipt.get("pushed"),
        "commit": receipt.get("made_by"),
        "target": target,
        **_record_lines(record),
        "SHA-256 of the source": receipt.get("source"),
        "SHA-256 of the build": receipt.get("build"),
        **hash_lines(folder),
    }
    for one in receipt.get("inputs") or ():
        said = f"version {one.get('version')}, {int(one.get('bytes') or 0):,} bytes, digest {one.get('digest') or '–'}"
        what[f"{one.get('kind')} {one.get('reference')}"] = said
    settings = parameters_of(folder / EXECUTED)
    for check in receipt.get("checks") or ():
        told = "as asked" if check.get("agrees") else f"asked {plain(check.get('asked'))}"
        if check.get("what") != "source":
            settings[str(check.get("what"))] = f"{plain(check.get('found'))} ({told})"
    name = f"{receipt['name']} version {receipt['version']}" if {"name", "version"} <= receipt.keys() else folder.name
    return {
        "name": name,
        "kind": PUSHED_RUN,
        "outcome": outcome,
        "good": good,
        "what": {key: str(value) for key, value in what.items() if value not in ("", None)},
        "settings": settings,
    }


def _pushed_outcome(
    receipt: Mapping[str, Any], record: Mapping[str, Any], checks: Sequence[Check]
) -> tuple[bool | None, str]:
    run, handed = receipt.get("run") or {}, receipt.get("submission") or {}
    state, failed, bad = run.get("state"), record.get("failed"), corrupt(record)
    rows = record.get("rows") or {}
    scored = f"{rows.get('scored', 0):,} of {rows.get('total', 0):,} rows scored by the model" if rows else ""
    score = f"public score {handed['public_score']}" if handed.get("public_score") is not None else ""
    rest = "; ".join(part for part in (scored, score) if part)
    broken = [check for check in checks if check.good is False]
    if state in GOING_ON:
        return None, f"NOT ENDED: Kaggle said {state.lower().replace('_', ' ')} when it was last asked"
    if state not in (None, _COMPLETE):
        return False, f"FAILED: {state.lower().replace('_', ' ')}" + (
            f", {run['failure']}" if run.get("failure") else ""
        )
    if failed or bad:
        said = (
            f"FAILED in the stage {failed.get('stage')!r}: {failed.get('error')}" if failed else f"CORRUPT MODEL: {bad}"
        )
        return False, said + (f"; {rest}" if rest else "")
    if broken and (state or record):
        return False, f"submission.csv, {broken[0].name}: {broken[0].said}" + (f"; {rest}" if rest else "")
    if state is None and not record:
        return None, "NOT KNOWN: neither a receipt nor the run's own record is here"
    return True, "OK: the run is complete" + (f"; {rest}" if rest else "")


def _figures(
    report: Mapping[str, Any], record: Mapping[str, Any], receipt: Mapping[str, Any], judged: Judged | None
) -> list[tuple[str, str, str]]:
    rows, worker = record.get("rows") or {}, (record.get("worker") or {}).get("stages") or {}
    found: list[tuple[str, str, str]] = []
    if rows:
        found.append(("rows", f"{rows.get('total', 0):,}", row_text(rows)))
    if judged is not None:
        loss = judged.figures[judged.final]["log loss"]
        found.append(("log loss", f"{loss.value:.4f}", f"95 %: {loss.low:.4f} to {loss.high:.4f}"))
    elif report.get("log_loss") is not None:
        found.append(("log loss", f"{report['log_loss']:.4f}", ""))
    score = (receipt.get("submission") or {}).get("public_score")
    if score is not None:
        found.append(("public score", f"{score}", "as Kaggle tells it"))
    found += speed_figures(rows, record.get("prompt_tokens", 0), worker)
    whole = (report.get("seconds") or {}).get("whole notebook") or sum(stages_of(record).values())
    if whole:
        found.append(("whole notebook", duration(whole), ""))
    if peak := report.get("peak_bytes") or (record.get("worker") or {}).get("peak_bytes"):
        found.append(("peak memory", f"{peak / _GB:.2f} GB", ""))
    return [*found, *mass_figure(record.get("label_mass"))]


def speed_figures(rows: Mapping[str, Any], tokens: int, stages: Mapping[str, float]) -> list[tuple[str, str, str]]:
    """Rows and prompt tokens per second of scoring, where they are known."""
    scoring = stages.get("scoring", 0.0)
    passes = scoring + stages.get("swapped pass", 0.0)
    scored = int(rows.get("scored") or 0)
    if not scoring or not scored:
        return []
    return [("speed", f"{scored / scoring:,.1f} rows/s", f"{tokens / passes:,.0f} prompt tokens/s ({tokens:,} tokens)")]


def mass_figure(mass: Mapping[str, float] | None) -> list[tuple[str, str, str]]:
    """The label mass, where it is known."""
    return [("label mass", f"{mass['mean']:.4f}", f"{mass['lowest']:.4f} at the lowest")] if mass else []


def _lengths(texts: Texts | None) -> Lengths | None:
    if texts is None:
        return None
    return Lengths(
        [one.whole_tokens for one in texts.rows.values()], [one.tokens for one in texts.rows.values()], texts.budget
    )


def _worst(predictions: Predictions, texts: Texts | None) -> list[Worst]:
    import numpy as np

    found = []
    outcome = predictions.outcome
    for place, loss in greatest_losses(predictions, most=WORST_ROWS):
        row_id = predictions.ids[place]
        text = texts.rows.get(row_id) if texts else None
        found.append(
            Worst(
                id=row_id,
                loss=loss,
                outcome=predictions.columns[int(outcome[place])] if outcome is not None else "",
                probabilities=dict(zip(predictions.columns, map(float, np.exp(predictions.logs[place])), strict=True)),
                tokens=text.tokens if text else 0,
                whole_tokens=text.whole_tokens if text else 0,
                cut=", ".join(text.cut) if text else "",
                prompt=texts.prompt_of.get(row_id) if texts else None,
            )
        )
    return found
