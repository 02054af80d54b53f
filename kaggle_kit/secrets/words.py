"""The words by which names and values are judged: words.toml."""

import tomllib
from pathlib import Path

_LISTS = tomllib.loads(Path(__file__).with_name("words.toml").read_text(encoding="utf-8"))


def words(name: str) -> frozenset[str]:
    """One list of words.toml."""
    return frozenset(_LISTS[name].split())
