"""A run, or two side by side, as one HTML page that needs nothing else: no request, no script, the same bytes again."""

from __future__ import annotations

import base64
import hashlib
import math
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kaggle_kit import __version__
from kaggle_kit.evaluation import charts
from kaggle_kit.evaluation.assess import difference_if_any
from kaggle_kit.visible import LONGEST
from kaggle_kit.visible import visible as made_visible

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import jinja2

    from kaggle_kit.evaluation.assess import SliceFigures
    from kaggle_kit.evaluation.bootstrap import Estimate
    from kaggle_kit.evaluation.run import Run

_HERE = Path(__file__).parent
_MOST_PROMPT = 6000
_MOST_NAME, _MOST_OUTCOME = 200, 500


def report_page(run: Run) -> str:
    """The page of one run."""
    assessment = run.assessment
    context = {
        "title": f"{run.name}: {run.kind}",
        "run": _shortened(run),
        "assessment": assessment,
        "charts": {
            "stages": charts.stage_chart([run.stages]),
            "rate": charts.rate_chart([charts.rates(run.throughput, stages=run.stages)]),
            "lengths": charts.length_chart(run.lengths) if run.lengths else None,
            "mass": charts.mass_chart(run.masses),
            "reliability": {
                name: charts.reliability_chart([bins], name)
                for name, bins in (assessment.diagrams if assessment else {}).items()
            },
            "slices": _slices(run),
        },
        "captions": {"lengths": _length_caption(run)},
    }
    return _render("report.html.j2", context)


def compare_page(first: Run, second: Run) -> str:
    """The page of two runs side by side; differences are the second less the first.

    Raises DataError if they disagree on what came true.
    """
    runs = (first, second)
    difference = difference_if_any(first.predictions, second.predictions)
    context = {
        "title": f"{first.name} and {second.name}",
        "runs": [_shortened(run) for run in runs],
        "names": _names(runs),
        "counts": [f"{run.assessment.rows:,} rows" if run.assessment else "" for run in runs],
        "metrics": _metrics(runs, difference.figures if difference else {}),
        "difference": difference,
        "differing": differing(first, second),
        "figures": _figures(runs),
        "charts": {
            "stages": charts.stage_chart([run.stages for run in runs]),
            "rate": charts.rate_chart([charts.rates(run.throughput, stages=run.stages) for run in runs]),
            "reliability": _reliability(runs),
        },
    }
    return _render("compare.html.j2", context)


def differing(first: Run, second: Run) -> list[tuple[str, str, str]]:
    """What is not the same of what ran and how, as (name, first, second); "–" where one does not say."""
    left, right = ({**run.what, **run.settings} for run in (first, second))
    names = dict.fromkeys([*left, *right])
    return [(name, left.get(name, "–"), right.get(name, "–")) for name in names if left.get(name) != right.get(name)]


def _slices(run: Run) -> dict[str, Any]:
    if run.assessment is None:
        return {}
    middle = run.assessment.figures[run.assessment.final]["log loss"].value
    slices: dict[str, list[SliceFigures]] = {}
    for one in run.assessment.slices:
        slices.setdefault(one.by, []).append(one)
    return {kind: charts.slice_chart(parts, middle=middle) for kind, parts in slices.items()}


def _length_caption(run: Run) -> str:
    import numpy as np

    if run.lengths is None or not len(run.lengths.whole):
        return ""
    whole, kept = np.asarray(run.lengths.whole), np.asarray(run.lengths.tokens)
    cut = int((whole > kept).sum())
    lost = 1 - float(kept.sum()) / max(float(whole.sum()), 1.0)
    left_out = f"{cut:,} were cut to the budget, which left out {lost:.1%} of all tokens." if cut else "None was cut."
    return (
        f"Half of the prompts have up to {np.median(whole):,.0f} tokens, 95 % up to {np.quantile(whole, 0.95):,.0f}, "
        f"the longest {whole.max():,}. {left_out}"
    )


def _names(runs: Sequence[Run]) -> list[str]:
    names = [run.name for run in runs]
    return names if names[0] != names[1] else [f"{names[0]} (first)", f"{names[1]} (second)"]


def _metrics(
    runs: Sequence[Run], less: Mapping[str, Estimate]
) -> list[tuple[str, Estimate | None, Estimate | None, Estimate | None]]:
    left, right = (dict(run.assessment.figures[run.assessment.final]) if run.assessment else {} for run in runs)
    return [(name, left.get(name), right.get(name), less.get(name)) for name in dict.fromkeys([*left, *right])]


def _figures(runs: Sequence[Run]) -> list[tuple[str, tuple[str, str], tuple[str, str]]]:
    left, right = ({name: (value, remark) for name, value, remark in run.figures} for run in runs)
    nothing = ("–", "")
    return [(name, left.get(name, nothing), right.get(name, nothing)) for name in dict.fromkeys([*left, *right])]


def _reliability(runs: Sequence[Run]) -> dict[str, Any]:
    known = [run.assessment.diagrams if run.assessment else {} for run in runs]
    return {
        name: charts.reliability_chart([one.get(name, ()) for one in known], name) for name in {**known[0], **known[1]}
    }


def _shortened(run: Run) -> Run:
    """A run whose name, outcome and prompts are short enough for a page; of a prompt, its beginning and end."""
    worst = [replace(row, id=_line(row.id), prompt=_middle_out(row.prompt)) for row in run.worst]
    return replace(run, name=_line(run.name), outcome=_line(run.outcome, most=_MOST_OUTCOME), worst=worst)


def _line(text: str, *, most: int = _MOST_NAME) -> str:
    return text if len(text) <= most else f"{text[:most]} …"


def _middle_out(prompt: str | None) -> str | None:
    if prompt is None or len(prompt) <= _MOST_PROMPT:
        return prompt
    half = _MOST_PROMPT // 2
    left = len(prompt) - 2 * half
    return f"{prompt[:half]}\n\n[… {left:,} characters are not shown …]\n\n{prompt[-half:]}"


def visible(value: object) -> object:
    """A text as a page may hold it: what cannot be seen or written becomes U+FFFD, and no text is longer than a page.

    Anything else is returned as it is; so is what is HTML already.
    """
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    text = value if len(value) <= LONGEST else f"{value[:LONGEST]} […]"
    return made_visible(text.replace("\r\n", "\n"), instead=lambda _: "\ufffd")


def _render(name: str, context: Mapping[str, Any]) -> str:
    from markupsafe import Markup

    css = (_HERE / "report.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"
    page = _environment().get_template(name)
    return page.render(context, css=Markup(css), policy=Markup(policy), version=__version__)  # noqa: S704  our own


@cache
def _environment() -> jinja2.Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=visible,
    )
    environment.filters |= {"four": _four, "signed": _signed}
    return environment


def _four(value: float) -> str:
    return f"{value:.4f}" if math.isfinite(value) else "–"


def _signed(value: float) -> str:
    # A zero has no sign of its own.
    return f"{round(value, 4) + 0.0:+.4f}" if math.isfinite(value) else "–"
