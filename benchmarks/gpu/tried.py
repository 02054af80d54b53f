"""What could beat the engine as it is planned, each against it in the same run on the same card.

    python3 benchmarks/gpu/tried.py forms --data ROWS --models /dev/shm --out OUT
    python3 benchmarks/gpu/tried.py answers start engines order --data ROWS --models /dev/shm --out OUT

`forms`: number formats and kernels on 8 layers of a 34B model. `answers`: the same on the learned model of
tests/demo: log loss, and how far the labels' probabilities are from those of fp16 weights. `start`: seconds until an
engine can score. `engines`: one engine or two on one card, for small models. `order`: the swapped pass after the
first, or each row's two orders side by side, which share its opening in the prefix cache.

The checkpoints are made where they are missing. OUT/SET.json is written after each trial. It installs the engine from
the wheelhouse that `machine.py lay-out` has put in place, as the notebook does.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT)]

import forms
from machine import KAGGLE, facts

from kaggle_kit.evaluation.metrics import read_solution
from kaggle_kit.files import write_atomic
from kaggle_kit.runtime.bench import Measured, Trial, line, probe_rows, run_trials
from kaggle_kit.runtime.bench_worker import measure
from kaggle_kit.runtime.checkpoint import read_checkpoint
from kaggle_kit.runtime.engine_plan import EngineSetup
from kaggle_kit.runtime.install import install_engine
from kaggle_kit.runtime.job import Job, Task, read_job
from kaggle_kit.runtime.kernels import KERNELS
from kaggle_kit.runtime.machine import engine_version, find_gpus

BUDGET = 2047
DEMO_BUDGET = 512
LAYERS = 8
SECONDS = 6.0
SMALL_CACHE = 2 << 30
DATA = ROOT / "tests" / "demo" / "data"
FULL = ROOT / "tests" / "demo" / "full"


class Bench:
    """The machine with its engine, the rows, and the checkpoints."""

    def __init__(self, args: argparse.Namespace) -> None:
        told = facts()
        datasets = KAGGLE / "input" / "datasets"
        self.parts = [datasets / told["wheelhouse"], datasets / f"{told['wheelhouse']}-kit"]
        self.scratch = KAGGLE / "temp" / "tried"
        self.installed = install_engine(self.parts, scratch=self.scratch)
        self.told = told
        self.gpus = find_gpus()
        self.models: Path = args.models
        self.out: Path = args.out
        self.task = replace(Task(**told["task"]), rules={})
        self.rows = probe_rows(args.data, self.scratch / "rows.csv", rows=2000) if args.data else None

    def job(self, model: Path, *, demo: bool = False) -> Job:
        """Long rows for a model of random weights, the labelled ones of tests/demo for the learned one."""
        assert self.rows is not None or demo
        return Job(
            task=self.task,
            test=DATA / "test.csv" if demo else self.rows or Path(),
            id_column="id",
            model=model,
            journal=self.scratch / "journal.sqlite",
            token_budget=DEMO_BUDGET if demo else BUDGET,
            engine_options={},
        )

    def planned(self, name: str, model: Path, *, kernel: str | None = None, **more: Any) -> Trial:
        """The engine as a notebook would plan it, with a kernel by name or options changed."""
        setup = EngineSetup(
            version=engine_version(self.parts),
            cards=self.gpus,
            options={**self.told["engine_options"], **more},
            environment=self.told["worker_environment"],
            kernel=kernel,
        )
        plan = setup.plan(read_checkpoint(model), BUDGET)
        return Trial(name, kernel, plan.options, plan.environment)

    def run(self, trial: Trial, job: Job, *, seconds: float = SECONDS, place: str = "trial") -> Measured:
        """One trial; one that fails is kept with its problem."""
        try:
            (found,) = run_trials(
                [trial],
                job=job,
                python=self.installed.python,
                scratch=self.scratch / place,
                environment=self.installed.environment,
                seconds=seconds,
                deadline=time.monotonic() + 150,
                tell=lambda _: None,
            )
        except Exception as error:  # noqa: BLE001  the other trials are still worth having
            return Measured(trial, problem=str(error))
        return found

    def awq(self, shape: str, *, layers: int | None = None) -> Path:
        """An AWQ checkpoint of random weights."""
        folder = self.models / f"awq-{shape}-{layers or 'whole'}"
        if not (folder / "manifest.json").is_file():
            more = ["--layers", str(layers)] if layers else []
            made = [sys.executable, str(HERE / "model34.py"), str(folder), "--shape", shape, *more]
            subprocess.run(made, check=True)
        return folder

    def forms(self, name: str, *arguments: str) -> Path:
        """The forms of one checkpoint."""
        folder = self.models / name
        if not (folder / "w8a8-int8" / "manifest.json").is_file():
            subprocess.run([sys.executable, str(HERE / "forms.py"), str(folder), *arguments], check=True)
        return folder

    def keep(self, name: str, found: list[dict[str, Any]]) -> None:
        """Write what a set has found so far."""
        self.out.mkdir(parents=True, exist_ok=True)
        write_atomic(self.out / f"{name}.json", json.dumps(found, indent=1) + "\n")


def _in_form(bench: Bench, form: str, folder: Path, **more: Any) -> Trial:
    """The trial of a form. The kernel of int4 weights with fp8 activations writes bfloat16 only."""
    kernel = "marlin-int8" if form == "w4a8-int8" else None
    kind = "bfloat16" if form == "w4a8-fp8" else "half"
    return bench.planned(form, folder / form, kernel=kernel, dtype=kind, **more)


def try_forms(bench: Bench) -> None:
    """Speed on 8 layers of a 34B model."""
    awq = bench.awq("34b", layers=LAYERS)
    folder = bench.forms("forms", "--layers", str(LAYERS))
    asked = [(bench.planned(f"awq, {kernel}", awq, kernel=kernel), awq) for kernel in ("machete", "marlin-int8")]
    asked += [(_in_form(bench, form, folder), folder / form) for form in forms.FORMS]
    found: list[dict[str, Any]] = []
    first = None
    for trial, model in asked:
        one = bench.run(trial, bench.job(model))
        first = first or one
        found.append(_told(one, first))
        bench.keep("forms", found)


def try_answers(bench: Bench) -> None:
    """The learned model in each form and with each kernel, several engines at a time: only the answers count."""
    folder = bench.forms("demo", "--model", str(FULL))
    awq = ROOT / "tests" / "demo" / "model"
    room = {"gpu_memory_utilization": 0.1, "kv_cache_memory_bytes": SMALL_CACHE}
    asked = [(_in_form(bench, form, folder, **room), folder / form) for form in forms.FORMS]
    asked += [(bench.planned(f"awq, {kernel}", awq, kernel=kernel, **room), awq) for kernel in KERNELS]

    def one(number: int) -> Measured:
        trial, model = asked[number]
        return bench.run(trial, bench.job(model, demo=True), seconds=120.0, place=f"answers-{number}")

    with ThreadPoolExecutor(5) as pool:
        found = list(pool.map(one, range(len(asked))))
    solution = read_solution(DATA / "solution.csv", columns=list(bench.task.labels))
    columns = list(bench.task.labels)
    outcomes = {row: columns.index(column) for row, column in solution.outcomes.items()}
    bench.keep("answers", [_answers(measured, found[0], outcomes) for measured in found])


def _answers(one: Measured, reference: Measured, outcomes: dict[str, int]) -> dict[str, Any]:
    """Log loss, and mean KL and largest difference from the reference's probabilities."""
    told = {"name": one.trial.name, "problem": one.problem, "rows": one.rows}
    print(f"  {one.trial.name}: {one.problem or f'{one.rows} rows'}", flush=True)
    if one.problem or reference.problem:
        return told
    pairs = [(reference.probabilities[row], one.probabilities[row], outcomes[row]) for row in one.probabilities]
    return told | {
        "log_loss": round(-sum(math.log(mine[outcome]) for _, mine, outcome in pairs) / len(pairs), 5),
        "kl_mean": sum(p * math.log(p / q) for full, mine, _ in pairs for p, q in zip(full, mine, strict=True))
        / len(pairs),
        "apart_mean": sum(abs(p - q) for full, mine, _ in pairs for p, q in zip(full, mine, strict=True))
        / sum(len(full) for full, _, _ in pairs),
        "apart_most": max(abs(p - q) for full, mine, _ in pairs for p, q in zip(full, mine, strict=True)),
        "changed": sum(full.index(max(full)) != mine.index(max(mine)) for full, mine, _ in pairs),
    }


