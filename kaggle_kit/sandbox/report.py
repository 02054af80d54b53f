"""The report of a dry run, and the folder that holds it with the run's files.

Its first line says how the run ended, the rest what it cost and what it was worth.
"""

from __future__ import annotations

import contextlib
import json
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import KitError, UsageError
from kaggle_kit.evaluation.metrics import Solution, log_loss
from kaggle_kit.evaluation.run_files import SUBMISSION_BYTES
from kaggle_kit.files import fresh_folder, write_atomic
from kaggle_kit.notebook.build import time_problem
from kaggle_kit.outside import read_text
from kaggle_kit.runtime.progress import duration
from kaggle_kit.runtime.record import (
    EXECUTED,
    LATE,
    LOG,
    NOT_SAID,
    RECORD,
    REPORT,
    REPORT_TEXT,
    SUBMISSION,
    Rows,
    RunRecord,
    Workers,
    read_record,
)
from kaggle_kit.runtime.submission import Sample, check_submission
from kaggle_kit.sandbox.execute import cell_names, cell_started, failed_cell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from kaggle_kit.notebook.build import Build
    from kaggle_kit.sandbox.execute import Execution
    from kaggle_kit.sandbox.seal import Seal

_GB = 1e9
_LISTED = 10
PROJECTED_ROWS = 25_000
"""The rows of the hidden scoring run that the report speaks of."""


@dataclass(frozen=True)
class Ran:
    """What is known of a run beside the files that it left; `notes` are on its preparation."""

    seal: Seal
    execution: Execution
    preparing_seconds: float
    notes: Sequence[str]

    def facts(self, built: Build, *notes: str) -> dict[str, Any]:
        """The fields that every report of the run has from here; `notes` join its own."""
        return {
            "notebook": built.name,
            "target": built.target.name,
            "seal": self.seal.name,
            "unsealed": self.seal.unsealed,
            "left_open": self.seal.left_open,
            "notes": tuple(dict.fromkeys((*self.notes, *notes, *self.execution.left, *self.execution.failed))),
        }

    def seconds(self, stages: Mapping[str, float]) -> dict[str, float]:
        """Seconds by stage, from the preparation to the whole."""
        whole = {"whole notebook": round(self.execution.seconds, 2)}
        return {"preparing": round(self.preparing_seconds, 2), **stages, **whole}


@dataclass(frozen=True, kw_only=True)
class RunReport:
    """What a dry run reports, of a submission or of a model. Times in seconds, sizes in bytes."""

    notebook: str
    target: str
    outcome: str
    """The first line."""
    complete: bool
    """It came out as it should: see the kinds of reports."""
    seal: str
    unsealed: tuple[str, ...]
    seconds: dict[str, float]
    peak_bytes: int
    left_open: tuple[str, ...] = ()
    """What no seal of this kind closes."""
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A JSON object with every field."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The report as a person reads it."""
        out = [self.outcome, *(f"{'note':<18}{note}" for note in self.notes)]
        out.append(f"{'seal':<18}{self.seal}" + (" (not sealed: see below)" if self.unsealed else ", no network"))
        if self.left_open:
            out.append(f"{'left open':<18}{'; '.join(self.left_open)}")
        return [*out, *self.figures(), *(f"{'NOT SEALED':<18}{sentence}" for sentence in self.unsealed)]

    def figures(self) -> list[str]:
        """The lines of what the run made, and at what cost."""
        raise NotImplementedError

    @property
    def peak(self) -> list[str]:
        """The line of the peak memory, if it is known."""
        return [f"{'peak memory':<18}{self.peak_bytes / _GB:.2f} GB"] if self.peak_bytes else []


