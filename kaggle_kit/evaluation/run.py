"""One view of a run, whatever it was: a dry run, a pushed run, an evaluation. Made of the files that it left."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import UsageError
from kaggle_kit.evaluation.answers import answers_of
from kaggle_kit.evaluation.assess import (
    ACCURACY,
    LOG_LOSS,
    Assessment,
    Predictions,
    assess,
    assess_submission,
    greatest_losses,
    kinds_of,
)
from kaggle_kit.evaluation.run_files import (
    Cause,
    DryRun,
    Finding,
    Push,
    SubmissionCheck,
    causes_of,
    excerpt,
    hash_lines,
    is_run_folder,
    parameters_of,
    read_report,
    read_submission,
    submission_checks,
)
from kaggle_kit.runtime.progress import duration
from kaggle_kit.runtime.record import (
    COMPLETE,
    EXECUTED,
    RECORD,
    SUBMISSION,
    LabelMass,
    Rows,
    RunRecord,
    read_record,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from kaggle_kit.evaluation.answers import Answers
    from kaggle_kit.evaluation.scores import Evaluation, Scores
    from kaggle_kit.evaluation.texts import RunPrompts
    from kaggle_kit.runtime.combine import Calibration
    from kaggle_kit.runtime.submission import Sample

    Figure = tuple[str, str, str]

DRY_RUN, EVALUATION, PUSHED_RUN = "dry run", "evaluation", "pushed run"
WORST_ROWS = 20
_NAMED_PROBLEMS = 50
"""Unreadable rows that a page names; the rest are counted."""
_GB = 1e9
_MOST_TEXT = 300


@dataclass(frozen=True)
class Lengths:
    """Of the rows that a model answered: tokens of the uncut prompt and as the model got it, and the token budget."""

    whole: Sequence[int]
    tokens: Sequence[int]
    budget: int | None


@dataclass(frozen=True)
class Worst:
    """A row of great loss. `prompt` is the text that the model got, None if it is not at hand."""

    id: str
    loss: float
    outcome: str
    probabilities: Mapping[str, float]
    tokens: int = 0
    whole_tokens: int = 0
    cut: str = ""
    flags: str = ""
    prompt: str | None = None


@dataclass(frozen=True)
class Run:
    """What a page says of a run; what is not known is empty or None.

    `what`: what ran, `settings`: how; `good`: whether it ended as it should. `stages` in seconds; `throughput`:
    (seconds, prompt tokens done so far). `figures`: the key figures as (name, value, remark).
    """

    name: str
    kind: str
    outcome: str
    good: bool | None
    what: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    figures: Sequence[Figure] = ()
    stages: Mapping[str, float] = field(default_factory=dict)
    throughput: Sequence[tuple[float, int]] = ()
    plan: Sequence[str] = ()
    unreadable: Mapping[str, str] = field(default_factory=dict)
    unreadable_count: int = 0
    masses: Sequence[float] = ()
    lengths: Lengths | None = None
    predictions: Predictions | None = None
    assessment: Assessment | None = None
    worst: Sequence[Worst] = ()
    checks: Sequence[SubmissionCheck] = ()
    causes: Sequence[Cause] = ()
    log_end: str = ""
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class RunContext:
    """What is known of a run beside its own files.

    `log`: readable, without secrets; `findings`: its failures, decoded; `outcomes`: row id → the column that came
    true; `sample`: what the submission had to be; `prompts`: those of its rows; `push`: what its receipt says.
    """

    log: str = ""
    findings: Sequence[Finding] = ()
    outcomes: Mapping[str, str] | None = None
    sample: Sample | None = None
    prompts: RunPrompts | None = None
    push: Push | None = None
    notes: Sequence[str] = ()


def read_run(folder: Path, context: RunContext) -> Run:
    """The run whose files are in `folder`: a dry run if there is a report, else a pushed run.

    Raises UsageError if the folder holds nothing of a run and there is no receipt, DataError for a damaged file.
    """
    if not is_run_folder(folder) and context.push is None:
        raise UsageError(f"{folder} holds no run: name the folder of a dry run or of a pushed run, or a scores file")
    report, record, push = read_report(folder), read_record(folder / RECORD), context.push or Push()
    table = read_submission(folder / SUBMISSION)
    # A run that makes a model submits nothing.
    checks = () if record.make else submission_checks(table, rows=record.rows, sample=context.sample)
    predictions = table.predictions(context.outcomes) if table else None
    assessment = assess_submission(predictions) if predictions else None

    head = _dry_run(folder, report, record) if report else _pushed_run(folder, push, record, checks)
    failed = head.good is not True
    kept = dict.fromkeys((*(report.notes if report else ()), *record.prompt_notes, *record.row_notes))
    notes = (*kept, *context.notes, record.unread_text)
    return replace(
        head,
        figures=_folder_figures(report, record, push, assessment),
        stages=record.all_stages,
        throughput=record.throughput,
        plan=[f"{model}: {line}" for model, lines in record.plan.items() for line in lines],
        unreadable=record.rows.unreadable_rows if record.rows else {},
        unreadable_count=record.rows.unreadable if record.rows else 0,
        lengths=_lengths(context.prompts),
        predictions=predictions,
        assessment=assessment,
        worst=_worst(predictions, lambda place: _prompt_details(predictions.ids[place], context.prompts))
        if predictions
        else (),
        checks=checks,
        causes=causes_of(context.findings, context.log) if failed else (),
        log_end=excerpt(context.log, None) if failed else "",
        notes=tuple(filter(None, notes)),
    )


def worst_ids(folder: Path, outcomes: Mapping[str, str]) -> tuple[str, Sequence[str], Sequence[str]]:
    """The id column of a run's submission, its ids, and those whose prompts the report will show."""
    table = read_submission(folder / SUBMISSION)
    if table is None:
        return "id", (), ()
    predictions = table.predictions(outcomes)
    worst = greatest_losses(predictions, most=WORST_ROWS) if predictions else ()
    return table.id_column, table.ids, [predictions.ids[place] for place, _ in worst] if predictions else ()


