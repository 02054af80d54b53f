"""The one reader of secrets, with two uses: telling where they stand, and masking them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kaggle_kit.secrets.formats import PRIVATE_KEY
from kaggle_kit.secrets.forms import known_by_form
from kaggle_kit.secrets.layers import layers
from kaggle_kit.secrets.near import GUESSED, known_by_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kaggle_kit.secrets.layers import Layer

HIDDEN = "***"
_LONGEST_KEY = 20_000
_KEY_BODY = re.compile(r"(?:(?:[\s\"',]|\\{1,3}[nr]){0,20}+[A-Za-z0-9+/=]{16,100}+)*+")
# A line of a key in its block: Base64, a head such as "Proc-Type: 4,ENCRYPTED", or nothing.
_KEY_LINE = re.compile(r"\s{0,80}(?:[A-Za-z0-9+/=]{0,200}|[A-Z][A-Za-z-]{1,40}: [^\n]{1,200})\s{0,80}")
_VAGUE = {GUESSED, "a password"}


@dataclass(frozen=True, order=True)
class Found:
    """A secret stands on `line` (from 1); `name` is what it is called there, or nothing; `kind` a noun with article."""

    line: int
    name: str
    kind: str

    def __str__(self) -> str:
        """The kind, and the name where there is one."""
        return f"{self.kind} ({self.name})" if self.name else self.kind


def find_secrets(text: str) -> tuple[Found, ...]:
    """What looks like a secret in `text`, in the order of lines: never the secret itself.

    Found is what has the form of a known key, and what a name tells to be one. A secret that is put together of parts,
    or written in another alphabet (Base64, hex), is not. A line with the word `not-a-secret` is passed over.
    """
    found: dict[tuple[int, str], Found] = {}
    for layer in layers(text):
        for one in _in_layer(layer):
            found.setdefault((one.line, one.kind), one)
    sure = {line for line, kind in found if kind not in _VAGUE}
    return tuple(sorted(one for (line, kind), one in found.items() if kind not in _VAGUE or line not in sure))


def _in_layer(layer: Layer) -> Iterator[Found]:
    for kind, start, _ in known_by_form(layer.text):
        if not layer.is_passed(start):
            yield Found(layer.line(start), "", kind)
    for kind, start, _, name in known_by_name(layer.text):
        if not layer.is_passed(start):
            # A name that is itself a secret is not repeated.
            shown = "" if mask(name.text) != name.text else name.text
            yield Found(layer.line(start), shown, kind)


def mask(text: str) -> str:
    """`text` as it may be shown: what looks like a key, a token or a password replaced by ***.

    It keeps its lines. Half of a surrogate pair, which can be neither printed nor written, becomes a question mark.
    """
    text = text.encode("utf-8", "replace").decode("utf-8")
    spans = [*_forms(text), *((start, end) for _, start, end, _ in known_by_name(text, wide=True))]
    parts: list[str] = []
    done = 0
    for start, end in _merged(spans):
        parts += [text[done:start], _covered(text[start:end])]
        done = end
    return "".join([*parts, text[done:]])


class LineMask:
    """`mask` for a text that comes line by line: the lines of a private key are masked until its end.

    One for each text; a key that breaks off ends with the first line that cannot be part of one.
    """

    def __init__(self) -> None:
        """Before the first line."""
        self._in_key = False

    def __call__(self, line: str) -> str:
        """The next line as it may be shown."""
        if self._in_key:
            self._in_key = bool(_KEY_LINE.fullmatch(line.strip("\r\n")))
            if self._in_key:
                return _covered(line)
        masked = mask(line)
        heads = [end for kind, _, end in known_by_form(line) if kind == PRIVATE_KEY]
        self._in_key = bool(heads) and "-----END" not in line[heads[-1] :]
        return masked


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The spans in order, those that touch made one."""
    found: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        elif end > start:
            found.append((start, end))
    return found


def _forms(text: str) -> Iterator[tuple[int, int]]:
    for kind, start, end in known_by_form(text, wide=True):
        if kind != PRIVATE_KEY:
            yield start, end
            continue
        # Its head may stay: what follows it, to its end or as far as it looks like a key, may not.
        close = text.find("-----END", end, end + _LONGEST_KEY)
        body = _KEY_BODY.match(text, end)
        yield end, close if close >= 0 else (body.end() if body else end)


def _covered(secret: str) -> str:
    """Stars for each line of a secret."""
    return "\n".join(HIDDEN if line.strip() else line for line in secret.split("\n"))
