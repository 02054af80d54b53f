"""Files that someone else wrote: read as data, and no more of them than a reader can use.

A device, a pipe or a socket under a file's name is not opened for reading: it would wait or never end. JSON is measured
before it is parsed, because an object takes up to thirty times its text in memory and the parser calls itself for each
level.
"""

from __future__ import annotations

import json
import os
import re
import stat
from itertools import accumulate
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

from kaggle_kit.errors import OutsideError

if TYPE_CHECKING:
    from pathlib import Path

MEGA = 1 << 20
BYTE_ORDER_MARK = "\ufeff"
"""What editors of Windows write at the beginning of a file."""
_CHUNK_BYTES = 1 << 20
_MOST_VALUES = 4_000_000
"""Values of one JSON text: a tokenizer of 260,000 tokens and 600,000 merges has half of it."""
_MOST_DIGITS = 100
"""transformers writes 10^30 for "no limit"; a float ends at 10^308, and two such numbers must still multiply."""
_MOST_DOTS = 30
"""Of one key: those of real files have five."""
_SHOWN = 80
_LONG_NUMBER = re.compile(f"(?<![0-9])[0-9]{{{_MOST_DIGITS + 1}}}".encode())
_STRING = re.compile(rb'"[^"]*"?')
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")
_SURROGATES = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\."
)
_NOT_OF_KEYS = re.compile(r"[^.=\n\[\]{},]+")
# What TOML quotes, each to its end or to where the parser gives up, and its comments.
_QUOTED = re.compile(
    r"#[^\n]*|'{3}.*?(?:'{3}|\Z)|'[^'\n]*'?"
    r'|"{3}[^"\\]*(?:(?:\\.|"(?!""))[^"\\]*)*(?:"{3}|\Z)|"[^"\\\n]*(?:\\.[^"\\\n]*)*"?',
    re.DOTALL,
)


