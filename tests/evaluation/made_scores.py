"""Made-up scores: answers whose true probabilities are known."""

from __future__ import annotations

import numpy as np

from kaggle_kit.evaluation.answers import Answers, answers_of, normalise
from kaggle_kit.evaluation.scores import Scores, make_scores

COLUMNS = ("win_a", "win_b", "win_tie")
LABELS = {"win_a": "A", "win_b": "B", "win_tie": "tie"}
SCRIPTS = ("Latin", "Latin", "Han", "Arabic")


def truth(count: int, *, seed: int = 0, width: float = 1.3) -> tuple[np.ndarray, np.ndarray]:
    """[N, 3] log-probabilities, and [N] outcomes drawn by them."""
    rng = np.random.default_rng(seed)
    logs = normalise(rng.normal(0, width, (count, 3)))
    outcome = (rng.random((count, 1)) > np.exp(logs).cumsum(axis=1)).sum(axis=1).clip(0, 2)
    return logs, outcome


def blurred(logs: np.ndarray, *, seed: int, by: float) -> np.ndarray:
    """The log-probabilities of a model that sees them through noise."""
    return normalise(logs + np.random.default_rng(seed).normal(0, by, logs.shape))


def scores_of(
    plain: np.ndarray, outcome: np.ndarray, swapped: np.ndarray | None = None, *, model: str = "demo", **columns: list
) -> Scores:
    """A scores file of log-probabilities; `columns` replace what its lines hold otherwise."""
    lines = []
    passes = [("plain", plain)] + ([("swapped", swapped)] if swapped is not None else [])
    for name, values in passes:
        for number, row in enumerate(values):
            line = {
                "id": f"r{number}",
                "pass": name,
                **{f"logp_{column}": float(value) for column, value in zip(COLUMNS, row, strict=True)},
                "mass": 0.99,
                "tokens": 50 + 37 * number % 900,
                "whole_tokens": 50 + 37 * number % 900,
                "budget": 1024,
                "cut": "",
                "answered": "model",
                "outcome": COLUMNS[int(outcome[number])],
                "turns": 1 + number % 5,
                "script": SCRIPTS[number % len(SCRIPTS)],
                "characters": 400,
                "flags": "",
                "problem": None,
                "prompt": None,
            }
            lines.append(line | {key: values[number] for key, values in columns.items()})
    facts = {
        "columns": LABELS,
        "swap": {"win_a": "win_b"},
        "prior": dict.fromkeys(COLUMNS, 1 / 3),
        "notebook": "lmsys",
        "model": model,
        "target": "local-cpu",
        "token_budget": 1024,
        "passes": [name for name, _ in passes],
        "calibration": None,
        "hashes": {"task": "t", "model": model, "data": "d"},
    }
    return make_scores(lines, facts)


def made(count: int, *, seed: int = 0, scale: float = 1.0, swapped: bool = True, **columns: list) -> Answers:
    """Answers of a model that is `scale` times as sure as it should be; its two passes err on their own."""
    logs, outcome = truth(count, seed=seed)
    passes = [normalise(scale * blurred(logs, seed=seed + k, by=0.3)) for k in (1, 2)]
    return answers_of(scores_of(passes[0], outcome, passes[1] if swapped else None, **columns))