def try_start(bench: Bench) -> None:
    """Seconds until an engine can score. What read weights otherwise was no faster: see RESULTS.md."""
    awq = bench.awq("34b", layers=LAYERS)
    own = bench.planned("as planned", awq)
    two = {"VLLM_ENABLE_V1_MULTIPROCESSING": "1"}
    cache = {"kv_cache_memory_bytes": 32 << 30}
    asked = [
        own,
        replace(own, name="in two processes", environment={**own.environment, **two}),
        replace(own, name="the cache's size given", options={**own.options, **cache}),
    ]
    found: list[dict[str, Any]] = []
    first = None
    for number, trial in enumerate(asked):
        one = bench.run(trial, bench.job(awq), seconds=4.0, place=f"start-{number}")
        first = first or one
        found.append(_told(one, first))
        bench.keep("start", found)
        log = bench.scratch / f"start-{number}" / "trial-0" / "log.txt"
        if log.is_file():
            (bench.out / f"start-{number}.log").write_bytes(log.read_bytes())


def try_engines(bench: Bench) -> None:
    """One engine or two on the card, for a small model: tokens a second of both together."""
    found: list[dict[str, Any]] = []
    for name, model in (("3 million", ROOT / "tests" / "demo" / "model"), ("1.5B", bench.awq("1.5b"))):
        trial = bench.planned(name, model, gpu_memory_utilization=0.4)
        for engines in (1, 2):
            rates = _together(bench, trial, bench.job(model), engines=engines)
            found.append({"model": name, "engines": engines, "tokens_per_second": rates})
            print(f"  {found[-1]}", flush=True)
            bench.keep("engines", found)


