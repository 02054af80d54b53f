"""Values beside the name of a secret, whatever stands between: read token by token, in any language of a notebook.

Python, shell lines, YAML, TOML, JSON, `.env` files, addresses and prose have one thing in common: the name comes first,
then signs, then the value, all in one statement. So the text after a name is cut into signs, quoted texts and words,
until the statement ends or another name takes over.
"""

from __future__ import annotations

import bisect
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kaggle_kit.secrets.forms import lower
from kaggle_kit.secrets.names import NEEDED, Name, is_denied, name_at, strength_of
from kaggle_kit.secrets.values import (
    is_hex,
    is_keylike,
    is_no_password,
    is_password,
    is_placeholder,
    is_random,
    is_uuid,
    is_wordy,
    may_be_noise,
)
from kaggle_kit.secrets.words import words

if TYPE_CHECKING:
    from collections.abc import Iterator

_REACH = 800
"""Characters after a name in which its value is looked for, and tokens."""
_MOST_TOKENS = 48
_LONGEST = 512
_TOKEN = re.compile(
    r"(?P<space>[ \t\f\v\u00a0]{1,200}|\\\r?\n)"
    r"|(?P<line>\r?\n|\\{1,3}[nr](?![A-Za-z]{2,20}\\))"
    r"|(?P<quote>(?:(?<![A-Za-z0-9_])[rRbBuUfF]{1,2}){0,1}\\{0,7}(?:\"\"\"|'''|[\"'`]))"
    rf"|(?P<word>(?:[A-Za-z0-9_$]|[/+](?=[A-Za-z0-9/+]{{8}}))(?:[A-Za-z0-9_./+~@%$!^*?]|-(?!>)){{0,{_LONGEST}}})"
    r"|(?P<op>==|!=|:=|=>|->|::|.)",
    re.DOTALL,
)
_RUN = re.compile(r"(?<![A-Za-z0-9_./+~@%$!^*?-])[A-Za-z0-9_./+~@%$!^*?-]{14,512}+")
_BOUND = re.compile(
    r"[A-Za-z0-9_.$-]{0,64}+[\s\"'`\\\])}*]{0,24}+"
    r"(?:(?:value|default|val)[\"' ]{0,3})?(?:is |was |or |else |=|:|,|\(|\||->)"
)
# A line that is whole, and a statement that begins without indentation behind it.
_END = re.compile(r"[^,(\[{=:|\\>+*\s\"'`]\n(?!value|default|val)[A-Za-z0-9!%$]")
_OF_PASSWORDS = {"pass", "pwd"}
_SPACE = re.compile(r"\s|\\[nr]")
_SPACE_AND_SIGN = re.compile(r"[ \t]{0,20}(==?|:=?|)")
_BINDING = {"=", ":", ":=", "=>", "->", "|", "==", "!="}
_BINDING_WORDS = {"is", "was", "to", "or", "else"}
_OPEN, _CLOSE = {"(", "[", "{"}, {")", "]", "}"}
_GOES_ON = {*_BINDING, *_OPEN, ",", ">", "+", "*"}
# Names that say nothing of what they name: the name before them does.
_TRANSPARENT = words("transparent")
_NO_VARIABLE = re.compile(r"\d[A-Za-z]{1,64}\d|[!@#$%^&*+~?]")
_NUMBER = re.compile(r"\d{1,5}|\d{0,9}\.\d{1,20}")
_ADDRESS = re.compile(r"[^\s\"'`<>]{0,512}")
_LEAST = {"weak": 20, "strong": 16, "password": 16}
GUESSED = "a token or password"


@dataclass
class _Place:
    """How far the reading after a name has come."""

    at: int
    noise: int
    """Where the last word ends that is worth to be read to."""
    reads_on: bool
    """Whether what stands right behind the name counts without being noise."""
    depth: int = 0
    last: str = ""
    """The last sign or word; empty where nothing but space was seen."""
    bound: bool = False
    direct: bool = True
    """Whether nothing but signs, a type, or words that say nothing stand between name and value."""
    typed: bool = False
    lines: int = 0


@dataclass(frozen=True)
class _Value:
    start: int
    end: int
    text: str
    quoted: bool
    after: int
    """Where the reading goes on: behind its quote, if that was read with it."""


def known_by_name(text: str, *, wide: bool = False) -> Iterator[tuple[str, int, int, Name]]:
    """Kind, start, end and name of every value that its name tells to be a secret; `wide` for masking.

    A value is told where it is noise. With `wide` it is enough that it stands right after the name.
    """
    nouns = _nouns(text)
    noise = _noise(text, [at for at, _ in nouns], wide=wide)
    done = 0
    for at, noun in nouns:
        if at < done:
            continue
        # Most names have no value near: only where there is noise, or a sign that binds, is it worth to read on.
        last = _last_reachable(text, noise, at)
        if last or ((wide or noun in _OF_PASSWORDS) and _BOUND.match(text, at + len(noun))):
            name = name_at(text, at, len(noun))
            if name is not None:
                done = name.end
                for value, kind in _values(text, name, last, wide=wide):
                    yield kind, value.start, value.end, name


