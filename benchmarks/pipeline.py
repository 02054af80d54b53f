"""Our whole pipeline against a bare `LLM.generate` call over the same token ids, in the same engine.

    python benchmarks/pipeline.py                    # both models, some minutes on two cores
    python benchmarks/pipeline.py --cases demo --runs 5

Ours is what the worker and the notebook do once the engine is up: read the CSV, tokenise and cut, schedule, score in
chunks, journal each, write `submission.csv`. Bare is one call with all prompts, already tokenised, in the file's order,
and nothing done with its answers. They take turns in one process; before each the prefix cache is emptied. The swapped
pass and the rules are off, so that both score the same prompts. The table goes to `benchmarks/results/pipeline.md`.
`run FOLDER` is the part that runs in the engine's environment.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prepare import DEMO, RESULTS, ROOT, demo_job, head, make_rows

from kaggle_kit.files import write_atomic
from kaggle_kit.runtime.job import Job, read_job

if TYPE_CHECKING:
    from kaggle_kit.runtime.vllm_engine import VllmEngine

LEAST = 0.95
"""Ours over bare, in rows/s: what must hold."""
ENGINE = {"dtype": "bfloat16", "enforce_eager": True, "max_num_seqs": 64}


@dataclass(frozen=True)
class Case:
    """A model and its rows; `large`: a random one is made, else the demo's is taken."""

    name: str
    rows: int
    large: bool


CASES = {
    "demo": Case("demo model (hidden 256, 4 layers)", rows=2000, large=False),
    "large": Case("random AWQ Llama (hidden 1,024, 8 layers)", rows=1200, large=True),
}


