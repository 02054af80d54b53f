"""How the locked engine's classes read a config.json: `model_types.json`, made by benchmarks/model_types.py from vLLM.

A config.json holds what differs from its class's own values, under names that differ from class to class: the engine
sees neither the file's names nor its gaps. `settings` gives what the engine sees.
"""

from __future__ import annotations

import json
from functools import cache
from pkgutil import get_data
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping

_MOST_STEPS = 3


@cache
def facts() -> dict[str, Any]:
    """All of the file; `vllm` and `transformers` are the versions that it was made from."""
    raw = get_data(__name__, "model_types.json")  # the kit's own wheel is read as an archive
    if raw is None:
        raise ModelError("model_types.json is not beside its module: install kaggle-kit again")
    body: dict[str, Any] = json.loads(raw)
    return body


def text_part(config: Mapping[str, Any]) -> tuple[Mapping[str, Any], str]:
    """The table of the language model in a configuration, and its model_type.

    That is the configuration itself where it describes a language model only, or holds one's sizes at its top.
    """
    kind = _kind(config)
    way = facts()["types"].get(kind, {}).get("text") or ["text_config", ""]
    part: Mapping[str, Any] = config
    for key in way[:-1][:_MOST_STEPS]:
        inner = part.get(key)
        if not isinstance(inner, dict) or not inner:
            break
        part = inner
    return part, (_kind(part) if part is not config and _kind(part) else way[-1] or kind)


def settings(part: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """A configuration of the model_type `kind` as its class fills it in, by transformers' names.

    What the table says stands above what the class says, a null too: the engine then reckons the value.
    """
    known = facts()["types"].get(kind, {})
    own = {name: key for key, name in known.get("alias", {}).items()}
    given = {own.get(key, key): value for key, value in part.items()}
    return {**known.get("default", {}), **given}


def keeps_one_vector(kind: str) -> bool:
    """Whether attention of this model_type may keep one compressed vector a token (MLA)."""
    return bool(facts()["types"].get(kind, {}).get("latent"))


def _kind(table: Mapping[str, Any]) -> str:
    kind = table.get("model_type")
    return kind if isinstance(kind, str) else ""