def _dry_run(folder: Path, report: DryRun, record: RunRecord) -> Run:
    """How a dry run is called, what it was, and how it ended."""
    seal = f"{report.seal}: NOT sealed" if report.unsealed else f"{report.seal}, no network"
    what = {"notebook": report.notebook, "target": report.target, "seal": seal}
    what = _known(what | _record_lines(record) | hash_lines(folder))
    return Run(folder.name, DRY_RUN, report.outcome, report.complete, what, parameters_of(folder / EXECUTED))


def _known(what: Mapping[str, object]) -> dict[str, str]:
    """The lines that say something, as texts."""
    return {name: str(value) for name, value in what.items() if value not in ("", None)}


def _record_lines(record: RunRecord) -> dict[str, str]:
    """What a run's own record says of what ran."""
    lines = {"kit": record.kit, "engine": record.engine, "installer": record.installer.name}
    if record.hidden_run is not None:
        lines["hidden run"] = "yes" if record.hidden_run else "no"
    if record.worker.starts:
        lines["worker starts"] = str(record.worker.starts)
    return _known(lines | record.prompt) | record.allowances | record.models


def _pushed_run(folder: Path, push: Push, record: RunRecord, checks: Sequence[SubmissionCheck]) -> Run:
    """The same of a pushed run, by its receipt."""
    good, outcome = _pushed_outcome(push, record, checks)
    what: dict[str, object] = {
        "notebook": push.notebook,
        "version": push.version,
        "address": push.url,
        "pushed": push.pushed,
        "commit": push.made_by,
        "target": push.target or record.target,
        **_record_lines(record),
        "SHA-256 of the source": push.source,
        "SHA-256 of the build": push.build,
        **hash_lines(folder),
    }
    for one in push.inputs:
        said = f"version {one.version}, {one.bytes or 0:,} bytes, digest {one.digest or '–'}"
        what[f"{one.kind} {one.reference}"] = said

    settings = parameters_of(folder / EXECUTED)
    for setting in push.checks:
        if setting.what != "source":
            said = "as asked" if setting.agrees else f"asked {setting_text(setting.asked)}"
            settings[setting.what] = f"{setting_text(setting.found)} ({said})"
    name = f"{push.name} version {push.version}" if push.name and push.version is not None else folder.name
    return Run(name, PUSHED_RUN, outcome, good, _known(what), settings)


def _pushed_outcome(push: Push, record: RunRecord, checks: Sequence[SubmissionCheck]) -> tuple[bool | None, str]:
    state = push.run.state
    if push.going_on:
        return None, f"NOT ENDED: Kaggle said {_words(state)} when it was last asked"
    if state not in (None, COMPLETE):
        return False, f"FAILED: {_words(state)}" + (f", {push.run.failure}" if push.run.failure else "")

    rows, score = record.rows, push.submission.public_score
    rest = f"; {rows.scored:,} of {rows.total:,} rows scored by the model" if rows else ""
    rest += f"; public score {score}" if score is not None else ""
    known = record != RunRecord()
    broken = [check for check in checks if check.good is False]
    if record.failed:
        problem = f"FAILED in the stage {record.failed.stage!r}: {record.failed.error}"
    elif record.corrupt:
        problem = f"CORRUPT MODEL: {record.corrupt}"
    elif record.low_mass:
        problem = record.low_mass
    elif broken and (state or known):
        problem = f"{SUBMISSION}, {broken[0].name}: {broken[0].said}"
    elif state is None and not known:
        return None, "NOT KNOWN: neither a receipt nor the run's own record is here"
    else:
        return True, f"OK: the run is complete{rest}"
    return False, problem + rest


