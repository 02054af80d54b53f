"""What a notebook asks of the model: the labels, the fields of a row, the prompt, and the prior."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

ROW_FORMATS = ("turns", "text")


@dataclass(frozen=True)
class Task:
    """The author's choices, checked.

    `labels` maps each column of the submission to the label that the model says for it; `prior` maps the same
    columns to the fallback distribution; `fields` maps columns of test.csv to their share of the token budget;
    `row_format` says how a cell is read: "turns" (a JSON list of texts) or "text" (as it is).
    """

    labels: Mapping[str, str]
    prior: Mapping[str, float]
    fields: Mapping[str, float]
    template: str
    row_format: str = "turns"

    def __post_init__(self) -> None:
        """Raise DataError where the parts do not agree."""
        if len(self.labels) < 2:
            raise DataError(f"labels = {dict(self.labels)!r}: a task needs two labels or more")
        if len(set(self.labels.values())) < len(self.labels):
            raise DataError(f"labels = {dict(self.labels)!r}: two columns share a label")
        if set(self.prior) != set(self.labels):
            raise DataError(f"prior has the columns {sorted(self.prior)}, labels has {sorted(self.labels)}")
        total = sum(self.prior.values())
        if not math.isclose(total, 1, abs_tol=1e-6) or min(self.prior.values()) <= 0:
            raise DataError(f"prior = {dict(self.prior)!r} must be positive and sum to 1; it sums to {total:g}")
        if not self.fields or not all(0 < share < math.inf for share in self.fields.values()):
            raise DataError(f"fields = {dict(self.fields)!r}: each field needs a finite share above 0")
        if self.row_format not in ROW_FORMATS:
            raise DataError(f"row_format = {self.row_format!r}; use one of {', '.join(ROW_FORMATS)}")

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `Task(**object)` reads back."""
        return {
            "labels": dict(self.labels),
            "prior": dict(self.prior),
            "fields": dict(self.fields),
            "template": self.template,
            "row_format": self.row_format,
        }
