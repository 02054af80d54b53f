"""What the files beside tokenizer.json say of a tokenizer, read as transformers (5.19) reads them.

They name the special tokens, add tokens that tokenizer.json does not know, and hold the chat templates.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from kaggle_kit.errors import ModelError, OutsideError
from kaggle_kit.outside import MEGA, read_text, shown
from kaggle_kit.runtime.checkpoint import read_table

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

TOKENIZER = "tokenizer.json"
SETTINGS = "tokenizer_config.json"
WORDS_MAP = "special_tokens_map.json"
STANDARD_WORDS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
"""The names by which transformers knows the special tokens of every tokenizer."""
_MOST_ADDED = 200_000
_MOST_TOKENS = 1 << 31
_MOST_TEMPLATES = 64
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")
_BY_THE_FILE = ("", "PreTrainedTokenizer", "TokenizersBackend", "Qwen2Tokenizer", "GPT2Tokenizer")
"""Tokenizer classes that begin and end a text by tokenizer.json alone, in all versions of transformers."""
_BEGIN_BY_THEMSELVES = ("LlamaTokenizer", "CodeLlamaTokenizer", "GemmaTokenizer", "CohereTokenizer")
"""Those for which add_bos_token is True unless it is said, in transformers 4."""
_OF_BYTES = {
    **dict.fromkeys(("LlamaTokenizer", "CodeLlamaTokenizer", "GemmaTokenizer"), False),
    **dict.fromkeys(("Qwen2Tokenizer", "GPT2Tokenizer", "GPTNeoXTokenizer", "CohereTokenizer"), True),
}
"""Classes that transformers 5.19 builds from a vocabulary alone: whether their pre-tokenizer goes by bytes."""
_HTML_TAG = re.compile(r"</?([A-Za-z][A-Za-z0-9]*) ?/?>")
_HTML = """
a abbr b blockquote body br button caption center cite code col dd del div dl dt em footer form h1 h2 h3 h4 h5 h6 head
header hr html i iframe img input ins li link main mark meta nav ol option p pre q s script section select small span
strike strong style sub summary sup table tbody td textarea tfoot th thead title tr tt u ul var video
"""
_HTML_NAMES = frozenset(_HTML.split())
"""Names of HTML's elements: Gemma and others have them as tokens of their own."""


class PieceTokenizer(Protocol):
    """What the label check needs of a tokenizer."""

    def encode(self, text: str) -> list[int]:
        """The token ids of `text`, with the special tokens that the model expects at its start."""

    def pieces(self, token_ids: list[int]) -> list[str]:
        """The vocabulary's own spelling of each token."""

    @property
    def of_bytes(self) -> bool:
        """Whether tokenizer.json cuts a text into bytes (GPT-2's way), not by the signs of sentencepiece."""


@dataclass(frozen=True)
class TokenizerSettings:
    """What the files beside tokenizer.json say, as transformers reads them.

    `named`: special tokens by name (`bos_token` …), as chat templates see them; `nulls`: names that are said to have
    none. `listed`: tokens to add to the tokenizer, `loose`: those to add if it does not have them, each as the fields
    of an AddedToken. `kind`: the tokenizer's class, without "Fast"; `adds`: `add_bos_token` and `add_eos_token`, if
    they are said; `templates`: chat templates by name.
    """

    named: Mapping[str, str] = field(default_factory=dict)
    nulls: frozenset[str] = frozenset()
    listed: tuple[Mapping[str, Any], ...] = ()
    loose: tuple[Mapping[str, Any], ...] = ()
    kind: str = ""
    adds: Mapping[str, bool] = field(default_factory=dict)
    templates: Mapping[str, str] = field(default_factory=dict)


