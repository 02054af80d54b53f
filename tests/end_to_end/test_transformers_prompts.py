"""Prompts and tokens are what transformers makes of them, by the version that the engine is locked with."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from kaggle_kit.errors import ModelError
from kaggle_kit.runtime.chat import wrap
from kaggle_kit.runtime.job import CHAT_DATE, ChatSettings
from kaggle_kit.runtime.tokenizer_settings import read_settings
from kaggle_kit.runtime.tokenizers import load_tokenizer
from kaggle_kit.targets import load_target
from kaggle_kit.wheelhouse.environments import ready_environment
from kaggle_kit.wheelhouse.folder import ready_wheelhouse

ROOT = Path(__file__).parents[2]
PROGRAM = """
import datetime, json, sys
import transformers.utils.chat_template_utils as templates
from transformers import PreTrainedTokenizerFast

class Day(datetime.datetime):
    @classmethod
    def now(cls):
        return cls.fromisoformat(sys.argv[1])

templates.datetime = Day
print("READY", flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    try:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(asked["folder"])
        if "text" in asked:
            answer = {"ids": tokenizer(asked["text"]).input_ids, "named": tokenizer.special_tokens_map}
        else:
            answer = {"text": tokenizer.apply_chat_template(
                asked["turns"], tokenize=False, add_generation_prompt=True, **asked["variables"])}
    except Exception as error:
        answer = {"error": repr(error)}
    print("ANSWER " + json.dumps(answer), flush=True)
"""


class Transformers:
    """The engine's own transformers, in a process that answers questions."""

    def __init__(self) -> None:
        target = load_target("local-cpu")
        python = ready_environment(ready_wheelhouse(target, project=ROOT).folder)
        self._process = subprocess.Popen(
            [str(python), "-c", PROGRAM, CHAT_DATE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"HF_HUB_OFFLINE": "1"},
        )
        self._read("READY")

    def _read(self, word: str) -> str:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(word):
                return line.removeprefix(word)
        raise AssertionError("transformers has ended")

    def ask(self, **asked: object) -> dict:
        """What it answers; `error` if it raises."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return json.loads(self._read("ANSWER "))

    def close(self) -> None:
        """End it."""
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


@pytest.fixture(scope="module")
def transformers():
    """The engine's transformers."""
    process = Transformers()
    yield process
    process.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model's folder whose tokenizer spells letters, with three special tokens."""
    return tmp_path_factory.mktemp("model")


WORDS = ["<unk>", "<s>", "</s>", "<|go|>", *map(chr, range(32, 127)), "\n"]


def write_model(folder: Path, config: dict, *, added=("<s>",), post=None, files=None) -> None:
    """The tokenizer's files: tokenizer.json with these `added` tokens, its settings, and other `files`."""
    tokens = [
        {"id": WORDS.index(word), "content": word, "special": True}
        | dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        for word in added
    ]
    model = {"type": "BPE", "vocab": {word: n for n, word in enumerate(WORDS)}, "merges": [], "unk_token": "<unk>"}
    model |= dict.fromkeys(("dropout", "continuing_subword_prefix", "end_of_word_suffix"))
    model |= dict.fromkeys(("fuse_unk", "byte_fallback", "ignore_merges"), False)
    body = {"version": "1.0", "added_tokens": tokens, "model": model, "post_processor": post}
    body |= dict.fromkeys(("truncation", "padding", "normalizer", "pre_tokenizer", "decoder"))
    for path in folder.iterdir():
        path.unlink()
    for name, part in {"tokenizer.json": body, "tokenizer_config.json": config, **(files or {})}.items():
        (folder / name).write_text(part if isinstance(part, str) else json.dumps(part), encoding="utf-8")


PIECES = (
    "{{ bos_token }}",
    "{{- bos_token + 'x' -}}",
    "{% if bos_token is defined %}[bos]{% endif %}\n",
    "{{ eos_token or 'none' }}",
    "{% if unk_token is none %}[null]{% endif %}",
    "{% if tools is none %}[no tools]{% else %}{{ tools | tojson }}{% endif %}",
    "{% if documents %}{{ documents | length }}{% endif %}\n",
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>{% endif %}",
    "{{ strftime_now('%d %b %Y') }}",
    "{%- set day = strftime_now('%Y-%m-%d') if strftime_now is defined else 'never' %}{{ day }}",
    "{{ {'é': '<b>', 'a': [1, none, true]} | tojson(indent=2) }}",
    "{{ {'b': 1, 'a': 2} | tojson(separators=(',', ':'), sort_keys=true) }}",
    "{{ {'é': '&'} | tojson(ensure_ascii=true) }}",
    "{% for n in [1, 2, 3] %}{% if n == 2 %}{% continue %}{% endif %}{{ n }}{% endfor %}",
    "{% for n in [1, 2, 3] %}{{ n }}{% if n == 2 %}{% break %}{% endif %}{% endfor %}",
    "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}\n",
    "{% macro line(text) %}<{{ text }}>\n{% endmacro %}{{ line('x') }}",
    "{% generation %}{% set inner = 'y' %}{{ inner }}{% endgeneration %}{{ inner is defined }}",
    "  {# a comment #}\n  {% if true %}\n  kept\n  {% endif %}\n",
    "{% if messages[0]['role'] == 'system' %}S{% endif %}",
    "{{ raise_exception('no') if messages | length > 5 }}",
    "{{ messages[0].content | length > 3 }}",
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
)
CONTENT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}",
    "{%- for m in messages %}{{ '[INST] ' ~ m['content'] | trim ~ ' [/INST]' }}{%- endfor %}",
    "{% for message in messages %}{{ message.content.strip() + eos_token }}\n{% endfor %}",
)
named = st.fixed_dictionaries(
    {},
    optional={
        "bos_token": st.sampled_from(["<s>", None, "", {"__type": "AddedToken", "content": "<s>"}]),
        "eos_token": st.sampled_from(["</s>", None]),
        "unk_token": st.sampled_from(["<unk>", None]),
        "image_token": st.just("<|go|>"),
    },
)
variables = st.fixed_dictionaries(
    {},
    optional={
        "enable_thinking": st.booleans(),
        "tools": st.just([{"type": "function", "function": {"name": "f"}}]),
        "documents": st.just([{"title": "t", "text": "x"}]),
        "bos_token": st.just("<bos>"),
        "day": st.text(max_size=3),
    },
)
around = st.lists(st.sampled_from(PIECES), max_size=4).map("".join)
template = st.tuples(around, st.sampled_from(CONTENT), around).map("".join)
author = st.sampled_from(["Which? {a}\nSay", "  {a} then\n\n", "{{ a }} {% x %} {a}.", "é{a}<|im_end|>"])
PROPERTY = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@PROPERTY
@given(template, named, variables, author, st.sampled_from(["", "Be kind."]))
def test_a_prompt_is_what_transformers_makes(transformers, folder, template, named, variables, author, system):
    """Byte for byte, whatever the template asks for; and where transformers fails, kit does."""
    write_model(folder, named | {"chat_template": template})
    turns = [{"role": "system", "content": system}] if system else []
    turns.append({"role": "user", "content": author.strip("\n")})
    theirs = transformers.ask(folder=str(folder), turns=turns, variables=variables)
    try:
        ours = wrap(author, folder, ChatSettings(variables, system)).text
    except ModelError as error:
        assume("exactly once" not in str(error))
        ours = str(error)
    if "error" in theirs:
        assert " fails: " in ours
        return
    assert {"text": ours} == theirs


