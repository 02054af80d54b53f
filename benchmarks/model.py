"""How long a 34B-shaped checkpoint takes to inspect, in what memory, and how near `kit model fit` is to vLLM.

    python benchmarks/model.py

The checkpoint has Yi-34B's shapes in AWQ: four sparse files with true headers and a tokenizer of 64,000 tokens. The
table goes to `benchmarks/results/model.md`; what vLLM reported on an H200 is in `tests/model/h200.json`.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "model")]

import engines  # noqa: E402
from checkpoints import big_awq  # noqa: E402

from kaggle_kit.model.fit import named_shape  # noqa: E402
from kaggle_kit.model.memory import layouts  # noqa: E402
from kaggle_kit.targets import load_target  # noqa: E402

GIB = 1 << 30
RUNS = 7
INSPECT = """
import resource, sys, time
begun = time.perf_counter()
from pathlib import Path
from kaggle_kit.model.inspect import inspect_model
from kaggle_kit.model.tokenizer_check import Labels
from kaggle_kit.targets import load_target
found = inspect_model(Path(sys.argv[1]), target=load_target("kaggle-t4x2"), labels=Labels(["A", "B", "tie"]))
assert not found.problems
print(time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def inspections() -> str:
    """Lines of a table: the command's time with Python's start, the inspection's alone, and the most memory."""
    lines = ["| | median | longest |", "|---|---|---|"]
    whole, alone, memory = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        model = big_awq(Path(folder) / "yi-34b")
        for _ in range(RUNS):
            begun = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-c", INSPECT, str(model)], capture_output=True, text=True, check=True, cwd=ROOT
            )
            whole.append(time.perf_counter() - begun)
            seconds, kilobytes = done.stdout.split()
            alone.append(float(seconds))
            memory.append(int(kilobytes) * 1024 / 1e6)
    for name, values, unit in (
        ("process, start included", whole, "s"),
        ("imports and inspection", alone, "s"),
        ("most memory", memory, "MB"),
    ):
        lines.append(f"| {name} | {statistics.median(values):.2f} {unit} | {max(values):.2f} {unit} |")
    return "\n".join(lines)


def against_h200() -> str:
    """Lines of a table: weights and tokens of keys and values, as reckoned and as vLLM reported."""
    seen = json.loads((ROOT / "tests" / "model" / "h200.json").read_text(encoding="utf-8"))
    lines = [
        "| model | tokens a step | weights, GiB | vLLM | keys and values, tokens | vLLM |",
        "|---|---|---|---|---|---|",
    ]
    for case in seen["cases"]:
        options = {
            "gpu_memory_utilization": 0.9,
            "max_num_batched_tokens": case["batch"],
            "max_num_seqs": case["sequences"],
        }
        target = load_target("offline-h200").model_copy(
            update={"gpu_memory_bytes": seen["memory"], "engine_options": options}
        )
        found = layouts(named_shape(case["model"]), target, context=4095, mean_tokens=600)[0]
        name = case["model"].replace(":16", ", 16 bits")
        lines.append(
            f"| {name} | {case['batch']:,} | {found.parts.weights / GIB:.2f} | {case['weights_gib']:.2f} "
            f"| {found.cache_tokens:,} | {case['cache_tokens']:,} |"
        )
    return f"{seen['how']}\n\n" + "\n".join(lines)


def main() -> None:
    """The command line."""
    text = (
        f"# kit model\n\n{time.strftime('%Y-%m-%d')}, {engines.machine()}. Command: `python benchmarks/model.py`.\n\n"
        f"## Inspecting a 34B model in AWQ\n{RUNS} runs, each in a process of its own.\n\n{inspections()}\n\n"
        f"## Memory, reckoned and reported\n{against_h200()}\n"
    )
    print(text)
    (ROOT / "benchmarks" / "results" / "model.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
