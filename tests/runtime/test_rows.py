"""Rows of test.csv: one that cannot be read is named, and stops nothing."""

import csv
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kaggle_kit.errors import DataError
from kaggle_kit.runtime.rows import (
    NO_ROW,
    SEVERAL_ROWS,
    match_rows,
    parse_cell,
    read_records,
    read_rows,
    row_keys,
)

FAST = settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=10,
)


def write(tmp_path, content):
    path = tmp_path / "test.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def rows_of(path, *, fields=("a",), row_format="turns"):
    return list(read_rows(path, id_column="id", fields=fields, row_format=row_format))


@given(cell=st.text(st.characters(codec=None)) | JSON.map(json.dumps))
@FAST
def test_any_cell_is_turns_or_a_reason(cell):
    """No cell raises: it becomes a tuple of texts, or one text that says why not."""
    parsed = parse_cell(cell, "turns")
    assert isinstance(parsed, str) or all(isinstance(turn, str) for turn in parsed)


@given(body=st.binary(max_size=300) | st.text(st.sampled_from('",\n\r\0a[]{}é '), max_size=100).map(str.encode))
@FAST
def test_any_bytes_after_the_header_are_rows_or_a_data_error(tmp_path, body):
    """Arbitrary bytes give rows, each with a key of its own; nothing is raised."""
    rows = rows_of(write(tmp_path, b"id,a\n" + body))
    assert all(row.problem or row.turns for row in rows)
    assert len({row.id for row in rows}) == len(rows)


@given(turns=st.lists(st.none() | st.text(st.characters(codec=None), max_size=30), min_size=1))
@FAST
def test_a_list_of_turns_is_read_back_as_it_was(turns):
    """JSON lists of texts and nulls, escaped in any way, give their texts; a null is an empty turn."""
    assert parse_cell(json.dumps(turns), "turns") == tuple(turn or "" for turn in turns)


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("NaN", "a JSON number where a list"),
        ("Infinity", "a JSON number where a list"),
        ("[NaN]", "turn 1 is a number"),
        ('["a", -Infinity]', "turn 2 is a number"),
        ('{"a": 1, "a": 2}', "a JSON object where a list"),
        ('["a", {"x": "y"}]', "turn 2 is a object"),
        ('[["a"]]', "turn 1 is a list"),
        ("[true]", "turn 1 is a boolean"),
        ("null", "a JSON null where a list"),
        ('"text"', "a JSON text where a list"),
        ("", "not JSON"),
        ("['a']", "not JSON"),
        ('["a"', "not JSON"),
        ('\ufeff["a"]', "not JSON"),
        ('["a\nb"]', "not JSON"),
        ("[" * 200_000, "not JSON"),
        ("[" + "1" * 10_000 + "]", "not JSON"),
        (None, "the line ends before this cell"),
    ],
)
def test_a_cell_that_is_no_list_of_texts_says_why(cell, reason):
    """Every wrong kind of cell, deep nesting and huge numbers among them, gives a reason that names it."""
    parsed = parse_cell(cell, "turns")
    assert isinstance(parsed, str)
    assert reason in parsed


def test_a_reason_is_short():
    """A cell of a million letters is quoted by its beginning only."""
    assert len(parse_cell("x" * 1_000_000, "turns")) < 100


def test_a_plain_text_cell_is_one_turn():
    """In the format "text" a cell is taken as it is, JSON or not."""
    assert parse_cell('["a"]', "text") == ('["a"]',)


def test_a_bad_row_does_not_stop_the_next(tmp_path):
    """Between two good rows a bad one keeps its id, and says which field is wrong."""
    path = write(tmp_path, 'id,a\n1,"[""x""]"\n2,oops\n3,"[""y""]"\n')
    rows = rows_of(path)
    assert [row.id for row in rows] == ["1", "2", "3"]
    assert [row.turns.get("a") for row in rows] == [("x",), None, ("y",)]
    assert rows[1].problem == "a: not JSON: 'oops'"


@pytest.mark.parametrize("cells", ["[],[]", '"[null]","["""",null]"', '"["" \n ""]",[]'])
def test_a_row_without_text_is_a_problem(tmp_path, cells):
    """Empty lists, nulls and blanks alone are no text to judge."""
    cells = cells.replace("\n", "\\n")
    (row,) = rows_of(write(tmp_path, f"id,a,b\n1,{cells}\n"), fields=("a", "b"))
    assert row.problem == "no text in a, b"


