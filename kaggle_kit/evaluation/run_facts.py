"""What is known of one run, whatever it was: a dry run, an evaluation, a pushed run. Read from what it left."""

from __future__ import annotations

import ast
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import DataError, OutsideError
from kaggle_kit.files import sha256_file
from kaggle_kit.outside import read_json
from kaggle_kit.runtime.summary import RECORD

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from kaggle_kit.evaluation.judged import Judged, Predictions
    from kaggle_kit.evaluation.submission_facts import Check

DRY_RUN, EVALUATION, PUSHED_RUN = "dry run", "evaluation", "pushed run"
REPORT, LOG, SUBMISSION, EXECUTED = "report.json", "log.txt", "submission.csv", "executed.ipynb"
REPORT_TEXT = "report.txt"
NOTEBOOK_BYTES = 256 << 20
"""An executed notebook with its outputs, at most."""
_CONTEXT = 4
_LAST_LINES = 30
_LINE = 400
_MOST_TEXT = 300


@dataclass(frozen=True)
class Lengths:
    """Of the rows that a model answered: tokens of the uncut prompt and as the model got it, and the token budget."""

    whole: Sequence[int]
    tokens: Sequence[int]
    budget: int | None


@dataclass(frozen=True)
class Worst:
    """A row of great loss. `prompt` is the text that the model got, None where it is not at hand."""

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
class Cause:
    """Why a run failed: the cause, what to do next, where the log says so, and the lines around it."""

    cause: str
    next_step: str
    where: str
    excerpt: str


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
    figures: Sequence[tuple[str, str, str]] = ()
    stages: Mapping[str, float] = field(default_factory=dict)
    throughput: Sequence[tuple[float, int]] = ()
    plan: Sequence[str] = ()
    unreadable: Mapping[str, str] = field(default_factory=dict)
    unreadable_count: int = 0
    mass: Mapping[str, float] = field(default_factory=dict)
    masses: Sequence[float] = ()
    lengths: Lengths | None = None
    predictions: Predictions | None = None
    judged: Judged | None = None
    worst: Sequence[Worst] = ()
    checks: Sequence[Check] = ()
    causes: Sequence[Cause] = ()
    log_end: str = ""
    notes: Sequence[str] = ()


def read_report(folder: Path) -> dict[str, Any]:
    """The report of a dry run; empty if there is none. Raises DataError, OutsideError if it is something else."""
    path = folder / REPORT
    if not path.is_file():
        return {}
    body = read_json(path)
    if not isinstance(body, dict):
        raise DataError(f"{path} is not a JSON object; run it again, or take the file away")
    return body


def is_run_folder(folder: Path) -> bool:
    """Whether a folder holds something that a run leaves."""
    return any((folder / name).is_file() for name in (REPORT, RECORD, LOG, SUBMISSION))


def stages_of(record: Mapping[str, Any]) -> dict[str, float]:
    """Seconds by stage: the notebook's own, the worker's in place of its `score`."""
    notebook = {str(name): float(seconds) for name, seconds in (record.get("stages") or {}).items()}
    worker = {str(name): float(seconds) for name, seconds in ((record.get("worker") or {}).get("stages") or {}).items()}
    if not worker:
        return notebook
    found: dict[str, float] = {}
    for name, seconds in notebook.items():
        if name == "score":
            found |= worker
        else:
            found[name] = found.get(name, 0.0) + seconds
    return found | {name: seconds for name, seconds in worker.items() if name not in found}


def throughput_of(body: Mapping[str, Any]) -> list[tuple[float, int]]:
    """The points of a run's throughput."""
    return [(float(second), int(tokens)) for second, tokens in body.get("throughput") or ()]


