"""The model's own chat template around the author's: what transformers makes of it, and where the model then answers.

A template is rendered as transformers (5.19) renders it: in the same sandbox, with the same helpers, the special tokens
by their names, and the variables that the source gives. What differs is the date: a template that asks for today's gets
the same one in every run.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, NoReturn

from kaggle_kit.errors import ModelError
from kaggle_kit.runtime.checkpoint import read_table
from kaggle_kit.runtime.job import ChatSettings
from kaggle_kit.runtime.tokenizer_settings import (
    SETTINGS,
    STANDARD_WORDS,
    TokenizerSettings,
    read_settings,
    read_templates,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_PLACE = "KIT-PLACE-OF-THE-PROMPT"
_ANSWER = "KIT-PLACE-OF-THE-ANSWER"
_MOST_LETTERS = 1_000_000
"""Of what a chat template makes of one turn, beside the turn; the longest add a system prompt of some thousand."""
_MOST_SWITCHES = 20
_MOST_SHOWN = 200
_MOST_BETWEEN = 4096
"""Letters of what a template may put before its answer; the longest known are some dozen."""
_TAG = re.compile(r"[<\[](/?)([\w:.-]+)[>\]]")
"""What begins or ends thoughts: `<think>`, `[/THINK]`."""
_OFF = "set chat = False"
_PLAIN = ChatSettings()

Turn = dict[str, Any]


@dataclass(frozen=True)
class Wrapped:
    """What a chat template makes of the author's template.

    `text`: the prompt, with the special tokens, the one at its start included, as words. `after`: what follows the
    user's words in it. `own`: for each label, what follows the user's words if the template itself writes an assistant
    turn that says the label; `between`: that part of it which comes before the label; both empty and None if the
    template's own answer says nothing of the place (`why`). `switch`: a variable that would bring the label to where
    the model answers. `notes`: where the prompt may be another one than in training.
    """

    text: str
    after: str = ""
    own: tuple[str, ...] = ()
    between: str | None = None
    why: str = ""
    switch: Mapping[str, bool] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `from_json` reads back."""
        return asdict(self)

    @classmethod
    def from_json(cls, body: object) -> Wrapped:
        """Read what `to_json` made. Raises TypeError for anything else."""
        if not isinstance(body, dict):
            raise TypeError("not an object")
        switch, between = body.get("switch"), body.get("between")
        if not isinstance(switch, dict) or not isinstance(between, str | None):
            raise TypeError("fields of other types")
        texts = [body.get(name) for name in ("text", "after", "why")]
        lists = [body.get(name) for name in ("own", "notes")]
        if not all(isinstance(text, str) for text in texts) or not all(isinstance(part, list) for part in lists):
            raise TypeError("fields of other types")
        own, notes = (tuple(map(str, part or ())) for part in lists)
        text, after, why = map(str, texts)
        return cls(text, after, own, between, why, {str(name): value is True for name, value in switch.items()}, notes)


def wrap_in_chat(template: str, model: Path, settings: ChatSettings = _PLAIN) -> str:
    """The author's template where the chat template of the model in the folder `model` puts a user's words.

    The result holds the special tokens, the one at its start included, as words. The chat template runs in Jinja's
    sandbox, as transformers runs it; that bounds neither time nor memory, which `guard.Guard.wrap` does.

    Raises ModelError if the model has none, or it does not repeat the user's words, or makes too much of them.
    """
    return wrap(template, model, settings).text


def wrap(template: str, model: Path, settings: ChatSettings = _PLAIN, labels: Sequence[str] = ()) -> Wrapped:
    """`wrap_in_chat`, and for `labels` what the chat template makes of them as answers. Raises ModelError."""
    words = read_settings(model)
    chat = _ChatTemplate(_source(model, settings), words, settings, model)
    form = chat.find_form()
    content = template.strip("\n")
    text = chat.render(chat.turns(form, content))
    wrapped = replace(_answers(chat, form, labels), text=text, notes=chat.notes())
    if labels and wrapped.between is not None and not answers_there(wrapped, labels, prefix=""):
        return replace(wrapped, switch=_switch(chat, form, labels))
    return wrapped


def answers_there(wrapped: Wrapped, labels: Sequence[str], *, prefix: str) -> bool:
    """Whether the labels stand right after the prompt and `prefix` where the template's own answers have them."""
    asked = wrapped.after + prefix
    if all(own.startswith(asked + label) for own, label in zip(wrapped.own, labels, strict=True)):
        return True
    # Many templates leave the thoughts of a finished turn away, and close them in the prompt where there are none.
    between = wrapped.between or ""
    return asked.startswith(between) and _closes(asked[len(between) :])


def _closes(text: str) -> bool:
    """Whether a text ends with the end of thoughts (`</think>`) and leaves none open."""
    tags = list(_TAG.finditer(text))
    if not tags or not tags[-1][1] or text[tags[-1].end() :].strip():
        return False
    return not _open_tags(text)


def _open_tags(text: str) -> list[str]:
    """The tags that a text opens and does not close, as they are written."""
    opened: dict[str, str] = {}
    for tag in _TAG.finditer(text):
        if tag[1]:
            opened.pop(tag[2], None)
        else:
            opened[tag[2]] = tag[0]
    return list(opened.values())