def test_a_row_with_some_text_is_read(tmp_path):
    """One empty field beside one with text is a row like any other."""
    (row,) = rows_of(write(tmp_path, 'id,a,b\n1,[],"[""x""]"\n'), fields=("a", "b"))
    assert row.problem is None
    assert row.turns == {"a": (), "b": ("x",)}


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("last", [True, False])
def test_bom_and_line_ends_do_not_matter(tmp_path, bom, end, last):
    """With or without a BOM, with any line end, with or without the last one, the rows are the same."""
    lines = [b"id,a", b'1,"[""x""]"', b'2,"[""y""]"']
    path = write(tmp_path, bom + end.join(lines) + (end if last else b""))
    assert [(row.id, row.turns["a"]) for row in rows_of(path)] == [("1", ("x",)), ("2", ("y",))]


def test_a_nul_byte_costs_nothing(tmp_path):
    """A NUL byte in a text is a character like any other."""
    (row,) = rows_of(write(tmp_path, b"id,a\n1,x\0y\n"), row_format="text")
    assert row.turns["a"] == ("x\0y",)


def test_bytes_that_are_no_utf8_cost_only_themselves(tmp_path):
    """Latin-1 bytes become replacement characters; the rest of the row is read."""
    (row,) = rows_of(write(tmp_path, b'id,a\n1,"[""caf\xe9 noir""]"\n'))
    assert row.turns["a"] == ("caf\ufffd noir",)


@pytest.mark.parametrize("row_id", ["1e5", "007", "1.0", "a,b", 'q"q', "n\nl", " s ", "c\r\nd", "ид", "9" * 40])
def test_an_id_is_kept_letter_for_letter(tmp_path, row_id):
    """Numeric-looking and quoted ids are never read as numbers or trimmed."""
    path = tmp_path / "test.csv"
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([["id", "a"], [row_id, "x"]])
    (row,) = rows_of(path, row_format="text")
    assert row.id == row_id


def test_a_cell_longer_than_the_csv_module_takes_is_read(tmp_path):
    """A cell of 300,000 characters is above Python's own limit of 131,072, and is read whole."""
    (row,) = rows_of(write(tmp_path, 'id,a\n1,"[""' + "x" * 300_000 + '""]"\n'))
    assert len(row.turns["a"][0]) == 300_000


def test_a_line_with_too_few_cells_is_a_problem_and_one_with_too_many_is_not(tmp_path):
    """Missing cells are named; cells beyond the header are nobody's."""
    rows = rows_of(write(tmp_path, "id,a,b\n1,x\n2,x,y,z,z\n"), fields=("a", "b"), row_format="text")
    assert rows[0].problem == "b: the line ends before this cell"
    assert rows[1].turns == {"a": ("x",), "b": ("y",)}


def test_blank_lines_are_no_rows(tmp_path):
    """Empty lines between and after the rows are passed over."""
    assert [row.id for row in rows_of(write(tmp_path, "id,a\n\n1,x\n\n\n2,y\n\n"), row_format="text")] == ["1", "2"]


def test_a_header_alone_has_no_rows(tmp_path):
    """A test.csv without rows is read as none."""
    assert rows_of(write(tmp_path, "id,a\n")) == []


@pytest.mark.parametrize("content", ["", "id,b\n1,x\n", "x"])
def test_a_missing_column_is_named_with_those_that_are_there(tmp_path, content):
    """The error tells the column that is needed; an empty file has none."""
    with pytest.raises(DataError, match=r"test\.csv has no column '(a|id)'; it has:"):
        rows_of(write(tmp_path, content))


def test_a_missing_file_is_named(tmp_path):
    """A path without a file is an error of the kit."""
    with pytest.raises(DataError, match=r"test\.csv is missing"):
        rows_of(tmp_path / "test.csv")


def test_two_rows_with_one_id_stop_nothing(tmp_path):
    """Each is a row of its own, and so are those beside them."""
    rows = rows_of(write(tmp_path, "id,a\n7,x\n8,x\n7,y\n"), row_format="text")
    assert [(row.id, row.turns["a"]) for row in rows] == [
        ("7", ("x",)),
        ("8", ("x",)),
        ("7 (row 2 of this id)", ("y",)),
    ]


SAME = st.sampled_from(["7", "8", "9", "7.0", "07", " 7", '"7"', "x", "", "7 (row 2 of this id)"])


@given(ids=st.lists(SAME, max_size=12))
def test_keys_are_all_different(ids):
    """However often an id stands there, and whatever other ids look like; the first keeps its id where it can."""
    keys = row_keys(ids)
    assert len(set(keys)) == len(keys) == len(ids)
    assert all(key.startswith(row_id) for row_id, key in zip(ids, keys, strict=True))