@dataclass(frozen=True, kw_only=True)
class Report(RunReport):
    """All that is known of a run that scored; None if it is not known.

    It is `complete` if every readable row was scored by a sound model that says the labels, and the submission is
    valid.
    """

    submission_valid: bool
    total_rows: int
    scored_rows: int
    prior_rows: int
    ruled_rows: int
    swapped_rows: int
    unreadable_rows: dict[str, str]
    unreadable_count: int
    cut_rows: int
    rows_per_second: float | None
    tokens_per_second: float | None
    prompt_tokens: int
    longest_prompt: int
    label_mass_mean: float | None
    label_mass_lowest: float | None
    log_loss: float | None
    projected_seconds: float | None
    worker_starts: int
    integrity: dict[str, str] = field(default_factory=dict)
    """By model, what the notebook's hashes of its files say."""
    allowed: dict[str, str] = field(default_factory=dict)
    """By model, what its author allowed though a check found it wrong."""
    unmatched_rows: dict[str, str] = field(default_factory=dict)
    """The first rows of the sample that test.csv does not have, and why."""
    unanswered: dict[str, int] = field(default_factory=dict)
    """How many rows have the prior, by the reason."""

    def figures(self) -> list[str]:
        """The lines of rows, times and figures."""
        rows = (
            f"{self.total_rows:,} in all: {self.scored_rows:,} scored by the model "
            f"({self.swapped_rows:,} in both orders, {self.cut_rows:,} cut to the token budget), "
            f"{self.ruled_rows:,} by a rule, {self.prior_rows:,} with the prior"
        )
        out = [f"{'rows':<18}{rows}"]
        out += [f"  unreadable      {row_id}: {reason}" for row_id, reason in self.unreadable_rows.items()]
        if (left := self.unreadable_count - len(self.unreadable_rows)) > 0:
            out.append(f"  unreadable      and {left:,} more")
        out += [f"  no row          {row_id}: {reason}" for row_id, reason in [*self.unmatched_rows.items()][:_LISTED]]
        out += [f"  no answer       {number:,} rows: {reason}" for reason, number in self.unanswered.items()]

        out += [f"{name:<18}{seconds:,.1f} s" for name, seconds in self.seconds.items()]
        if self.rows_per_second is not None and self.tokens_per_second is not None:
            out.append(
                f"{'speed':<18}{self.rows_per_second:,.1f} rows/s, {self.tokens_per_second:,.0f} prompt tokens/s "
                f"({self.prompt_tokens:,} tokens, longest prompt {self.longest_prompt:,})"
            )
        out += [*self.peak, *(f"{model:<18}{said}" for model, said in (self.allowed | self.integrity).items())]

        if self.label_mass_mean is not None:
            out.append(
                f"{'label mass':<18}{self.label_mass_mean:.4f} on average, {self.label_mass_lowest:.4f} at the lowest"
            )
        elif self.scored_rows:
            out.append(f"{'label mass':<18}not known: this engine does not say it; see it with the engine vllm")
        if self.log_loss is not None:
            out.append(f"{'log loss':<18}{self.log_loss:.4f}")
        if self.projected_seconds is not None:
            hours = self.projected_seconds / 3600
            out.append(f"{f'{PROJECTED_ROWS:,} rows':<18}about {hours:.2f} h on this machine (estimated)")
        return out


