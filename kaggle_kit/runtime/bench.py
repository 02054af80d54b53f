"""Measure this machine: which 4-bit kernel and which engine settings read prompts fastest, and that all answer alike.

Each trial is an engine of its own over the same rows (`bench_worker`), for some seconds after its start. The result is
the rates file that a target's later builds choose their kernel by.
"""

from __future__ import annotations

import csv
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import DataError, RunError
from kaggle_kit.runtime.checkpoint import Checkpoint, read_checkpoint
from kaggle_kit.runtime.events import MEASURED, WorkerError, number, parse_event
from kaggle_kit.runtime.kernels import EXACT, KERNELS, obstacle
from kaggle_kit.runtime.launch import heard, launch_plain, log_tail
from kaggle_kit.runtime.rows import read_records
from kaggle_kit.runtime.supervisor import worker_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from kaggle_kit.runtime.engine_plan import EngineSetup, Gpu
    from kaggle_kit.runtime.job import Job
    from kaggle_kit.runtime.launch import Launch

FORMAT = 1
_SIZES = ("layers", "hidden", "intermediate", "heads", "kv_heads", "head_dim")
"""What a model's work depends on."""
_SHORTEST = 30.0
"""Seconds below which no further trial is begun: an engine starts in about that."""


@dataclass(frozen=True)
class Trial:
    """One engine set-up: what it is called, its 4-bit kernel if it has one, and what selects it."""

    name: str
    kernel: str | None
    options: Mapping[str, Any]
    environment: Mapping[str, str]


@dataclass(frozen=True)
class Measured:
    """What a trial gave: prompt tokens a second, seconds of the engine's start; or the problem that it ended in.

    `apart` is the largest difference of a label probability from the first trial's, on the rows that both scored.
    """

    trial: Trial
    tokens_per_second: float = 0.0
    start_seconds: float = 0.0
    rows: int = 0
    tokens: int = 0
    engine: str = ""
    apart: float | None = None
    problem: str | None = None
    probabilities: Mapping[str, Sequence[float]] = field(default_factory=dict, repr=False)


def trials(setup: EngineSetup, checkpoint: Checkpoint, budget: int) -> tuple[Trial, ...]:
    """What is worth measuring here, the plan's own choice first: each kernel that can be had, then two settings.

    Rates that were measured before are not asked. Raises UsageError if the model fits this machine in no way.
    """

    def planned(name: str, *, kernel: str | None = None, **more: Any) -> Trial:
        tried = replace(setup, options={**setup.options, **more}, rates={}, kernel=kernel)
        plan = tried.plan(checkpoint, budget)
        return Trial(name, kernel, plan.options, plan.environment)

    own = planned("as planned")
    found = [own]
    method = checkpoint.kernel_method
    if setup.cards and method and "quantization" not in setup.options:
        capability, version = setup.cards[0].capability, setup.version
        possible = [
            name for name in KERNELS if obstacle(name, capability=capability, version=version, method=method) is None
        ]
        each = [planned(f"kernel {name}", kernel=name) for name in possible]
        alike = [one for one in each if (one.options, one.environment) == (own.options, own.environment)]
        found = [*(alike or [own]), *(one for one in each if one not in alike)]
    found.append(planned("no prefix cache", enable_prefix_caching=False))
    step = max(int(own.options.get("max_num_batched_tokens", 8192)) // 2, budget + 1)
    found.append(planned(f"steps of {step:,}", max_num_batched_tokens=step))
    different: list[Trial] = []
    for one in found:
        if all((one.options, one.environment) != (other.options, other.environment) for other in different):
            different.append(one)
    return tuple(different)


def probe_rows(data: Path, out: Path, *, rows: int) -> Path:
    """The first `rows` rows of `data`/train.csv, or of test.csv where that has none, as the CSV `out`.

    A public run's test.csv holds a handful of rows only. Raises DataError where neither has a row.
    """
    sources = [path for path in (data / "train.csv", data / "test.csv") if path.is_file()]
    found = ([dict(record) for record in islice(read_records(path, columns=[]), rows)] for path in sources)
    records = next(filter(None, found), None)
    if records is None:
        raise DataError(f"{data} holds no train.csv or test.csv with rows to measure with")
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("w", newline="", encoding="utf-8", errors="surrogatepass") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(records[0]), extrasaction="ignore")
        writer.writeheader()
        writer.writerows(records)
    return out


