"""Secrets are found in what is sent: in files of every coding, under their own names, and in the project's texts."""

import codecs
import json
import random
import string
from pathlib import Path

import pytest

from kaggle_kit.secrets import ALLOWED
from kaggle_kit.secrets.files import is_key_file, secrets_in_file, secrets_in_text
from kaggle_kit.secrets.redaction import forms

REPOSITORY = Path(__file__).parents[3]
# Put together here, so that no scanner takes this file for a leak.
TOKEN = "KGAT" + "_0f1e2d3c4b5a69788796a5b4c3d2e1f0"
LINE = (
    'os.environ["MY_API_KEY"] = "' + "".join(random.Random(1).choices(string.ascii_letters + string.digits, k=24)) + '"'
)


def test_a_finding_tells_place_kind_and_name():
    """File, line, kind and the name under which it stands; never the value."""
    (found,) = secrets_in_text(f"a\n{LINE}\n", path="a.py")
    assert str(found) == "a.py:2: a token or password (MY_API_KEY)"
    assert LINE.split('"')[3] not in repr(found)


@pytest.mark.parametrize("key", ['{"n": 1}', "plain-word-of-mine", 'a"b\\c/d+e%f=12', "scripted-key-9876543210"])
def test_the_logins_own_key_is_found_in_every_form(key):
    """A known secret is found as it is, escaped, and in Base64 behind the user's name, and is not shown."""
    for form in forms(key, "ada"):
        found = secrets_in_text(f"one\ntwo {form} three", path="a", known=forms(key, "ada"))
        if len(form) >= 8:
            assert "a:2: your own login for Kaggle" in [str(finding) for finding in found]


@pytest.mark.parametrize("place", ["notebooks_src", "templates", "tests/demo", "kaggle_kit", "kit.toml", "README.md"])
def test_this_repository_has_none(place):
    """Nothing of what this project ships is taken for a secret."""
    place = REPOSITORY / place
    files = [place] if place.is_file() else [path for path in place.rglob("*") if path.is_file()]
    assert [finding for path in files for finding in secrets_in_file(path, path=str(path))] == []


def test_bytes_are_passed_over(tmp_path):
    """Weights are not searched."""
    (tmp_path / "a").write_bytes(b"\0" + TOKEN.encode())
    assert secrets_in_file(tmp_path / "a", path="a") == ()


@pytest.mark.parametrize(
    ("mark", "coding"), [(codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"), (b"", "utf-8-sig")]
)
def test_a_text_of_another_coding_is_read(tmp_path, mark, coding):
    """What PowerShell writes is a text too."""
    (tmp_path / "a").write_bytes(mark + f"x=1\nA={TOKEN}\n".encode(coding))
    assert [finding.line for finding in secrets_in_file(tmp_path / "a", path="a")] == [2]


def test_a_large_file_is_searched_as_far_as_it_is_read(tmp_path, monkeypatch):
    """Beyond the limit nothing is looked at; before it, all is."""
    monkeypatch.setattr("kaggle_kit.secrets.files.LARGEST", 20_000)
    (tmp_path / "a").write_text(f"{TOKEN}\n" + "x\n" * 20_000 + f"{TOKEN}\n")
    assert [finding.line for finding in secrets_in_file(tmp_path / "a", path="a")] == [1]


@pytest.mark.parametrize(
    "name",
    [
        "kaggle.json",
        "sub/id_rsa",
        "ID_ED25519",
        ".netrc",
        "_netrc",
        "a/.env",
        "prod.env",
        ".env.local",
        "x.p12",
        "k.ppk",
    ],
)
def test_a_file_for_a_login_is_known_by_its_name(tmp_path, name):
    """Whatever it holds; the word of a false alarm lets it pass."""
    (tmp_path / "file").write_text("x")
    assert is_key_file(tmp_path / "file", name)
    (tmp_path / "file").write_text(f"# {ALLOWED}\n")
    assert not is_key_file(tmp_path / "file", name)


@pytest.mark.parametrize("name", ["id_rsa.pub", "cacert.pem", "tokenizer.json", "environment.yml", "keys.csv", "env"])
def test_other_files_are_not(tmp_path, name):
    """Public keys, certificates and tables are sent as ever."""
    (tmp_path / "file").write_text("x")
    assert not is_key_file(tmp_path / "file", name)


def test_a_certificate_is_sent_and_a_private_key_is_not(tmp_path):
    """A .pem is judged by what stands in it."""
    (tmp_path / "a.pem").write_text("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n")
    assert secrets_in_file(tmp_path / "a.pem", path="a.pem") == ()
    (tmp_path / "a.pem").write_text("-----BEGIN EC " + "PRIVATE KEY-----\nMIIB\n")
    assert [finding.kind for finding in secrets_in_file(tmp_path / "a.pem", path="a.pem")] == ["a private key"]


def test_outputs_and_metadata_of_a_notebook_are_searched():
    """What a cell printed, and what stands in a notebook's metadata, is sent as well."""
    printed = {"output_type": "stream", "name": "stdout", "text": ["login\n", f"{TOKEN}\n"]}
    cell = {"cell_type": "code", "source": [], "outputs": [printed], "metadata": {}}
    for body in ({"cells": [cell]}, {"cells": [], "metadata": {"note": f"see {TOKEN}"}}):
        found = secrets_in_text(json.dumps(body, indent=1), path="a.ipynb")
        assert [finding.kind for finding in found] == ["a Kaggle token"]
