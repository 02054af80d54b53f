"""Every engine over the same demo rows: how much the probabilities differ, and how fast each is.

    kit dryrun lmsys      # once: makes the wheelhouse
    python benchmarks/engines.py --python ENV/bin/python

ENV is an environment made from the local-cpu wheelhouse (`kaggle_kit.runtime.install`). The table goes to
`benchmarks/results/engines.md`. `score CASES.json OUT.json` is the part that runs in that environment, one process an
engine; the conformance tests use it too.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "tests" / "demo"
ENVIRONMENT = {
    "PYTHONPATH": str(ROOT),
    "PYTHONDONTWRITEBYTECODE": "",  # a new environment is compiled once, not by every process
    "HF_HUB_OFFLINE": "1",
    "TORCH_COMPILE_DISABLE": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_LOGGING_LEVEL": "WARNING",
}
CPU = {"dtype": "bfloat16", "enforce_eager": True, "max_num_seqs": 64}
OPTIONS: dict[str, dict[str, Any]] = {"vllm": CPU, "vllm-classify": CPU, "transformers": {"dtype": "float32"}}


@dataclass(frozen=True)
class Scored:
    """What one engine said: probabilities and mass for each prompt, its name, and its rates."""

    name: str
    probabilities: list[list[float]]
    masses: list[float | None]
    rows_per_second: float
    rows_per_cpu_second: float


def demo_prompts(count: int | None = None, *, exchanged: bool = False) -> tuple[list[str], list[list[int]]]:
    """Ids and token ids of the demo's test rows, with A and B exchanged where asked."""
    sys.path[:0] = [str(ROOT), str(DEMO)]
    import task

    from kaggle_kit.runtime.tokenizers import load_tokenizer

    tokenizer = load_tokenizer(DEMO / "model")
    with (DEMO / "data" / "test.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))[:count]
    if exchanged:
        rows = [row | {"response_a": row["response_b"], "response_b": row["response_a"]} for row in rows]
    prompts = [list(task.prompt_of(row, tokenizer=tokenizer).token_ids) for row in rows]
    return [row["id"] for row in rows], prompts


def demo_labels(labels: list[str] | None = None) -> list[int]:
    """The demo's label tokens, or those of other labels, where the demo's prompt ends."""
    sys.path[:0] = [str(ROOT), str(DEMO)]
    import task

    from kaggle_kit.runtime.tokenizers import label_tokens, load_tokenizer

    frame = task.TEMPLATE.format(prompt="", response_a="", response_b="")
    wanted = labels or list(task.LABELS.values())
    return list(label_tokens(wanted, prompt=frame, tokenizer=load_tokenizer(DEMO / "model")))


@dataclass(frozen=True)
class Case:
    """What one engine is asked: prompts, label tokens, and its options; `warm`: twice, for its rate."""

    prompts: list[list[int]]
    label_ids: list[int]
    options: dict[str, Any]
    warm: bool = True


def score(
    python: Path, kind: str, prompts: list[list[int]], *, label_ids: list[int], options: dict[str, Any] | None = None
) -> Scored:
    """Score `prompts` in a process of the environment's own."""
    return score_all(python, kind, [Case(prompts, label_ids, OPTIONS[kind] if options is None else options)])[0]


def score_all(python: Path, kind: str, cases: list[Case]) -> list[Scored]:
    """Each case by an engine of its own, all in one process. Raises RuntimeError with its last words on failure."""
    body = {"kind": kind, "cases": [asdict(case) for case in cases]}
    with tempfile.TemporaryDirectory() as folder:
        told, out = Path(folder, "cases.json"), Path(folder, "out.json")
        told.write_text(json.dumps(body), encoding="utf-8")
        run_there(python, __file__, "score", str(told), str(out), what=kind)
        return [Scored(**each) for each in json.loads(out.read_text(encoding="utf-8"))]


def run_there(python: Path, script: str, *arguments: str, what: str) -> None:
    """Run a script's part in the environment of `python`. Raises RuntimeError with its last words on failure."""
    done = subprocess.run(
        [str(python), script, *arguments],
        env=os.environ | ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{what} failed:\n{done.stderr[-3000:]}")


def score_here(told: Path, out: Path) -> None:
    """The part in the engine's own environment."""
    body = json.loads(told.read_text(encoding="utf-8"))
    found = [asdict(_score_case(body["kind"], Case(**case))) for case in body["cases"]]
    out.write_text(json.dumps(found), encoding="utf-8")
    sys.stderr.flush()
    # vLLM's threads can hold up a normal exit for many seconds.
    os._exit(0)


def _score_case(kind: str, case: Case) -> Scored:
    from kaggle_kit.runtime.engine import score_all
    from kaggle_kit.runtime.engines import open_engine

    longest = max(map(len, case.prompts))
    engine = open_engine(kind, DEMO / "model", label_ids=case.label_ids, longest=longest, options=case.options)
    # The first batch of a shape is slow. The same prompts would come out of the prefix cache: others warm up.
    if case.warm:
        score_all(engine, [prompt[:1] + prompt[:0:-1] for prompt in case.prompts])
    begun = time.perf_counter(), time.process_time()
    scores = score_all(engine, case.prompts)
    took = time.perf_counter() - begun[0], time.process_time() - begun[1]
    return Scored(
        name=engine.name,
        probabilities=[[math.exp(value) for value in row.log_probabilities] for row in scores],
        masses=[row.mass for row in scores],
        rows_per_second=len(scores) / took[0],
        rows_per_cpu_second=len(scores) / took[1],
    )


def differences(found: list[list[float]], reference: list[list[float]]) -> list[float]:
    """For each row the largest difference of a label's probability."""
    return [max(abs(x - y) for x, y in zip(p, q, strict=True)) for p, q in zip(found, reference, strict=True)]


def log_loss(probabilities: list[list[float]]) -> float:
    """Against the demo's solution, over as many rows as there are."""
    sys.path[:0] = [str(DEMO)]
    import rows
    import task

    with (DEMO / "data" / "solution.csv").open(encoding="utf-8", newline="") as stream:
        winners = [[row[name] for name in task.LABELS].index("1") for row in csv.DictReader(stream)]
    return rows.log_loss(probabilities, winners[: len(probabilities)])


def machine() -> str:
    """The processor and how many of it, in words."""
    names = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    return f"{os.cpu_count()} cores of {names[0] if names else platform.machine()}, Python {platform.python_version()}"


def table(results: list[Scored]) -> str:
    """A Markdown table; every row is compared with the last, the reference."""
    reference = results[-1].probabilities
    lines = [
        "| engine | log loss | largest Δp | mean Δp | label mass | rows/s | rows/CPU second |",
        "|---|---|---|---|---|---|---|",
    ]
    for found in results:
        apart = differences(found.probabilities, reference)
        masses = [mass for mass in found.masses if mass is not None]
        mass = f"{sum(masses) / len(masses):.4f}" if masses else "unknown"
        lines.append(
            f"| {found.name} | {log_loss(found.probabilities):.4f} | {max(apart):.4f} | {sum(apart) / len(apart):.4f} "
            f"| {mass} | {found.rows_per_second:.0f} | {found.rows_per_cpu_second:.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    if sys.argv[1:2] == ["score"]:
        score_here(Path(sys.argv[2]), Path(sys.argv[3]))
    parser = argparse.ArgumentParser(description="Compare the engines over the demo rows.")
    parser.add_argument("--python", type=Path, required=True, help="the environment's Python")
    parser.add_argument("--rows", type=int, default=300)
    args = parser.parse_args()
    _, prompts = demo_prompts(args.rows)
    label_ids = demo_labels()
    runs: list[tuple[str, dict[str, Any] | None]]
    runs = [
        ("vllm", CPU | {"hf_overrides": {"head_dtype": "model"}}),
        ("vllm", None),
        ("vllm-classify", None),
        ("transformers", {"dtype": "bfloat16"}),
        ("transformers", None),
    ]
    results = [score(args.python, kind, prompts, label_ids=label_ids, options=options) for kind, options in runs]
    results[0] = replace(results[0], name=f"{results[0].name}, bfloat16 head")
    text = table(results)
    print(text)
    tokens = sum(map(len, prompts)) / len(prompts)
    (ROOT / "benchmarks" / "results" / "engines.md").write_text(
        f"# Engines over the demo rows\n\n{len(prompts)} rows of {tokens:.0f} tokens on average, "
        f"{time.strftime('%Y-%m-%d')}, {machine()}\n(shared with other work: rows/CPU second is the rate that "
        f"compares).\n"
        f"Command: `python benchmarks/engines.py --python ENV/bin/python --rows {args.rows}`. Δp is a row's largest "
        f"difference of a label's probability\nfrom the last line, the checkpoint dequantised to float32.\n\n{text}\n",
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
