"""The model's own chat template around the author's, and what a template may not do."""

import json

import pytest

from kaggle_kit.errors import ModelError
from kaggle_kit.runtime.chat import wrap_in_chat

CHAT = (
    "{{ bos_token }}{% for message in messages %}<|{{ message.role }}|>{{ message['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


@pytest.fixture
def folder(tmp_path):
    """A function: a model folder whose tokenizer_config.json says this."""

    def make(template=None, **config):
        body = {"bos_token": {"content": "<s>"}, "eos_token": "</s>"} | config
        if template is not None:
            body["chat_template"] = template
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(body), encoding="utf-8")
        return tmp_path

    return make


def test_the_template_stands_where_a_users_words_do(folder):
    """One user turn around it, the first token before it, and the start of the answer after it."""
    wrapped = wrap_in_chat("\nWhich? {a}\n", folder(CHAT))
    assert wrapped == "<s><|user|>Which? {a}<|end|>\n<|assistant|>\n"


def test_braces_of_the_author_are_not_rendered(folder):
    """What looks like Jinja in the author's template is text."""
    assert "{{ 1 + 1 }}" in wrap_in_chat("{{ 1 + 1 }}", folder(CHAT))


def test_a_file_of_its_own_goes_first(folder):
    """chat_template.jinja is used before the configuration's."""
    model = folder("{{ 1 / 0 }}")
    (model / "chat_template.jinja").write_text("[{{ messages[0].content }}]", encoding="utf-8")
    assert wrap_in_chat("x", model) == "[x]"


def test_of_several_the_default_is_used(folder):
    """A list of named templates has one called default."""
    several = [{"name": "tool", "template": "no"}, {"name": "default", "template": "({{ messages[0].content }})"}]
    assert wrap_in_chat("x", folder(several)) == "(x)"


@pytest.mark.parametrize("template", [None, [], [{"name": "tool", "template": "x"}], 5])
def test_a_model_without_one_is_told(folder, template):
    """The error says where it was looked for and what to do."""
    with pytest.raises(ModelError, match=r"has no chat template .*set chat = False"):
        wrap_in_chat("x", folder(template))


@pytest.mark.parametrize("body", [None, "{", "[]"])
def test_a_folder_without_a_readable_configuration_is_told(tmp_path, body):
    """A missing or broken tokenizer_config.json is named."""
    if body is not None:
        (tmp_path / "tokenizer_config.json").write_text(body, encoding="utf-8")
    with pytest.raises(ModelError, match=r"tokenizer_config\.json"):
        wrap_in_chat("x", tmp_path)


@pytest.mark.parametrize(
    "template",
    [
        "{% if %}",
        "{{ raise_exception('only pairs') }}",
        "{{ nope.x }}",
        "{{ 1 / 0 }}",
        "{{ messages[0].content + 1 }}",
        "{{ range(10000000000) }}",
        "{{ messages[0].content.nope() }}",
    ],
)
def test_a_template_that_fails_is_a_model_error(folder, template):
    """Whatever goes wrong in it, the sentence names the model."""
    with pytest.raises(ModelError, match=r"the chat template of .* fails: "):
        wrap_in_chat("x", folder(template))


@pytest.mark.parametrize("template", ["hello", "{{ messages[0].content }}{{ messages[0].content }}"])
def test_a_template_that_does_not_repeat_the_words_once_is_refused(folder, template):
    """Without exactly one place there is nowhere to put the prompt."""
    with pytest.raises(ModelError, match="does not repeat a user's words exactly once"):
        wrap_in_chat("x", folder(template))


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ raise_exception.__globals__['sys'].path }}",
        "{{ messages.append({}) }}{{ messages[0].content }}",
        "{{ (messages | map(attribute='__class__') | list)[0].__mro__[1] }}",
    ],
)
def test_a_template_is_kept_from_pythons_insides(folder, template):
    """A model is data: its template reaches no class, no globals, and changes nothing."""
    with pytest.raises(ModelError, match="fails"):
        wrap_in_chat("x", folder(template))