def _together(bench: Bench, trial: Trial, job: Job, *, engines: int) -> list[float]:
    """Each engine's rate; they begin to score when all of them are warm."""
    folder = bench.scratch / "together"
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    replace(job, engine_options=dict(trial.options)).write(folder / "job.json")
    around = {**os.environ, **trial.environment, **bench.installed.environment}
    command = [str(bench.installed.python), __file__, "--worker", str(folder), str(engines)]
    started = [subprocess.Popen([*command, str(number)], env=around) for number in range(engines)]
    for process in started:
        process.wait(150)
    texts = [(folder / f"rate-{number}.json").read_text(encoding="utf-8") for number in range(engines)]
    return [round(json.loads(text)["tokens_per_second"]) for text in texts]


def worker(folder: Path, engines: int, number: int) -> None:
    """One of several engines, in a process of its own."""

    def ready() -> None:
        (folder / f"warm-{number}").touch()
        while len(list(folder.glob("warm-*"))) < engines:
            time.sleep(0.01)

    found = measure(read_job(folder / "job.json"), seconds=SECONDS, ready=ready)
    write_atomic(folder / f"rate-{number}.json", json.dumps(found))


def try_order(bench: Bench) -> None:
    """Both orders of 300 rows, in two passes or side by side, in one engine: seconds, and what is read twice."""
    awq = bench.awq("34b", layers=LAYERS)
    trial = bench.planned("order", awq)
    job = replace(bench.job(awq), engine_options=dict(trial.options))
    job.write(bench.scratch / "order.json")
    around = {**os.environ, **trial.environment, **bench.installed.environment}
    out = bench.scratch / "order-found.json"
    command = [str(bench.installed.python), __file__, "--order", str(bench.scratch / "order.json"), str(out)]
    subprocess.run(command, env=around, check=True, timeout=200)
    bench.keep("order", json.loads(out.read_text(encoding="utf-8")))
    print(f"  {out.read_text(encoding='utf-8')}", flush=True)


def order(job: Job, out: Path, *, rows: int = 300, chunk: int = 32) -> None:
    """What `try_order` measures, in the engine's environment."""
    from kaggle_kit.runtime.engine import score_all
    from kaggle_kit.runtime.engines import open_engine
    from kaggle_kit.runtime.prepare import prepare

    prepared = prepare(job)
    plain = list(prepared.prompts.values())[:rows]
    pairs = {**job.task.field_pairs, **{other: name for name, other in job.task.field_pairs.items()}}
    swapped = prepared.builder.build([{name: one.kept[pairs.get(name, name)] for name in one.kept} for one in plain])
    both = [list(prompt.token_ids) for pair in zip(plain, swapped, strict=True) for prompt in pair]
    passes = [both[0::2], both[1::2]]
    options = job.engine_options
    engine: Any = open_engine(
        "vllm", job.model, label_ids=prepared.label_ids, longest=job.token_budget, options=options
    )
    score_all(engine, [ids[::-1] for ids in both[:24]])
    found = []
    for name, lists in (("two passes", passes), ("side by side", [both]), ("two passes, again", passes)):
        since = time.perf_counter()
        for prompts in lists:
            # The cache of a whole model on its own card holds some hundred rows: nothing is left at the second pass.
            engine._llm.reset_prefix_cache()
            for _ in engine.stream(prompts[first : first + chunk] for first in range(0, len(prompts), chunk)):
                pass
        found.append({"name": name, "seconds": round(time.perf_counter() - since, 2), "tokens": sum(map(len, both))})
    write_atomic(out, json.dumps(found))


def _told(one: Measured, first: Measured) -> dict[str, Any]:
    """A trial as it is kept, its rate against the first's."""
    print(f"  {line(one, one if first.problem else first)}", flush=True)
    return {
        "name": one.trial.name,
        "tokens_per_second": round(one.tokens_per_second),
        "of_first": round(one.tokens_per_second / (first.tokens_per_second or math.inf), 3),
        "start_seconds": round(one.start_seconds, 1),
        "rows": one.rows,
        "tokens": one.tokens,
        "problem": one.problem,
        "options": dict(one.trial.options),
        "environment": dict(one.trial.environment),
    }


SETS = {
    "forms": try_forms,
    "answers": try_answers,
    "start": try_start,
    "engines": try_engines,
    "order": try_order,
}


def main() -> int:
    """The command line."""
    if sys.argv[1:2] == ["--worker"]:
        worker(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
        os._exit(0)
    if sys.argv[1:2] == ["--order"]:
        order(read_job(Path(sys.argv[2])), Path(sys.argv[3]))
        os._exit(0)
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("sets", nargs="+", choices=sorted(SETS))
    parser.add_argument("--data", type=Path, required=True, help="a folder with long rows")
    parser.add_argument("--models", type=Path, required=True, help="where the checkpoints are, or are made")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    bench = Bench(args)
    for name in args.sets:
        since = time.monotonic()
        print(f"{name}:", flush=True)
        SETS[name](bench)
        print(f"{name}: {time.monotonic() - since:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