def bench(
    job: Job,
    *,
    setup: EngineSetup,
    data: Path,
    rows: int,
    python: Path,
    scratch: Path,
    environment: Mapping[str, str],
    target: str,
    seconds: float,
    deadline: float,
    tell: Callable[[str], None],
    launch: Launch = launch_plain,
) -> tuple[tuple[Measured, ...], dict[str, Any]]:
    """Every trial of this machine over `rows` rows of `data`, and the rates file's content.

    `job` says the task, the model and the budget, `setup` what engines are tried with; `launch` starts them, in
    `environment`. Raises what `trials`, `probe_rows` and `run_trials` do.
    """
    checkpoint = read_checkpoint(job.model)
    found = run_trials(
        trials(setup, checkpoint, job.token_budget),
        job=replace(job, test=probe_rows(data, scratch / "bench.csv", rows=rows)),
        python=python,
        scratch=scratch,
        environment=environment,
        seconds=seconds,
        deadline=deadline,
        tell=tell,
        launch=launch,
    )
    return found, rates(found, target=target, checkpoint=checkpoint, cards=setup.cards)


def run_trials(
    planned: Sequence[Trial],
    *,
    job: Job,
    python: Path,
    scratch: Path,
    environment: Mapping[str, str],
    seconds: float,
    deadline: float,
    tell: Callable[[str], None],
    launch: Launch = launch_plain,
) -> tuple[Measured, ...]:
    """Run the trials one after the other, each over the job's rows for `seconds` after its engine's start.

    `deadline` (of `time.monotonic`, seconds): no trial is begun that would probably not end before it, and one that
    still runs is ended. A trial that fails is kept with its problem; RunError where not even the first gave a rate.
    """
    found: list[Measured] = []
    longest = _SHORTEST
    for place, trial in enumerate(planned):
        left = deadline - time.monotonic()
        if left < longest and found:
            tell(f"{trial.name}: no time is left for it")
            continue
        since = time.monotonic()
        folder = scratch / f"trial-{place}"
        one = _run(trial, job, python, folder, environment, seconds=seconds, limit=left, launch=launch)
        longest = max(longest, time.monotonic() - since)
        if found and not one.problem:
            one = replace(one, apart=_apart(one.probabilities, found[0].probabilities))
        if not found and one.problem:
            raise RunError(f"nothing could be measured: {one.problem}")
        found.append(one)
        tell(line(one, found[0]))
    return tuple(found)


def _run(
    trial: Trial,
    job: Job,
    python: Path,
    folder: Path,
    environment: Mapping[str, str],
    *,
    seconds: float,
    limit: float,
    launch: Launch,
) -> Measured:
    folder.mkdir(parents=True, exist_ok=True)
    path, log = folder.absolute() / "job.json", folder / "log.txt"
    replace(job, engine_options=dict(trial.options)).write(path)
    running = launch(
        [str(python), "-m", "kaggle_kit.runtime.bench_worker", str(path), str(seconds)],
        environment={**worker_environment(folder), **trial.environment, **environment},
        reads=(path, job.test, job.model),
    )
    until = time.monotonic() + max(limit, 1.0)
    found = problem = None
    with heard(running, log) as hearing:
        try:
            for line in hearing.lines(lambda: until - time.monotonic()):
                if event := parse_event(line, MEASURED):
                    found = _measured(trial, job, event)
                    break
        except WorkerError as error:
            problem = str(error)
        finally:
            # An engine's further processes outlive the first one, and hold the card's memory.
            running.stop(grace_seconds=0)
        with suppress(WorkerError):
            list(hearing.rest())
    if found or problem:
        return found or Measured(trial, problem=problem)
    if time.monotonic() >= until:
        return Measured(trial, problem=f"it did not end within {limit:.0f} s")
    lines = log_tail(log).strip().splitlines()
    return Measured(trial, problem=(lines[-1].strip() if lines else "it said nothing")[:300])


