"""The model's tokenizer: whole, uncut, and an error where it is not there."""

from __future__ import annotations

import json

import pytest
import tokenizers

from kaggle_kit.errors import LabelError, ModelError
from kaggle_kit.runtime.tokenizers import ModelTokenizer, label_tokens, load_tokenizer


def test_a_prompt_begins_with_the_special_token(tokenizer):
    """encode() adds what the model expects in front."""
    assert tokenizer.pieces(tokenizer.encode("river"))[0] == "<s>"


def test_offsets_count_characters_not_bytes(tokenizer):
    """The last token of a text ends at its number of characters, in any script."""
    for text in ("naïve", "你好", "🙂🙂", "पुल"):
        assert tokenizer.encode_batch([text])[0].offsets[-1][1] == len(text)


def test_an_unknown_id_has_a_spelling(tokenizer):
    """An id that the vocabulary lacks is named by its number."""
    assert tokenizer.pieces([10**6]) == ["<1000000>"]


def test_truncation_and_padding_of_the_file_are_switched_off(tmp_path, model):
    """A tokenizer that was saved with truncation to 8 tokens does not cut: the budget is the caller's."""
    body = json.loads((model / "tokenizer.json").read_text(encoding="utf-8"))
    body["truncation"] = {"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0}
    body["padding"] = {
        "strategy": {"Fixed": 64},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "<s>",
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(body), encoding="utf-8")
    tokenizer = load_tokenizer(tmp_path)
    assert len(tokenizer.encode("river " * 100)) > 64
    assert len(tokenizer.encode("river")) < 8


def test_a_missing_tokenizer_is_an_error_that_says_how_to_save_it(tmp_path):
    """A folder without tokenizer.json names the file and save_pretrained."""
    with pytest.raises(ModelError, match=r"tokenizer\.json is missing.*save_pretrained"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\xfe", b'{"version": "1.0", "model"'])
def test_a_broken_tokenizer_is_a_model_error(tmp_path, content):
    """A cut or foreign file is an error of the kit, not one of the library."""
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(ModelError, match="cannot be read as a tokenizer"):
        load_tokenizer(tmp_path)


PROMPT = "Which?\n"


def test_labels_of_one_token_are_found_in_their_order(tokenizer):
    """The ids are those of the labels' own tokens, in the order that was given."""
    ids = label_tokens(["tie", "A", "B"], prompt=PROMPT, tokenizer=tokenizer)
    assert tokenizer.pieces(list(ids)) == ["tie", "A", "B"]


def test_a_label_of_several_tokens_shows_its_pieces(tokenizer):
    """A label that the vocabulary does not have as one is an error with the pieces it falls into."""
    with pytest.raises(LabelError, match=r"'draw' is 4 tokens after the prompt, not one: \['d', 'r', 'a', 'w'\]"):
        label_tokens(["A", "draw"], prompt=PROMPT, tokenizer=tokenizer)


@pytest.mark.parametrize("label", ["TIE", "Tie", "draw"])
def test_the_proposed_spellings_work(tokenizer, label):
    """Each spelling that the error proposes is one token there: it can be used as it is written."""
    with pytest.raises(LabelError) as caught:
        label_tokens([label], prompt=PROMPT, tokenizer=tokenizer)
    message = str(caught.value)
    assert "spellings that are one token there: " in message
    for spelling in message.split("there: ")[1].split(", "):
        assert label_tokens([spelling.strip("'")], prompt=PROMPT, tokenizer=tokenizer)


def test_the_proposed_spellings_hold_the_obvious_one(tokenizer):
    """For TIE the error proposes tie."""
    with pytest.raises(LabelError, match=r"one token there:.*'tie'"):
        label_tokens(["TIE"], prompt=PROMPT, tokenizer=tokenizer)


@pytest.fixture
def words():
    """A tokenizer in which "yesno" and "tie" are words, and all else single letters, built here from its merges."""
    merges = [("t", "i"), ("ti", "e"), (" ", "A"), (":", " ")]
    letters = sorted(set("abcdefghijklmnopqrstuvwxyzABT :?\n"))
    vocabulary = {token: i for i, token in enumerate([*letters, *("".join(pair) for pair in merges)])}
    return ModelTokenizer(tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=merges)))


