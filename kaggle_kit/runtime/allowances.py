"""What an inspection checks, by name; and what a user, who knows better, allowed: a model's manifest records it.

A finding of an allowed check is a warning. The notebook's plan takes the record for granted, so a manifest that came
with somebody else's model could silence a doubt; hence no name here covers what would run code, or what is missing.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from kaggle_kit.errors import ModelError
from kaggle_kit.runtime.manifest import MANIFEST, read_manifest

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from kaggle_kit.runtime.manifest import Manifest

KEY = "allowed"
"""The key of a model's manifest."""
_MOST = 200
_MOST_TEXT = 2000
_DANGER = "it protects the machines that load the model"
_DAMAGE = "bytes of the model are missing or damaged, and no setting brings them back"
_NEEDED = "nothing can be scored without it"


@dataclass(frozen=True)
class Check:
    """What a check looks at, and why nobody can allow what it finds; empty if a user can."""

    about: str
    kept: str = ""


CHECKS = {
    "adapter-config": Check("an adapter_config.json, which loads another model over this one", _DANGER),
    "adapter-weights": Check("an adapter's weights as a file beside the model's"),
    "answer-place": Check("whether the model answers where the labels are looked for"),
    "architecture": Check("whether the engine knows the architecture"),
    "code": Check("code of the checkpoint's own, or named by its configuration", _DANGER),
    "config": Check("whether config.json can be read", _NEEDED),
    "dtype": Check("whether engine and card compute in the model's type"),
    "empty-file": Check("empty files that are no weights"),
    "engine": Check("what else the engine would refuse"),
    "file-name": Check("names that Kaggle does not take", _DANGER),
    "head": Check("whether there is a head from which labels are read"),
    "index": Check("whether the index of the weights agrees with the files"),
    "labels": Check("whether each label is one token", _NEEDED),
    "layers": Check("whether the weights have the layers that config.json counts"),
    "length": Check("whether the model reads prompts as long as the notebook's"),
    "link": Check("links that lead to nothing, or out of the folder", _DANGER),
    "manifest": Check("whether the files are those of manifest.json: --write makes it again", _DAMAGE),
    "method": Check("whether engine and card read the quantisation"),
    "other-program": Check("files for other programs"),
    "packing": Check("whether packed layers agree with quantization_config"),
    "pickle": Check("pickles, which run what they hold", _DANGER),
    "shapes": Check("whether tensors have the shapes that config.json gives them"),
    "special-tokens": Check("whether the files agree on the tokens of start and end"),
    "tensors": Check("whether all tensors of the architecture are there"),
    "tokenizer": Check("whether tokenizer.json can be read", _NEEDED),
    "unmerged": Check("tensors of an adapter that was not merged"),
    "unused-tensors": Check("tensors that the architecture has no use for"),
    "vocabulary": Check("whether tokens and embeddings are as many"),
    "weights": Check("whether the files of weights are whole", _DAMAGE),
}


@dataclass(frozen=True)
class Allowance:
    """A check that a user allowed, and what it had found."""

    check: str
    finding: str

    def __str__(self) -> str:
        """The sentence that a user reads."""
        return f"{self.check}: {self.finding}"


def allowances_json(allowances: Iterable[Allowance]) -> dict[str, object]:
    """Their part of a manifest; nothing if there are none."""
    listed = [asdict(allowance) for allowance in allowances]
    return {KEY: listed} if listed else {}


def allowances_of(manifest: Manifest) -> tuple[Allowance, ...]:
    """What a manifest records as allowed; names that cannot be allowed, or that this kit does not know, are left out.

    Raises ModelError if the record is not one.
    """
    listed = manifest.extra.get(KEY, [])
    if not isinstance(listed, list) or len(listed) > _MOST:
        raise ModelError(f"{MANIFEST} of {manifest.name}: {KEY!r} is not what kit writes; write it again (--write)")
    allowances = []
    for entry in listed:
        check, finding = (entry.get("check"), entry.get("finding")) if isinstance(entry, dict) else (None, None)
        if not isinstance(check, str) or not isinstance(finding, str):
            raise ModelError(f"{MANIFEST} of {manifest.name}: {KEY!r} is not what kit writes; write it again (--write)")
        if check in CHECKS and not CHECKS[check].kept:
            text = "".join(sign if sign.isprintable() else " " for sign in finding[:_MOST_TEXT])
            allowances.append(Allowance(check, text))
    return tuple(allowances)


def read_allowances(model: Path) -> tuple[Allowance, ...]:
    """What the manifest in the folder `model` records as allowed; nothing if there is no manifest.

    Raises KitError if it cannot be read.
    """
    path = model / MANIFEST
    return allowances_of(read_manifest(path)) if path.is_file() else ()
