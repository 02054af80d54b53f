"""Secrets that are known: this user's own login and proxy's, in every form in which a text may repeat them."""

from __future__ import annotations

import base64
import html
import json
import os
import re
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus, unquote

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SHOWN = "<secret>"
_SHORTEST = 4
_SHORTEST_ALONE = 8
"""Below so many characters a proxy's password may be a plain word: only its user name beside it makes it one."""
_SHORTEST_CORE = 12
_PROXY = re.compile(r"(?i)^(?:https?|all|ftp|socks\d?[ah]?)_proxy$")
_ESCAPED = re.compile(r"%[0-9A-F]{2}")


def redact(text: str, forms: Iterable[str]) -> str:
    """`text` with each of `forms` replaced, the longest first."""
    for form in sorted((form for form in forms if form in text), key=len, reverse=True):
        text = text.replace(form, SHOWN)
    return text


@lru_cache(maxsize=64)
def forms(secret: str, user: str = "") -> frozenset[str]:
    """The texts by which `secret` is known: itself, escaped as in JSON, HTML and addresses, and in Base64.

    In Base64 alone, behind `user` and a colon as a header of kind Basic has it, and behind anything else. One of fewer
    than four characters has none: it would be found everywhere.
    """
    if len(secret) < _SHORTEST:
        return frozenset()
    plain = {secret, *_escaped(secret)}
    packed: set[str] = set()
    for text in {secret, f":{secret}", f"{user}:{secret}"}:
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            whole = encode(text.encode("utf-8", "surrogateescape")).decode()
            packed |= {whole, whole.rstrip("="), quote(whole, safe=""), _small(quote(whole, safe=""))}
    return frozenset(form for form in plain | packed | _cores(secret) if len(form) >= _SHORTEST)


def _escaped(secret: str) -> set[str]:
    escaped = {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1]}
    escaped |= {json.dumps(secret)[1:-1].replace("/", "\\/"), html.escape(secret), html.escape(secret, quote=False)}
    for safe in ("", "/", "~!*'()", ":@/"):
        once = quote(secret, safe=safe, errors="surrogateescape")
        escaped |= {once, _small(once), quote(once, safe="")}
    return escaped | {quote_plus(secret, errors="surrogateescape")}


def _small(escaped: str) -> str:
    """Percent escapes with small letters, as some servers write them."""
    return _ESCAPED.sub(lambda match: match[0].lower(), escaped)


def _cores(secret: str) -> set[str]:
    """The parts of the Base64 of a longer text that the secret alone decides, wherever in that text it begins."""
    data = secret.encode("utf-8", "surrogateescape")
    cores = set()
    for before in range(3):
        whole = base64.b64encode(b"\0" * before + data).decode().rstrip("=")
        first = -(-before * 8 // 6)
        last = (before + len(data)) * 8 // 6
        core = whole[first:last]
        cores |= {core, core.translate(str.maketrans("+/", "-_"))}
    return {core for core in cores if len(core) >= _SHORTEST_CORE}


def proxy_forms(environment: Mapping[str, str] | None = None) -> frozenset[str]:
    """The forms of the passwords that the proxy variables of `environment` (this process's) hold."""
    variables = (os.environ if environment is None else environment).items()
    addresses = (value for name, value in variables if _PROXY.match(name))
    return frozenset().union(*map(_forms_of_proxy, addresses))


def _forms_of_proxy(address: str) -> set[str]:
    """The user name and password of an address, as they stand, and the forms of both."""
    login, at, _ = address.rpartition("@")
    user, colon, password = login.rpartition("//")[2].partition(":")
    if not (at and colon and password):
        return set()
    texts = {f"{user}:{password}@", f"{user}:{password}"}
    for name, secret in {(user, password), (unquote(user), unquote(password))}:
        alone = forms(secret, name) if len(secret) >= _SHORTEST_ALONE else frozenset[str]()
        basic = base64.b64encode(f"{name}:{secret}".encode("utf-8", "surrogateescape")).decode()
        texts |= {*alone, basic, basic.rstrip("="), f"{name}:{secret}"}
    return {text for text in texts if len(text) >= _SHORTEST}


def without_login(address: str) -> str:
    """An address without the user name and password in it."""
    head, at, host = address.rpartition("@")
    scheme, slashes, _ = head.partition("//")
    return f"{scheme}{slashes}{host}" if at and slashes else (host if at else address)