@dataclass(frozen=True)
class Misplaced:
    """What stands between the end of the prompt and the template's own answer, and what to write in the source.

    To be tried with the tokenizer: the answer prefixes `prefixes`; or `spaces` before each label, after the prefix
    `stem`.
    """

    what: str
    prefixes: tuple[str, ...] = ()
    spaces: str = ""
    stem: str = ""


def misplaced(wrapped: Wrapped, labels: Sequence[str], *, prefix: str) -> Misplaced | None:
    """Why the labels do not stand where the model answers; None if they do, or it cannot be known (`wrapped.why`)."""
    if wrapped.between is None or answers_there(wrapped, labels, prefix=prefix):
        return None
    asked, between = wrapped.after + prefix, wrapped.between
    if between.startswith(asked):
        gap = between[len(asked) :]
        if not gap:
            return Misplaced("the chat template changes the words of its own answer: a label is not said as it stands")
        what = f"before an answer the chat template itself puts {_shown(gap)}, and the prompt ends before that"
        bare = gap.rstrip(" ")
        prefixes = (prefix + gap,) if len(gap) < _MOST_BETWEEN else ()
        return Misplaced(what, prefixes, gap[len(bare) :], prefix + bare)

    if asked.startswith(between):
        extra = asked[len(between) :]
        if opened := _open_tags(extra):
            closing = "\n".join(tag[0] + "/" + tag[1:] for tag in reversed(opened))
            what = f"the prompt ends with {_shown(extra)}: the model thinks before it answers"
            return Misplaced(what, (f"{prefix}\n{closing}\n\n",))
        return Misplaced(f"the prompt goes on with {_shown(extra)}, after which the template's own answers never stand")

    return Misplaced(
        f"the prompt ends with {_shown(asked)}, and before its own answer the template has {_shown(between)}"
    )


def _shown(text: str) -> str:
    """A text in one line, cut if it is long."""
    return repr(text if len(text) <= _MOST_SHOWN else f"… {text[-_MOST_SHOWN:]}")


def _answers(chat: _ChatTemplate, form: str, labels: Sequence[str]) -> Wrapped:
    """What follows the user's words, in the prompt and before the template's own answers; `text` is left empty."""
    after = chat.render(chat.turns(form, _PLACE)).partition(_PLACE)[2]
    if not labels:
        return Wrapped("", after)

    own, why = chat.own_answer(form, _ANSWER, after)
    between, place, _ = own.partition(_ANSWER)
    if not place:
        return Wrapped("", after, why=why)
    most = len(after) + _MOST_BETWEEN
    said = tuple(chat.own_answer(form, label, after)[0][: most + len(label)] for label in labels)
    return Wrapped("", after, said, between[:most])


def _switch(chat: _ChatTemplate, form: str, labels: Sequence[str]) -> dict[str, bool]:
    """The one variable of the template, and its value, that brings the labels to where the model answers."""
    names = sorted(chat.asks_for - set(STANDARD_WORDS) - set(chat.variables))[:_MOST_SWITCHES]
    for name in names:
        for value in (False, True):
            other = chat.with_variable(name, value)
            try:
                wrapped = _answers(other, form, labels)
            except ModelError:
                continue
            if wrapped.between is not None and answers_there(wrapped, labels, prefix=""):
                return {name: value}
    return {}