def open_file(path: Path, *, follow: bool = False) -> BinaryIO:
    """A regular file, open for reading; a pipe or a device is not waited for.

    `follow`: whether a link at `path` itself is followed; what it leads to must be a regular file too. Raises
    OutsideError where there is no such file, or it is something else.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY | (0 if follow else os.O_NOFOLLOW)
    try:
        if not follow and path.is_symlink():
            _refuse(path, "is a link, and only a file of its own is read here", "put the file itself there")
        descriptor = os.open(path, flags)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        _refuse(path, f"cannot be read: {_reason(error)}", "see that the file is there and readable")
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        _refuse(path, "is no regular file", "remove it, or put the file itself there")
    return os.fdopen(descriptor, "rb")


def read_bytes(path: Path, *, most_bytes: int, follow: bool = False) -> bytes:
    """The bytes of a regular file (`open_file`) of at most `most_bytes`.

    Raises OutsideError where there is no such file, it is larger, or the system cannot read it.
    """
    with open_file(path, follow=follow) as stream:
        try:
            return _read(stream, path, most_bytes)
        except OSError as error:
            _refuse(path, f"cannot be read: {_reason(error)}", "see that the file is readable")


def read_text(path: Path, *, most_bytes: int, follow: bool = False) -> str:
    """`read_bytes` as UTF-8. Raises OutsideError as it does, and for bytes that are not UTF-8."""
    raw = read_bytes(path, most_bytes=most_bytes, follow=follow)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        _refuse(path, f"is not UTF-8: {error.reason} at byte {error.start:,}", "save it as UTF-8, or fetch it again")


def read_json(
    path: Path, *, most_bytes: int = 64 * MEGA, most_depth: int = 100, follow: bool = False, once: bool = False
) -> Any:
    """The JSON value of a regular file (`read_bytes`), parsed by `parse_json`. Raises OutsideError."""
    raw = read_bytes(path, most_bytes=most_bytes, follow=follow)
    return parse_json(raw, str(path), most_depth=most_depth, once=once)


def parse_json(raw: bytes, name: str, *, most_depth: int = 100, once: bool = False) -> Any:
    """The value of the JSON text `raw`, UTF-8; `name` is what errors call it.

    NaN and infinities are read, as Python writes them. `once`: whether a name may stand only once in an object (else
    the last one counts). Raises OutsideError where it is no JSON, nests deeper than `most_depth`, holds too many
    values, a number of more than 100 digits, or half a character (a surrogate alone).
    """
    try:
        text = raw.decode("utf-8")
        _measure(raw, name, most_depth)
        # A hook for numbers makes the parser slower, and hardly any text needs it.
        parse_int = _short_int if _LONG_NUMBER.search(raw) else None
        body = json.loads(text, parse_int=parse_int, object_pairs_hook=_once if once else None)
        if _HALF.search(raw):
            json.dumps(body, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        _refuse(name, f"cannot be read as JSON: {_reason(error)}", "fetch or make it again")
    return body


def whole_characters(raw: bytes) -> bytes:
    """A JSON text with a question mark of its own, U+FFFD, for each half of a character: a log may be cut in one."""
    if not _HALF.search(raw):
        return raw
    return _SURROGATES.sub(lambda match: rb"\ufffd" if match[1] else match[0], raw)


def read_toml(path: Path, *, most_bytes: int = 4 * MEGA, follow: bool = False) -> dict[str, Any]:
    """The table of a TOML file (`read_bytes`). Raises OutsideError where it is no TOML, or nests too deep."""
    return parse_toml(read_text(path, most_bytes=most_bytes, follow=follow), str(path))


def parse_toml(text: str, name: str) -> dict[str, Any]:
    """The table of a TOML text; `name` is what errors call it. Raises OutsideError."""
    import tomllib

    # The parser's time and memory grow with the square of a key's parts. What its quotes hold is not looked into.
    if text.count(".") > _MOST_DOTS and "." * (_MOST_DOTS + 1) in _NOT_OF_KEYS.sub("", _QUOTED.sub("", text)):
        _refuse(name, f"has a key of more than {_MOST_DOTS} parts", "write it again")
    try:
        return tomllib.loads(text.removeprefix(BYTE_ORDER_MARK))
    except (ValueError, RecursionError) as error:
        _refuse(name, f"cannot be read as TOML: {_reason(error)}", "correct it, or write it anew")


def shown(value: Any) -> str:
    """A value of a file as an error shows it: its beginning, in one line."""
    text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _read(stream: BinaryIO, path: Path, most_bytes: int) -> bytes:
    size = os.fstat(stream.fileno()).st_size
    if size > most_bytes:
        _too_large(path, f"{size:,}", most_bytes)
    chunks: list[bytes] = []
    left = most_bytes + 1  # a file may grow, and those of /proc say 0
    while left > 0 and (chunk := stream.read(min(left, _CHUNK_BYTES))):
        chunks.append(chunk)
        left -= len(chunk)
    if left <= 0:
        _too_large(path, f"more than {most_bytes:,}", most_bytes)
    return b"".join(chunks)


def _too_large(path: Path, size: str, most_bytes: int) -> NoReturn:
    _refuse(path, f"has {size} bytes, and at most {most_bytes:,} are read", "see that it is the right file")


def _measure(raw: bytes, name: str, most_depth: int) -> None:
    """Refuse a text with too many values or levels, counted outside of its strings."""
    if _openers(raw) <= most_depth and raw.count(b",") <= _MOST_VALUES:
        return
    plain = raw.replace(rb"\\", b"").replace(rb"\"", b"")
    if plain.count(b'"') > 4 * _MOST_VALUES:
        _refuse(name, f"holds more than {_MOST_VALUES:,} values", "see that it is the right file")
    plain = _STRING.sub(b"", plain)
    if plain.count(b",") + _openers(plain) > _MOST_VALUES:
        _refuse(name, f"holds more than {_MOST_VALUES:,} values", "see that it is the right file")
    brackets = plain.translate(None, _NO_BRACKETS)
    if max(accumulate(map(_STEPS.__getitem__, brackets)), default=0) > most_depth:
        _refuse(name, f"nests more than {most_depth} levels deep", "see that it is the right file")


def _openers(raw: bytes) -> int:
    return raw.count(b"[") + raw.count(b"{")


def _short_int(digits: str) -> int:
    if len(digits) > _MOST_DIGITS + 1:
        raise ValueError(f"a number of {len(digits):,} digits")
    return int(digits)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object in which no name stands twice."""
    table = dict(pairs)
    if len(table) < len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise ValueError(f"{shown(name)} stands twice")
            seen.add(name)
    return table


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeEncodeError):
        return "it holds half a character (a surrogate alone)"
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__


def _refuse(name: Path | str, what: str, step: str) -> NoReturn:
    raise OutsideError(f"{name} {what}; {step}") from None
