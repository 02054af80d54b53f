"""One card, one engine, the same token ids: the bare engine, our worker, and the 2024 starter's settings.

    python3 benchmarks/gpu/speed.py --model /dev/shm/m34 --data FOLDER --rows 2000 --out found.json

Runs in the Python and with the packages that the notebook has installed there (`machine.py run` comes before it). It
first measures the card's rate at fp16 matrices of the model's own shapes. Then, in turn and with an empty prefix cache:
`bare`, one `LLM.generate` call; `ours`, from the CSV to `submission.csv` through the worker; `starter`, the bias and
five log-probabilities of the 2024 notebook; `unshared`, bare with a salt a prompt, so that nothing comes from the
prefix cache. What is found is written after each, should the time end.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from machine import facts
from model34 import YI_34B

from kaggle_kit.files import write_atomic

BUDGET = 2047


def matrix_rate(*, tokens: int = 16_384, seconds: float = 4.0) -> float:
    """TFLOP/s of fp16 matrix products at the model's shapes, weighted as a layer has them; nan without a card."""
    import torch

    if not torch.cuda.is_available():
        return math.nan
    shapes = [sizes for part in YI_34B.matrices.values() for sizes in part.values()]
    pairs = [
        (
            torch.randn(tokens, inputs, device="cuda", dtype=torch.half) * 0.02,
            torch.randn(inputs, outputs, device="cuda", dtype=torch.half) * 0.02,
        )
        for inputs, outputs in shapes
    ]
    for left, right in pairs:
        left @ right
    torch.cuda.synchronize()
    since, rounds = time.perf_counter(), 0
    while time.perf_counter() - since < seconds:
        for left, right in pairs:
            left @ right
        torch.cuda.synchronize()
        rounds += 1
    rate = 2 * YI_34B.linear * tokens * rounds / (time.perf_counter() - since) / 1e12
    del pairs
    torch.cuda.empty_cache()
    return rate


class Bench:
    """The engine and the rows that all ways share."""

    def __init__(self, args: argparse.Namespace) -> None:
        from kaggle_kit.runtime.engines import open_engine
        from kaggle_kit.runtime.job import Job, Task
        from kaggle_kit.runtime.prepare import prepare

        told = facts()
        task = Task(**told["task"])
        self.folder = args.out.parent
        self.layers = json.loads((args.model / "config.json").read_text(encoding="utf-8"))["num_hidden_layers"]
        job = Job(
            task=replace(task, rules={}),
            test=args.data / "test.csv",
            id_column="id",
            model=args.model,
            journal=self.folder / "journal.sqlite",
            token_budget=BUDGET,
            engine_options={},
            swapped=False,
        )
        self.job = job
        self.prepared = prepare(job)
        self.ids = [list(prompt.token_ids) for prompt in self.prepared.prompts.values()]
        options = {**told["engine_options"], "max_num_batched_tokens": 16_384}
        since = time.perf_counter()
        self.engine: Any = open_engine(
            "vllm", args.model, label_ids=self.prepared.label_ids, longest=BUDGET, options=options
        )
        self.start_seconds = time.perf_counter() - since
        self.llm = self.engine._llm
        self.generate(self.ids[:24], self.engine._sampling)

    def generate(self, ids: list[list[int]], sampling: Any, *, salted: bool = False) -> tuple[float, list[Any]]:
        """Seconds and outputs of one call with an empty prefix cache."""
        self.llm.reset_prefix_cache()
        prompts = [
            {"prompt_token_ids": one, **({"cache_salt": str(number)} if salted else {})}
            for number, one in enumerate(ids)
        ]
        since = time.perf_counter()
        outputs = self.llm.generate(prompts, sampling, use_tqdm=False)
        return time.perf_counter() - since, outputs

    def figures(self, seconds: float, ids: list[list[int]], **more: Any) -> dict[str, Any]:
        """Rows and tokens a second, and TFLOP/s over the linear layers."""
        tokens = sum(map(len, ids))
        return {
            "rows": len(ids),
            "tokens": tokens,
            "seconds": round(seconds, 2),
            "rows_per_second": round(len(ids) / seconds, 2),
            "tokens_per_second": round(tokens / seconds),
            "tflops": round(2 * YI_34B.linear * self.layers * tokens / seconds / 1e12),
            **more,
        }

    def ours(self) -> dict[str, Any]:
        """The worker from the CSV on, and the submission."""
        import pipeline

        self.llm.reset_prefix_cache()
        since = time.perf_counter()
        parts = pipeline._ours(self.engine, self.job, self.folder, 0.0)
        seconds = time.perf_counter() - since
        outside = seconds - parts.get("scoring", 0.0)
        return self.figures(seconds, self.ids, parts=parts, share_outside_scoring=round(outside / seconds, 4))

    def starter(self, rows: int) -> dict[str, Any]:
        """The 2024 notebook's settings on the first `rows` prompts: how many rows have every label among the five."""
        from vllm import SamplingParams

        labels = list(self.prepared.label_ids)
        bias = dict.fromkeys(labels, 100.0)
        sampling = SamplingParams(
            n=1, top_p=0.9, temperature=0, seed=777, max_tokens=1, logit_bias=bias, logprobs=5, detokenize=False
        )
        seconds, outputs = self.generate(self.ids[:rows], sampling)
        whole = sum(all(token in out.outputs[0].logprobs[0] for token in labels) for out in outputs)
        return self.figures(seconds, self.ids[:rows], rows_with_all_labels=whole)


def probabilities(outputs: list[Any], labels: list[int]) -> list[list[float]]:
    """Each output's label probabilities."""
    return [[math.exp(out.outputs[0].logprobs[0][token].logprob) for token in labels] for out in outputs]


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for option in ("--model", "--data", "--out"):
        parser.add_argument(option, type=Path, required=True)
    parser.add_argument("--short", type=int, default=300, help="rows of the starter and of `unshared`")
    parser.add_argument("--ways", nargs="+", default=["bare", "ours", "unshared", "starter"])
    args = parser.parse_args()
    found: dict[str, Any] = {"matrix_tflops": round(matrix_rate(), 1)}
    print(found, flush=True)
    bench = Bench(args)
    found |= {"engine": bench.engine.name, "engine_start_seconds": round(bench.start_seconds, 1)}
    for way in args.ways:
        if way == "ours":
            found[way] = bench.ours()
        elif way == "starter":
            found[way] = bench.starter(args.short)
        else:
            ids = bench.ids if way == "bare" else bench.ids[: args.short]
            seconds, _ = bench.generate(ids, bench.engine._sampling, salted=way == "unshared")
            found[way] = bench.figures(seconds, ids)
        print(way, found[way], flush=True)
        write_atomic(args.out, json.dumps(found, indent=1) + "\n")
    sys.stdout.flush()
    # The engine's own processes outlive a plain exit, and hold the pipe to whoever reads what is printed here.
    for child in multiprocessing.active_children():
        child.terminate()
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
