"""`kit eval`: labelled rows through the notebook's own worker, into a scores file."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import math
import platform
import shutil
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from kaggle_kit import __version__
from kaggle_kit.errors import DataError
from kaggle_kit.evaluation.metrics import outcome_of
from kaggle_kit.evaluation.score_file import Scored, Scoring, score_records, state_folder
from kaggle_kit.evaluation.scores import FORMAT, LOGP, WORST_ROWS, Scores, make_scores, write_scores
from kaggle_kit.evaluation.tables import read_table
from kaggle_kit.evaluation.texts import PromptMaker, text_facts
from kaggle_kit.files import sha256_file
from kaggle_kit.runtime.combine import CALIBRATION, read_calibration
from kaggle_kit.runtime.journal import PLAIN, SWAPPED, Entry
from kaggle_kit.runtime.machine import find_cards
from kaggle_kit.runtime.manifest import MANIFEST
from kaggle_kit.runtime.rows import read_rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from kaggle_kit.runtime.progress import ProgressLine
    from kaggle_kit.runtime.rows import Row

PASSES = (PLAIN, SWAPPED)
LABELLED = "train.csv"


@dataclass(frozen=True)
class Names:
    """What the project calls the parts of an evaluation."""

    notebook: str
    model: str
    target: str


def labelled_table(data: Path) -> Path:
    """The table of labelled rows that `data` means: itself, or the train.csv in it. Raises DataError for neither."""
    if not data.is_dir():
        return data
    if not (data / LABELLED).is_file():
        raise DataError(f"{data} has no {LABELLED}; name a folder with one, or a labelled table itself, with --data")
    return data / LABELLED


def evaluate(
    source: Path,
    out: Path,
    *,
    scoring: Scoring,
    names: Names,
    id_column: str | None,
    rows: int | None,
    line: ProgressLine,
) -> Scores:
    """Score the labelled rows of `source` into the scores file `out`, and return it.

    What is scored so far stands in the folder `OUT.kit`; a call that finds it goes on from there, and removes it when
    `out` is whole. Raises DataError if the table does not fit the task or a row has not one outcome, RunError
    if the worker failed.
    """
    records = read_table(source)[:rows]
    columns = list(scoring.task.labels)
    # Before hours of scoring, not after.
    outcomes = _outcomes(records, columns, id_column or "id", source)

    state = state_folder(out)
    scored = score_records(
        records, source=source, state=state, scoring=scoring, id_column=id_column, on_event=line.show
    )

    facts = _facts(source, scored, scoring, names) | {"throughput": line.points}
    scores = make_scores(_Lines(scored, scoring, dict(zip(scored.ids, outcomes, strict=True))).all(), facts)
    write_scores(out, scores)
    shutil.rmtree(state, ignore_errors=True)
    return scores


def _outcomes(records: Sequence[Mapping[str, Any]], columns: Sequence[str], id_column: str, source: Path) -> list[str]:
    """Each row's outcome. Raises DataError if a label's column is missing or a row has not one outcome."""
    if lacking := [column for column in columns if records and column not in records[0]]:
        raise DataError(
            f"{source} has no column {lacking[0]!r}: labelled rows say with a 1 which of {', '.join(columns)} came true"
        )
    return [
        outcome_of(record, columns=columns, row_id=str(record.get(id_column, number)), source=source)
        for number, record in enumerate(records)
    ]


@dataclass
class _Lines:
    """Makes the lines of a scores file."""

    scored: Scored
    scoring: Scoring
    outcomes: Mapping[str, str]

    def __post_init__(self) -> None:
        task = self.scoring.task
        self._prompts = PromptMaker(task, self.scoring.model, self.scoring.token_budget)
        read = read_rows(
            self.scored.test,
            id_column=self.scored.id_column,
            fields=tuple(task.fields),
            row_format=task.row_format,
        )
        self._rows = {row.id: row for row in read}

    def all(self) -> list[dict[str, Any]]:
        """The plain lines, then the swapped ones."""
        entries = {row_id: self._entry(row_id) for row_id in self.scored.ids}
        common = {row_id: self._of_row(self._rows[row_id], entry) for row_id, entry in entries.items()}
        plain = [common[row_id] | self._of_pass(entry, PLAIN) for row_id, entry in entries.items()]

        seen = [one for one in plain if one["answered"] == "model"]
        for one in sorted(seen, key=lambda one: float(one[f"{LOGP}{one['outcome']}"]))[:WORST_ROWS]:
            one["prompt"] = self._prompt(one["id"])

        swapped = [
            common[row_id] | self._of_pass(self._back(self.scored.swapped[row_id]), SWAPPED)
            for row_id in self.scored.ids
            if row_id in self.scored.swapped and self.scored.swapped[row_id].log_probabilities is not None
        ]
        return [*plain, *swapped]

    def _entry(self, row_id: str) -> Entry:
        return self.scored.plain.get(row_id, Entry(row_id, problem="not scored"))

    def _back(self, entry: Entry) -> Entry:
        """A swapped pass's entry with the exchanged columns mapped back."""
        assert entry.log_probabilities is not None  # noqa: S101  the caller's filter
        return replace(entry, log_probabilities=self.scoring.task.mirrored(entry.log_probabilities))

    def _of_row(self, row: Row, entry: Entry) -> dict[str, Any]:
        facts = text_facts(row.turns)
        return {
            "id": row.id,
            "budget": self.scoring.token_budget,
            "outcome": self.outcomes[row.id],
            "turns": facts.turns,
            "script": facts.script,
            "characters": facts.characters,
            "whole_tokens": self._prompts.whole_tokens(row.turns) if entry.cut else entry.tokens,
            "prompt": None,
        }

    def _of_pass(self, entry: Entry, name: str) -> dict[str, Any]:
        task = self.scoring.task
        values = entry.log_probabilities
        answered = "prior" if values is None else "model" if entry.tokens else "rule"
        logs = values or tuple(math.log(task.prior[column]) for column in task.labels)
        return {
            "pass": name,
            **{f"{LOGP}{column}": value for column, value in zip(task.labels, logs, strict=True)},
            "mass": entry.mass,
            "tokens": entry.tokens,
            "cut": ",".join(entry.cut),
            "answered": answered,
            "flags": ",".join(entry.flags),
            "problem": entry.problem,
        }

    def _prompt(self, row_id: str) -> str:
        """The text that the model got."""
        [prompt] = self._prompts.prompts([self._rows[row_id].turns])
        return self._prompts.text(prompt)


