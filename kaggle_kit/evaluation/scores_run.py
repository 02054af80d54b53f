"""From a scores file to the facts of a run: what `kit eval` scored, and how good it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kaggle_kit.evaluation.answers import answers_of
from kaggle_kit.evaluation.assess import assess, kinds_of
from kaggle_kit.evaluation.judged import Judged, Predictions, diagrams, greatest_losses
from kaggle_kit.evaluation.read_run import WORST_ROWS, mass_figure, speed_figures
from kaggle_kit.evaluation.run_facts import EVALUATION, Lengths, Run, Worst, plain, row_text, throughput_of
from kaggle_kit.runtime.combine import parse_calibration
from kaggle_kit.runtime.progress import duration

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kaggle_kit.evaluation.answers import Answers
    from kaggle_kit.evaluation.assess import Assessment
    from kaggle_kit.evaluation.scores import Scores
    from kaggle_kit.runtime.combine import Calibration

_NAMED_PROBLEMS = 50
"""Unreadable rows that a page names; the rest are counted."""


def scores_run(scores: Scores, name: str, *, calibration: Calibration | None = None) -> Run:
    """The run of a scores file; `calibration` takes the place of the one that the model carried.

    Raises DataError where the file contradicts itself.
    """
    facts = scores.facts
    if calibration is None and facts.get("calibration"):
        calibration = parse_calibration(facts["calibration"], columns=scores.columns, where="the model's calibration")
    answers = answers_of(scores, name)
    found = assess(answers, calibration=calibration)
    kinds = kinds_of(answers, calibration)
    predictions = Predictions(answers.ids, answers.columns, kinds[found.final], answers.outcome)
    judged = _judged(found, predictions)
    loss = found.figures[found.final]["log loss"]
    seen = answers.lines.filter(answers.lines["answered"] == "model")
    broken = answers.lines.filter(answers.lines["problem"].is_not_null())
    rows = _rows(answers)
    return Run(
        name=name,
        kind=EVALUATION,
        outcome=f"Log loss {loss} over {found.rows:,} rows ({found.final})",
        good=None,
        what=_what(facts),
        settings=_settings(facts, calibration),
        figures=_figures(facts, rows, judged),
        stages={str(stage): float(seconds) for stage, seconds in (facts.get("stages") or {}).items()},
        throughput=throughput_of(facts),
        unreadable={str(one["id"]): str(one["problem"]) for one in broken.head(_NAMED_PROBLEMS).to_dicts()},
        unreadable_count=len(broken),
        mass=(facts.get("figures") or {}).get("label_mass") or {},
        masses=seen["mass"].drop_nulls().to_list(),
        lengths=Lengths(seen["whole_tokens"].to_list(), seen["tokens"].to_list(), int(facts["token_budget"])),
        predictions=predictions,
        judged=judged,
        worst=_worst(answers, predictions),
    )


def _judged(found: Assessment, predictions: Predictions) -> Judged:
    return Judged(
        final=found.final,
        rows=found.rows,
        figures=found.figures,
        diagrams=diagrams(predictions),
        chance_ece=found.chance_ece,
        gains=found.gains,
        swap=found.swap,
        slices=found.slices,
    )


def _rows(answers: Answers) -> dict[str, int]:
    lines = answers.lines
    return {
        "total": len(answers),
        "scored": int(answers.by_model.sum()),
        "swapped": int((answers.in_both & answers.by_model).sum()),
        "cut": int((lines["cut"] != "").sum()),
        "ruled": int((lines["answered"] == "rule").sum()),
        "prior": int((lines["answered"] == "prior").sum()),
    }


def _what(facts: Mapping[str, Any]) -> dict[str, str]:
    versions, hashes = facts.get("versions") or {}, facts.get("hashes") or {}
    engine = " ".join(str(one) for one in (facts.get("engine"), versions.get("engine")) if one)
    what = {
        "notebook": facts.get("notebook"),
        "model": facts.get("model"),
        "target": facts.get("target"),
        "data": facts.get("data"),
        "made": facts.get("made"),
        "machine": facts.get("machine"),
        "kit": versions.get("kaggle_kit"),
        "engine": engine,
        "Python": versions.get("python"),
        "SHA-256 of the task": hashes.get("task"),
        "SHA-256 of the model's manifest": hashes.get("model"),
        "SHA-256 of the data": hashes.get("data"),
    }
    return {name: str(value) for name, value in what.items() if value not in ("", None)}


def _settings(facts: Mapping[str, Any], calibration: Calibration | None) -> dict[str, str]:
    options = {str(name): plain(value) for name, value in (facts.get("engine_options") or {}).items()}
    return {
        "token_budget": str(facts["token_budget"]),
        "passes": ", ".join(map(str, facts["passes"])),
        "calibration": "none" if calibration is None else _calibration(calibration),
        "labels": ", ".join(f"{column} {label!r}" for column, label in facts["columns"].items()),
        "prior": ", ".join(f"{column} {share:.3f}" for column, share in facts["prior"].items()),
        **options,
    }


def _calibration(calibration: Calibration) -> str:
    parts = []
    for one in calibration.bins:
        bias = ", ".join(f"{column} {value:+.3f}" for column, value in one.bias.items())
        parts.append(
            f"up to {one.up_to_tokens:g} tokens: temperature {one.temperature:.3f}" + (f", bias {bias}" if bias else "")
        )
    return "; ".join(parts).replace("up to inf tokens: ", "")


def _figures(facts: Mapping[str, Any], rows: Mapping[str, int], judged: Judged) -> list[tuple[str, str, str]]:
    loss, accuracy = (judged.figures[judged.final][name] for name in ("log loss", "accuracy"))
    figures = facts.get("figures") or {}
    found = [
        ("log loss", f"{loss.value:.4f}", f"95 %: {loss.low:.4f} to {loss.high:.4f}"),
        ("accuracy", f"{accuracy.value:.1%}", f"95 %: {accuracy.low:.1%} to {accuracy.high:.1%}"),
        ("rows", f"{rows['total']:,}", row_text(rows)),
    ]
    found += speed_figures(rows, int(figures.get("prompt_tokens") or 0), facts.get("stages") or {})
    if facts.get("seconds"):
        found.append(("whole run", duration(float(facts["seconds"])), ""))
    return [*found, *mass_figure(figures.get("label_mass"))]


def _worst(answers: Answers, predictions: Predictions) -> list[Worst]:
    import numpy as np

    found = []
    for place, loss in greatest_losses(predictions, most=WORST_ROWS):
        line = answers.lines.row(place, named=True)
        shares = map(float, np.exp(predictions.logs[place]))
        found.append(
            Worst(
                id=str(line["id"]),
                loss=loss,
                outcome=str(line["outcome"]),
                probabilities=dict(zip(predictions.columns, shares, strict=True)),
                tokens=int(line["tokens"]),
                whole_tokens=int(line["whole_tokens"]),
                cut=str(line["cut"]).replace(",", ", "),
                flags=str(line["flags"]),
                prompt=line["prompt"],
            )
        )
    return found
