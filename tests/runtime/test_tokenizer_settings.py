"""What the files beside tokenizer.json add to a tokenizer, which words steer a model, and where a text begins."""

import json

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from kaggle_kit.errors import ModelError
from kaggle_kit.runtime.guard import GuardedTokenizer
from kaggle_kit.runtime.prompts import escape_special
from kaggle_kit.runtime.tokenizer_settings import read_settings, settings_notes
from kaggle_kit.runtime.tokenizers import ModelTokenizer, load_tokenizer

LETTERS = ["<s>", "</s>", *map(chr, range(32, 127)), "\n"]


@pytest.fixture
def folder(tmp_path):
    """A function: a model folder with a tokenizer of letters, these added tokens, and files beside it."""

    def make(*added, post=None, files=None, **config):
        model = tokenizers.models.BPE(vocab={word: n for n, word in enumerate(LETTERS)}, merges=[])
        tokenizer = tokenizers.Tokenizer(model)
        for word, special in added:
            tokenizer.add_tokens([tokenizers.AddedToken(word, special=special, normalized=False)])
        if post:
            tokens = [("<s>", 0), ("</s>", 1)]
            tokenizer.post_processor = tokenizers.processors.TemplateProcessing(single=post, special_tokens=tokens)
        tokenizer.save(str(tmp_path / "tokenizer.json"))
        for name, body in {"tokenizer_config.json": config, **(files or {})}.items():
            (tmp_path / name).write_text(body if isinstance(body, str) else json.dumps(body), encoding="utf-8")
        return tmp_path

    return make


def test_special_tokens_of_the_map_alone_are_tokens(folder):
    """A start that only special_tokens_map.json names is one token of a text, and has its name in templates."""
    model = folder(files={"special_tokens_map.json": {"bos_token": {"content": "<s>"}, "eos_token": "</s>"}})
    assert dict(read_settings(model).named) == {"bos_token": "<s>", "eos_token": "</s>"}
    assert load_tokenizer(model).encode("<s>a</s>") == [0, LETTERS.index("a"), 1]
    assert load_tokenizer(model).special == ("</s>", "<s>")


def test_tokens_of_the_settings_alone_are_tokens(folder):
    """What only added_tokens_decoder or added_tokens.json knows is added to the vocabulary."""
    decoder = {"97": {"content": "<|go|>", "special": True}}
    for model in (folder(added_tokens_decoder=decoder), folder(files={"added_tokens.json": {"<|go|>": 97}})):
        assert load_tokenizer(model).encode("<|go|>") == [len(LETTERS)]
        assert load_tokenizer(model).from_settings == {"<|go|>"}


@pytest.mark.parametrize(
    "config",
    [
        {"added_tokens_decoder": {"x": {"content": "a"}}},
        {"added_tokens_decoder": {"-1": {"content": "a"}}},
        {"added_tokens_decoder": {"5": {"word": "a"}}},
        {"added_tokens_decoder": {"5": ["a"]}},
        {"extra_special_tokens": [5]},
    ],
)
def test_a_token_that_is_none_is_refused(folder, config):
    """The error names the file."""
    with pytest.raises(ModelError, match=r"tokenizer_config\.json lists "):
        read_settings(folder(**config))


plain = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=4)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=6,
)
KEYS = ("bos_token", "added_tokens_decoder", "extra_special_tokens", "additional_special_tokens", "chat_template")


@given(st.dictionaries(st.sampled_from([*KEYS, "tokenizer_class", "add_bos_token", "x_token"]), plain))
def test_any_settings_are_read_or_refused(tmp_path_factory, config):
    """Whatever the file holds: settings, or an error of the model."""
    model = tmp_path_factory.mktemp("wild")
    (model / "tokenizer_config.json").write_text(json.dumps(config))
    try:
        settings = read_settings(model)
        ModelTokenizer(tokenizers.Tokenizer(tokenizers.models.BPE(vocab={"a": 0}, merges=[])), settings=settings)
    except ModelError:
        pass


CONTROL = [
    "</think>",
    "<|Assistant|>",
    "<｜User｜>",
    "[TOOL_CALLS]",
    "<tool_call>",
    "### Answer:",
    "<unused7>",
    "▁<EOT>",
]


@pytest.mark.parametrize("word", CONTROL)
def test_a_control_word_that_is_not_called_special_is_taken_apart(folder, word):
    """As special ones are: a row that writes it does not steer the model."""
    tokenizer = load_tokenizer(folder((word, False)))
    number = len(LETTERS)
    assert number in tokenizer.encode(f"a{word}b")
    for text in (f"a{word}b", word, word * 3, f" {word} ", f"<{word}>"):
        assert number not in tokenizer.encode(escape_special(text, tokenizer.special))