def _facts(source: Path, scored: Scored, scoring: Scoring, names: Names) -> dict[str, Any]:
    task = scoring.task
    calibration = read_calibration(scoring.model, columns=list(task.labels))
    carried = (scoring.model / CALIBRATION).read_text(encoding="utf-8") if calibration else "null"
    version = ".".join(map(str, scoring.setup.version))
    return {
        "format": FORMAT,
        "made": f"{dt.datetime.now(tz=dt.UTC):%Y-%m-%dT%H:%M:%SZ}",
        "columns": dict(task.labels),
        "swap": {one: other for one, other in task.swap.items() if one in task.labels},
        "prior": dict(task.prior),
        "notebook": names.notebook,
        "model": names.model,
        "target": names.target,
        "engine": scoring.setup.engine,
        "engine_options": dict(scoring.setup.options),
        "token_budget": scoring.token_budget,
        "prompt": task.prompt_settings,
        "passes": list(PASSES if scoring.swapped else PASSES[:1]),
        "calibration": json.loads(carried),
        "hashes": {
            "task": hashlib.sha256(json.dumps(task.to_json()).encode()).hexdigest(),
            "model": sha256_file(scoring.model / MANIFEST),
            "data": sha256_file(source),
        },
        "versions": {"kaggle_kit": __version__, "engine": version, "python": platform.python_version()},
        "machine": _machine(),
        "data": source.name,
        "seal": dict(scored.seal),
        "seconds": scored.seconds,
        "stages": dict(scored.stages),
        "figures": scored.figures,
    }


def _machine() -> str:
    cards = find_cards()
    kinds = Counter(f"{card.memory / 1e9:.0f} GB (sm_{card.capability[0]}{card.capability[1]})" for card in cards)
    listed = ", ".join(f"{count} x GPU of {kind}" for kind, count in kinds.items())
    return f"{platform.machine()}, {listed or 'no GPU'}"