@pytest.mark.parametrize(
    ("config", "files"),
    [
        ({"chat_template": "A{{ messages[0].content }}"}, {}),
        ({"chat_template": "no"}, {"chat_template.jinja": "B{{ messages[0].content }}"}),
        ({"chat_template": [{"name": "default", "template": "C{{ messages[0].content }}"}]}, {}),
        ({"chat_template": {"default": "D{{ messages[0].content }}", "rag": "no"}}, {}),
        (
            {
                "chat_template": [
                    {"name": "default", "template": "no"},
                    {"name": "tool_use", "template": "E{{ messages[0].content }}"},
                ]
            },
            {},
        ),
        ({"chat_template": [{"name": "rag", "template": "F{{ messages[0].content }}"}]}, {}),
    ],
)
def test_the_template_is_the_one_that_transformers_takes(transformers, folder, config, files):
    """A file goes before the configuration, a name before another."""
    write_model(folder, config, files=files)
    variables = {"tools": [{"name": "f"}]} if "tool_use" in str(config) else {}
    turns = [{"role": "user", "content": "words"}]
    theirs = transformers.ask(folder=str(folder), turns=turns, variables=variables)
    try:
        ours = {"text": wrap("words", folder, ChatSettings(variables)).text}
    except ModelError:
        assert "error" in theirs
        return
    assert ours == theirs


token = st.sampled_from(["<s>", "</s>", "<|go|>", "<new>", "word", "z"])
flags = st.fixed_dictionaries(
    {}, optional={name: st.booleans() for name in ("special", "lstrip", "rstrip", "normalized", "single_word")}
)
full_token = st.builds(lambda content, more: {"content": content, **more}, token, flags)
numbers = st.integers(0, len(WORDS) + 3).map(str)
config = st.fixed_dictionaries(
    {},
    optional={
        "bos_token": st.one_of(st.none(), token),
        "eos_token": st.one_of(st.none(), token, full_token.map(lambda one: {"__type": "AddedToken", **one})),
        "pad_token": token,
        "added_tokens_decoder": st.dictionaries(numbers, full_token, max_size=3),
        "additional_special_tokens": st.lists(token, max_size=2, unique=True),
        "extra_special_tokens": st.one_of(
            st.lists(token, max_size=2, unique=True),
            st.dictionaries(st.sampled_from(["image_token", "go_token"]), token),
        ),
        "image_token": token,
        "add_bos_token": st.booleans(),
        "add_eos_token": st.booleans(),
    },
)
words_map = st.fixed_dictionaries(
    {},
    optional={
        "bos_token": st.one_of(token, full_token),
        "unk_token": token,
        "additional_special_tokens": st.lists(token),
    },
)
BOS = {
    "type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
    "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
}


@PROPERTY
@given(
    config,
    st.one_of(st.none(), words_map),
    st.one_of(st.none(), st.dictionaries(token, st.integers(0, len(WORDS) + 3), max_size=2)),
    st.sampled_from([(), ("<s>",), ("<s>", "</s>")]),
    st.sampled_from([None, BOS]),
)
def test_tokens_are_those_of_transformers(transformers, folder, config, mapped, plain, added, post):
    """With all that the files beside tokenizer.json say: the same ids of a text, the same names of special tokens."""
    files = {"special_tokens_map.json": mapped} if mapped is not None else {}
    files |= {"added_tokens.json": plain} if plain is not None else {}
    write_model(folder, config, added=added, post=post, files=files)
    text = "a<s> <|go|></s>word <new>z zz"
    theirs = transformers.ask(folder=str(folder), text=text)
    assume("error" not in theirs)
    ours = {"ids": load_tokenizer(folder).encode(text), "named": dict(read_settings(folder).named)}
    assert ours == theirs