def make_large(folder: Path, *, hidden: int = 1024, layers: int = 8, inner: int = 2816) -> Path:
    """A Llama with random weights, packed as AWQ (gemm, group 128), with the demo's tokenizer and a manifest."""
    import numpy as np
    from safetensors.numpy import save_file

    from kaggle_kit.runtime.manifest import MANIFEST, dump_manifest, make_manifest

    folder.mkdir()
    rng = np.random.default_rng(1)
    config = json.loads((DEMO / "model" / "config.json").read_text(encoding="utf-8"))
    shape = {"hidden_size": hidden, "num_hidden_layers": layers, "intermediate_size": inner, "head_dim": 64}
    config |= shape | {"num_attention_heads": hidden // 64, "num_key_value_heads": 4, "tie_word_embeddings": False}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        (folder / name).write_bytes((DEMO / "model" / name).read_bytes())
    ones = np.ones(hidden, dtype=np.float16)
    tensors = {"model.norm.weight": ones}
    for name in ("model.embed_tokens", "lm_head"):
        tensors[f"{name}.weight"] = rng.normal(0, 0.02, (config["vocab_size"], hidden)).astype(np.float16)
    keys = {"q_proj": (hidden, hidden), "k_proj": (hidden, 256), "v_proj": (hidden, 256), "o_proj": (hidden, hidden)}
    gates = {"gate_proj": (hidden, inner), "up_proj": (hidden, inner), "down_proj": (inner, hidden)}
    for layer in range(layers):
        for part, shapes in (("self_attn", keys), ("mlp", gates)):
            for name, (rows, columns) in shapes.items():
                at = f"model.layers.{layer}.{part}.{name}"
                tensors[f"{at}.qweight"] = rng.integers(-(2**31), 2**31, (rows, columns // 8)).astype(np.int32)
                tensors[f"{at}.qzeros"] = np.full((rows // 128, columns // 8), 0x77777777, dtype=np.int32)
                tensors[f"{at}.scales"] = np.full((rows // 128, columns), 0.005, dtype=np.float16)
        for name in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"model.layers.{layer}.{name}.weight"] = ones
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    manifest = make_manifest(folder, kind="model", name="random")
    (folder / MANIFEST).write_text(dump_manifest(manifest), encoding="utf-8")
    return folder


def engine_python() -> tuple[Path, dict[str, str]]:
    """The Python of an environment with the CPU engine, and what its process needs besides."""
    from kaggle_kit.targets import load_target
    from kaggle_kit.wheelhouse.environments import ready_environment
    from kaggle_kit.wheelhouse.folder import ready_wheelhouse

    target = load_target("local-cpu", project=ROOT)
    python = ready_environment(ready_wheelhouse(target, project=ROOT).folder)
    return python, target.worker_environment | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}


def measure(case: Case, *, runs: int) -> list[dict[str, Any]]:
    """All runs of a case, bare and ours in turn."""
    python, environment = engine_python()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = make_large(folder / "model") if case.large else DEMO / "model"
        for part, rows, seed in (("data", case.rows, 21), ("warm", 200, 22)):
            data = make_rows(folder / part, rows=rows, mean_chars=700, seed=seed)
            job = demo_job(data, journal=folder / f"{part}.sqlite", model=model, swapped=False)
            replace(job, task=replace(job.task, rules={})).write(folder / f"{part}.json")
        log = folder / "log.txt"
        with log.open("w") as stream:
            done = subprocess.run(
                [str(python), __file__, "run", str(folder), str(runs)],
                env=os.environ | environment,
                stdout=stream,
                stderr=stream,
                check=False,
            )
        if done.returncode:
            raise RuntimeError(f"{case.name} failed:\n{log.read_text()[-3000:]}")
        found: list[dict[str, Any]] = json.loads((folder / "found.json").read_text(encoding="utf-8"))
        return found


def run_here(folder: Path, runs: int) -> None:
    """Both ways in turn, in this process and one engine."""
    from kaggle_kit.runtime.engines import open_engine
    from kaggle_kit.runtime.prepare import prepare

    job, warm = read_job(folder / "data.json"), read_job(folder / "warm.json")
    prepared = prepare(job)
    ids = [list(prompt.token_ids) for prompt in prepared.prompts.values()]
    longest = job.token_budget
    since = time.perf_counter()
    engine: Any = open_engine("vllm", job.model, label_ids=prepared.label_ids, longest=longest, options=ENGINE)
    start_seconds = time.perf_counter() - since
    _bare(engine, [list(prompt.token_ids) for prompt in prepare(warm).prompts.values()])
    found = []
    for number in range(runs):
        for way in (("bare", "ours"), ("ours", "bare"))[number % 2]:
            engine._llm.reset_prefix_cache()  # noqa: SLF001  the engine that both share
            begun = time.perf_counter(), time.process_time()
            parts = _bare(engine, ids) if way == "bare" else _ours(engine, job, folder, start_seconds)
            seconds, cpu_seconds = time.perf_counter() - begun[0], time.process_time() - begun[1]
            # Excluded as it is: the engine's start takes its own time again, and the worker prepares rows meanwhile.
            seconds -= start_seconds if way == "ours" else 0.0
            found.append({"way": way, "rows": len(ids), "tokens": sum(map(len, ids)), "seconds": seconds})
            found[-1] |= {"cpu_seconds": cpu_seconds, "parts": parts, "load": os.getloadavg()[0]}
            print(found[-1], flush=True)
    (folder / "found.json").write_text(json.dumps(found), encoding="utf-8")


def _bare(engine: VllmEngine, ids: list[list[int]]) -> dict[str, float]:
    outputs = engine._llm.generate(  # noqa: SLF001
        [{"prompt_token_ids": prompt} for prompt in ids],
        engine._sampling,  # noqa: SLF001
        use_tqdm=False,
    )
    assert len(outputs) == len(ids)
    return {}


def _ours(engine: VllmEngine, job: Job, folder: Path, start_seconds: float) -> dict[str, float]:
    """The worker's run with an engine that is up, then the notebook's submission; seconds of each part."""
    from kaggle_kit.runtime import worker
    from kaggle_kit.runtime.engine_plan import EngineSetup
    from kaggle_kit.runtime.journal import Journal
    from kaggle_kit.runtime.session import Session

    session = Session(
        task=job.task,
        data=job.test.parent,
        model=job.model,
        wheelhouse=folder,
        working=folder,
        scratch=folder,
        token_budget=job.token_budget,
        deadline=job.deadline,
        setup=EngineSetup(),
    )

    def start(*_: Any, **__: Any) -> VllmEngine:
        time.sleep(start_seconds)
        return engine

    worker.open_engine = start  # type: ignore[attr-defined]
    events = io.StringIO()
    job = replace(session._job(job.model), swapped=False)  # noqa: SLF001
    for file in folder.glob(f"{job.journal.name}*"):
        file.unlink()
    worker.run(job, worker.Events(events))
    told = [json.loads(line) for line in events.getvalue().splitlines()]
    stages = [
        (event.get("name", event["event"]), event["time"]) for event in told if event["event"] in ("stage", "done")
    ]
    parts = {name: after - at for (name, at), (_, after) in pairwise(stages)}
    begun = time.perf_counter()
    session.submit()
    parts["submission"] = time.perf_counter() - begun
    parts["chunks"] = sum(event["event"] == "progress" for event in told)
    assert session.record["rows"]["scored"] == session.record["rows"]["total"], session.record
    with Journal(job.journal, configuration=job.configuration()) as journal:
        assert journal.most_times() == 1
    return parts


def line(case: Case, found: list[dict[str, Any]]) -> tuple[str, float]:
    """A case's lines in the table, and its ratio."""

    def middle(way: str, key: str) -> float:
        return statistics.median(each[key] for each in found if each["way"] == way)

    rows, pairs = found[0]["rows"], list(zip(found[::2], found[1::2], strict=True))
    by_way = [{each["way"]: each for each in pair} for pair in pairs]
    ratios = [pair["bare"]["seconds"] / pair["ours"]["seconds"] for pair in by_way]
    ratio = statistics.median(ratios)
    cpu = statistics.median(pair["bare"]["cpu_seconds"] / pair["ours"]["cpu_seconds"] for pair in by_way)
    parts = [each["parts"] for each in found if each["way"] == "ours"]
    told = {name: statistics.median(part[name] for part in parts) for name in parts[0]}
    shown = ", ".join(f"{name} {told[name]:.2f} s" for name in ("prepare", "scoring", "submission") if name in told)
    return (
        f"| {case.name} | {rows:,} × {found[0]['tokens'] / rows:.0f} | {middle('bare', 'seconds'):.1f} | "
        f"{middle('ours', 'seconds'):.1f} | {rows / middle('bare', 'seconds'):.1f} | "
        f"{rows / middle('ours', 'seconds'):.1f} | **{ratio:.3f}** ({min(ratios):.3f} to {max(ratios):.3f}) | "
        f"{cpu:.3f} | {shown}; {told['chunks']:.0f} chunks | {max(each['load'] for each in found):.1f} |"
    ), ratio


def main() -> int:
    """The command line; 1 where a ratio is too low."""
    if sys.argv[1:2] == ["run"]:
        run_here(Path(sys.argv[2]), int(sys.argv[3]))
        sys.stdout.flush()
        os._exit(0)
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--runs", type=int, default=3, help="of each way")
    args = parser.parse_args()
    lines, ratios = [], []
    for name in args.cases:
        text, ratio = line(CASES[name], measure(CASES[name], runs=args.runs))
        print(text, flush=True)
        lines.append(text)
        ratios.append(ratio)
    text = (
        f"Bare: one `LLM.generate` call over token ids that are there already. Ours: from opening the CSV to "
        f"`submission.csv`, tokenising\nincluded, the engine's start excluded (rows are prepared during it, as in "
        f"a run). One engine, one process, in turn (which goes "
        f"first changes), prefix caching on in both and emptied\nbefore each; no swapped pass. Ratio: rows/s of ours "
        f"over bare, the median of the pairs, and their range; to reach: {LEAST}. CPU ratio:\nthe same in CPU seconds, "
        f"which other work on the machine disturbs less. Times are medians."
    )
    columns = ("model", "rows × tokens", "bare, s", "ours, s", "bare, rows/s", "ours, rows/s", "ratio", "CPU ratio")
    columns += ("ours, in parts", "load")
    table = f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|\n"
    page = head("Our pipeline against a bare generate call", text, runs=f"{args.runs} runs of each way")
    write_atomic(RESULTS / "pipeline.md", page + table + "\n".join(lines) + "\n")
    return 0 if min(ratios) >= LEAST else 1


if __name__ == "__main__":
    sys.exit(main())
