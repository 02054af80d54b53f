"""The model's tokenizer: whole, uncut, and an error where it is not there."""

import json

import pytest

from kaggle_kit.errors import ModelError
from kaggle_kit.runtime.tokenizers import load_tokenizer


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