class _ChatTemplate:
    """A compiled chat template, with all that it may name."""

    def __init__(self, source: str, words: TokenizerSettings, settings: ChatSettings, model: Path) -> None:
        from jinja2 import meta

        self._model, self._settings, self._words = model, settings, words
        self._clock = _Clock(settings.date)
        self.variables: dict[str, Any] = {"tools": None, "documents": None, **words.named, **settings.variables}
        environment = _environment(self._clock)
        try:
            self._compiled = environment.from_string(source)
            self.asks_for = set(meta.find_undeclared_variables(environment.parse(source)))
        except MemoryError:
            raise
        except Exception as error:  # a template can raise anything
            raise self._failure(error) from error

    def with_variable(self, name: str, value: bool) -> _ChatTemplate:
        """The same with another variable."""
        other = object.__new__(_ChatTemplate)
        other.__dict__ |= self.__dict__ | {"variables": self.variables | {name: value}}
        return other

    def turns(self, form: str, content: str, *more: tuple[str, str], system: str | None = None) -> list[Turn]:
        """The messages: the system's, the user's, and `more` as (role, content); `form`: "text" or "parts"."""
        system = system or self._settings.system
        spoken = [("system", system)] if system else []
        return [_message(role, said, form) for role, said in (*spoken, ("user", content), *more)]

    def find_form(self) -> str:
        """How the template wants a turn's content: as a text, or as a list of parts. Raises ModelError."""
        failures: list[ModelError] = []
        for form in ("text", "parts"):
            try:
                rendered = self.render(self.turns(form, _PLACE))
            except ModelError as error:
                failures.append(error)
                continue
            if rendered.count(_PLACE) == 1:
                return form
            wrong = f"the chat template of {self._model} does not repeat a user's words exactly once; {_OFF}"
            failures.append(ModelError(wrong))
        if not self._settings.system and self._wants_system():
            raise ModelError(
                f"the chat template of {self._model} wants a system message first: say one in the source, "
                f'chat_system = "…", the one that the model was trained with; or {_OFF}'
            )
        raise failures[0]

    def _wants_system(self) -> bool:
        for form in ("text", "parts"):
            try:
                if self.render(self.turns(form, _PLACE, system="x")).count(_PLACE) == 1:
                    return True
            except ModelError:
                continue
        return False

    def own_answer(self, form: str, said: str, after: str) -> tuple[str, str]:
        """What follows the user's words if the template itself writes an answer that says this; or "" and why not."""
        why = "the chat template writes no assistant turn"
        for more in ((), (("user", "x"),)):
            try:
                rendered = self.render(self.turns(form, _PLACE, ("assistant", said), *more), start=False)
                blind = self.render(self.turns(form, _PLACE, ("user", said), *more), start=False)
            except ModelError as error:
                blind, rendered = "", self._try(self.turns(form, _PLACE, ("assistant", said), *more))
                why = why if rendered else f"it refuses an assistant turn ({error.__cause__ or error})"
            _, _, rest = rendered.partition(_PLACE)
            if said.strip() not in rest:
                continue
            if rendered == blind and not rest.startswith(after + said):
                return "", "the chat template writes all roles alike"
            return rest, ""
        return "", why

    def _try(self, turns: list[Turn]) -> str:
        try:
            return self.render(turns, start=False)
        except ModelError:
            return ""

    def render(self, turns: list[Turn], *, start: bool = True) -> str:
        """The text of `turns`; `start`: with the start of the next answer. Raises ModelError."""
        most = _MOST_LETTERS + sum(len(str(turn["content"])) for turn in turns)
        named = {"messages": turns, "add_generation_prompt": start, **self.variables}
        pieces, letters = [], 0
        try:
            for piece in self._compiled.generate(named):
                letters += len(piece)
                if letters > most:
                    break
                pieces.append(piece)
        except MemoryError:
            raise
        except Exception as error:
            raise self._failure(error) from error
        if letters > most:
            raise ModelError(
                f"the chat template of {self._model} makes more than {_MOST_LETTERS:,} letters of one turn; {_OFF}"
            )
        return "".join(pieces)

    def notes(self) -> tuple[str, ...]:
        """Where the prompt may be another one than in training."""
        notes = []
        if self._clock.asked:
            notes.append(
                f"the chat template says today's date, and kit lets it be {self._settings.date} in every run; "
                f"chat_date in the source says another"
            )
        unnamed = sorted(self.asks_for & set(STANDARD_WORDS) - set(self.variables) - self._words.nulls)
        if unnamed:
            notes.append(
                f"the chat template reads {', '.join(unnamed)}, which no file of the tokenizer names: kit takes it for "
                f"nothing, and transformers may know one of its own; say it in the source, chat_variables"
            )
        return tuple(notes)

    def _failure(self, error: BaseException) -> ModelError:
        return ModelError(f"the chat template of {self._model} fails: {str(error)[:500]}; {_OFF}")


def _message(role: str, said: str, form: str) -> Turn:
    return {"role": role, "content": said if form == "text" else [{"type": "text", "text": said}]}


class _Clock:
    """The one date that templates are told."""

    def __init__(self, date: str) -> None:
        self._date, self.asked = date, False

    def strftime_now(self, form: str) -> str:
        """The date in this form, at midnight."""
        import datetime as dt

        self.asked = True
        return dt.datetime.fromisoformat(self._date).strftime(form)


def _environment(clock: _Clock) -> Any:
    """Jinja as transformers sets it up for chat templates."""
    import json

    import jinja2
    from jinja2 import nodes
    from jinja2.ext import Extension
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """`{% generation %}`, which marks what an assistant says: the text stays as it is."""

        tags = {"generation"}  # noqa: RUF012  as the base class has it

        def parse(self, parser: Any) -> nodes.Node:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.CallBlock(self.call_method("_said"), [], [], body).set_lineno(line)

        def _said(self, caller: Any) -> Any:
            return caller()

    def raise_exception(message: Any = "") -> NoReturn:
        raise jinja2.TemplateError(str(message))

    def strftime_now(form: str) -> str:
        return clock.strftime_now(form)

    def tojson(
        value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
    ) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = tojson
    environment.globals |= {"raise_exception": raise_exception, "strftime_now": strftime_now}
    return environment


def _source(model: Path, settings: ChatSettings) -> str:
    """The chat template that transformers takes. Raises ModelError if there is none."""
    path = model / SETTINGS
    named = read_templates(model, read_table(path, "a tokenizer's settings") if path.is_file() else {})
    name = "tool_use" if settings.variables.get("tools") is not None and "tool_use" in named else "default"
    if name in named:
        return named[name]
    others = f"; there are others, for {', '.join(sorted(named))}" if named else ""
    raise ModelError(
        f"{model} has no chat template (tokenizer_config.json, chat_template.jinja, chat_template.json){others}; {_OFF}"
    )
