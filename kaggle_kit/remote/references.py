"""How Kaggle names a dataset, a notebook, and a model's variation: one type for all spellings, with or without version.

`owner/slug`, `owner/slug/3`, `owner/slug/versions/3`, `owner/model/framework/variation`, and the same with a version;
the site and the first word of its address there (`datasets/`, `code/`) do not count.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import UsageError
from kaggle_kit.suggest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable

_PREFIXES = ("datasets/", "code/", "competitions/", "models/", "c/")
_SITE = re.compile(r"(?:https?://)?(?:www\.)?kaggle\.com/")
_FRAMEWORK = "MODEL_FRAMEWORK_"
_NUMBER = re.compile(r"[0-9]{0,9}[1-9][0-9]{0,9}")
_WORD = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")


@dataclass(frozen=True, order=True)
class Reference:
    """A dataset or notebook (`owner`, `slug`), or a variation of a model, with `framework` and `variation` too."""

    owner: str
    slug: str
    framework: str = ""
    variation: str = ""
    version: int | None = field(default=None, kw_only=True)

    def __str__(self) -> str:
        """The normal form: `owner/slug`, `owner/slug/3`, `owner/model/framework/variation/3`."""
        parts = (self.owner, self.slug, self.framework, self.variation, self.version and str(self.version))
        return "/".join(part for part in parts if part)

    @property
    def bare(self) -> Reference:
        """The same without a version."""
        return replace(self, version=None)

    def at(self, version: int) -> Reference:
        """One version of it."""
        return replace(self, version=version)


def parse(text: str) -> Reference:
    """A reference in any of its spellings. Raises UsageError."""
    parts = without_prefix(text).split("/")
    version = None
    if len(parts) > 2 and parts[-2] == "versions":
        del parts[-2]
    if len(parts) in (3, 5) and _NUMBER.fullmatch(parts[-1]):
        version = int(parts.pop())
    if len(parts) not in (2, 4) or not all(parts):
        raise UsageError(f"{text!r} is not owner/slug, nor owner/model/framework/variation")
    return Reference(*parts, version=version)


def parse_pair(text: str) -> Reference:
    """The reference of a dataset or a notebook, without a version. Raises UsageError."""
    parts = text.split("/")
    if len(parts) != 2 or not all(parts):
        raise UsageError(f"{text!r} is not owner/slug: correct it in kit.toml, or `id` in kernel-metadata.json")
    return Reference(*parts)


def parse_variation(text: str) -> Reference:
    """The reference of a model's variation, without a version. Raises UsageError, with the frameworks there are."""
    parts = text.split("/")
    if len(parts) != 4 or not all(parts):
        raise UsageError(f"{text!r} is not owner/model/framework/variation")
    for name, part in (("model", parts[1]), ("variation", parts[3])):
        if not _WORD.fullmatch(part):
            raise UsageError(f"model {text}: the {name} {part!r} is not a name: letters, digits and . _ - within")
    framework_value(parts[2])
    return Reference(*parts)


def split_version(text: str) -> tuple[str, int | None]:
    """The normal form without version, and the version or None; of a text of one word, as a competition's, that word.

    Kaggle shows owners with capitals and frameworks as its pages write them; neither tells two things apart.
    """
    try:
        found = parse(text.removeprefix("/"))
    except UsageError:
        return without_prefix(text).lower(), None
    framework = _letters(found.framework)
    known = Reference(found.owner.lower(), found.slug.lower(), framework, found.variation.lower())
    return str(known), found.version


def bare(text: str) -> str:
    """The normal form without version, by which spellings are compared."""
    return split_version(text)[0]


def normal(text: str) -> str:
    """The normal form, with the version if the text has one."""
    name, version = split_version(text)
    return name if version is None else f"{name}/{version}"


def versions(references: Iterable[str]) -> dict[str, int | None]:
    """Normal form without version → version, None where a reference has none."""
    return dict(map(split_version, references))


def without_prefix(text: str) -> str:
    """A reference without the site, and without the word with which its address there begins."""
    path = _SITE.sub("", text, count=1) if _SITE.match(text) else text
    return next((path.removeprefix(one) for one in _PREFIXES if path.startswith(one)), path)


def framework_value(name: str) -> Any:
    """The SDK's value for a framework as pages write it: `pyTorch`, `transformers`, `vllm`. Raises UsageError."""
    from kagglesdk.models.types.model_enums import ModelFramework

    known = {_letters(one.name): one for one in ModelFramework if one.value}
    wanted = _letters(name)
    if wanted not in known:
        near = did_you_mean(wanted, list(known))
        raise UsageError(f"{name!r} is not a framework that Kaggle knows{near} ({', '.join(sorted(known))})")
    return known[wanted]


def same_framework(value: Any, name: str) -> bool:
    """Whether a reply's value and a name mean the same framework, however each is spelt."""
    return isinstance(value, str) and _letters(value) == _letters(name)


def _letters(framework: str) -> str:
    return framework.removeprefix(_FRAMEWORK).replace("_", "").lower()