def parameters_of(executed: Path) -> dict[str, str]:
    """The parameters of an executed notebook as it ran, injected ones last; empty where it is not there.

    They are the plain values that its cells tagged so assign.
    """
    found: dict[str, str] = {}
    for cell in cells_of(executed):
        metadata = cell.get("metadata")
        tags = metadata.get("tags") if isinstance(metadata, dict) else None
        if isinstance(tags, list) and any(tag in {"parameters", "injected-parameters"} for tag in map(str, tags)):
            found |= {name: repr(value) for name, value in _assigned(_source(cell)).items()}
    return found


def cells_of(executed: Path) -> list[dict[str, Any]]:
    """The cells of an executed notebook; none if it is not there, or is not a notebook.

    The run could have written the file itself: what is in a cell may be of any shape.
    """
    try:
        return mappings(read_json(executed, most_bytes=NOTEBOOK_BYTES), "cells")
    except OutsideError:
        return []


def mappings(parent: object, key: str) -> list[dict[str, Any]]:
    """The mappings of the list under `key`; none if there is no such list."""
    parts = parent.get(key) if isinstance(parent, dict) else None
    return [part for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []


def _source(cell: Mapping[str, Any]) -> str:
    source = cell.get("source", "")
    return "".join(map(str, source)) if isinstance(source, list) else str(source)


def _assigned(source: str) -> dict[str, Any]:
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}
    found = {}
    for node in body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        if len(targets) == 1 and isinstance(targets[0], ast.Name) and isinstance(node, ast.Assign | ast.AnnAssign):
            try:
                found[targets[0].id] = ast.literal_eval(node.value) if node.value is not None else None
            except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
                continue
    return found


def hash_lines(folder: Path) -> dict[str, str]:
    """What a run's folder holds, by file: its SHA-256."""
    return {
        f"SHA-256 of {name}": sha256_file(folder / name) for name in (SUBMISSION, RECORD) if (folder / name).is_file()
    }


def excerpt(log: str, line: int | None) -> str:
    """The lines of a log around one (from 1), which is marked; without one its last lines. Long lines are cut."""
    lines = log.split("\n")
    while lines and not lines[-1].strip():
        lines.pop()
    if line is None:
        return "\n".join(_cut(one) for one in lines[-_LAST_LINES:])
    first = max(line - 1 - _CONTEXT, 0)
    return "\n".join(
        f"{'>' if number == line else ' '} {number:>5}  {_cut(one)}"
        for number, one in enumerate(lines[first : line + _CONTEXT], start=first + 1)
    )


def _cut(one: str) -> str:
    # A progress bar's returns write over what stood there.
    seen = one.rstrip("\r").rsplit("\r", 1)[-1]
    return seen if len(seen) <= _LINE else f"{seen[:_LINE]} …"


def causes_of(findings: Sequence[Mapping[str, Any]], log: str) -> list[Cause]:
    """Decoded failures (`cause`, `next`, `place`, `line`, `text`, `block`), each with its lines of the log."""
    found = []
    for one in findings:
        line = one.get("line") if one.get("place") == "log" else None
        block = "\n".join(_cut(part) for part in one.get("block") or ())
        where = f"line {line:,} of the log" if line else str(one.get("place", ""))
        around = block or (excerpt(log, line) if line else _cut(str(one.get("text", ""))))
        found.append(Cause(str(one["cause"]), str(one["next"]), where, around))
    return found


def row_text(rows: Mapping[str, Any]) -> str:
    """Rows by how they were answered: `300 in all, 298 by the model, …`; only what there was."""
    names = {"scored": "by the model", "swapped": "in both orders", "cut": "cut", "ruled": "by a rule"}
    names |= {"copies": "copies of another", "prior": "with the prior", "unreadable": "unreadable"}
    names |= {"not_reached": "not reached"}
    parts = [f"{rows[name]:,} {said}" for name, said in names.items() if rows.get(name)]
    return ", ".join(parts)


def plain(value: object) -> str:
    """A setting as text, not too long."""
    if value in ("", None, [], {}):
        return "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(plain, value))
    said = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
    return said if len(said) <= _MOST_TEXT else f"{said[:_MOST_TEXT]} …"
