"""The 2024 starter notebook's method and ours, side by side on the same engine and the same demo rows.

    kit dryrun lmsys      # once: makes the wheelhouse
    python benchmarks/starter.py --python ENV/bin/python

ENV is an environment made from the local-cpu wheelhouse (`kaggle_kit.runtime.install`). The tables go to
`benchmarks/results/starter.md`.

The starter's method: prompts as whole texts, never cut, sorted by length; a bias of +100 on the label tokens; one
token, `logprobs=5`, the engine's default mode; what is found among the five goes through exp, a label that is not
found is 0, and the rest is scaled to 1; a row whose answer cannot be read is 1/3 each. In 2024 the bias was a
per-request logits processor; today's vLLM takes `logit_bias`, which does the same to the sampled token.
`Starter` below holds that method and nothing of ours.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import engines

LABELS = {
    "With the labels that the model was tuned to say (A, B, tie)": ["A", "B", "tie"],
    "With labels that it was not tuned to say (1, 2, 3)": ["1", "2", "3"],
}
MODEL_TOKENS = 2048
BUDGET = 512


@dataclass(frozen=True)
class Outcome:
    """What a method left: probabilities of every row (fallbacks included), and how many rows had all labels."""

    name: str
    whole: int
    probabilities: list[list[float]]
    seconds: float
    cpu_seconds: float
    note: str


class Starter:
    """The 2024 method, on today's vLLM."""

    def __init__(self, label_ids: list[int]) -> None:
        from vllm import LLM, SamplingParams

        self.ids = label_ids
        self.llm = LLM(model=str(engines.DEMO / "model"), max_model_len=MODEL_TOKENS, **engines.CPU)
        self.sampling = SamplingParams(
            n=1, temperature=0.0, seed=777, max_tokens=1, logprobs=5, logit_bias=dict.fromkeys(label_ids, 100.0)
        )

    def run(self, texts: list[str]) -> tuple[list[list[float]], int]:
        """Probabilities in the order of `texts`, and how many rows had every label among the five."""
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        responses = self.llm.generate([texts[place] for place in order], self.sampling, use_tqdm=False)
        found: dict[int, list[float]] = {}
        whole = 0
        for place, response in zip(order, responses, strict=True):
            try:
                five = response.outputs[0].logprobs[0]
                chances = [math.exp(five[token].logprob) if token in five else 0.0 for token in self.ids]
                found[place] = [chance / sum(chances) for chance in chances]
                whole += all(token in five for token in self.ids)
            except (IndexError, ZeroDivisionError):
                found[place] = [1 / len(self.ids)] * len(self.ids)
        return [found[place] for place in range(len(texts))], whole


