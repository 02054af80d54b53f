"""The worker: scores the rows of a job in the engine's own environment.

`python -m kaggle_kit.runtime.worker JOB.json`. It says what it does in JSON lines on its standard output; whatever the
engine prints goes to standard error. Exit codes: 0 done, 1 a failure that a restart may mend, 2 one that it cannot.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from kaggle_kit.errors import DataError, KitError, ModelError, RunError
from kaggle_kit.runtime.job import Job, read_job
from kaggle_kit.runtime.journal import Entry, Journal
from kaggle_kit.runtime.labels import label_tokens
from kaggle_kit.runtime.manifest import MANIFEST, read_manifest, verify_files
from kaggle_kit.runtime.prompts import Prompt, build_prompt, parse_template
from kaggle_kit.runtime.rows import read_rows
from kaggle_kit.runtime.tokenizers import load_tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kaggle_kit.runtime.engine import Engine, LabelScores

_CHUNK_ROWS = 64
"""Rows between two writes of the journal: what a kill can cost."""


@dataclass(frozen=True)
class Events:
    """JSON lines to the notebook."""

    stream: TextIO

    def send(self, event: str, **fields: Any) -> None:
        """Send one event; a notebook that no longer listens is no error."""
        try:
            self.stream.write(json.dumps({"event": event, "time": time.time(), **fields}) + "\n")
            self.stream.flush()
        except BrokenPipeError:
            os._exit(1)


@dataclass(frozen=True)
class Prepared:
    """Rows ready for the engine, and those that it will not see."""

    label_ids: tuple[int, ...]
    prompts: dict[str, Prompt]
    problems: dict[str, str]


def prepare(job: Job) -> Prepared:
    """Read and cut all rows.

    Raises DataError, LabelError or ModelError where the job cannot be done as it is.
    """
    verify_files(job.model, read_manifest(job.model / MANIFEST), hashes=False)
    tokenizer = load_tokenizer(job.model)
    fields = tuple(job.task.fields)
    template = parse_template(job.task.template, fields=fields)
    _check_budget(job)
    frame = template.fill(dict.fromkeys(fields, ""))
    label_ids = label_tokens(list(job.task.labels.values()), prompt=frame, tokenizer=tokenizer)
    prompts: dict[str, Prompt] = {}
    problems: dict[str, str] = {}
    for row in read_rows(job.test, id_column=job.id_column, fields=fields, row_format=job.task.row_format):
        if row.problem is not None:
            problems[row.id] = row.problem
            continue
        prompts[row.id] = build_prompt(
            row.turns,
            template=template,
            shares=job.task.fields,
            budget=job.token_budget,
            tokenizer=tokenizer,
        )
    return Prepared(label_ids, prompts, problems)


def _check_budget(job: Job) -> None:
    """Raise DataError where a prompt as long as the budget would not leave the model room for its answer.

    Raises ModelError where the model's `config.json` cannot be read.
    """
    path = job.model / "config.json"
    try:
        limit = json.loads(path.read_text(encoding="utf-8")).get("max_position_embeddings")
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"{path} cannot be read as a model's configuration: {error}") from error
    if isinstance(limit, int) and job.token_budget >= limit:
        raise DataError(
            f"token_budget = {job.token_budget}, but the model takes {limit} tokens, its answer included; "
            f"lower token_budget to {limit - 1} or less"
        )


def score_rows(
    engine: Engine,
    prompts: Sequence[tuple[str, Prompt]],
    *,
    journal: Journal,
    report: Callable[[int, int], None],
) -> None:
    """Score `prompts`, chunk by chunk, each chunk in the journal before the next begins.

    `report` is told the rows and tokens done so far.
    """
    rows = tokens = 0
    for start in range(0, len(prompts), _CHUNK_ROWS):
        chunk = prompts[start : start + _CHUNK_ROWS]
        journal.write(_score_or_halve(engine, chunk))
        rows += len(chunk)
        tokens += sum(len(prompt.token_ids) for _, prompt in chunk)
        report(rows, tokens)


def _score_or_halve(engine: Engine, chunk: Sequence[tuple[str, Prompt]]) -> list[Entry]:
    """Score a chunk; where the engine refuses it, its halves, down to the one row that is at fault."""
    try:
        scores = engine.score([prompt.token_ids for _, prompt in chunk])
    except (ValueError, RunError) as error:
        if len(chunk) == 1:
            row_id, prompt = chunk[0]
            message = f"the engine refused it: {error}"
            return [Entry(row_id, len(prompt.token_ids), prompt.cut, problem=message)]
        half = len(chunk) // 2
        return _score_or_halve(engine, chunk[:half]) + _score_or_halve(engine, chunk[half:])
    return [_entry(row_id, prompt, score) for (row_id, prompt), score in zip(chunk, scores, strict=True)]


def _entry(row_id: str, prompt: Prompt, score: LabelScores) -> Entry:
    return Entry(row_id, len(prompt.token_ids), prompt.cut, score.log_probabilities, score.mass)


def run(job: Job, events: Events) -> None:
    """Do the whole job, going on from what the journal already holds."""
    events.send("stage", name="prepare")
    prepared = prepare(job)
    with Journal(job.journal, configuration=job.configuration()) as journal:
        done = journal.read()
        journal.write(Entry(row_id, problem=text) for row_id, text in prepared.problems.items())
        # The shortest first: if the time runs out, the most rows have been scored.
        todo = sorted(
            ((row_id, prompt) for row_id, prompt in prepared.prompts.items() if row_id not in done),
            key=lambda item: (len(item[1].token_ids), item[0]),
        )
        tokens = sum(len(prompt.token_ids) for _, prompt in todo)
        events.send("rows", total=len(prepared.prompts), todo=len(todo), tokens=tokens)
        if todo:
            events.send("stage", name="engine start")
            engine = _start_engine(job, prepared)
            events.send("stage", name="scoring")
            score_rows(
                engine,
                todo,
                journal=journal,
                report=lambda rows, tokens: events.send("progress", rows=rows, tokens=tokens),
            )
    events.send("done", peak_bytes=_peak_bytes())


def _start_engine(job: Job, prepared: Prepared) -> Engine:
    from kaggle_kit.runtime.vllm_engine import VllmEngine

    longest = max(len(prompt.token_ids) for prompt in prepared.prompts.values())
    try:
        return VllmEngine(job.model, label_ids=prepared.label_ids, longest=longest, options=job.engine_options)
    except Exception as error:
        traceback.print_exc()
        raise RunError(f"the engine did not start: {_cause(error)}") from error


def _cause(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else ''}"


def _peak_bytes() -> int:
    """The largest resident set of this process and of any child that has ended (getrusage gives KiB on Linux)."""
    usages = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return max(usage.ru_maxrss for usage in usages) * 1024


def _end_with_parent() -> None:
    """Wait until the notebook's end of standard input closes, then end at once: no worker outlives its notebook."""
    sys.stdin.buffer.read()
    os._exit(1)


def main(argv: Sequence[str]) -> int:
    """The worker's whole life; returns its exit code."""
    # The engine prints to standard output as it likes: keep the real one for events alone.
    events = Events(os.fdopen(os.dup(1), "w", encoding="utf-8"))
    os.dup2(2, 1)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        run(read_job(Path(argv[0])), events)
    except KitError as error:
        events.send("error", kind=type(error).__name__, message=str(error))
        return 2
    except Exception as error:  # noqa: BLE001  the last door: whatever it is, the notebook is told
        traceback.print_exc()
        events.send("error", kind=type(error).__name__, message=_cause(error))
        return 1
    return 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stderr.flush()
    # vLLM's threads can hold up a normal exit for many seconds; all that matters is on disk by now.
    os._exit(code)
