"""The model's own chat template around the author's: one user turn, and the start of the answer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NoReturn

from kaggle_kit.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

_PLACE = "KIT-PLACE-OF-THE-PROMPT"


def wrap_in_chat(template: str, model: Path) -> str:
    """The author's template where the chat template of the model in the folder `model` puts a user's words.

    The result holds the special tokens, the one at its start included, as words. The chat template runs in Jinja's
    sandbox, as transformers runs it.

    Raises ModelError where the model has none, or it does not repeat the user's words.
    """
    source, words = _chat_template(model)
    rendered = _render(source, words, model)
    before, place, after = rendered.partition(_PLACE)
    if not place or _PLACE in after:
        raise ModelError(f"the chat template of {model} does not repeat a user's words exactly once; set chat = False")
    return before + template.strip("\n") + after


def _chat_template(model: Path) -> tuple[str, dict[str, str]]:
    """The chat template, and the special words that it may name (`bos_token` …)."""
    config = _read_config(model)
    own = model / "chat_template.jinja"
    source = own.read_text(encoding="utf-8") if own.is_file() else config.get("chat_template")
    if isinstance(source, list):
        source = next((one["template"] for one in source if one.get("name") == "default"), None)
    if not isinstance(source, str):
        raise ModelError(f"{model} has no chat template (tokenizer_config.json, chat_template.jinja); set chat = False")
    words = {}
    for key in ("bos_token", "eos_token", "unk_token", "pad_token"):
        value = config.get(key)
        word = value.get("content") if isinstance(value, dict) else value
        words[key] = word if isinstance(word, str) else ""
    return source, words


def _read_config(model: Path) -> dict[str, Any]:
    path = model / "tokenizer_config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}; save the tokenizer beside the model") from error
    if not isinstance(config, dict):
        raise ModelError(f"{path} is no JSON object; save the tokenizer beside the model")
    return config


def _render(source: str, words: dict[str, str], model: Path) -> str:
    import jinja2
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def refuse(message: str) -> NoReturn:
        raise jinja2.TemplateError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals["raise_exception"] = refuse
    try:
        return environment.from_string(source).render(
            messages=[{"role": "user", "content": _PLACE}], add_generation_prompt=True, **words
        )
    except (jinja2.TemplateError, ArithmeticError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"the chat template of {model} fails: {error}; set chat = False") from error
