"""The model's own chat template around the author's: one user turn, and the start of the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from kaggle_kit.errors import ModelError, OutsideError
from kaggle_kit.outside import MEGA, read_text
from kaggle_kit.runtime.checkpoint import read_table

if TYPE_CHECKING:
    from pathlib import Path

_PLACE = "KIT-PLACE-OF-THE-PROMPT"
_MOST_LETTERS = 1_000_000
"""Of what a chat template makes of one turn; the longest add a system prompt of some thousand letters."""


def wrap_in_chat(template: str, model: Path) -> str:
    """The author's template where the chat template of the model in the folder `model` puts a user's words.

    The result holds the special tokens, the one at its start included, as words. The chat template runs in Jinja's
    sandbox, as transformers runs it; that bounds neither time nor memory, which `guard.Guard.chat` does.

    Raises ModelError if the model has none, or it does not repeat the user's words, or makes too much of them.
    """
    source, words = _chat_template(model)
    rendered = _render(source, words, model)
    before, place, after = rendered.partition(_PLACE)
    if not place or _PLACE in after:
        raise ModelError(f"the chat template of {model} does not repeat a user's words exactly once; set chat = False")
    return before + template.strip("\n") + after


def _chat_template(model: Path) -> tuple[str, dict[str, str]]:
    """The chat template, and the special tokens that it may name (`bos_token` …)."""
    config = read_table(model / "tokenizer_config.json", "a tokenizer's settings")
    source = _own_file(model / "chat_template.jinja") or config.get("chat_template")
    if isinstance(source, list):
        templates = (entry for entry in source if isinstance(entry, dict) and entry.get("name") == "default")
        source = next((entry.get("template") for entry in templates), None)
    if not isinstance(source, str):
        raise ModelError(f"{model} has no chat template (tokenizer_config.json, chat_template.jinja); set chat = False")

    words = {}
    for key in ("bos_token", "eos_token", "unk_token", "pad_token"):
        value = config.get(key)
        word = value.get("content") if isinstance(value, dict) else value
        words[key] = word if isinstance(word, str) else ""
    return source, words


def _own_file(path: Path) -> str | None:
    if not path.is_file():
        return None
    try:
        return read_text(path, most_bytes=MEGA, follow=True)
    except OutsideError as error:
        raise ModelError(f"{error}; set chat = False") from error


def _render(source: str, words: dict[str, str], model: Path) -> str:
    import jinja2
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def refuse(message: Any = "") -> NoReturn:
        raise jinja2.TemplateError(str(message))

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals["raise_exception"] = refuse

    pieces: list[str] = []
    letters = 0
    turns = [{"role": "user", "content": _PLACE}]
    try:
        for piece in environment.from_string(source).generate(messages=turns, add_generation_prompt=True, **words):
            letters += len(piece)
            if letters > _MOST_LETTERS:
                break
            pieces.append(piece)
    except MemoryError:
        raise
    except Exception as error:  # a template can raise anything
        raise ModelError(f"the chat template of {model} fails: {str(error)[:500]}; set chat = False") from error
    if letters > _MOST_LETTERS:
        raise ModelError(
            f"the chat template of {model} makes more than {_MOST_LETTERS:,} letters of one turn; set chat = False"
        )
    return "".join(pieces)