def read_settings(model: Path) -> TokenizerSettings:
    """The settings of the tokenizer in the folder `model`; empty if it has no files beside tokenizer.json.

    Raises ModelError for a file that cannot be read, or that names a token in a way that nobody reads.
    """
    path = model / SETTINGS
    config = _table(path)
    numbered = config.get("added_tokens_decoder")
    mapped = {} if isinstance(numbered, dict) else _table(model / WORDS_MAP)
    further, extra = _further(config, mapped)
    if isinstance(numbered, dict):
        listed = {_number(number, path): _fields(token, path) for number, token in numbered.items()}
    else:
        # Only of tokenizers that were saved before this list does transformers read the two other files.
        config |= mapped
        listed = {}

    words = {name: value for name, value in config.items() if name.endswith("_token") and _is_word(value)}
    words |= {name: value for name, value in further.items() if _is_word(value)}
    order = [name for name in STANDARD_WORDS if name in words] + [name for name in words if name not in STANDARD_WORDS]
    loose = [_fields(value, path) | {"special": True} for value in (*(words[name] for name in order), *extra)]

    if not isinstance(numbered, dict):
        special = {token["content"] for token in loose}
        for word, number in _table(model / "added_tokens.json").items():
            flags = {"special": word in special, "normalized": word not in special}
            listed[_number(number, model / "added_tokens.json")] = {"content": word, **flags}
    if len(listed) + len(loose) > _MOST_ADDED:
        raise ModelError(f"{path} lists more than {_MOST_ADDED:,} tokens; take the tokenizer from another source")

    return TokenizerSettings(
        named={name: _fields(words[name], path)["content"] for name in order},
        nulls=frozenset(name for name in STANDARD_WORDS if name in config and config[name] is None),
        listed=tuple(listed[number] for number in sorted(listed)),
        loose=tuple(loose),
        kind=str(config.get("tokenizer_class") or "").removesuffix("Fast"),
        adds={name: config[name] for name in ("add_bos_token", "add_eos_token") if isinstance(config.get(name), bool)},
        templates=_templates_if_readable(model, config),
    )


def _further(config: Mapping[str, Any], mapped: Mapping[str, Any]) -> tuple[dict[str, Any], list[Any]]:
    """The further special tokens, those with a name and the others.

    They have a name of old, which transformers takes if there is nothing under the new one.
    """
    new, old = "extra_special_tokens", "additional_special_tokens"
    there = {name: config[name] for name in (new, old) if name in config}
    if old in there and not there.get(new):
        there[new] = there.pop(old)

    named: dict[str, Any] = {}
    for value in (there.get(new), mapped.get(new)):
        named |= value if isinstance(value, dict) else {}
    if isinstance(there.get(new), dict):
        del there[new]
    if isinstance(mapped.get(new), list):
        there[new] = [*(there.get(new) or []), *mapped[new]]

    there |= {old: mapped[old]} if old in mapped else {}
    listed = there[new] if new in there else there.get(old)
    return named, listed if isinstance(listed, list) else []


def read_templates(model: Path, config: Mapping[str, Any]) -> dict[str, str]:
    """The chat templates of a model by name, of which transformers takes the one called default.

    Files of their own go before those in `config`, its tokenizer_config.json. Raises ModelError.
    """
    paths = {"default": model / "chat_template.jinja"}
    paths |= {path.stem: path for path in sorted((model / "chat_templates").glob("*.jinja"))[:_MOST_TEMPLATES]}
    try:
        own = {name: read_text(path, most_bytes=MEGA, follow=True) for name, path in paths.items() if path.is_file()}
    except OutsideError as error:
        raise ModelError(f"{error}; set chat = False") from error
    # The last file is of models that see images: their processor's.
    processor = _table(model / "chat_template.json")
    return own or _named(config.get("chat_template")) or _named(processor.get("chat_template"))


def _templates_if_readable(model: Path, config: Mapping[str, Any]) -> dict[str, str]:
    """`read_templates`; none if one cannot be read, which is an error only for those who ask for it."""
    try:
        return read_templates(model, config)
    except ModelError:
        return {}