def make_report(built: Build, results: Path, ran: Ran, *, sample: Sample, solution: Solution | None) -> Report:
    """The report of the run whose files are in `results`."""
    record, execution = read_record(results / RECORD), ran.execution
    rows, worker, mass = record.rows or Rows(), record.worker, record.label_mass
    total, stages = len(sample.ids), worker.stages
    scoring = stages.get("scoring", 0.0)
    passes = scoring + stages.get("swapped pass", 0.0)

    invalid = _invalid(results / SUBMISSION, sample)
    failure = failure_of(built, results, execution, record)
    complete = failure is None and invalid is None and rows.scored + rows.ruled == total - rows.unreadable
    stands = _stands(invalid, rows, total=total)
    install = {"install": record.stages["install"]} if "install" in record.stages else {}
    return Report(
        **ran.facts(built, *record.prompt_notes, *record.row_notes),
        outcome=_outcome(failure, stands, rows, complete=complete) + _deaths(worker),
        complete=complete,
        submission_valid=invalid is None,
        total_rows=total,
        scored_rows=rows.scored,
        prior_rows=total - rows.scored - rows.ruled,
        ruled_rows=rows.ruled,
        swapped_rows=rows.swapped,
        unreadable_rows=rows.unreadable_rows,
        unreadable_count=rows.unreadable,
        unmatched_rows=rows.unmatched_rows,
        unanswered=rows.unanswered,
        cut_rows=rows.cut,
        seconds=ran.seconds(install | stages),
        rows_per_second=rows.scored / scoring if scoring and rows.scored else None,
        tokens_per_second=record.prompt_tokens / passes if passes and rows.scored else None,
        prompt_tokens=record.prompt_tokens,
        longest_prompt=record.longest_prompt,
        peak_bytes=max(execution.peak_bytes, worker.peak_bytes),
        label_mass_mean=mass.mean if mass else None,
        label_mass_lowest=mass.lowest if mass else None,
        log_loss=log_loss(results / SUBMISSION, solution) if solution and invalid is None else None,
        projected_seconds=_projected(stages, execution, rows.scored),
        worker_starts=worker.starts,
        integrity=record.models,
        allowed=record.allowances,
    )


def _invalid(submission: Path, sample: Sample) -> str | None:
    """Why the submission is not valid; None if it is."""
    if not submission.is_file():
        return "the notebook left no submission.csv"
    try:
        check_submission(read_text(submission, most_bytes=SUBMISSION_BYTES), sample)
    except KitError as error:
        return str(error)
    return None


def failure_of(built: Build, results: Path, execution: Execution, record: RunRecord) -> str | None:
    """What went wrong, as the beginning of the first line; None if nothing did."""
    if ended := _ended(built, results, execution):
        return ended
    if failed := failed_cell(results / EXECUTED):
        return f"FAILED in the cell {failed[0]!r}: {failed[1]}"
    if record.failed:
        return f"FAILED in the stage {record.failed.stage!r}: {record.failed.error}"
    if execution.exit_code:
        where = _last_cell(built, results / LOG)
        return f"FAILED: the notebook ended with code {execution.exit_code} in the cell {where!r}; see log.txt"
    if execution.failed:
        return f"FAILED: {execution.failed[0]}"
    return _shortfall(built, record)


def _ended(built: Build, results: Path, execution: Execution) -> str | None:
    """Why kit ended the run; None if it ended by itself."""
    where = _last_cell(built, results / LOG) if execution.limit_reached or execution.stopped else ""
    if execution.limit_reached:
        return f"TIME LIMIT: the session was ended after {duration(execution.seconds)} in the cell {where!r}"
    return f"STOPPED in the cell {where!r}: {execution.stopped}" if execution.stopped else None


def _shortfall(built: Build, record: RunRecord) -> str | None:
    """Why a run that ended well is not as it should be; None if it is."""
    if record.corrupt:
        return f"CORRUPT MODEL: {record.corrupt} is not what its manifest says"
    if record.low_mass:
        return record.low_mass
    if record.unread:
        return f"NOT KNOWN: {record.unread_text}"
    return _rows_left(built, record.worker, record.rows)


def _rows_left(built: Build, worker: Workers, rows: Rows | None) -> str | None:
    """Why rows have no answer that could have had one; None if all have."""
    late = worker.ended == "deadline" and (rows is None or rows.scored + rows.ruled + rows.unreadable < rows.total)
    if late or (rows and LATE in rows.unanswered):
        return f"DEADLINE: the notebook's time did not suffice for every row{_time_given(built, rows)}"
    if rows and rows.not_reached:
        why = next((reason for reason in rows.unanswered if reason not in rows.unmatched_rows.values()), NOT_SAID)
        return f"NOT REACHED: {rows.not_reached:,} rows were not scored: {why}"
    if rows and rows.unmatched:
        row_id, why = next(iter(rows.unmatched_rows.items()), ("", NOT_SAID))
        return f"IDS: {rows.unmatched:,} rows of sample_submission.csv could not be answered, such as {row_id!r}: {why}"
    return None


