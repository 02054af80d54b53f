"""The catalogue: the forms by which a key, token or password is known, and where they stand in a text.

Every repeat in a pattern has an upper bound and none stands inside another, so no text makes one slow.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING

from kaggle_kit.secrets.values import (
    is_basic_login,
    is_coded,
    is_hex,
    is_keylike,
    is_mixed,
    is_no_password,
    is_placeholder,
    is_random,
    is_uuid,
    is_varied,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Test = Callable[[str], bool]

Span = tuple[str, int, int]
"""The kind of a secret, its start and its end in a text."""
LONGEST = 4096
"""Characters of the longest value that is taken as one, and of one that is masked without being known whole."""
_LONGEST_CUT = 300
PRIVATE_KEY = "a private key"
_RUN = 16
"""A value goes on for at least so many characters after the sign that ends its beginning."""


@dataclass(frozen=True)
class Format:
    """A form of secret. `kind`: a noun with its article. `begins`: texts with one of which every match begins.

    `pattern` fits from there; its first group, where it has one, is the secret. `loose` is the pattern for masking, by
    default the same. `before`: what must stand right before it; `near`: words of which one must stand before it on its
    line. `test`: what the value must pass to be told of, `loose_test` to be masked. Without `begins` the pattern's own
    first sign is searched for.
    """

    kind: str
    begins: tuple[str, ...]
    pattern: str
    loose: str = ""
    before: str = ""
    near: tuple[str, ...] = ()
    test: Test = is_varied
    loose_test: Test | None = None
    inside: bool = False
    """Whether it may stand in the middle of a word."""
    alone: bool = False
    """Whether a hyphen before it makes it a part of a longer word."""

    @cached_property
    def strict(self) -> re.Pattern[str]:
        """What a secret that is reported fits."""
        return re.compile(self.pattern)

    @cached_property
    def masked(self) -> re.Pattern[str]:
        """What a secret that is masked fits."""
        return re.compile(self.loose or self.pattern)

    @cached_property
    def head(self) -> re.Pattern[str] | None:
        """What the text before it must end with."""
        return re.compile(rf"{self.before}\Z") if self.before else None


def _anything(_: str) -> bool:
    return True


def _is_long_or_coded(value: str) -> bool:
    return len(value) >= 20 or is_coded(value)


def _is_noise(value: str) -> bool:
    return is_hex(value) or is_uuid(value) or is_random(value) or is_keylike(value)


def _begun_by(kind: str, *begins: str, rest: str, test: Test = is_varied, cut: bool = True) -> Format:
    """A form that is known by how it begins; `cut`: in a log a short rest of it is masked, too."""
    first = "|".join(map(re.escape, begins))
    loose = rf"(?:{first})[A-Za-z0-9_-]{{8,{_LONGEST_CUT}}}" if cut else ""
    return Format(
        kind, begins, rf"(?:{first}){rest}", loose, test=test, loose_test=is_coded, alone=begins[0].endswith("-")
    )


_WORD = r"[A-Za-z0-9]"
_URL64 = r"[A-Za-z0-9_-]"
_HEX = r"[0-9a-f]"
_END = r"(?![A-Za-z0-9])"

# Beginnings that end in `_` or `-`, after which at least 16 signs of a value stand: found in one pass.
_MARKED: tuple[Format, ...] = (
    _begun_by("a Kaggle token", "KGAT_", rest=rf"{_WORD}{{16,200}}"),
    _begun_by("a Hugging Face token", "hf_", "api_org_", rest=rf"{_WORD}{{30,200}}"),
    _begun_by("an Anthropic key", "sk-ant-", rest=rf"{_URL64}{{20,300}}"),
    _begun_by("an OpenAI key", "sk-", rest=rf"(?!ant-)(?:[a-z0-9]{{2,10}}-){{0,2}}{_URL64}{{20,300}}", test=is_mixed),
    _begun_by("a GitHub token", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", rest=rf"{_WORD}{{36,300}}"),
    _begun_by("a GitHub token", "github_pat_", rest=r"[A-Za-z0-9_]{50,300}"),
    _begun_by(
        "a GitLab token",
        *("glpat-", "gldt-", "glrt-", "glcbt-", "glptt-", "glft-", "glimt-", "glagent-", "glsoat-", "gloas-"),
        *("glrtr-", "glffct-", "GR1348941"),
        rest=rf"{_URL64}{{16,300}}",
    ),
    _begun_by("a PyPI token", "pypi-", rest=rf"AgE{_URL64}{{50,600}}"),
    _begun_by("an npm token", "npm_", rest=rf"{_WORD}{{36}}{_END}"),
    _begun_by("a Stripe key", "sk_live_", "sk_test_", "rk_live_", "rk_test_", rest=rf"{_WORD}{{16,250}}"),
    _begun_by("a Stripe key", "whsec_", rest=r"[A-Za-z0-9+/=]{32,100}"),
    _begun_by(
        "a Slack token",
        *("xoxa-", "xoxb-", "xoxe-", "xoxo-", "xoxp-", "xoxr-", "xoxs-", "xapp-", "xoxc-", "xoxd-"),
        rest=r"[0-9A-Za-z%+/-]{20,300}",
    ),
    _begun_by("a Groq key", "gsk_", rest=rf"{_WORD}{{40,100}}"),
    _begun_by("a Replicate token", "r8_", rest=rf"{_WORD}{{36,60}}"),
    _begun_by("an xAI key", "xai-", rest=rf"{_WORD}{{60,120}}"),
    _begun_by("a Perplexity key", "pplx-", rest=rf"{_WORD}{{40,80}}"),
    _begun_by("an NVIDIA key", "nvapi-", rest=rf"{_URL64}{{40,120}}"),
    _begun_by("a Tavily key", "tvly-", rest=rf"(?:dev-|prod-){{0,1}}{_URL64}{{20,80}}"),
    _begun_by("a LangSmith key", "lsv2_pt_", "lsv2_sk_", rest=rf"{_HEX}{{32}}_{_HEX}{{10}}"),
    _begun_by("a Pinecone key", "pcsk_", rest=r"[A-Za-z0-9_]{40,120}"),
    _begun_by("a Fireworks key", "fw_", rest=rf"{_WORD}{{22,40}}{_END}", cut=False),
    _begun_by("a Weights & Biases key", "wandb_v1_", rest=r"[A-Za-z0-9_]{20,200}"),
    _begun_by("a Google key", "GOCSPX-", rest=rf"{_URL64}{{28}}"),
    _begun_by("a Mailgun key", "key-", rest=rf"{_HEX}{{32}}{_END}", cut=False),
    _begun_by("a DigitalOcean token", "dop_v1_", "doo_v1_", "dor_v1_", rest=rf"{_HEX}{{64}}"),
    _begun_by("a Heroku key", "HRKU-", rest=rf"{_URL64}{{30,80}}"),
    _begun_by("a Linear key", "lin_api_", rest=rf"{_WORD}{{32,60}}"),
    _begun_by("a Notion token", "ntn_", rest=rf"{_WORD}{{40,60}}"),
    _begun_by("a Notion token", "secret_", rest=rf"{_WORD}{{43}}{_END}", cut=False),
    _begun_by("a Sentry token", "sntrys_", "sntryu_", rest=r"[A-Za-z0-9+/=_-]{40,400}"),
    _begun_by("a Docker token", "dckr_pat_", "dckr_oat_", rest=rf"{_URL64}{{20,80}}"),
    _begun_by("a Shopify token", "shpat_", "shpca_", "shppa_", "shpss_", rest=r"[0-9a-fA-F]{32}"),
    _begun_by("a Grafana token", "glsa_", "glc_", rest=r"[A-Za-z0-9+/=_]{32,300}"),
    _begun_by("a Supabase token", "sbp_", rest=rf"{_HEX}{{40}}"),
    _begun_by("a Postman key", "PMAK-", rest=rf"{_HEX}{{24}}-{_HEX}{{34}}"),
    _begun_by("an age key", "AGE-SECRET-KEY-", rest=r"1[A-Z0-9]{58}"),
    _begun_by("a Databricks token", "dapi-", rest=rf"{_HEX}{{32}}", cut=False),
)
_OTHERS: tuple[Format, ...] = (
    Format(
        "an AWS key",
        ("AKIA", "ASIA"),
        r"A[KS]IA[0-9A-Z]{16}(?![0-9A-Za-z])",
        r"A[KS]IA[\w-]{8,200}",
    ),
    Format("a Google key", ("AIza",), rf"AIza{_URL64}{{35}}(?![0-9A-Za-z])", rf"AIza{_URL64}{{8,200}}"),
    Format("a Google key", ("ya29.",), rf"ya29\.{_URL64}{{30,600}}"),
    Format("a Databricks token", ("dapi",), rf"dapi{_HEX}{{32}}(?:-\d){{0,1}}{_END}"),
    Format("a Twilio key", (), rf"SK{_HEX}{{32}}{_END}"),
    Format("a SendGrid key", ("SG.",), rf"SG\.{_URL64}{{16,32}}\.{_URL64}{{16,64}}"),
    Format("a Mailchimp key", ("-us",), rf"-us\d{{1,2}}{_END}", before=rf"(?<![0-9A-Za-z]){_HEX}{{32}}", inside=True),
    Format("a Vault token", ("hvs.",), rf"hvs\.{_URL64}{{24,200}}"),
    Format(
        "a JSON web token",
        ("eyJ",),
        rf"eyJ{_URL64}{{8,{LONGEST}}}={{0,2}}\.eyJ{_URL64}{{8,{LONGEST}}}={{0,2}}\.{_URL64}{{16,{LONGEST}}}",
        alone=True,
    ),
    Format(
        "a Slack webhook",
        ("hooks.slack.com/",),
        r"hooks\.slack\.com/(?:services|workflows|triggers)/([A-Za-z0-9/]{24,100})",
        inside=True,
    ),
    Format(
        "a Discord webhook",
        ("/api/webhooks/",),
        rf"/api/webhooks/(\d{{15,22}}/{_URL64}{{50,100}})",
        before=r"discord(?:app){0,1}\.com",
        inside=True,
    ),
    Format("a Telegram token", (":AA",), rf":AA{_URL64}{{32,34}}{_END}", before=r"(?:bot|(?<![0-9A-Za-z]))\d{8,10}"),
    Format(
        "an Azure key",
        ("AccountKey=", "AccessKey="),
        r"(?:AccountKey|AccessKey)=([A-Za-z0-9+/%]{40,100}={0,2})",
        inside=True,
    ),
    Format("an Azure key", ("sig=",), r"sig=([A-Za-z0-9%+/]{40,120}={0,2})"),
    Format("an Azure key", ("8Q~",), r"8Q~[A-Za-z0-9_~.-]{31,34}", before=r"[A-Za-z0-9_~.-]{3}", inside=True),
    Format("a Discord token", (), rf"\.{_URL64}{{6}}\.{_URL64}{{27,40}}{_END}", before=rf"[MNO]{_URL64}{{23,27}}"),
    Format("a Sentry DSN", ("://",), rf"://({_HEX}{{32}}(?::{_HEX}{{32}}){{0,1}})@[\w.-]{{1,100}}/\d", inside=True),
    Format(
        "a password in an address",
        ("://",),
        r"://[^\s/:@\"'<>`{}]{0,100}:([^\s/@\"'<>`]{1,200})@[A-Za-z0-9\[%]",
        r"://[^\s/:@]{0,100}:(?!\d{1,5}/)([^\s@]{1,200})@",
        test=lambda value: not is_no_password(value),
        inside=True,
    ),
    Format(
        "a token in an address",
        ("://",),
        rf"://(?!{_HEX}{{32}}@[\w.-]{{1,100}}/\d)([A-Za-z0-9_.~-]{{20,200}})@[A-Za-z0-9\[]",
        test=_is_noise,
        inside=True,
    ),
    Format(
        PRIVATE_KEY,
        ("-----BEGIN ", "---- BEGIN "),
        r"-{4,5} {0,1}BEGIN (?:[A-Z0-9]{1,20} ){0,4}PRIVATE KEY(?: BLOCK){0,1} {0,1}-{4,5}",
        test=_anything,
        inside=True,
    ),
    Format(PRIVATE_KEY, ("PuTTY-User-Key-File",), r"PuTTY-User-Key-File-\d: \S{1,40}", test=_anything, inside=True),
)
# Their words are written in any case: searched in the text in small letters.
_CASELESS: tuple[Format, ...] = (
    Format(
        "a login in a header",
        ("basic ",),
        r"(?i:basic) {1,4}([A-Za-z0-9+/_-]{8,600}={0,2})",
        test=is_basic_login,
        loose_test=_is_long_or_coded,
    ),
    Format(
        "a token in a header",
        ("bearer ",),
        r"(?i:bearer) {1,4}([A-Za-z0-9._~+/-]{16,2000}={0,2})",
        r"(?i:bearer) {1,4}([\w.+/=~-]{8,2000})",
        test=is_coded,
        loose_test=_is_long_or_coded,
    ),
    Format(
        "a password of .netrc",
        ("machine", "default"),
        r"(?i:machine\s{1,9}\S{1,200}|default)\s{1,9}(?i:login)\s{1,9}\S{1,200}\s{1,9}(?i:password)\s{1,9}([^\s\"'<>,]{1,200})",
        test=lambda value: not is_placeholder(value),
        inside=True,
    ),
    Format(
        "a password of a command",
        (" -u ", " --user ", " -u", " --user="),
        r"(?: -u| --user)[ =]{0,2}[\"']{0,1}[A-Za-z0-9._@-]{1,64}:([^\s\"':$@/]{6,128})",
        near=("curl", "wget", "http", "docker", "skopeo"),
        test=lambda value: not is_no_password(value),
        inside=True,
    ),
    Format(
        "a password of a command",
        (" -p ", ' -p"', " -p'"),
        r" -p {0,2}[\"']{0,1}([^\s\"'$]{6,200})",
        near=("docker login", "podman login", "helm registry login", "sshpass"),
        test=lambda value: not is_no_password(value),
        inside=True,
    ),
    Format(
        "a password of a command",
        (" -p",),
        r" -p[\"']{0,1}([^\s\"'$-][^\s\"'$]{5,127})",
        near=("mysql", "mariadb", "sshpass"),
        test=lambda value: not is_no_password(value),
        inside=True,
    ),
)
FORMATS = (*_MARKED, *_OTHERS, *_CASELESS)

_LONGEST_BEFORE, _LONGEST_LINE = 48, 240
# What may stand right before a value although its last sign is a letter: escapes of JSON and of addresses, colours.
_ESCAPE = re.compile(r"(?:\\[nrtbf]|%[0-9A-Fa-f]{2}|\\u[0-9A-Fa-f]{4}|\[[0-9;]{0,8}m)\Z")
_AFTER_MARK = re.compile(rf"[_-](?=[A-Za-z0-9_+/%-]{{{_RUN}}})")
_AFTER_MARK_LOOSE = re.compile(r"[_-](?=[A-Za-z0-9_-]{8})")


def known_by_form(text: str, *, wide: bool = False) -> Iterator[Span]:
    """Every secret of a known form in `text`; with `wide` also what was cut or is no noise."""
    yield from _by_mark(text, wide=wide)
    for form in _OTHERS:
        for begin in form.begins:
            yield from _by_begin(text, text, begin, form, wide=wide)
        if not form.begins:
            places = (match.start() for match in form.strict.finditer(text))
            yield from (span for at in places if (span := _span_at(text, at, form, wide=wide)) is not None)

    small = lower(text)
    for form in _CASELESS:
        for begin in form.begins:
            yield from _by_begin(text, small, begin, form, wide=wide)


def lower(text: str) -> str:
    """`text` in small letters, each where it stood: a few letters have no small form of one sign, and stay."""
    small = text.lower()
    if len(small) == len(text):
        return small
    return "".join(letter if len(sign := letter.lower()) != 1 else sign for letter in text)


@cache
def _marked() -> tuple[tuple[int, ...], dict[str, list[Format]]]:
    """The lengths of the beginnings that end in a mark, the longest first, and which forms each begins."""
    forms: dict[str, list[Format]] = {}
    for form in _MARKED:
        for begin in form.begins:
            forms.setdefault(begin, []).append(form)
    return tuple(sorted({len(begin) for begin in forms}, reverse=True)), forms


def _by_mark(text: str, *, wide: bool) -> Iterator[Span]:
    lengths, forms = _marked()
    begins = tuple(forms)
    marks = _AFTER_MARK_LOOSE if wide else _AFTER_MARK
    done = 0
    for mark in marks.finditer(text):
        head = text[max(0, mark.end() - lengths[0]) : mark.end()]
        if mark.end() <= done or not head.endswith(begins):
            continue
        for length in lengths:
            begin = head[-length:]
            for form in forms.get(begin, ()) if len(begin) == length else ():
                if (span := _span_at(text, mark.end() - length, form, wide=wide)) is not None:
                    done = max(done, span[2])
                    yield span


def _by_begin(text: str, searched: str, begin: str, form: Format, *, wide: bool) -> Iterator[Span]:
    at = searched.find(begin)
    while at >= 0:
        span = _span_at(text, at, form, wide=wide)
        if span is not None:
            yield span
        at = searched.find(begin, max(at + 1, span[2] if span else 0))


def _span_at(text: str, start: int, form: Format, *, wide: bool) -> Span | None:
    if not (form.inside or form.before or _begins_a_word(text, start, alone=form.alone)):
        return None
    match = (form.masked if wide else form.strict).match(text, start)
    if match is None or (form.near and not _near(text, start, form.near)):
        return None

    first, last = match.span(1) if match.re.groups else match.span()
    if form.head is not None:
        head = form.head.search(text[max(0, start - _LONGEST_BEFORE) : start])
        if head is None:
            return None
        first = first if match.re.groups else start - len(head[0])

    value = text[first:last]
    reported = _is_reported(value, form) and (not wide or form.strict.match(text, start) is not None)
    return (form.kind, first, last) if reported or (wide and _is_masked(value, form)) else None


def _is_reported(value: str, form: Format) -> bool:
    return form.test is _anything or (form.test(value) and not is_placeholder(value))


def _is_masked(value: str, form: Format) -> bool:
    begin = next((begin for begin in form.begins if value.startswith(begin)), "")
    return form.loose_test is None or form.loose_test(value[len(begin) :])


def _near(text: str, at: int, words: tuple[str, ...]) -> bool:
    line = text[max(0, at - _LONGEST_LINE) : at].rpartition("\n")[2].lower()
    return any(word in line for word in words)


def _begins_a_word(text: str, at: int, *, alone: bool = False) -> bool:
    """Whether what begins at `at` is no part of a longer word; `alone`: of one with hyphens neither."""
    before = text[max(0, at - 12) : at]
    joined = before[:-1] if alone and before.endswith("-") else before
    if not joined or not (joined[-1].isalnum() or joined[-1] == "_"):
        return True
    return joined is before and bool(_ESCAPE.search(before))
