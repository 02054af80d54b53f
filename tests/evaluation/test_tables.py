"""Tables: what is written is read again, in each form."""

import pytest

from kaggle_kit.errors import DataError, UsageError
from kaggle_kit.evaluation.tables import ENDINGS, dump_csv, read_table, write_table
from kaggle_kit.runtime.rows import parse_cell

polars = pytest.importorskip("polars")
ROWS = [{"id": "1", "text": 'a "b",\nc 🙂'}, {"id": "1e5", "text": " "}]
ODD = [{"id": 1, "score": 0.1234567890123456, "turns": ["x", "y\n"], "none": None}]


@pytest.mark.parametrize("ending", ENDINGS)
def test_texts_come_back_as_they_were(tmp_path, ending):
    """Quotes, commas, newlines and emoji survive every form."""
    write_table(tmp_path / f"t{ending}", ROWS)
    assert read_table(tmp_path / f"t{ending}") == ROWS


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_numbers_and_lists_keep_their_kind(tmp_path, ending):
    """The forms that know kinds keep them, None included."""
    write_table(tmp_path / f"t{ending}", ODD)
    assert read_table(tmp_path / f"t{ending}") == ODD


def test_a_list_in_a_csv_is_json(tmp_path):
    """A list of turns stands in its cell as the worker reads it; every digit of a number stays; None is empty."""
    write_table(tmp_path / "t.csv", ODD)
    (row,) = read_table(tmp_path / "t.csv")
    assert parse_cell(row["turns"], "turns") == ("x", "y\n")
    assert float(row["score"]) == ODD[0]["score"]
    assert row["none"] == ""


def test_half_a_character_does_not_stop_a_table(tmp_path):
    """A lone surrogate, which JSON can hold and no file can, becomes the replacement character."""
    (tmp_path / "t.jsonl").write_text('{"a": "\\ud800"}', encoding="utf-8")
    write_table(tmp_path / "t.csv", read_table(tmp_path / "t.jsonl"))
    assert read_table(tmp_path / "t.csv") == [{"a": "\ufffd"}]


def test_columns_decide_their_order():
    """A row without a column has an empty cell there."""
    assert dump_csv([{"a": 1}, {"b": 2, "c": 3}], columns=["b", "a"]) == "b,a\n,1\n2,\n"


@pytest.mark.parametrize("name", ["t.txt", "t", "t.CSV", "t.csv.gz"])
def test_another_ending_is_wrong_use(tmp_path, name):
    """The endings that work are named."""
    with pytest.raises(UsageError, match=r"must end in one of \.csv, \.jsonl, \.parquet"):
        read_table(tmp_path / name)
    with pytest.raises(UsageError, match="must end in"):
        write_table(tmp_path / name, [])


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_missing_table_is_told(tmp_path, ending):
    """The path is in the sentence."""
    with pytest.raises(DataError, match=rf"t\{ending} is missing"):
        read_table(tmp_path / f"t{ending}")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("t.jsonl", b'{"a": 1}\n\n{', "line 3, is not JSON"),
        ("t.jsonl", b'{"a": 1}\n[1]\n', "line 2, is not a JSON object"),
        ("t.parquet", b"no parquet", "cannot be read as Parquet"),
    ],
)
def test_a_broken_table_is_told(tmp_path, name, content, words):
    """File and line are in the sentence."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=words):
        read_table(tmp_path / name)


@pytest.mark.parametrize("ending", ENDINGS)
def test_no_rows_are_a_table(tmp_path, ending):
    """A table without rows can be written."""
    write_table(tmp_path / f"t{ending}", [])
    assert read_table(tmp_path / f"t{ending}") == []