def _time_given(built: Build, rows: Rows | None) -> str:
    """How many rows that were, and which time the notebook's own parameters gave; nothing where it is not known."""
    late = rows.unanswered.get(LATE) if rows else None
    limit, margin = (built.values.get(name) for name in ("time_limit_hours", "margin_minutes"))
    if not late or not isinstance(limit, int | float) or not isinstance(margin, int | float):
        return ""
    if problem := time_problem(built.values):
        return f": {late:,} were left: {problem.replace(chr(10), '; ')}"
    return (
        f": {late:,} were left when scoring had to end, {duration(limit * 3600 - margin * 60)} after the start "
        f"(time_limit_hours {limit:g} less margin_minutes {margin:g})"
    )


def _last_cell(built: Build, log: Path) -> str:
    names = cell_names(built.notebook)
    started = [cell_started(line, names) for line in log.read_text(encoding="utf-8").splitlines()]
    return next((name for name in reversed(started) if name), "none yet")


def _stands(invalid: str | None, rows: Rows, *, total: int) -> str:
    """What stands as the submission."""
    if invalid:
        return f"NO valid submission: {invalid}"
    stands = f"submission.csv is valid: {rows.scored:,} of {total:,} rows scored by the model"
    stands += f", {rows.ruled:,} by a rule" if rows.ruled else ""
    prior = total - rows.scored - rows.ruled
    return stands + (f", the prior for {prior:,}" if prior > 0 else "")


def _outcome(failure: str | None, stands: str, rows: Rows, *, complete: bool) -> str:
    if failure:
        return f"{failure}; {stands}"
    if complete:
        return f"OK: {stands}" + (f" ({rows.unreadable:,} could not be read)" if rows.unreadable else "")
    return f"NOT COMPLETE: {stands}"


def _projected(stages: dict[str, float], execution: Execution, scored: int) -> float | None:
    """What the hidden run's rows would take here: scoring and reading grow with the rows, the rest does not."""
    if not scored or "scoring" not in stages:
        return None
    growing = sum(stages.get(name, 0.0) for name in ("prepare", "scoring", "swapped pass"))
    return execution.seconds - growing + growing * PROJECTED_ROWS / scored


def _deaths(worker: Workers) -> str:
    """The end of the first line if the worker died and was started again."""
    if not worker.deaths:
        return ""
    times = "once" if len(worker.deaths) == 1 else f"{len(worker.deaths)} times"
    return f"; the worker died {times} and was started again ({worker.deaths[-1]})"


def write_report(report: RunReport, results: Path) -> None:
    """The report as text and as JSON."""
    write_atomic(results / REPORT_TEXT, "\n".join(report.lines()) + "\n")
    write_atomic(results / REPORT, json.dumps(report.to_json(), indent=2, sort_keys=True) + "\n")


def _refuse_foreign(out: Path) -> None:
    """Raise UsageError if `out` holds what no dry run left there, or is a mount: its place will be taken."""
    if out.is_mount():
        raise UsageError(f"--out {out} is where a disk is mounted, and cannot be replaced whole; name a folder in it")
    if not out.exists() or all((out / name).is_file() for name in (REPORT_TEXT, REPORT)):
        return
    if not out.is_dir() or any(out.iterdir()):
        raise UsageError(f"--out {out} exists and is not a dry run's folder; name a new one, or an empty one")


@contextmanager
def swapped_in(out: Path, *, placed: Callable[[Path], None]) -> Iterator[Path]:
    """A new folder that takes the place of `out` if all went well, and is removed if not.

    `placed` hears where it stands then: beside `out`, with a number, if another run has ended there meanwhile.
    """
    _refuse_foreign(out)
    had_parent = out.parent.exists()
    try:
        with fresh_folder(out, placed=placed) as fresh:
            yield fresh
    except BaseException:
        if not had_parent:
            with contextlib.suppress(OSError):
                out.parent.rmdir()
        raise