def _nouns(text: str) -> list[tuple[int, str]]:
    """Where what every name of a secret holds stands, in order."""
    small = lower(text)
    found: list[tuple[int, str]] = []
    for noun in NEEDED:
        at = small.find(noun)
        while at >= 0:
            found.append((at, noun))
            at = small.find(noun, at + len(noun))
    return sorted(found)


def _noise(text: str, nouns: list[int], *, wide: bool) -> list[int]:
    """Where, within the reach of `nouns`, words end that may be secrets; with `wide` any that are not plain words."""
    found: list[int] = []
    for match in _RUN.finditer(text):
        at, word = match.start(), match[0]
        index = bisect.bisect_right(nouns, at)
        near = index > 0 and at - nouns[index - 1] <= _REACH
        if near and may_be_noise(word) and (wide or _is_noise(word)):
            found.append(match.end())
    return found


def _is_noise(word: str) -> bool:
    return is_hex(word) or is_uuid(word) or is_random(word) or is_keylike(word)


def _last_reachable(text: str, noise: list[int], at: int) -> int:
    """The last of the sorted places `noise` that a name at `at` reaches; 0 where a statement surely ends before one."""
    first = bisect.bisect_left(noise, at)
    if first == len(noise) or noise[first] > at + _REACH or _END.search(text, at, noise[first]):
        return 0
    return noise[bisect.bisect_right(noise, at + _REACH) - 1]


def _values(text: str, name: Name, last: int, *, wide: bool) -> Iterator[tuple[_Value, str]]:
    """The values of a name, as far as the statement goes; `last` is where the last noise near it stands."""
    reads_on = wide or name.strength == "password"
    place = _Place(at=_after_closing_quote(text, name.end), noise=last, reads_on=reads_on)
    limit = min(len(text), name.end + _REACH)
    for token in _words(text, place, limit):
        value = _value(text, token, limit)
        if value is None:
            place.at = token.end()
        elif text.startswith("://", value.end):
            # An address is no secret; what a part of it is called is looked at by that name.
            address = _ADDRESS.match(text, value.end)
            place.at = address.end() if address else value.end
        elif not _is_name(text, value, place):
            kind = _kind(text, value, name, place, wide=wide)
            if kind is not None:
                yield value, kind
            _pass_value(value, place)
        elif _goes_through(value.text, name, place):
            _pass_value(value, place)
        else:
            return


def _words(text: str, place: _Place, limit: int) -> Iterator[re.Match[str]]:
    """The words and quotes of a statement, its signs and spaces passed."""
    for _ in range(_MOST_TOKENS):
        token = _TOKEN.match(text, place.at, limit)
        if token is None or (place.at > place.noise and not (place.reads_on and (place.direct or place.typed))):
            return
        if token.lastgroup == "space":
            place.at = token.end()
        elif token.lastgroup == "line":
            if not _passes_line(text, token, place):
                return
        elif token.lastgroup == "op":
            if not _passes_sign(text, token, place):
                return
        else:
            yield token


def _after_closing_quote(text: str, at: int) -> int:
    """Past a quote right behind a name: it ends a text that the name ends."""
    token = _TOKEN.match(text, at, at + 12)
    return token.end() if token and token.lastgroup == "quote" else at


def _passes_line(text: str, token: re.Match[str], place: _Place) -> bool:
    """Whether the statement goes on behind a line's end."""
    place.at = token.end()
    place.lines += 1
    if place.lines > 12:
        return False
    if place.depth > 0 or place.last in _GOES_ON:
        return place.last != ""
    word = _TOKEN.match(text, _skip_space(text, place.at), min(len(text), place.at + 80))
    return bool(word and word.lastgroup == "word" and word[0] in _TRANSPARENT)


def _skip_space(text: str, at: int) -> int:
    token = _TOKEN.match(text, at, at + 200)
    return token.end() if token and token.lastgroup == "space" else at


def _passes_sign(text: str, token: re.Match[str], place: _Place) -> bool:
    """Whether the statement goes on behind a sign."""
    sign, place.at = token[0], token.end()
    if sign == ";" and place.depth <= 0:
        return False
    if sign == "#" and (place.at < 2 or text[place.at - 2].isspace()):
        end = text.find("\n", place.at, place.at + 200)
        place.at = end if end >= 0 else place.at + 200
        return place.depth > 0
    place.depth += (sign in _OPEN) - (sign in _CLOSE)
    if sign in _BINDING:
        if sign in {"=", ":="} and place.typed:
            place.direct, place.typed = True, False
        elif sign != "|":
            place.typed = sign == ":" and not place.bound
        place.bound = True
    elif sign in {",", "("}:
        place.bound = True
    place.last = sign
    return True