@pytest.mark.parametrize("word", ["   ", "\n\n", "▁▁", "<table>", "</b>", "COVID-19", "winner", "don't"])
def test_a_word_of_the_vocabulary_is_left(folder, word):
    """Spaces, HTML and plain words are tokens for a row's own sake, as in training."""
    assert load_tokenizer(folder((word, False))).special == ()


def test_what_the_chat_template_writes_steers(folder):
    """HTML or not: a word that the template writes begins a turn."""
    model = folder(("<main>", False), ("<code>", False), chat_template="<main>{{ messages[0].content }}")
    assert load_tokenizer(model).special == ("<main>",)
    assert load_tokenizer(folder(("<s>", False), bos_token="<s>")).special == ("<s>",)


@given(
    st.lists(st.sampled_from(["aa", "a b", " <x", "<x>", "x>>", "</t>", "t>", "<|", "|>"]), unique=True),
    st.text("ab <>x/t|"),
)
def test_no_word_is_left_in_a_text(words, text):
    """After the escape no word stands in the text, and nothing but spaces was added."""
    try:
        escaped = escape_special(text, tuple(words))
    except ModelError:
        return
    assert not any(word in escaped for word in words)
    assert escaped.replace(" ", "") == text.replace(" ", "")


def test_thousands_of_words_do_not_take_long():
    """Gemma has six thousand: a text in which none begins is looked through once for each beginning."""
    words = tuple(f"<unused{number}>" for number in range(6000))
    texts = ["no such word here " * 100] * 2000
    assert [escape_special(text, words) for text in texts] == texts


@pytest.mark.parametrize(
    ("kind", "of_bytes", "said"),
    [
        ("LlamaTokenizerFast", True, True),
        ("LlamaTokenizerFast", False, False),
        ("GemmaTokenizer", True, True),
        ("Qwen2Tokenizer", False, True),
        ("Qwen2TokenizerFast", True, False),
        ("PreTrainedTokenizerFast", True, False),
        ("OtherTokenizer", True, False),
    ],
)
def test_a_class_that_is_built_anew_is_told(folder, kind, of_bytes, said):
    """Where transformers 5 builds a tokenizer of that class with another way to cut a text than tokenizer.json's."""
    model = folder(tokenizer_class=kind)
    tokenizer = tokenizers.Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel() if of_bytes else None
    tokenizer.save(str(model / "tokenizer.json"))
    for opened in (load_tokenizer(model), GuardedTokenizer(model)):
        assert opened.of_bytes is of_bytes
        notes = settings_notes(read_settings(model), opened, prompt="", begun=True)
        assert [f"a {kind.removesuffix('Fast')}" in note for note in notes] == [True] * said


LLAMA = {"tokenizer_class": "LlamaTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"}


@pytest.mark.parametrize(
    ("post", "config", "prompt", "said"),
    [
        (None, LLAMA | {"add_bos_token": True}, "", "put '<s>' at the start"),
        (None, LLAMA, "", "put '<s>' at the start"),
        (None, LLAMA | {"tokenizer_class": "GemmaTokenizer"}, "", "put '<s>' at the start"),
        (None, LLAMA | {"add_bos_token": True}, "<s>Which?", None),
        (None, LLAMA | {"add_bos_token": False}, "", None),
        (None, {"tokenizer_class": "LlamaTokenizer"}, "", None),
        ("<s> $A", LLAMA | {"add_bos_token": False}, "", "put no '<s>' at the start"),
        ("<s> $A", LLAMA, "", None),
        ("<s> $A", LLAMA | {"add_eos_token": True}, "", "put '</s>' at the end"),
        ("<s> $A", LLAMA, "<s>Which?", "which the tokenizer puts there itself"),
        ("<s> $A", {"bos_token": "<s>"}, "<s>Which?", "which the tokenizer puts there itself"),
        (None, LLAMA | {"tokenizer_class": "PreTrainedTokenizerFast", "add_bos_token": True}, "", None),
        (None, LLAMA | {"tokenizer_class": "OtherTokenizer", "add_bos_token": True}, "", "put '<s>' at the start"),
    ],
)
def test_a_text_that_began_otherwise_in_training_is_told(folder, post, config, prompt, said):
    """What older versions of transformers put at a text's start or end by the settings, and tokenizer.json does not."""
    model = folder(("<s>", True), ("</s>", True), post=post, **config)
    notes = settings_notes(read_settings(model), load_tokenizer(model), prompt=prompt)
    assert [said in note for note in notes] == ([True] if said else [])