def _words(state: str | None) -> str:
    return (state or "").lower().replace("_", " ")


def _folder_figures(
    report: DryRun | None, record: RunRecord, push: Push, assessment: Assessment | None
) -> list[Figure]:
    rows, score = record.rows, push.submission.public_score
    figures: list[Figure] = [("rows", f"{rows.total:,}", str(rows))] if rows else []
    figures += [("no answer", f"{number:,}", why) for why, number in (rows.unanswered if rows else {}).items()]
    if assessment is not None:
        figures.append(_loss_figure(assessment))
    elif report and report.log_loss is not None:
        figures.append(("log loss", f"{report.log_loss:.4f}", ""))
    if score is not None:
        figures.append(("public score", f"{score}", "as Kaggle tells it"))

    figures += _speed_figure(rows, record.prompt_tokens, record.worker.stages)
    if whole := (report.seconds.get("whole notebook") if report else None) or sum(record.all_stages.values()):
        figures.append(("whole notebook", duration(whole), ""))
    if peak := (report.peak_bytes if report else 0) or record.worker.peak_bytes:
        figures.append(("peak memory", f"{peak / _GB:.2f} GB", ""))
    return [*figures, *_mass_figure(record.label_mass)]


def _loss_figure(assessment: Assessment) -> Figure:
    loss = assessment.figures[assessment.final][LOG_LOSS]
    return LOG_LOSS, f"{loss.value:.4f}", f"95 %: {loss.low:.4f} to {loss.high:.4f}"


def _speed_figure(rows: Rows | None, tokens: int, stages: Mapping[str, float]) -> list[Figure]:
    """Rows and prompt tokens per second of scoring, if they are known."""
    scoring = stages.get("scoring", 0.0)
    passes = scoring + stages.get("swapped pass", 0.0)
    if not scoring or rows is None or not rows.scored:
        return []
    speed = f"{tokens / passes:,.0f} prompt tokens/s ({tokens:,} tokens)"
    return [("speed", f"{rows.scored / scoring:,.1f} rows/s", speed)]


def _mass_figure(mass: LabelMass | None) -> list[Figure]:
    return [("label mass", f"{mass.mean:.4f}", f"{mass.lowest:.4f} at the lowest")] if mass else []


def _lengths(prompts: RunPrompts | None) -> Lengths | None:
    if prompts is None:
        return None
    rows = prompts.rows.values()
    return Lengths([row.whole_tokens for row in rows], [row.tokens for row in rows], prompts.budget)


def _worst(predictions: Predictions, details: Callable[[int], dict[str, Any]]) -> list[Worst]:
    """The rows of the greatest loss; `details` gives the other fields of the row of a number."""
    import numpy as np

    worst = []
    for place, loss in greatest_losses(predictions, most=WORST_ROWS):
        shares = dict(zip(predictions.columns, map(float, np.exp(predictions.logs[place])), strict=True))
        outcome = "" if predictions.outcome is None else predictions.columns[int(predictions.outcome[place])]
        worst.append(Worst(predictions.ids[place], loss, outcome, shares, **details(place)))
    return worst


def _prompt_details(row_id: str, prompts: RunPrompts | None) -> dict[str, Any]:
    facts = prompts.rows.get(row_id) if prompts else None
    details: dict[str, Any] = {"prompt": prompts.texts.get(row_id) if prompts else None}
    if facts:
        details |= {"tokens": facts.tokens, "whole_tokens": facts.whole_tokens, "cut": ", ".join(facts.cut)}
    return details


def _line_details(line: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "tokens": int(line["tokens"]),
        "whole_tokens": int(line["whole_tokens"]),
        "cut": str(line["cut"]).replace(",", ", "),
        "flags": str(line["flags"]),
        "prompt": line["prompt"],
    }


def setting_text(value: object) -> str:
    """A setting as text, not too long."""
    if value in ("", None, [], {}):
        return "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(setting_text, value))
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
    return text if len(text) <= _MOST_TEXT else f"{text[:_MOST_TEXT]} …"