def rows_of(name: str) -> list[dict[str, str]]:
    """The demo's rows: "test" is scored, "train" only warms the engine up."""
    with (engines.DEMO / "data" / f"{name}.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def whole_texts(rows: list[dict[str, str]]) -> list[str]:
    """Each row in the task's words, nothing cut; a lone surrogate is replaced, or no tokenizer takes it."""
    import task

    texts = []
    for row in rows:
        cells = {name: "\n\n".join(task.turns(row[name])) for name in task.SHARES}
        texts.append(task.TEMPLATE.format(**cells).encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
    return texts


def starter_here(labels: list[str]) -> list[dict[str, Any]]:
    """Both runs of the starter: as it stands, and with the rows that are too long left out by hand."""
    from kaggle_kit.runtime.tokenizers import load_tokenizer

    starter = Starter(engines.demo_labels(labels))
    tokenizer = load_tokenizer(engines.DEMO / "model")
    fits = [
        [text for text in whole_texts(rows_of(name)) if len(tokenizer.encode(text)) < MODEL_TOKENS]
        for name in ("train", "test")
    ]
    starter.run(fits[0])
    texts = whole_texts(rows_of("test"))
    try:
        found, whole = starter.run(texts)
        stands = {"probabilities": found, "whole": whole, "seconds": 1.0, "cpu_seconds": 1.0, "note": ""}
    except Exception as error:  # noqa: BLE001  whatever it raises, the notebook would end here
        said = str(error).split(". ")[0]
        note = f"one prompt is too long and generate raises for all: {type(error).__name__}: {said}"
        stands = {"probabilities": [], "whole": 0, "seconds": 1.0, "cpu_seconds": 1.0, "note": note}
    begun = time.perf_counter(), time.process_time()
    found, whole = starter.run(fits[1])
    seconds, cpu_seconds = time.perf_counter() - begun[0], time.process_time() - begun[1]
    kept = iter(found)
    fitting = set(fits[1])
    filled = [next(kept) if text in fitting else [1 / 3] * 3 for text in texts]
    note = f"{len(texts) - len(found)} rows above {MODEL_TOKENS} tokens were left out by hand and get 1/3"
    left_out = {"probabilities": filled, "whole": whole, "seconds": seconds, "cpu_seconds": cpu_seconds, "note": note}
    return [stands, left_out]


def ours_here(labels: list[str]) -> list[dict[str, Any]]:
    """The kit's way, twice: cut to the demo's budget, and to no less than what the model reads."""
    return [_ours(labels, budget) for budget in (BUDGET, MODEL_TOKENS - 1)]


def _ours(labels: list[str], budget: int) -> dict[str, Any]:
    import task

    from kaggle_kit.runtime.engine import score_all
    from kaggle_kit.runtime.engines import open_engine
    from kaggle_kit.runtime.tokenizers import load_tokenizer

    tokenizer = load_tokenizer(engines.DEMO / "model")
    engine = open_engine(
        "vllm",
        engines.DEMO / "model",
        label_ids=engines.demo_labels(labels),
        longest=budget,
        options=engines.CPU,
    )

    def run(rows: list[dict[str, str]]) -> list[Any]:
        prompts = [task.prompt_of(row, tokenizer=tokenizer, budget=budget) for row in rows]
        return score_all(engine, [prompt.token_ids for prompt in prompts])

    run(rows_of("train"))
    begun = time.perf_counter(), time.process_time()
    scores = run(rows_of("test"))
    seconds, cpu_seconds = time.perf_counter() - begun[0], time.process_time() - begun[1]
    mass = sum(score.mass or 0.0 for score in scores) / len(scores)
    return {
        "probabilities": [[math.exp(value) for value in score.log_probabilities] for score in scores],
        "whole": len(scores),
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "note": f"prompts cut to {budget} tokens; mean label mass {mass:.3g}",
    }


def measure(python: Path, method: str, labels: list[str]) -> list[dict[str, Any]]:
    """One method in a process of the environment's own."""
    with tempfile.TemporaryDirectory() as folder:
        told, out = Path(folder, "labels.json"), Path(folder, "out.json")
        told.write_text(json.dumps(labels), encoding="utf-8")
        done = subprocess.run(
            [str(python), __file__, method, str(told), str(out)],
            env=os.environ | engines.ENVIRONMENT,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{method} failed:\n{done.stderr[-3000:]}")
        result: list[dict[str, Any]] = json.loads(out.read_text(encoding="utf-8"))
        return result


def compare(python: Path, labels: list[str]) -> list[Outcome]:
    """The starter's two runs and ours, over one prompt."""
    names = (
        "2024 starter, as it stands",
        "2024 starter, too long rows left out",
        "ours",
        "ours, cut as little as can be",
    )
    found = [*measure(python, "starter", labels), *measure(python, "ours", labels)]
    return [Outcome(name, **each) for name, each in zip(names, found, strict=True)]


def table(outcomes: list[Outcome]) -> str:
    """A Markdown table of the three runs."""
    lines = [
        "| method | rows with all labels' probabilities | log loss over all rows | rows/s | rows/CPU second | note |",
        "|---|---|---|---|---|---|",
    ]
    for outcome in outcomes:
        rows = len(outcome.probabilities)
        if not rows:
            lines.append(f"| {outcome.name} | 0 | none: no submission | – | – | {outcome.note} |")
            continue
        # The competition's metric cuts probabilities away from 0, else one missing label would be an infinite loss.
        kept = [[max(chance, 1e-15) for chance in row] for row in outcome.probabilities]
        lines.append(
            f"| {outcome.name} | {outcome.whole} of {rows} | {engines.log_loss(kept):.4f} "
            f"| {rows / outcome.seconds:.0f} | {rows / outcome.cpu_seconds:.0f} | {outcome.note} |"
        )
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    sys.path[:0] = [str(engines.ROOT), str(engines.DEMO)]
    if sys.argv[1:2] in (["starter"], ["ours"]):
        method = starter_here if sys.argv[1] == "starter" else ours_here
        found = method(json.loads(Path(sys.argv[2]).read_text(encoding="utf-8")))
        Path(sys.argv[3]).write_text(json.dumps(found), encoding="utf-8")
        sys.stderr.flush()
        os._exit(0)
    parser = argparse.ArgumentParser(description="The 2024 starter's method against ours.")
    parser.add_argument("--python", type=Path, required=True, help="the environment's Python")
    args = parser.parse_args()
    parts = []
    for title, labels in LABELS.items():
        parts.append(f"## {title}\n\n{table(compare(args.python, labels))}\n")
        print(parts[-1], flush=True)
    head = (
        f"# The 2024 starter's method and ours\n\n{time.strftime('%Y-%m-%d')}, {engines.machine()} (shared with other "
        f"work: rates of the methods, one process after the other, differ by what else ran).\n"
        f"Command: `python benchmarks/starter.py --python "
        f"ENV/bin/python`; the demo's 300 test rows, vLLM on the CPU, the same engine options for all.\nThe starter "
        f"reads whole texts, and its time holds their tokenising; ours holds cutting and tokenising. Rates were taken "
        f"after\na pass over other rows. Label probabilities that are missing count as 1e-15, as the competition's "
        f"metric cuts them.\n\n"
    )
    (engines.ROOT / "benchmarks" / "results" / "starter.md").write_text(head + "\n".join(parts), encoding="utf-8")


if __name__ == "__main__":
    main()
