"""How a model's variation is named, and the frameworks that Kaggle knows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from kaggle_kit.errors import UsageError
from kaggle_kit.remote.client.client import enum_name
from kaggle_kit.suggest import did_you_mean

_PREFIX = "MODEL_FRAMEWORK_"
_SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


@dataclass(frozen=True)
class ModelRef:
    """A variation's place: `owner/model/framework/variation`."""

    owner: str
    model: str
    framework: str
    variation: str

    def __str__(self) -> str:
        """As Kaggle's pages and `model_sources` write it, without a version."""
        return f"{self.owner}/{self.model}/{self.framework}/{self.variation}"


def parse_ref(text: str) -> ModelRef:
    """`owner/model/framework/variation` as its parts. Raises UsageError, with the frameworks that Kaggle knows."""
    parts = text.split("/")
    if len(parts) != 4 or not all(parts):
        raise UsageError(f"{text!r} is not owner/model/framework/variation")
    for name, part in (("model", parts[1]), ("variation", parts[3])):
        if not _SLUG.fullmatch(part):
            raise UsageError(
                f"model {text}: the {name} {part!r} is not a slug (lower case, digits, single hyphens between)"
            )
    framework_value(parts[2])
    return ModelRef(*parts)


def framework_value(name: str) -> Any:
    """The SDK's value for a framework as pages write it: `pyTorch`, `transformers`, `vllm`."""
    from kagglesdk.models.types.model_enums import ModelFramework

    known = {one.name.removeprefix(_PREFIX).replace("_", ""): one for one in ModelFramework if one.value}
    wanted = enum_name(name, prefix=_PREFIX).replace("_", "")
    if wanted not in known:
        near = did_you_mean(name.lower(), [one.lower() for one in known])
        raise UsageError(f"{name!r} is no framework that Kaggle knows{near} ({', '.join(sorted(known)).lower()})")
    return known[wanted]


def same_framework(value: Any, name: str) -> bool:
    """Whether a reply's value and a name mean the same framework, however each is spelt."""
    return enum_name(value, prefix=_PREFIX).replace("_", "") == enum_name(name, prefix=_PREFIX).replace("_", "")