def _measured(trial: Trial, job: Job, event: Mapping[str, Any]) -> Measured:
    """What a trial says, looked at. Raises WorkerError for figures that cannot be."""
    try:
        chances = {str(row_id): list(map(number, row)) for row_id, row in dict(event["probabilities"]).items()}
    except (TypeError, ValueError) as error:
        raise WorkerError(f"the trial's probabilities are none: {error}") from error
    if any(len(row) != len(job.task.labels) for row in chances.values()):
        raise WorkerError("the trial's probabilities are of other labels")
    if event["tokens_per_second"] <= 0 or event["start_seconds"] < 0:
        raise WorkerError("the trial's rate is none")
    figures = {name: event[name] for name in ("tokens_per_second", "start_seconds", "rows", "tokens", "engine")}
    return Measured(trial, **figures, probabilities=chances)


def _apart(one: Mapping[str, Sequence[float]], other: Mapping[str, Sequence[float]]) -> float | None:
    pairs = [(one[name], other[name]) for name in one.keys() & other.keys()]
    return max((abs(x - y) for left, right in pairs for x, y in zip(left, right, strict=True)), default=None)


def line(one: Measured, first: Measured) -> str:
    """A trial in a sentence, its rate against the first's."""
    if one.problem:
        return f"{one.trial.name}: {one.problem}"
    ratio = one.tokens_per_second / first.tokens_per_second
    apart = "" if one.apart is None else f", probabilities within {one.apart:.4f} of the first's"
    if one.trial.kernel and one.trial.kernel not in EXACT:
        apart += f'; taken only where the notebook has kernel = "{one.trial.kernel}"'
    return (
        f"{one.trial.name}: {one.tokens_per_second:,.0f} tokens/s ({ratio:.2f} of the first), {one.rows} rows of "
        f"{one.tokens / max(one.rows, 1):.0f} tokens, engine start {one.start_seconds:.0f} s{apart}"
    )


def rates(found: Sequence[Measured], *, target: str, checkpoint: Checkpoint, cards: Sequence[Gpu]) -> dict[str, Any]:
    """The rates file's content: `kernels` are prompt tokens a second, by which builds choose among the exact ones."""
    unasked = [one for one in found if one.trial.kernel is None or one.trial.kernel in EXACT]
    best: dict[str, float] = {}
    for one in found:
        if one.trial.kernel and not one.problem:
            best[one.trial.kernel] = max(best.get(one.trial.kernel, 0.0), round(one.tokens_per_second, 1))
    return {
        "format": FORMAT,
        "target": target,
        "card": f"sm_{cards[0].capability[0]}{cards[0].capability[1]}" if cards else "cpu",
        "cards": len(cards),
        "engine_cards": int(found[0].trial.options.get("tensor_parallel_size", 1)),
        "engine": found[0].engine,
        "model": {
            "weight_bytes": checkpoint.weight_bytes,
            **{name: getattr(checkpoint.architecture, name) for name in _SIZES},
            "quantisation": checkpoint.kernel_method,
        },
        "kernels": best,
        "tokens_per_second": round(max(one.tokens_per_second for one in unasked), 1),
        "trials": [
            {
                "name": one.trial.name,
                "kernel": one.trial.kernel,
                "tokens_per_second": round(one.tokens_per_second, 1),
                "start_seconds": round(one.start_seconds, 1),
                "rows": one.rows,
                "tokens": one.tokens,
                "apart": one.apart,
                "problem": one.problem,
            }
            for one in found
        ],
    }