def _named(value: object) -> dict[str, str]:
    """The templates of a configuration: one text, a list with names, or a table."""
    if isinstance(value, str):
        return {"default": value}
    if isinstance(value, list):
        value = {str(entry.get("name")): entry.get("template") for entry in value if isinstance(entry, dict)}
    pairs = value.items() if isinstance(value, dict) else ()
    return {str(name): text for name, text in pairs if isinstance(text, str)}


def _table(path: Path) -> dict[str, Any]:
    return read_table(path, "a tokenizer's settings") if path.is_file() else {}


def _is_word(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, dict) and isinstance(value.get("content"), str))


def _fields(value: object, path: Path) -> dict[str, Any]:
    """What an AddedToken is made of. Raises ModelError for what is none."""
    if isinstance(value, str):
        return {"content": value, "special": True, "normalized": False}
    if not isinstance(value, dict) or not isinstance(value.get("content"), str):
        raise ModelError(f"{path} lists the token {shown(value)}, which has no content; take it from another source")
    flags = {name: value[name] for name in _FLAGS if isinstance(value.get(name), bool)}
    return {"content": value["content"], **flags}


def _number(value: object, path: Path) -> int:
    try:
        number = int(str(value))
    except ValueError:
        number = -1
    if not 0 <= number < _MOST_TOKENS:
        raise ModelError(f"{path} lists a token of the number {shown(value)}; take the tokenizer from another source")
    return number


def steers(word: str, template: str) -> bool:
    """Whether an added token that is not called special steers a model all the same, as `</think>` does.

    Spaces, names of HTML and plain words do not: they are in the vocabulary for a row's own sake. But what the chat
    template writes does.
    """
    bare = word.strip(" \t\r\n▁")
    if not bare or all(letter.isalnum() or letter in " '’-.,▁" for letter in bare):
        return False
    tag = _HTML_TAG.fullmatch(bare)
    return bare in template or not tag or tag[1].lower() not in _HTML_NAMES


def settings_notes(
    settings: TokenizerSettings, tokenizer: PieceTokenizer, *, prompt: str, begun: bool = False
) -> list[str]:
    """Where the tokens of a prompt may be other ones than in training; `begun`: a chat template begins and ends it."""
    notes = []
    if _OF_BYTES.get(settings.kind) is (not tokenizer.of_bytes):
        notes.append(
            f"{SETTINGS} calls the tokenizer a {settings.kind}, which transformers 5 may build from its vocabulary: "
            f"its tokens are then other ones than those of {TOKENIZER}, by which kit and transformers 4 go; if the "
            f"model was trained so, save the tokenizer again with it"
        )
    return notes if begun else [*notes, *_end_notes(settings, tokenizer, prompt)]


def _end_notes(settings: TokenizerSettings, tokenizer: PieceTokenizer, prompt: str) -> list[str]:
    """Where a prompt may begin or end otherwise than in training."""
    notes, pieces = [], tokenizer.pieces(tokenizer.encode(""))
    bos = settings.named.get("bos_token")
    begins, doubled = bool(bos) and pieces[:1] == [bos], bool(bos) and prompt.startswith(str(bos))
    if begins and doubled:
        notes.append(f"the template begins with {bos!r}, which the tokenizer puts there itself: take it out")
    if settings.kind in _BY_THE_FILE:
        return notes

    ends = pieces[-1:] == [settings.named.get("eos_token")]
    for name, there in (("bos", begins or doubled), ("eos", ends)):
        word = settings.named.get(f"{name}_token")
        said = settings.adds.get(f"add_{name}_token", name == "bos" and settings.kind in _BEGIN_BY_THEMSELVES)
        if not word or said == there:
            continue
        place = "start" if name == "bos" else "end"
        old = f"{word!r} at the {place} of each text" if said else f"no {word!r} at the {place} of a text"
        step = f"begin the template with {word!r}" if said and name == "bos" else "save the tokenizer again with it"
        notes.append(
            f"by {SETTINGS} ({settings.kind}, add_{name}_token) transformers before 5 put {old}; by {TOKENIZER} kit "
            f"and transformers 5 do otherwise: if the model was trained with the older ones, {step}"
        )
    return notes
