"""Receipts on disk: read as they were written, and refused where they are none."""

import json

import pytest

from kaggle_kit.errors import ProjectError
from kaggle_kit.remote.receipt import Check, Receipt, load_receipt, load_receipts, save_receipt

RECEIPT = Receipt(
    name="answer",
    notebook="ada/best-answer",
    version=1,
    url="https://kaggle.test/ada/best-answer",
    source="s",
    build="b",
    pushed="2026-11-24T12:00:00+00:00",
    made_by=None,
    target=None,
    inputs=(),
    checks=(Check(what="internet", asked=False, found=False),),
    server="kaggle.test",
)


def test_a_receipt_is_read_as_it_was_written(tmp_path):
    """All of it."""
    save_receipt(tmp_path, RECEIPT)
    assert load_receipt(tmp_path, "answer", 1, notebook="ada/best-answer") == RECEIPT


def test_a_receipt_of_another_notebook_is_none(tmp_path):
    """The same table and version, of another owner."""
    save_receipt(tmp_path, RECEIPT)
    assert load_receipt(tmp_path, "answer", 1, notebook="bob/best-answer") is None


@pytest.mark.parametrize(
    "changed",
    [
        {"run": None},
        {"submission": None},
        {"made_by": 5},
        {"version": "1"},
        {"pushed": None},
        {"checks": [{}]},
        {"checks": {}},
        {"inputs": None},
        {"name": []},
    ],
    ids=str,
)
def test_a_field_of_another_kind_is_told(tmp_path, changed):
    """One error names the file and what to do."""
    path = save_receipt(tmp_path, RECEIPT)
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    with pytest.raises(ProjectError, match=r"answer-v1\.json is no receipt of kit .*take it out of the folder"):
        load_receipts(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "5", "{}", "[" * 100_000], ids=["none", "list", "int", "empty", "deep"])
def test_what_is_no_receipt_is_told(tmp_path, text):
    """Whatever the file holds instead."""
    save_receipt(tmp_path, RECEIPT).write_text(text)
    with pytest.raises(ProjectError, match=r"answer-v1\.json is no receipt of kit"):
        load_receipts(tmp_path)
