"""Secrets are found where they stand, told without being shown, and nothing else is taken for one."""

import json
import string
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from kaggle_kit.remote.plan.secrets import _PLACEHOLDER, _bits, _is_mixed, secrets_in_file, secrets_in_text

REPOSITORY = Path(__file__).parents[3]
LETTERS = string.ascii_letters + string.digits
HEX = "0123456789abcdef"


def random_text(signs: str, length: int):
    """Random texts of one length, no run of which looks like a placeholder."""
    return st.text(st.sampled_from(signs), min_size=length, max_size=length).filter(
        lambda text: _bits(text) > 3 and not _PLACEHOLDER.search(text)
    )


# Put together here, so that no scanner takes this file for a leak. Kind → how a secret of it begins, and its rest.
KINDS = {
    "a Kaggle token": ("KGAT" + "_", random_text(HEX, 32)),
    "a Hugging Face token": ("hf" + "_", random_text(LETTERS, 34)),
    "an AWS key": ("AK" + "IA", random_text(string.ascii_uppercase + string.digits, 16)),
    "a GitHub token": ("gh" + "p_", random_text(LETTERS, 36)),
    "a Google key": ("AI" + "za", random_text(LETTERS, 35)),
}
FRAMES = ["{}", "x = '{}'", 'token="{}"', "export A={}", "# {} is mine", "a\n\n{}\n", "https://u:{}@host/"]


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data(), frame=st.sampled_from(FRAMES))
def test_a_secret_is_found_and_not_shown(kind, data, frame):
    """In any frame, in plain text and in a notebook's JSON, kind and line are told and the secret is not."""
    begin, rest = KINDS[kind]
    secret = begin + data.draw(rest)
    text = frame.format(secret)
    for form in (text, json.dumps({"source": ["a\n", text, f"\n{text}"]})):
        found = secrets_in_text(form, path="a.py")
        assert kind in {finding.kind for finding in found}
        assert secret not in repr(found)


@given(random_text(HEX, 32), st.sampled_from(['{{"username":"ada","key":"{}"}}', "KAGGLE_KEY={}", "key: '{}'"]))
def test_a_kaggle_key_is_known_by_its_name(key, frame):
    """Thirty-two hex digits are a key beside that word, and nothing without it."""
    assert [f.kind for f in secrets_in_text(frame.format(key), path="kaggle.json")] == ["a Kaggle key"]
    assert secrets_in_text(f"md5 {key}", path="a") == ()


@given(random_text(LETTERS, 24))
def test_an_assignment_of_noise_is_found(noise):
    """A token or password given as a text of high entropy is found, whatever kind it is."""
    assume(_is_mixed(noise) and _bits(noise) > 3.5)
    for line in (
        f'api_key = "{noise}"',
        f'"password": "{noise}"',
        f"AUTH_TOKEN='{noise}'",
        f'\\"secret\\": \\"{noise}\\"',
    ):
        assert secrets_in_text(line, path="a")


def test_a_private_key_is_found():
    """The head of a private key's block is enough."""
    text = "a\n-----BEGIN OPENSSH " + "PRIVATE KEY-----\n"
    assert [(f.line, f.kind) for f in secrets_in_text(text, path="id")] == [(2, "a private key")]


def test_the_logins_own_token_is_found_as_it_is():
    """A known secret is found in any form, and not shown."""
    found = secrets_in_text("one\ntwo plainword three", path="a", known=["plainword"])
    assert [str(finding) for finding in found] == ["a:2: your own login for Kaggle"]


@pytest.mark.parametrize(
    "line",
    [
        'eos_token = "<|end_of_text|>"',
        '"pad_token": "<|reserved_special_token_250|>"',
        '"unk_token": "reserved_special_token_250"',
        '"tokenizer_class": "PreTrainedTokenizerFast"',
        'token = "your-token-goes-here-1234"',
        'api_key = "xxxxxxxxxxxxxxxxxxxxxxxx"',
        'password = os.environ["KAGGLE_PASSWORD"]',
        "export KAGGLE_API_TOKEN=KGAT_...",
        "key = 7",
        'class="sk-button-of-a-very-long-name"',
        "sha256:" + "ab12" * 16,
        'secret = "' + "a1b2c3d4" * 3 + '"  # not-a-secret',
    ],
)
def test_no_false_alarm(line):
    """What models' configurations and documentation hold is not taken for a secret."""
    assert secrets_in_text(line, path="a") == ()


@given(st.text())
def test_any_text_is_read(text):
    """No text makes it fail."""
    secrets_in_text(text, path="a")


@pytest.mark.parametrize("place", ["notebooks_src", "templates", "tests/demo", "kaggle_kit", "kit.toml", "README.md"])
def test_this_repository_has_none(place):
    """Nothing of what this project ships is taken for a secret."""
    place = REPOSITORY / place
    files = [place] if place.is_file() else [path for path in place.rglob("*") if path.is_file()]
    assert [finding for path in files for finding in secrets_in_file(path, path=str(path))] == []


def test_bytes_are_passed_over(tmp_path):
    """Weights are not searched."""
    (tmp_path / "a").write_bytes(b"\0" + b"KGAT_" + b"0123456789abcdef" * 2)
    assert secrets_in_file(tmp_path / "a", path="a") == ()
