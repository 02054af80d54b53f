"""A classification head of the checkpoint's own: the classes that it answers with, in place of tokens.

What transformers 5.19 makes of a configuration: `id2label` numbers the classes, `num_labels` counts them if it is not
there, and without either there are two (configuration_utils.py). A decoder's head looks at the last token that is not
`pad_token_id` (modeling_layers.py, `GenericForSequenceClassification`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import LabelError, ModelError
from kaggle_kit.outside import shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SUFFIX = "ForSequenceClassification"
"""How the architectures with such a head end."""
_MOST_CLASSES = 10_000
_MOST_LETTERS = 200
_LISTED = 12
_USUAL = 2
_OTHER_ANSWERS = {
    "regression": "it was trained as a regression, so its numbers are not logits of classes",
    "multi_label_classification": "it was trained with several right classes a row, so its classes do not share 1",
}


@dataclass(frozen=True)
class ScoreHead:
    """The head's classes by number. `padding` is the token whose repetitions at a prompt's end it does not look at.

    `fault` says why its numbers are not one probability shared out over the classes; empty if they are.
    """

    classes: tuple[str, ...]
    padding: int | None = None
    fault: str = ""

    def class_numbers(self, labels: Sequence[str]) -> tuple[int, ...]:
        """The number of each label's class: the one of that name, or of that number if none has such a name.

        Raises LabelError for a label that is no class, and for two labels of one class.
        """
        numbers: list[int] = []
        for label in labels:
            number = self._number(label)
            if number in numbers:
                raise LabelError(f"the labels {labels[numbers.index(number)]!r} and {label!r} are the same class")
            numbers.append(number)
        return tuple(numbers)

    def _number(self, label: str) -> int:
        if label in self.classes:
            return self.classes.index(label)
        if label.isascii() and label.isdecimal() and int(label) < len(self.classes):
            return int(label)
        known = ", ".join(f"{number}: {name!r}" for number, name in enumerate(self.classes[:_LISTED]))
        more = f" and {len(self.classes) - _LISTED} more" if len(self.classes) > _LISTED else ""
        raise LabelError(
            f"the label {label!r} is not a class of the model's head, which has {known}{more}: write a class's name or "
            f"number"
        )

    def seen(self, prompt: Sequence[int]) -> list[int]:
        """The prompt's tokens up to the last one that is not padding; its first token, if all are.

        Later tokens change nothing before them in a decoder, and the head does not look at them.
        """
        end = len(prompt)
        while end > 1 and prompt[end - 1] == self.padding:
            end -= 1
        return list(prompt[:end])


def read_score_head(config: Mapping[str, Any]) -> ScoreHead | None:
    """The head that a config.json describes; None if its architecture has none.

    Raises ModelError if its classes cannot be told.
    """
    names = config.get("architectures")
    if not isinstance(names, list) or not names or not str(names[0]).endswith(SUFFIX):
        return None
    classes = _classes(config)
    fault = _OTHER_ANSWERS.get(str(config.get("problem_type")), "")
    if len(classes) == 1:
        fault = "it gives one number a row, and a probability for each label needs two classes or more"
    text = config.get("text_config")
    padding = next(
        (part["pad_token_id"] for part in (text, config) if isinstance(part, dict) and "pad_token_id" in part), None
    )
    return ScoreHead(classes, padding if type(padding) is int else None, fault)


def _classes(config: Mapping[str, Any]) -> tuple[str, ...]:
    table, count = config.get("id2label"), config.get("num_labels")
    if table is None:
        count = _USUAL if count is None else count
        if type(count) is not int or not 0 < count <= _MOST_CLASSES:
            raise ModelError(f"'num_labels' is {shown(count)}, and a number from 1 to {_MOST_CLASSES:,} belongs there")
        return tuple(f"LABEL_{number}" for number in range(count))

    if not isinstance(table, dict) or not 0 < len(table) <= _MOST_CLASSES:
        raise ModelError(f"'id2label' is {shown(table)}, and a table of up to {_MOST_CLASSES:,} classes belongs there")
    if count is not None and count != len(table):
        raise ModelError(f"'id2label' has {len(table)} classes, and 'num_labels' is {shown(count)}")
    try:
        names = [table[str(number)] for number in range(len(table))]
    except KeyError as error:
        raise ModelError(f"'id2label' has {len(table)} classes and none of the number {error.args[0]}") from error
    if odd := [name for name in names if not isinstance(name, str) or not 0 < len(name) <= _MOST_LETTERS]:
        raise ModelError(f"'id2label' has {shown(odd[0])}, which is not the name of a class")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ModelError(f"'id2label' has the class {shown(twice)} twice")
    return tuple(names)
