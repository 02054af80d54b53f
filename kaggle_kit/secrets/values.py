"""Whether a text can be a secret: noise that nobody would type, and no placeholder, path, hash or identifier.

The words by which values and their names are judged are in words.toml.
"""

from __future__ import annotations

import base64
import math
import re
import tomllib
from collections import Counter
from pathlib import Path

_LISTS = tomllib.loads(Path(__file__).with_name("words.toml").read_text(encoding="utf-8"))


def words(name: str) -> frozenset[str]:
    """One list of words.toml."""
    return frozenset(_LISTS[name].split())


_PLACEHOLDER = re.compile(
    r"x{4}|X{4}|\*{3}|\.{3}|…|0{8}|_{4}|-{4}|#{3}|<|>|\$\{|\{\{|\{[A-Za-z_]|%\(|^\$|^%[A-Za-z_]+%$|^%[sd]$"
    r"|(?i:example|placeholder|dummy|redacted|insert|change.?me|replace.?(?:me|with|this)|not.?a.?secret|hidden"
    r"|(?<![A-Za-z0-9])(?:your|my.?secret|todo|fake|mock|sample|demo|(?:put|enter|paste|fill|add)[ _.-]))"
)
_NO_PASSWORDS, _EXTENSIONS = words("no_passwords"), words("extensions")
_URL = re.compile(r"(?i)^[a-z][a-z0-9+.-]{1,20}:/|^\.{1,2}/|^~/|^www\.")
_PARTS = re.compile(r"[_./=~+-]+")
_DIGIT_RUNS = re.compile(r"\d+")
_HEX = re.compile(r"[0-9a-f]+|[0-9A-F]+")
_UUID = re.compile(r"(?i)[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
_WORD = re.compile(r"(?:[a-z]{1,20}|[A-Z]{1,20}|[a-z]*+(?:[A-Z]{1,2}+[a-z]++)++)\d{0,4}")
_KEYLIKE = re.compile(r"(?=[^a-z]{0,500}[a-z])(?=[^A-Z]{0,500}[A-Z])[A-Za-z]{1,500}\d[A-Za-z0-9]{1,500}(?<=.{16})")
_HYPHENS = re.compile("[-_]")
_CAMEL = re.compile(r"[a-z]*+(?:[A-Z]{1,2}+[a-z]++)++\d{0,4}")
_CODED = re.compile(r"\d|[a-z][A-Z]")
_DIGEST = re.compile(r"(?i)(?:sha|md)\d{1,3}[-:=]|^\$2[aby]\$|^\$(?:argon2|pbkdf2|scrypt|[156]\$)|^pbkdf2")
_TIME = re.compile(r"\d{4}-?\d{2}-?\d{2}[T _-]?\d{2}[:_-]?\d{2}")
_ONE_KIND = re.compile(r"[a-z]+|[A-Z]+|\d+|[^A-Za-z\d]")
_SEPARATORS = "_-. /:,;()[]"
_LEAST_BITS = 2.5
_NAMED_BITS = 3.2
"""Bits a sign below which a text is no random one: of a known form, and of one that is known by its name alone."""
_LEAST_SIGNS = math.ceil(2**_NAMED_BITS)
_LEAST_CHANGES = 0.4
"""Of 20 random letters and digits, 12 differ in kind from the one before; of a name in CamelCase, 6 at most."""


def is_placeholder(value: str) -> bool:
    """Whether `value` stands for a secret that a reader is to put there."""
    return bool(_PLACEHOLDER.search(value))


def is_varied(value: str) -> bool:
    """Whether `value` is no repetition of few signs."""
    return bits(value) >= _LEAST_BITS


def bits(value: str) -> float:
    """The entropy of the signs of `value`, in bits a sign."""
    counts = Counter(value).values()
    return -sum(count / len(value) * math.log2(count / len(value)) for count in counts)


def is_mixed(value: str) -> bool:
    """Whether a part of `value` is no word: letters and digits in turn. Names are words with digits at an end."""
    return any(_is_noise(part) for part in _PARTS.split(value)) and is_varied(value)


def _is_noise(part: str) -> bool:
    if len(part) >= 8 and len(_DIGIT_RUNS.findall(part)) >= 2:
        return True
    return len(part) >= 12 and _changes(part) >= _LEAST_CHANGES and not _CAMEL.fullmatch(part)


def is_keylike(value: str) -> bool:
    """Whether `value` is small letters, capitals and digits in one, as keys are and hardly a name is."""
    return bool(_KEYLIKE.fullmatch(_HYPHENS.sub("", value))) and not is_wordy(value) and bits(value) >= _NAMED_BITS


def _is_mostly_noise(value: str) -> bool:
    """Whether half of `value` is noise: names of models and files have a coded word among others."""
    parts = _PARTS.split(value)
    noise = sum(len(part) for part in parts if _is_noise(part))
    if 2 * noise >= len(value) or len(parts) == 1:
        return 2 * noise >= len(value)
    # Base64 with its signs falls into short parts.
    coded = len(value) >= 16 and len(_DIGIT_RUNS.findall(value)) >= 2
    return coded and _changes("".join(parts)) >= _LEAST_CHANGES


def may_be_noise(word: str) -> bool:
    """Whether `word`, or a part of it, may be a value that `is_random`, hex or a UUID: quick, and never wrongly no."""
    if not _CODED.search(word):
        return False
    parts = _PARTS.split(word)
    if any(_is_noise(part) for part in parts) or _changes("".join(parts)) >= _LEAST_CHANGES:
        return True
    return bool(_KEYLIKE.fullmatch(_HYPHENS.sub("", word))) or is_uuid(word)


def _changes(text: str) -> float:
    """The share of signs that differ in kind (small, capital, digit) from the one before."""
    return (len(_ONE_KIND.findall(text)) - 1) / max(1, len(text) - 1)


def is_coded(value: str) -> bool:
    """Whether a part of `value` may be the beginning of a secret that was cut: a long word with digits or capitals."""
    return any(len(part) >= 8 and _CODED.search(part) for part in _PARTS.split(value))


def is_wordy(value: str) -> bool:
    """Whether `value` is words joined by signs, as identifiers and file names are."""
    parts = _PARTS.split(value)
    return len(parts) > 1 and all(len(part) <= 6 or _WORD.fullmatch(part) for part in parts)


def is_hex(value: str) -> bool:
    """Whether `value` is hexadecimal digits of one case, with both digits and letters, as hashes are and some keys."""
    return bool(_HEX.fullmatch(value)) and not value.isalpha() and not value.isdigit()


def is_uuid(value: str) -> bool:
    """Whether `value` is a UUID in its usual form."""
    return bool(_UUID.fullmatch(value))


def is_random(value: str) -> bool:
    """Whether `value` is noise and no address, path, file name, time or named digest; hex and UUIDs aside."""
    # What costs least comes first: most words are none.
    if len(set(value)) < _LEAST_SIGNS or not _is_mostly_noise(value):
        return False
    if _is_place(value) or _DIGEST.search(value) or _TIME.search(value):
        return False
    return bits(value) >= _NAMED_BITS


def _is_place(value: str) -> bool:
    """Whether `value` is an address, a path, or the name of a file or a host."""
    return bool(_URL.search(value)) or ("." in value and value.rpartition(".")[2].lower() in _EXTENSIONS)


def is_password(value: str) -> bool:
    """Whether `value`, called a password, is one: letters with digits or other signs, and no word for one."""
    if not 6 <= len(value) <= 128 or _is_place(value) or _DIGEST.search(value):
        return False
    letters = any(one.isalpha() for one in value)
    others = any(not one.isalpha() and one not in _SEPARATORS for one in value)
    return letters and others and not is_no_password(value)


def is_no_password(value: str) -> bool:
    """Whether `value` is a placeholder for a password, or one of those that everybody knows."""
    said = set(re.sub(r"[\d_\W]+", " ", value.lower()).split())
    return not value.strip("*.xX-_") or is_placeholder(value) or (bool(said) and said <= _NO_PASSWORDS)


def is_basic_login(value: str) -> bool:
    """Whether `value` is a user name and a password in the Base64 of an Authorization header."""
    try:
        plain = base64.b64decode(value + "=" * (-len(value) % 4), altchars=b"-_" if set(value) & {"-", "_"} else None)
        user, colon, password = plain.decode("utf-8").partition(":")
    except ValueError:
        return False
    return bool(colon) and (user + password).isprintable() and bool(password) and not is_no_password(password)