def _value(text: str, token: re.Match[str], limit: int) -> _Value | None:
    """A word, or the whole of a quoted text without spaces; None for a quote that begins no such text."""
    if token.lastgroup == "word":
        bare = token[0].rstrip(".,?!*")
        quoted = _is_quoted(text, token.start(), token.end())
        return _Value(token.start(), token.start() + len(bare), bare, quoted, after=token.end())
    start, quote = token.end(), token[0].lstrip("rRbBuUfF")
    end = text.find(quote, start, min(limit, start + _LONGEST))
    inside = text[start:end] if end >= 0 else ""
    if not inside or _SPACE.search(inside):
        return None
    return _Value(start, end, inside, quoted=True, after=end + len(quote))


def _is_quoted(text: str, start: int, end: int) -> bool:
    return start > 0 and text[start - 1] in "\"'`" and text[end : end + 2].lstrip("\\")[:1] == text[start - 1]


def _is_name(text: str, value: _Value, place: _Place) -> bool:
    """Whether a word or text is the name of another value: `=` or `:` follows, and none stands before it."""
    at = _after_closing_quote(text, value.after) if value.quoted and value.after == value.end else value.after
    sign = _SPACE_AND_SIGN.match(text, at)
    if sign is None or sign[1] not in {"=", ":", ":="}:
        return False
    return not (place.last in _BINDING and place.lines == 0) or (place.last == "|" and not place.typed)


def _goes_through(word: str, name: Name, place: _Place) -> bool:
    """Whether the name before goes on to count behind another name."""
    if word.lower() in _TRANSPARENT:
        return True
    if strength_of(word) != "none":
        return False
    return name.holds and place.depth > 0 and not is_denied(word)


def _pass_value(value: _Value, place: _Place) -> None:
    place.at = value.after
    # What follows the `:` of an annotation is a type, until `=` says that a value comes.
    if value.text.lower() not in _TRANSPARENT:
        place.direct = False
    elif value.text.lower() in _BINDING_WORDS:
        place.bound = True
    place.last = "word"


def _kind(text: str, value: _Value, name: Name, place: _Place, *, wide: bool) -> str | None:
    """Which kind of secret a value of this name is; None where it is none."""
    if not value.quoted and text[value.end : value.end + 1] in _OPEN:
        return None
    if wide and _is_to_be_masked(value, name, place):
        return GUESSED
    if is_placeholder(value.text):
        return None
    if is_hex(value.text) or is_uuid(value.text):
        return _kind_of_hex(value, name, place)
    if name.strength == "password" and place.direct and place.bound and _is_password(value):
        return "a password"
    sure = place.direct and place.bound and name.strength != "weak"
    found = is_random(value.text) or (sure and is_keylike(value.text))
    return GUESSED if found and _is_long_enough(value, name, place) else None


def _is_long_enough(value: _Value, name: Name, place: _Place) -> bool:
    """Whether a value is as long as a key; what a weak name is farther from must be longer."""
    far = not place.direct and name.strength == "weak"
    return len(value.text) >= _LEAST[name.strength] + 4 * far and (place.bound or place.direct)


def _kind_of_hex(value: _Value, name: Name, place: _Place) -> str | None:
    """A hash and a UUID have this form too: only the name right before it tells a key from them."""
    direct = place.direct and (place.bound or name.strength != "weak")
    called, length = name.text.lower(), len(value.text)
    if length == 32 and direct and ("kaggle" in called or called == "key"):
        return "a Kaggle key"
    if length == 40 and ("wandb" in called or (direct and called.endswith("key"))):
        return "a Weights & Biases key"
    if name.strength == "weak" or (is_uuid(value.text) and not direct):
        return None
    return GUESSED if length >= 20 or (direct and is_password(value.text)) else None


def _is_password(value: _Value) -> bool:
    """Whether a text called a password is one. Without quotes it may be a variable of a program, and needs more."""
    bare = len(value.text) >= 8 and bool(_NO_VARIABLE.search(value.text))
    return (value.quoted or bare) and is_password(value.text)


def _is_to_be_masked(value: _Value, name: Name, place: _Place) -> bool:
    if not (place.direct and place.bound) or is_no_password(value.text):
        return False
    if is_wordy(value.text) or _NUMBER.fullmatch(value.text):
        return False
    return len(value.text) >= (4 if name.strength == "password" else 16)
