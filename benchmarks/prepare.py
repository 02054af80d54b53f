"""From a CSV of 25,000 rows to rows ready for the engine: seconds, and the memory of the process that does it.

    python benchmarks/prepare.py
    python benchmarks/prepare.py --data FOLDER    # rows that tests/demo/rows.py has written there already

Each budget runs in a process of its own, as the worker's first stage does: read, parse, tokenise, cut. The table goes
to `benchmarks/results/prepare.md`. The other benchmarks take their rows, their job and their file's head from here.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "tests" / "demo"
RESULTS = ROOT / "benchmarks" / "results"
# From the project's own folder, whatever is installed.
sys.path[:0] = [str(ROOT), str(DEMO)]

from kaggle_kit.files import write_atomic  # noqa: E402
from kaggle_kit.runtime.job import Job, read_job  # noqa: E402

SEED = 11
SECONDS, BYTES = 60, 2e9
"""What must hold."""


def make_rows(folder: Path, *, rows: int, mean_chars: float, seed: int = SEED) -> Path:
    """A competition's data folder with `rows` rows of the demo's generator."""
    import rows as generator

    generator.write_files(folder, rows=rows, train_rows=0, seed=seed, mean_chars=mean_chars)
    return folder


def demo_job(data: Path, *, journal: Path, token_budget: int | None = None, **more: Any) -> Job:
    """The reference notebook's job over the rows of `data`, with the demo model unless `more` has another."""
    from kaggle_kit.notebook.source import notebook_task
    from kaggle_kit.project import load_project

    task, parameters = notebook_task(load_project(ROOT), "lmsys", assignments=[])
    given: dict[str, Any] = {"task": task, "model": DEMO / "model", "engine_options": {}, **more}
    budget = token_budget or int(parameters["token_budget"])
    return Job(test=data / "test.csv", id_column="id", journal=journal, token_budget=budget, **given)


def head(title: str, text: str, *, runs: str) -> str:
    """The head of a results file: what, when, where, and by which command."""
    import engines

    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
    changed = subprocess.run(["git", "diff", "--quiet", "HEAD", "--", "kaggle_kit"], cwd=ROOT, check=False).returncode
    command = shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])
    where = f"{commit or 'unknown'}{' with changes not yet committed' if changed else ''}"
    return (
        f"# {title}\n\n{dt.datetime.now(tz=dt.UTC):%Y-%m-%d}, {engines.machine()}, commit {where}, {runs}.\n"
        f"Command: `{command}`.\n\n{text}\n\n"
    )


def measure(path: Path) -> dict[str, float]:
    """Prepare the job in the file `path`, here."""
    from kaggle_kit.runtime.prepare import prepare

    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    begun = time.perf_counter(), time.process_time()
    prepared = prepare(read_job(path))
    seconds, cpu_seconds = time.perf_counter() - begun[0], time.process_time() - begun[1]
    prompts = prepared.prompts.values()
    return {
        "rows": len(prepared.prompts) + len(prepared.settled),
        "tokens": sum(len(prompt.token_ids) for prompt in prompts),
        "cut": sum(bool(prompt.cut) for prompt in prompts),
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "load": os.getloadavg()[0],
    }


def measured(job: Job, folder: Path) -> dict[str, float]:
    """The same in a process of its own."""
    path = folder / "job.json"
    job.write(path)
    done = subprocess.run([sys.executable, __file__, "measure", str(path)], stdout=subprocess.PIPE, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def line(budget: int, found: dict[str, float]) -> str:
    """One line of the table."""
    return (
        f"| {budget:,} | {found['rows']:,} | {found['tokens'] / found['rows']:,.0f} | "
        f"{found['cut'] / found['rows']:.0%} | {found['seconds']:.1f} | {found['cpu_seconds']:.1f} | "
        f"{found['bytes'] / 1e9:.2f} | {found['load']:.1f} |"
    )


def main() -> int:
    """The command line; 1 where a limit was passed."""
    if sys.argv[1:2] == ["measure"]:
        print(json.dumps(measure(Path(sys.argv[2]))))
        return 0
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=25_000)
    parser.add_argument("--mean-chars", type=float, default=4000)
    parser.add_argument("--data", type=Path, help="a folder that holds such rows already")
    parser.add_argument("--budgets", type=int, nargs="+", default=[1024, 2047])
    parser.add_argument("--runs", type=int, default=2, help="of each budget, in turn")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = args.data or make_rows(folder / "data", rows=args.rows, mean_chars=args.mean_chars)
        lines, kept = [], True
        for _ in range(args.runs):
            for budget in args.budgets:
                found = measured(demo_job(data, journal=folder / "journal.sqlite", token_budget=budget), folder)
                lines.append(line(budget, found))
                print(lines[-1], flush=True)
                kept = kept and found["seconds"] < SECONDS and found["bytes"] < BYTES
    text = (
        f"From opening the CSV to rows that wait for the engine, on the worker's own code: read, parsed, tokenised and "
        f"cut to the budget.\nTo hold: below {SECONDS} s and {BYTES / 1e9:g} GB. The load is the machine's at the end "
        f"of the run (1 a busy core); with others at work,\nCPU seconds over 2 is what an idle machine would take at "
        f"best. Memory is the process's peak (resident)."
    )
    table = (
        "| token budget | rows | tokens a row | rows cut | s | CPU s | GB | load |\n|---|---|---|---|---|---|---|---|\n"
    )
    runs = f"{args.runs} runs of each budget, in turn"
    page = head("From a CSV to rows ready for the engine", text, runs=runs) + table + "\n".join(lines) + "\n"
    write_atomic(RESULTS / "prepare.md", page)
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