def test_a_label_that_joins_with_the_end_of_the_prompt_is_named(words):
    """After a space that the label's own token would take in, the model would never say the label alone."""
    with pytest.raises(LabelError, match=r"'A' joins with the end of the prompt.*without a space"):
        label_tokens(["A"], prompt="say ", tokenizer=words)


def test_the_same_label_without_the_space_works(words):
    """What that error advises helps: without the space, " A" is one token."""
    (token,) = label_tokens([" A"], prompt="say", tokenizer=words)
    assert words.pieces([token]) == [" A"]


def test_two_labels_of_one_token_are_an_error():
    """Where the tokenizer folds case, "a" and "A" cannot be told apart."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocab={"a": 0, "b": 1, "?": 2}, merges=[]))
    tokenizer.normalizer = tokenizers.normalizers.Lowercase()
    with pytest.raises(LabelError, match="'a' and 'A' are the same token 0"):
        label_tokens(["a", "A"], prompt="b?", tokenizer=ModelTokenizer(tokenizer))


def test_a_tokenizer_that_ends_each_text_is_told(model):
    """With an end token after the prompt no spelling helps: the error says where that token is from."""
    ends = tokenizers.Tokenizer.from_file(str(model / "tokenizer.json"))
    ends.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A <e>", special_tokens=[("<s>", 0), ("<e>", 5)]
    )
    tokenizer = ModelTokenizer(ends)
    (piece,) = tokenizer.pieces([5])
    with pytest.raises(LabelError) as caught:
        label_tokens(["A", "B"], prompt=PROMPT, tokenizer=tokenizer)
    assert f"adds the token {piece!r} at the end of each text" in str(caught.value)
    assert "post_processor of tokenizer.json" in str(caught.value)


def letters(*words):
    """A tokenizer of printable letters, and of these words beside them."""
    merges = [(word[:n], word[n]) for word in words for n in range(1, len(word))]
    vocabulary = dict.fromkeys(
        [*map(chr, range(32, 127)), "\n", *(word[: n + 1] for word in words for n in range(len(word)))]
    )
    model = tokenizers.models.BPE(vocab={token: i for i, token in enumerate(vocabulary)}, merges=merges)
    return ModelTokenizer(tokenizers.Tokenizer(model))


@pytest.mark.parametrize(
    ("labels", "advice"),
    [
        (["1", "2", "10"], None),
        (["10", "11", "2"], None),
        (["a", "A", "ab"], None),
        (["tie", "T", "t"], None),
        (["no", "yes"], "'n'"),
        ([" A", "B"], "'A'"),
        ([" A", "A"], None),
    ],
)
def test_no_advice_names_another_label(labels, advice):
    """Nor one that could as well be meant for another one."""
    with pytest.raises(LabelError) as caught:
        label_tokens(labels, prompt=PROMPT, tokenizer=letters())
    said = str(caught.value).partition("; spellings that are one token there: ")[2]
    assert bool(said) == bool(advice)
    assert advice is None or advice in said.split(", ")


def test_the_spaces_of_a_label_count():
    """ " A" and "A" are two labels if the vocabulary has both."""
    tokenizer = letters(" A")
    ids = label_tokens([" A", "A"], prompt=PROMPT, tokenizer=tokenizer)
    assert tokenizer.pieces(list(ids)) == [" A", "A"]


def test_an_empty_label_is_an_error(tokenizer):
    """A label without a letter is no token at all."""
    with pytest.raises(LabelError, match="'' is 0 tokens"):
        label_tokens([""], prompt=PROMPT, tokenizer=tokenizer)
