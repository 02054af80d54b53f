"""The model's own chat template around the author's, and what a template may not do."""

import json

import pytest

from kaggle_kit.errors import ModelError
from kaggle_kit.runtime.chat import Wrapped, misplaced, wrap, wrap_in_chat
from kaggle_kit.runtime.job import ChatSettings

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
        "{{ strftime_now.__globals__ }}{{ messages[0].content.nope.x }}",
        "{{ strftime_now.__closure__[0].cell_contents }}",
        "{{ (messages | tojson).__class__.__mro__[1] }}",
        "{{ messages.append({}) }}{{ messages[0].content }}",
        "{{ (messages | map(attribute='__class__') | list)[0].__mro__[1] }}",
    ],
)
def test_a_template_is_kept_from_pythons_insides(folder, template):
    """A model is data: its template reaches no class, no globals, and changes nothing."""
    with pytest.raises(ModelError, match="fails"):
        wrap_in_chat("x", folder(template))


START = "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"


def turns(content="m.content", said=None):
    """A template of all turns, each with its `content`; the assistant's with `said`."""
    content = f"({said}) if m.role == 'assistant' else {content}" if said else content
    return "{% for m in messages %}<|{{ m.role }}|>\n{{ " + content + " }}<|end|>\n{% endfor %}"


PLAIN = turns()
LABELS = ("A", "B")


def gap(folder, template, *, prefix="", variables=None, labels=LABELS, **config):
    """What is said of a template's labels; None if they stand where the template's own answers do."""
    wrapped = wrap("Which? {a}", folder(template, **config), ChatSettings(variables or {}), labels)
    assert wrapped.between is not None, wrapped.why
    return misplaced(wrapped, labels, prefix=prefix), wrapped


def test_labels_that_stand_where_the_template_answers_are_right(folder):
    """Most templates: the prompt ends where the template's own assistant turn has its words."""
    assert gap(folder, PLAIN + START)[0] is None
    assert gap(folder, turns("m.content | trim") + START)[0] is None


@pytest.mark.parametrize(
    "between",
    [
        "<think>\n\n</think>\n\n",
        "<s>",
        "\n",
        "<|channel|>final<|message|>",
        "[THINK]none[/THINK]",
        "Answer:",
        "\t",
        "é",
    ],
)
def test_what_the_template_puts_before_an_answer_is_found(folder, between):
    """Thoughts, a channel, a start, a new line: it is named, and as a prefix of the answer it is right."""
    template = turns(said=f"{between!r} + m.content") + START
    wrong, wrapped = gap(folder, template)
    assert repr(between) in wrong.what
    assert wrong.prefixes == (between,)
    assert misplaced(wrapped, LABELS, prefix=between) is None
    assert misplaced(wrapped, LABELS, prefix=between + "x") is not None


def test_a_space_before_an_answer_can_be_a_part_of_the_label(folder):
    """As Llama 2 has it: " A" is what the model says, and is right as a label."""
    template = turns(said="' ' + m.content.strip() + ' '") + START
    wrong, _ = gap(folder, template)
    assert (wrong.spaces, wrong.stem, wrong.prefixes) == (" ", "", (" ",))
    assert gap(folder, template, labels=(" A", " B"))[0] is None
    wrong, _ = gap(folder, turns(said="'Answer: ' + m.content") + START)
    assert (wrong.spaces, wrong.stem) == (" ", "Answer:")


@pytest.mark.parametrize("tag", ["<think>", "[THINK]", "<seed:think>"])
def test_a_prompt_that_begins_thoughts_is_told(folder, tag):
    """A model that is made to think says no label: an answer prefix that ends the thoughts is proposed, and right."""
    template = PLAIN + START.replace("{% endif", tag + "\n{% endif")
    wrong, wrapped = gap(folder, template)
    assert "the model thinks before it answers" in wrong.what
    assert wrong.prefixes == (f"\n{tag[0]}/{tag[1:]}\n\n",)
    assert misplaced(wrapped, LABELS, prefix=wrong.prefixes[0]) is None


def test_thoughts_that_the_prompt_itself_ends_are_right(folder):
    """Many templates write no thoughts into a finished turn, and end them in the prompt if there shall be none."""
    assert gap(folder, PLAIN + START.replace("{% endif", "<think>\n\n</think>\n\n{% endif"))[0] is None
    assert gap(folder, PLAIN + START.replace("{% endif", "</think>{% endif"))[0] is None
    wrong, _ = gap(folder, PLAIN + START.replace("{% endif", "<think></think> So{% endif"))
    assert "<think></think> So" in wrong.what