@given(asked=st.lists(SAME, max_size=10), given_ids=st.lists(SAME, max_size=10))
def test_each_row_of_the_sample_has_a_row_or_a_reason(asked, given_ids):
    """No row of the sample is passed over, none is given a row of another value, and no row of test.csv is lost."""
    try:
        match = match_rows(asked, given_ids)
    except DataError:
        assert not set(asked) & set(given_ids)
        return
    of_key = dict(zip(row_keys(given_ids), given_ids, strict=True))
    for row_id, key in zip(asked, match.keys, strict=True):
        assert (key is None) == (row_id in match.missing)
        if row_id in given_ids:
            assert of_key[key] == row_id
        elif key is not None:
            assert of_key[key].strip(' "').lstrip("0").split(".")[0] == row_id.strip(' "').lstrip("0").split(".")[0]
    assert {key for key in match.keys if key is not None} | set(match.unasked) == set(of_key)
    assert not {key for key in match.keys if key is not None} & set(match.unasked)
    assert bool(match.notes) == (set(asked) != set(given_ids) or len(set(given_ids)) < len(given_ids))


@pytest.mark.parametrize(
    ("asked", "row_id"),
    [
        ("1.0", "1"),
        ("1", "1.0"),
        ('"1"', "1"),
        ("'1'", "1"),
        (" 1", "1"),
        ("1\xa0", "1"),
        ("001", "1"),
        ("+1", "1"),
        ("-3.0", "-3"),
        ("1.2345e+09", "1234500000"),
        ("1e+20", "100000000000000000000"),
        ("abc ", "abc"),
        ("\ufeffabc", "abc"),
    ],
)
def test_an_id_that_a_program_wrote_anew_is_known_by_its_value(asked, row_id):
    """Spreadsheets and tables write numbers as floats, quote them, and pad them; the match is said."""
    match = match_rows([asked, "2"], ["2", row_id])
    assert match.keys == (row_id, "2")
    assert "matched by value" in match.notes[0]


@pytest.mark.parametrize(
    ("asked", "row_id"), [("1e5", "100000"), ("1.5", "1"), ("a", "A"), ("1_000", "1000"), ("1,000", "1000"), ("", "0")]
)
def test_ids_that_only_look_alike_are_two(asked, row_id):
    """What may be a name of its own, as in hexadecimal ids, is never taken for a number."""
    match = match_rows([asked, "2"], ["2", row_id])
    assert match.keys == (None, "2")
    assert match.missing == {asked: NO_ROW}


def test_of_two_ids_with_one_value_none_is_guessed():
    """Nor does one row of test.csv answer two ids of the sample that are not the same."""
    match = match_rows(["1.0", "2"], ["1", "01", "2"])
    assert (match.keys, match.missing) == ((None, "2"), {"1.0": SEVERAL_ROWS})
    assert match_rows(["1.0", "01", "2"], ["1", "2"]).keys == (None, None, "2")
    assert match_rows(["1.0", "1", "2"], ["1", "2"]).keys == (None, "1", "2")


def test_files_that_do_not_belong_together_are_told():
    """Where no row could be answered there is nothing to start an engine for."""
    with pytest.raises(DataError, match=r"no id of sample_submission\.csv is in test\.csv: .*'a'.*'b'"):
        match_rows(["a"], ["b"])
    assert match_rows([], ["b"]).unasked == ("b",)
    assert match_rows(["a"], []).missing == {"a": NO_ROW}


def test_what_both_files_repeat_is_matched_in_order():
    """The second of one is the second of the other; a sample that asks more often gets the last again."""
    assert match_rows(["7", "7", "8"], ["7", "8", "7"]).keys == ("7", "7 (row 2 of this id)", "8")
    assert match_rows(["7", "7"], ["7"]).keys == ("7", "7")
    assert match_rows(["7"], ["7", "7"]).unasked == ("7 (row 2 of this id)",)


def test_the_committed_rows_are_all_readable(data):
    """Each of the 300 demo rows, nasty ones included, is read without a problem."""
    rows = rows_of(data / "test.csv", fields=("prompt", "response_a", "response_b"))
    assert len(rows) == 300
    assert [row.id for row in rows if row.problem] == []


def test_records_keep_every_column(tmp_path):
    """read_records gives the other columns too, as texts."""
    (record,) = read_records(write(tmp_path, "id,a,c\n1,x,9\n"), columns=("id",))
    assert record == {"id": "1", "a": "x", "c": "9"}
