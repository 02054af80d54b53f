"""Secrets that are known by their names: `WANDB_API_KEY`, `hfToken`, `x-api-key`, and not `eos_token` or `cache_key`.

Python, shell lines, YAML, TOML, JSON, `.env` files, addresses and prose have one thing in common: the name comes first,
then signs, then the value, all in one statement. So the text after a name is cut into signs, quoted texts and words,
until the statement ends or another name takes over.
"""

from __future__ import annotations

import bisect
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from kaggle_kit.secrets.formats import lower
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
    words,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

Strength = Literal["none", "weak", "strong", "password"]

# Each stands in every name of a secret, in small letters: they are searched for, the rest is looked at where one is.
_NOUNS = ("key", "token", "secret", "pass", "pwd", "auth", "cred", "login")
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
_REACH = 800
"""Characters after a name in which its value is looked for, and tokens."""
_MOST_TOKENS = 48
_LONGEST = 512
_TOKEN = re.compile(
    r"(?P<space>[ \t\f\v\u00a0]{1,200}|\\\r?\n|</?(?:t[dhr]|d[dt]|li|p|b|i|em|strong|code|pre|span|div)>)"
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
_GOES_ON_BELOW = {"=", ":=", "=>"}
_OPEN, _CLOSE = {"(", "[", "{"}, {")", "]", "}"}
_GOES_ON = {*_BINDING, *_OPEN, ",", ">", "+", "*"}
# Names that say nothing of what they name: the name before them does.
_TRANSPARENT = words("transparent")
_NO_VARIABLE = re.compile(r"\d[A-Za-z]{1,64}\d|[!@#$%^&*+~?]")
_NUMBER = re.compile(r"\d{1,5}|\d{0,9}\.\d{1,20}")
_ADDRESS = re.compile(r"[^\s\"'`<>]{0,512}")
_HEX_TOKENS = {32, 40, 48, 64, 80, 96, 128}
"""Digits of tokens in hex, by which an argument or option `token` is known; tables have such fields for their rows."""
_LEAST = {"weak": 20, "strong": 16, "password": 16}
GUESSED = "a token or password"


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
    """The name around the noun of `length` at `at`, None if it is not that of a secret."""
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


@dataclass
class _Position:
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
    """Kind, start, end and name of every value that is a secret by its name; `wide` for masking.

    A value is one if it is noise. With `wide` it is enough that it stands right after the name.
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
    nouns: list[tuple[int, str]] = []
    for noun in _NOUNS:
        at = small.find(noun)
        while at >= 0:
            nouns.append((at, noun))
            at = small.find(noun, at + len(noun))
    return sorted(nouns)


def _noise(text: str, nouns: list[int], *, wide: bool) -> list[int]:
    """Where, within the reach of `nouns`, words end that may be secrets; with `wide` any that are not plain words."""
    ends: list[int] = []
    for match in _RUN.finditer(text):
        at, word = match.start(), match[0]
        index = bisect.bisect_right(nouns, at)
        near = index > 0 and at - nouns[index - 1] <= _REACH
        if near and may_be_noise(word) and (wide or _is_noise(word)):
            ends.append(match.end())
    return ends


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
    position = _Position(at=_after_closing_quote(text, name.end), noise=last, reads_on=reads_on)
    limit = min(len(text), name.end + _REACH)
    for token in _words(text, position, limit):
        value = _value(text, token, limit)
        if value is None:
            position.at = token.end()
        elif text.startswith("://", value.end):
            # An address is no secret; what a part of it is called is looked at by that name.
            address = _ADDRESS.match(text, value.end)
            position.at = address.end() if address else value.end
        elif not _is_name(text, value, position):
            kind = _kind(text, value, name, position, wide=wide)
            if kind is not None:
                yield value, kind
            _pass_value(value, position)
        elif _goes_through(value.text, name, position):
            _pass_value(value, position)
        else:
            return


def _words(text: str, position: _Position, limit: int) -> Iterator[re.Match[str]]:
    """The words and quotes of a statement, its signs and spaces passed."""
    for _ in range(_MOST_TOKENS):
        token = _TOKEN.match(text, position.at, limit)
        reads_on = position.reads_on and (position.direct or position.typed)
        if token is None or (position.at > position.noise and not reads_on):
            return
        if token.lastgroup == "space":
            position.at = token.end()
        elif token.lastgroup == "line":
            if not _passes_line(text, token, position):
                return
        elif token.lastgroup == "op":
            if not _passes_sign(text, token, position):
                return
        else:
            yield token


def _after_closing_quote(text: str, at: int) -> int:
    """Past a quote right behind a name: it ends a text that the name ends."""
    token = _TOKEN.match(text, at, at + 12)
    return token.end() if token and token.lastgroup == "quote" else at


def _passes_line(text: str, token: re.Match[str], position: _Position) -> bool:
    """Whether the statement goes on behind a line's end."""
    position.at = token.end()
    position.lines += 1
    if position.lines > 12:
        return False
    if position.depth > 0 or position.last in _GOES_ON:
        return position.last != ""
    next_ = _TOKEN.match(text, _skip_space(text, position.at), min(len(text), position.at + 80))
    if next_ and next_.lastgroup == "op" and position.last == "" and not position.bound:
        return next_[0] in _GOES_ON_BELOW
    return bool(next_ and next_.lastgroup == "word" and next_[0] in _TRANSPARENT)


def _skip_space(text: str, at: int) -> int:
    token = _TOKEN.match(text, at, at + 200)
    return token.end() if token and token.lastgroup == "space" else at


def _passes_sign(text: str, token: re.Match[str], position: _Position) -> bool:
    """Whether the statement goes on behind a sign."""
    sign, position.at = token[0], token.end()
    if sign == ";" and position.depth <= 0:
        return False
    if sign == "#" and (position.at < 2 or text[position.at - 2].isspace()):
        end = text.find("\n", position.at, position.at + 200)
        position.at = end if end >= 0 else position.at + 200
        return position.depth > 0
    position.depth += (sign in _OPEN) - (sign in _CLOSE)
    if sign in _BINDING:
        if sign in {"=", ":="} and position.typed:
            position.direct, position.typed = True, False
        elif sign != "|":
            position.typed = sign == ":" and not position.bound
        position.bound = True
    elif sign in {",", "("}:
        position.bound = True
    # YAML's `>-` and `|+` go on below as `>` and `|` do.
    if not (sign in {"-", "+"} and position.last in {">", "|"}):
        position.last = sign
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


def _is_name(text: str, value: _Value, position: _Position) -> bool:
    """Whether a word or text is the name of another value: `=` or `:` follows, and none stands before it."""
    at = _after_closing_quote(text, value.after) if value.quoted and value.after == value.end else value.after
    sign = _SPACE_AND_SIGN.match(text, at)
    if sign is None or sign[1] not in {"=", ":", ":="}:
        return False
    return not (position.last in _BINDING and position.lines == 0) or (position.last == "|" and not position.typed)


def _goes_through(word: str, name: Name, position: _Position) -> bool:
    """Whether the name before goes on to count behind another name."""
    if word.lower() in _TRANSPARENT:
        return True
    if strength_of(word) != "none":
        return False
    return name.holds and position.depth > 0 and not is_denied(word)


def _pass_value(value: _Value, position: _Position) -> None:
    position.at = value.after
    # What follows the `:` of an annotation is a type, until `=` says that a value comes.
    if value.text.lower() not in _TRANSPARENT:
        position.direct = False
    elif value.text.lower() in _BINDING_WORDS:
        position.bound = True
    position.last = "word"


def _kind(text: str, value: _Value, name: Name, position: _Position, *, wide: bool) -> str | None:
    """Which kind of secret a value of this name is; None where it is none."""
    if not value.quoted and text[value.end : value.end + 1] in _OPEN:
        return None
    if wide and _must_be_masked(value, name, position):
        return GUESSED
    if is_placeholder(value.text):
        return None
    if is_hex(value.text) or is_uuid(value.text):
        return _kind_of_hex(value, name, position, option=text.startswith("--", name.start))
    if name.strength == "password" and position.direct and position.bound and _is_password(value):
        return "a password"
    sure = position.direct and position.bound and name.strength != "weak"
    noisy = is_random(value.text) or (sure and is_keylike(value.text))
    return GUESSED if noisy and _is_long_enough(value, name, position) else None


def _is_long_enough(value: _Value, name: Name, position: _Position) -> bool:
    """Whether a value is as long as a key; what a weak name is farther from must be longer."""
    far = not position.direct and name.strength == "weak"
    return len(value.text) >= _LEAST[name.strength] + 4 * far and (position.bound or position.direct)


def _kind_of_hex(value: _Value, name: Name, position: _Position, *, option: bool) -> str | None:
    """A hash and a UUID have this form too: only the name right before it makes it a key."""
    direct = position.direct and (position.bound or name.strength != "weak")
    called, length = name.text.lower(), len(value.text)
    if length == 32 and direct and ("kaggle" in called or called == "key"):
        return "a Kaggle key"
    if length == 40 and ("wandb" in called or (direct and called.endswith("key"))):
        return "a Weights & Biases key"
    given = position.direct and (option or position.last == "=")
    if called.rpartition(".")[2] == "token" and given and length in _HEX_TOKENS:
        return GUESSED
    if name.strength == "weak" or (is_uuid(value.text) and not direct):
        return None
    return GUESSED if length >= 20 or (direct and is_password(value.text)) else None


def _is_password(value: _Value) -> bool:
    """Whether a text called a password is one. Without quotes it may be a variable of a program, and needs more."""
    bare = len(value.text) >= 8 and bool(_NO_VARIABLE.search(value.text))
    return (value.quoted or bare) and is_password(value.text)


def _must_be_masked(value: _Value, name: Name, position: _Position) -> bool:
    if not (position.direct and position.bound) or is_no_password(value.text):
        return False
    if is_wordy(value.text) or _NUMBER.fullmatch(value.text):
        return False
    return len(value.text) >= (4 if name.strength == "password" else 16)