@pytest.mark.parametrize(("name", "value"), [("enable_thinking", False), ("thinking", False), ("no_reasoning", True)])
def test_the_variable_that_helps_is_found_by_trying(folder, name, value):
    """Whatever the template calls it: the one that brings the label to its place is proposed, and works."""
    off = f"{{% if {name} is defined and {name} is {str(value).lower()} %}}<think></think>{{% endif %}}"
    template = turns(said="'<think></think>' + m.content") + START.replace("{% endif", off + "{% endif")
    wrong, wrapped = gap(folder, template)
    assert wrong is not None
    assert wrapped.switch == {name: value}
    assert gap(folder, template, variables={name: value})[0] is None


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{% for m in messages %}[{{ m.content }}]{% endfor %}", "writes all roles alike"),
        ("{{ messages[0].content }}:", "writes no assistant turn"),
        (
            "{% if messages[1] %}{{ raise_exception('one turn only') }}{% endif %}{{ messages[0].content }}",
            "one turn only",
        ),
    ],
)
def test_a_template_that_says_nothing_of_its_answers_is_not_judged(folder, template, why):
    """That is said instead, with the reason."""
    wrapped = wrap("Which? {a}", folder(template), labels=LABELS)
    assert wrapped.between is None
    assert why in wrapped.why


def test_an_answer_after_a_whole_book_is_no_prefix(folder):
    """What no source would hold is not proposed, and what a guard hands over stays small."""
    wrong, wrapped = gap(folder, turns(said="'x' * 100000 + m.content") + START)
    assert wrong.prefixes == ()
    assert len(json.dumps(wrapped.to_json())) < 20_000


def test_a_template_that_wants_a_user_last_is_judged_by_an_earlier_turn(folder):
    """Its own answer is looked at in the middle of a talk."""
    refusing = "{% if messages[-1].role != 'user' %}{{ raise_exception('user last') }}{% endif %}"
    assert gap(folder, refusing + PLAIN + START)[0] is None
    wrong, _ = gap(folder, refusing + turns(said="'>' + m.content") + START)
    assert wrong.prefixes == (">",)


def test_a_history_that_is_written_otherwise_does_not_matter(folder):
    """What stands before the user's words may be other where an answer follows: the place is after them."""
    template = "{{ messages | length }}{% if messages | length == 1 %}system{% endif %}" + PLAIN + START
    assert gap(folder, template)[0] is None


def test_content_in_parts_is_given_to_templates_that_want_it(folder):
    """Templates of models that see images read lists of parts."""
    template = "{% for m in messages %}{% for p in m.content %}{{ p.text }}|{% endfor %}{% endfor %}"
    assert wrap_in_chat("words", folder(template)) == "words|"


def test_a_system_message_that_is_wanted_is_asked_for(folder):
    """The error says the source's own word for it, and with one the template is content."""
    template = "{% if messages[0].role != 'system' %}{{ raise_exception('no') }}{% endif %}" + PLAIN
    with pytest.raises(ModelError, match=r'wants a system message first: .*chat_system = "…"'):
        wrap_in_chat("x", folder(template))
    wrapped = wrap_in_chat("x", folder(template), ChatSettings(system="Be kind."))
    assert wrapped == "<|system|>\nBe kind.<|end|>\n<|user|>\nx<|end|>\n"


def test_todays_date_is_one_that_is_said(folder):
    """The same in every run, and noted; the source can say another."""
    model = folder("{{ strftime_now('%d %b %Y') }} {{ messages[0].content }}")
    wrapped = wrap("x", model)
    assert wrapped.text == "26 Jul 2024 x"
    assert any("2024-07-26 in every run; chat_date" in note for note in wrapped.notes)
    assert wrap_in_chat("x", model, ChatSettings(date="2026-11-29")) == "29 Nov 2026 x"
    assert wrap("x", folder("{{ messages[0].content }}")).notes == ()


def test_a_special_token_that_no_file_names_is_told(folder):
    """transformers may know one of its class's own; one that is said to be none is none."""
    template = "{{ pad_token }}{{ messages[0].content }}"
    [note] = wrap("x", folder(template)).notes
    assert "reads pad_token, which no file of the tokenizer names" in note
    assert wrap("x", folder(template, pad_token=None)).notes == ()
    assert wrap("x", folder(template), ChatSettings({"pad_token": "p"})).text == "px"


def test_the_processors_own_file_is_the_last_that_is_read(folder):
    """chat_template.json is of models that see images, and counts if there is nothing else."""
    model = folder()
    (model / "chat_template.json").write_text(json.dumps({"chat_template": "({{ messages[0].content }})"}))
    assert wrap_in_chat("x", model) == "(x)"
    assert wrap_in_chat("x", folder("[{{ messages[0].content }}]")) == "[x]"


def test_what_a_guard_hands_over_is_what_was_found(folder):
    """All of it goes through JSON, and nothing else is taken for it."""
    wrapped = wrap("x {a}", folder(turns(said="'>' + m.content") + START), labels=LABELS)
    assert Wrapped.from_json(json.loads(json.dumps(wrapped.to_json()))) == wrapped
    for body in (None, [], {}, wrapped.to_json() | {"own": 5}, wrapped.to_json() | {"between": 1}):
        with pytest.raises(TypeError):
            Wrapped.from_json(body)
