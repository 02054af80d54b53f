"""Made-up runs: the folders that a dry run and a pushed run leave, good, failed, and full of hostile text."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from evaluation.made_scores import blurred, scores_of, truth

if TYPE_CHECKING:
    from kaggle_kit.evaluation.scores import Scores

DATA = Path(__file__).parents[1] / "demo" / "data"
COLUMNS = ("winner_model_a", "winner_model_b", "winner_tie")
HOSTILE = (
    "\"'></pre></style></title></svg><script>document.title='taken'</script>"
    '<img src="https://x.example/i.png" onerror="alert(1)">{{ 7 * 7 }}&amp;]]>-->\x00\x1b\ufffe'
)
MESSAGE = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB"
RECORD = {
    "kit": "0.1.0",
    "target": "local-cpu",
    "hidden_run": False,
    "stages": {"inputs": 0.0, "install": 7.3, "score": 24.3, "summary": 0.0},
    "installer": {"name": "uv", "seconds": {"verify": 0.4}},
    "plan": {"demo": ["max_model_len = 513: the longest prompt here"]},
    "engine": "vllm 0.32.0",
    "worker": {
        "starts": 1,
        "peak_bytes": 1_900_000_000,
        "stages": {"prepare": 0.02, "engine start": 20.0, "scoring": 3.0, "swapped pass": 1.2},
    },
    "throughput": [[20.5, 900], [21.0, 2500], [22.0, 9641], [24.3, 19282]],
    "prompt_tokens": 19282,
    "longest_prompt": 511,
    "label_mass": {"mean": 0.9993, "lowest": 0.9991},
}


def demo_ids(count: int) -> list[str]:
    """The first ids of the demo's test.csv."""
    with (DATA / "test.csv").open(newline="", encoding="utf-8") as stream:
        return [line["id"] for line in csv.DictReader(stream)][:count]


def write_submission(path: Path, ids: list[str], *, seed: int = 0) -> None:
    """A valid submission of made-up answers."""
    shares = np.random.default_rng(seed).dirichlet([1, 1, 1], len(ids))
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", *COLUMNS])
        writer.writerows([row_id, *(f"{share:.10f}" for share in row)] for row_id, row in zip(ids, shares, strict=True))


def record_of(count: int, **more: object) -> dict[str, object]:
    """A run's own record of `count` rows that the model scored."""
    rows = {"total": count, "scored": count, "swapped": count, "prior": 0, "unreadable": 0, "unreadable_rows": {}}
    return {**RECORD, "rows": rows, **more}


def dry_run(folder: Path, ids: list[str] | None = None, *, seed: int = 0, budget: int = 512) -> Path:
    """The folder of a dry run that went well."""
    ids = ids or demo_ids(40)
    folder.mkdir(parents=True)
    write_submission(folder / "submission.csv", ids, seed=seed)
    report = {
        "notebook": "lmsys",
        "target": "local-cpu",
        "outcome": f"OK: submission.csv is valid: {len(ids)} of {len(ids)} rows scored by the model",
        "complete": True,
        "seal": "bwrap",
        "unsealed": [],
        "seconds": {"whole notebook": 33.0},
        "log_loss": 0.9,
        "peak_bytes": 1_963_079_680,
        "notes": [],
    }
    cells = [
        {"metadata": {"tags": ["parameters"]}, "source": ["token_budget: int = 1024\n", "other = print(1)\n"]},
        {"metadata": {"tags": ["injected-parameters"]}, "source": [f"token_budget = {budget}"]},
    ]
    (folder / "report.json").write_text(json.dumps(report))
    (folder / "kit-run.json").write_text(json.dumps(record_of(len(ids))))
    (folder / "executed.ipynb").write_text(json.dumps({"cells": cells}))
    (folder / "log.txt").write_text("     0.10  it went well\n")
    return folder


def failed_run(folder: Path, *, line: str = MESSAGE) -> Path:
    """The folder of a dry run that failed with `line` in its log."""
    dry_run(folder)
    report = json.loads((folder / "report.json").read_text())
    report |= {"complete": False, "outcome": f"FAILED in the cell 'score': {line}", "log_loss": None}
    (folder / "report.json").write_text(json.dumps(report))
    said = ["it begins", "Traceback (most recent call last):", '  File "a.py", line 1, in score', line, "it ends"]
    (folder / "log.txt").write_text("".join(f"{k:9.2f}  {one}\n" for k, one in enumerate(said)))
    return folder


def pushed_run(records: Path, *, state: str = "COMPLETE", failure: str | None = None) -> Path:
    """The folder runs/lmsys-v3 of a pushed run below `records`, and its receipt."""
    folder = records / "runs" / "lmsys-v3"
    folder.mkdir(parents=True)
    write_submission(folder / "submission.csv", demo_ids(40))
    (folder / "kit-run.json").write_text(json.dumps(record_of(40)))
    (folder / "log.txt").write_text(f"it begins\n{MESSAGE}\nit ends\n")
    receipt = {
        "format": 1,
        "name": "lmsys",
        "notebook": "somebody/lmsys",
        "version": 3,
        "url": "https://www.kaggle.com/code/somebody/lmsys",
        "source": "ab" * 32,
        "build": "cd" * 32,
        "pushed": "2026-11-24T09:28:45+00:00",
        "made_by": "236281ac1ad3a0108661dbd217dc4df577942127",
        "target": "kaggle-t4x2",
        "inputs": [{"kind": "dataset", "reference": "somebody/wheels", "version": 2, "digest": "ef" * 32, "bytes": 10}],
        "checks": [{"what": "internet", "asked": False, "found": True, "agrees": False}],
        "server": "https://www.kaggle.com",
        "run": {"state": state, "failure": failure},
        "output": [],
        "submission": {"public_score": 0.98} if state == "COMPLETE" else {},
    }
    (records / "receipts").mkdir()
    (records / "receipts" / "lmsys-v3.json").write_text(json.dumps(receipt))
    return folder


def hostile_scores() -> Scores:
    """Scores of 60 rows whose ids, flags, problems and prompts try to leave their place in a page."""
    logs, outcome = truth(60)
    count = len(outcome)
    return scores_of(
        blurred(logs, seed=1, by=0.5),
        outcome,
        model=HOSTILE.replace("\x00", ""),
        id=[f"{HOSTILE}{number}" for number in range(count)],
        prompt=[f"\n{HOSTILE} of {number}" for number in range(count)],
        flags=[HOSTILE] * count,
        problem=[HOSTILE] * count,
        script=["</title><script>"] * count,
    )


def large_scores(count: int = 25_000, *, letters: int = 60_000) -> Scores:
    """Scores of many rows in both orders, 50 of which keep a very long prompt; every letter of it grows as HTML."""
    logs, outcome = truth(count)
    kept = set(np.argsort([logs[k][outcome[k]] for k in range(count)])[:50].tolist())
    prompts = ['"<&日' * (letters // 4) if number in kept else None for number in range(count)]
    passes = [blurred(logs, seed=seed, by=0.2) for seed in (1, 2)]
    whole = [80 + 29 * number % 3000 for number in range(count)]
    return scores_of(
        passes[0], outcome, passes[1], prompt=prompts, whole_tokens=whole, tokens=[min(w, 1024) for w in whole]
    )