def scores_run(scores: Scores, name: str, *, calibration: Calibration | None = None) -> Run:
    """The run of a scores file; `calibration` takes the place of the one that the model carried.

    Raises DataError if the file contradicts itself.
    """
    ran = scores.evaluation
    calibration = calibration or scores.calibration()
    answers = answers_of(scores, name)
    assessment = assess(answers, calibration=calibration)
    final = kinds_of(answers, calibration)[assessment.final]
    predictions = Predictions(answers.ids, answers.columns, final, answers.outcome)

    record = RunRecord.from_json(ran.figures)
    seen = answers.lines.filter(answers.lines["answered"] == "model")
    broken = answers.lines.filter(answers.lines["problem"].is_not_null())
    loss = assessment.figures[assessment.final][LOG_LOSS]
    outcome = f"Log loss {loss} over {assessment.rows:,} rows ({assessment.final})"
    low = RunRecord(label_mass=scores.label_mass).low_mass
    return Run(
        name=name,
        kind=EVALUATION,
        outcome=f"{low}; {outcome}" if low else outcome,
        good=False if low else None,
        what=_scores_what(ran),
        settings=_scores_settings(ran, calibration),
        figures=_scores_figures(ran, record, _scores_rows(answers), assessment),
        stages=ran.stages,
        throughput=ran.throughput,
        unreadable={str(one["id"]): str(one["problem"]) for one in broken.head(_NAMED_PROBLEMS).to_dicts()},
        unreadable_count=len(broken),
        masses=seen["mass"].drop_nulls().to_list(),
        lengths=Lengths(seen["whole_tokens"].to_list(), seen["tokens"].to_list(), ran.token_budget),
        predictions=predictions,
        assessment=assessment,
        worst=_worst(predictions, lambda place: _line_details(answers.lines.row(place, named=True))),
    )


def _scores_rows(answers: Answers) -> Rows:
    lines = answers.lines
    return Rows(
        total=len(answers),
        scored=int(answers.by_model.sum()),
        swapped=int((answers.in_both & answers.by_model).sum()),
        ruled=int((lines["answered"] == "rule").sum()),
        prior=int((lines["answered"] == "prior").sum()),
        cut=int((lines["cut"] != "").sum()),
    )


def _scores_what(ran: Evaluation) -> dict[str, str]:
    versions, hashes = ran.versions, ran.hashes
    what = {
        **{name: getattr(ran, name) for name in ("notebook", "model", "target", "data", "made", "machine")},
        "kit": versions.get("kaggle_kit", ""),
        "engine": " ".join(filter(None, (ran.engine, versions.get("engine")))),
        "Python": versions.get("python", ""),
        "SHA-256 of the task": hashes.get("task", ""),
        "SHA-256 of the model's manifest": hashes.get("model", ""),
        "SHA-256 of the data": hashes.get("data", ""),
    }
    return _known(what)


def _scores_settings(ran: Evaluation, calibration: Calibration | None) -> dict[str, str]:
    return {
        "token_budget": str(ran.token_budget),
        "passes": ", ".join(ran.passes),
        "calibration": "none" if calibration is None else _calibration_text(calibration),
        "labels": ", ".join(f"{column} {label!r}" for column, label in ran.columns.items()),
        "prior": ", ".join(f"{column} {share:.3f}" for column, share in ran.prior.items()),
        **ran.prompt,
        **{name: setting_text(value) for name, value in ran.engine_options.items()},
    }


def _calibration_text(calibration: Calibration) -> str:
    parts = []
    for one in calibration.bins:
        bias = ", ".join(f"{column} {value:+.3f}" for column, value in one.bias.items())
        text = f"up to {one.up_to_tokens:g} tokens: temperature {one.temperature:.3f}"
        parts.append(text + (f", bias {bias}" if bias else ""))
    return "; ".join(parts).replace("up to inf tokens: ", "")


def _scores_figures(ran: Evaluation, record: RunRecord, rows: Rows, assessment: Assessment) -> list[Figure]:
    accuracy = assessment.figures[assessment.final][ACCURACY]
    figures = [
        _loss_figure(assessment),
        (ACCURACY, f"{accuracy.value:.1%}", f"95 %: {accuracy.low:.1%} to {accuracy.high:.1%}"),
        ("rows", f"{rows.total:,}", str(rows)),
        *_speed_figure(rows, record.prompt_tokens, ran.stages),
    ]
    if ran.seconds:
        figures.append(("whole run", duration(ran.seconds), ""))
    return [*figures, *_mass_figure(record.label_mass)]
