"""Whether a name is that of a secret: `WANDB_API_KEY`, `hfToken`, `x-api-key`; and not `eos_token` or `cache_key`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from kaggle_kit.secrets.words import words

Strength = Literal["none", "weak", "strong", "password"]

# Each stands in every name of a secret, in small letters: they are searched for, the rest is looked at where one is.
NEEDED = ("key", "token", "secret", "pass", "pwd", "auth", "cred", "login")
_PASSWORDS, _STRONG, _WEAK, _OF_PASS = words("passwords"), words("strong"), words("weak"), words("of_pass")
_QUALIFIERS, _DENIED, _OF_OTHERS = words("qualifiers"), words("denied"), words("of_others")
_ENDS = ("token", "secret", "apikey", "credentials")
_PASSWORD_ENDS = ("password", "passwd", "passphrase")
_SURE = {"api", "access", "secret", "auth"}
_TABLES = ("secrets", "credentials", "creds", "keys", "tokens", "passwords")
_NO_SUFFIX = words("no_suffix")
_SERVICE_KEY = re.compile(r"(?:wandb|kaggle|openai|hf|aws|azure|gcp|google|github|auth|access|secret|my|private)key")
_SPLIT = re.compile(r"[^A-Za-z0-9]+|(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_ORDER: tuple[Strength, ...] = ("none", "weak", "strong", "password")
_LONGEST_NAME = 80
_NAME_SIGN = re.compile(r"[A-Za-z0-9_.$-]{0,64}")
_WORDS_BEFORE = re.compile(r"(?:[ ][A-Za-z]{2,16}){0,2}")


@dataclass(frozen=True)
class Name:
    """A name of a secret in a text, from `start` to `end`, and how surely it is one.

    `holds` where it is a table's, of which each entry is a secret: `credentials`, `api_keys`.
    """

    text: str
    start: int
    end: int
    strength: Strength

    @property
    def holds(self) -> bool:
        """Whether what stands in it has names of its own."""
        return self.strength != "weak" and self.text.lower().endswith(_TABLES)


def name_at(text: str, at: int, length: int) -> Name | None:
    """The name around the noun of `length` at `at`, None where it is none of a secret's."""
    before = _NAME_SIGN.match(text[max(0, at - 64) : at][::-1])
    start = at - (before.end() if before else 0)
    after = _NAME_SIGN.match(text, at + length)
    end = after.end() if after else at + length
    # An escaped line's end before a name is no part of it: `\nAPI_KEY`.
    if start and text[start - 1] == "\\" and text[start] in "nrt":
        start += 1
    name = text[start:end].strip(".-$")
    if len(name) > _LONGEST_NAME:
        return None
    strength = strength_of(name)
    if strength == "weak" and start and text[start - 1] == " ":
        strength = _strength_in_prose(name, text[max(0, start - 36) : start])
    return None if strength == "none" else Name(name, start, end, strength)


def _strength_in_prose(name: str, before: str) -> Strength:
    """How surely a weak name is one with the words `before` it: "API key", "access token", "primary key"."""
    match = _WORDS_BEFORE.match(before[::-1])
    said = match[0][::-1].split() if match else []
    if said and strength_of(f"{said[-1]} {name}") == "none":
        return "none"
    return max((strength_of(f"{word} {name}") for word in said), key=_ORDER.index, default="weak")


@lru_cache(maxsize=8192)
def strength_of(name: str) -> Strength:
    """How surely a value of this name is a secret. Names of one-time, special or counted tokens are none."""
    parts = [part.lower() for part in _SPLIT.split(name.rpartition(".")[2] or name) if part and not part.isdigit()]
    if not parts or parts[-1] == "id" or _DENIED.intersection(parts):
        return "none"
    if _PASSWORDS.intersection(parts) or ("pass" in parts and _OF_PASS.intersection(parts)):
        return "password"
    if any(part.endswith(_PASSWORD_ENDS) for part in parts):
        return "password"
    if any(part in _STRONG or _SERVICE_KEY.fullmatch(part) or _is_joined(part) for part in parts):
        return "strong"
    return _strength_of_weak(parts, {part.lower() for part in _SPLIT.split(name)})


def _is_joined(part: str) -> bool:
    """Whether a word is several, written together: `hftoken`."""
    return part.endswith(_ENDS) and part not in _ENDS and part not in _NO_SUFFIX


def _strength_of_weak(parts: list[str], whole: set[str]) -> Strength:
    if not _WEAK.intersection(parts):
        return "none"
    # "api" beside "key" says more than what else stands there: MODEL_API_KEY.
    if _SURE & whole:
        return "strong"
    if _OF_OTHERS.intersection(parts):
        return "none"
    return "strong" if _QUALIFIERS & whole else "weak"


def is_denied(name: str) -> bool:
    """Whether a name says that its value is something else: a hash, a path, a count."""
    parts = {part.lower() for part in _SPLIT.split(name) if part}
    return "id" in parts or not parts.isdisjoint(_DENIED | _OF_OTHERS)
