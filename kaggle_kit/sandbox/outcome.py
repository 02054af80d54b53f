"""What a dry run left behind, read into a report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import KitError
from kaggle_kit.evaluation.metrics import Solution, log_loss
from kaggle_kit.evaluation.record import read_record, unread_line
from kaggle_kit.evaluation.run_facts import EXECUTED, LOG, SUBMISSION
from kaggle_kit.evaluation.submission_facts import SUBMISSION_BYTES
from kaggle_kit.outside import read_text
from kaggle_kit.runtime.integrity import corrupt, integrity_lines
from kaggle_kit.runtime.progress import duration
from kaggle_kit.runtime.submission import Sample, check_submission
from kaggle_kit.runtime.summary import RECORD
from kaggle_kit.sandbox.execute import cell_names, cell_started, failed_cell
from kaggle_kit.sandbox.report import PROJECTED_ROWS, Report

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from kaggle_kit.notebook.build import Build
    from kaggle_kit.sandbox.execute import Execution
    from kaggle_kit.sandbox.seal import Seal


def make_report(
    built: Build,
    *,
    results: Path,
    sample: Sample,
    solution: Solution | None,
    seal: Seal,
    execution: Execution,
    preparing_seconds: float,
    notes: Sequence[str],
) -> Report:
    """The report of the run whose files are in `results`."""
    record = read_record(results / RECORD)
    rows, worker = record.get("rows", {}), record.get("worker", {})
    invalid = _invalid(results / SUBMISSION, sample)
    failure = failure_of(built, results, execution, record)
    scored = int(rows.get("scored", 0))
    readable = len(sample.ids) - int(rows.get("unreadable", 0))
    stages: dict[str, float] = worker.get("stages", {})
    scoring = stages.get("scoring", 0.0)
    passes = scoring + stages.get("swapped pass", 0.0)
    ruled = int(rows.get("ruled", 0))
    tokens = int(record.get("prompt_tokens", 0))
    mass = record.get("label_mass") or {}
    complete = failure is None and invalid is None and scored + ruled == readable
    return Report(
        notebook=built.name,
        target=built.target.name,
        outcome=_outcome(failure, invalid, total=len(sample.ids), scored=scored, complete=complete, rows=rows)
        + _deaths(worker),
        complete=complete,
        submission_valid=invalid is None,
        seal=seal.name,
        unsealed=seal.unsealed,
        left_open=seal.left_open,
        total_rows=len(sample.ids),
        scored_rows=scored,
        prior_rows=len(sample.ids) - scored - ruled,
        ruled_rows=ruled,
        swapped_rows=int(rows.get("swapped", 0)),
        unreadable_rows=rows.get("unreadable_rows", {}),
        unreadable_count=int(rows.get("unreadable", 0)),
        cut_rows=int(rows.get("cut", 0)),
        seconds=_seconds(record, stages, execution, preparing_seconds),
        rows_per_second=scored / scoring if scoring and scored else None,
        tokens_per_second=tokens / passes if passes and scored else None,
        prompt_tokens=tokens,
        longest_prompt=int(record.get("longest_prompt", 0)),
        peak_bytes=max(execution.peak_bytes, int(worker.get("peak_bytes", 0))),
        label_mass_mean=mass.get("mean"),
        label_mass_lowest=mass.get("lowest"),
        log_loss=log_loss(results / SUBMISSION, solution) if solution and invalid is None else None,
        projected_seconds=_projected(stages, execution, scored),
        worker_starts=int(worker.get("starts", 0)),
        notes=(*notes, *left_behind(execution)),
        integrity=integrity_lines(record),
    )


def _invalid(submission: Path, sample: Sample) -> str | None:
    """Why the submission is not valid; None where it is."""
    if not submission.is_file():
        return "the notebook left no submission.csv"
    try:
        check_submission(read_text(submission, most_bytes=SUBMISSION_BYTES), sample)
    except KitError as error:
        return str(error)
    return None


def left_behind(execution: Execution) -> tuple[str, ...]:
    """The notes on files that did not come out of the seal."""
    return (*execution.left, *execution.failed)


def failure_of(built: Build, results: Path, execution: Execution, record: dict[str, Any]) -> str | None:
    """What went wrong, as the beginning of the first line; None if nothing did."""
    if ended := _ended(built, results, execution):
        return ended
    if failed := failed_cell(results / EXECUTED):
        return f"FAILED in the cell {failed[0]!r}: {failed[1]}"
    if failed_stage := record.get("failed"):
        return f"FAILED in the stage {failed_stage['stage']!r}: {failed_stage['error']}"
    if execution.exit_code:
        where = _last_cell(built, results / LOG)
        return f"FAILED: the notebook ended with code {execution.exit_code} in the cell {where!r}; see log.txt"
    if execution.failed:
        return f"FAILED: {execution.failed[0]}"
    return _shortfall(record)


def _ended(built: Build, results: Path, execution: Execution) -> str | None:
    """Why kit ended the run; None if it ended by itself."""
    where = _last_cell(built, results / LOG) if execution.limit_reached or execution.stopped else ""
    if execution.limit_reached:
        return f"TIME LIMIT: the session was ended after {duration(execution.seconds)} in the cell {where!r}"
    return f"STOPPED in the cell {where!r}: {execution.stopped}" if execution.stopped else None


def _shortfall(record: dict[str, Any]) -> str | None:
    """Why a run that ended well is not as it should be; None where it is."""
    if bad := corrupt(record):
        return f"CORRUPT MODEL: {bad} is not what its manifest says"
    if unread := unread_line(record):
        return f"NOT KNOWN: {unread}"
    if record.get("worker", {}).get("ended") == "deadline" or record.get("rows", {}).get("not_reached"):
        return "DEADLINE: the notebook's time did not suffice for every row"
    return None


def _last_cell(built: Build, log: Path) -> str:
    names = cell_names(built.notebook)
    started = [cell_started(line, names) for line in log.read_text(encoding="utf-8").splitlines()]
    return next((name for name in reversed(started) if name), "none yet")


def _outcome(
    failure: str | None, invalid: str | None, *, total: int, scored: int, complete: bool, rows: dict[str, Any]
) -> str:
    stands = (
        f"NO valid submission: {invalid}"
        if invalid
        else f"submission.csv is valid: {scored:,} of {total:,} rows scored by the model"
    )
    ruled = int(rows.get("ruled", 0))
    if not invalid and ruled:
        stands += f", {ruled:,} by a rule"
    if not invalid and scored + ruled < total:
        stands += f", the prior for {total - scored - ruled:,}"
    if failure:
        return f"{failure}; {stands}"
    if complete:
        unread = int(rows.get("unreadable", 0))
        return f"OK: {stands}" + (f" ({unread:,} could not be read)" if unread else "")
    return f"NOT COMPLETE: {stands}"


def _seconds(
    record: dict[str, Any], stages: dict[str, float], execution: Execution, preparing_seconds: float
) -> dict[str, float]:
    notebook: dict[str, float] = record.get("stages", {})
    install = {"install": notebook["install"]} if "install" in notebook else {}
    return {
        "preparing": round(preparing_seconds, 2),
        **install,
        **stages,
        "whole notebook": round(execution.seconds, 2),
    }


def _projected(stages: dict[str, float], execution: Execution, scored: int) -> float | None:
    """What the hidden run's rows would take here: scoring and reading grow with the rows, the rest does not."""
    if not scored or "scoring" not in stages:
        return None
    growing = sum(stages.get(name, 0.0) for name in ("prepare", "scoring", "swapped pass"))
    return execution.seconds - growing + growing * PROJECTED_ROWS / scored


def _deaths(worker: dict[str, Any]) -> str:
    """The end of the first line where the worker died and was started again."""
    deaths: list[str] = worker.get("deaths", [])
    if not deaths:
        return ""
    times = "once" if len(deaths) == 1 else f"{len(deaths)} times"
    return f"; the worker died {times} and was started again ({deaths[-1]})"
