"""submission.csv: what is written can be read, sums to 1, and is checked before it replaces anything."""

import csv
import math
import resource

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaggle_kit.errors import DataError, RunError
from kaggle_kit.runtime.submission import Sample, check_submission, dump_submission, put_submission, read_sample

COLUMNS = ("a", "b", "c")
PRIOR = {"a": 0.5, "b": 0.25, "c": 0.25}
SAMPLE = Sample("id", COLUMNS, ("1", "2"))
IDS = st.lists(st.text(st.characters(codec="utf-8"), max_size=8), unique=True, max_size=8)
LOGITS = st.lists(st.floats(-2000, 2000), min_size=3, max_size=3)


def softmax(logits):
    top = max(logits)
    weights = [math.exp(value - top) for value in logits]
    return dict(zip(COLUMNS, (weight / sum(weights) for weight in weights), strict=True))


@given(ids=IDS, data=st.data())
@settings(max_examples=300)
def test_what_is_dumped_passes_the_check(ids, data):
    """Any ids and any probabilities, prior or scored, give a text that the sample accepts."""
    sample = Sample("id", COLUMNS, tuple(ids))
    scores = {row_id: softmax(data.draw(LOGITS)) for row_id in ids if data.draw(st.booleans())}
    check_submission(dump_submission(sample, scores, prior=PRIOR), sample)


@given(logits=LOGITS)
@settings(max_examples=300)
def test_a_row_sums_to_one_as_written(logits):
    """The ten digits of a row's cells sum to 1 within 1e-9."""
    text = dump_submission(Sample("id", COLUMNS, ("1",)), {"1": softmax(logits)}, prior=PRIOR)
    assert math.fsum(map(float, text.splitlines()[1].split(",")[1:])) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("tiny", [1e-5, 1e-12, 1e-17, 1e-100, 1e-300, 5e-324])
def test_a_tiny_probability_is_not_rounded_to_zero(tiny):
    """Log loss takes the logarithm of what is written: small values keep their digits."""
    text = dump_submission(Sample("id", COLUMNS, ("1",)), {"1": {"a": tiny, "b": 1 - tiny, "c": 0.0}}, prior=PRIOR)
    written = float(text.splitlines()[1].split(",")[1])
    assert written > 0
    assert math.log(written) == pytest.approx(math.log(tiny), rel=1e-9)


def test_columns_and_rows_are_in_the_order_of_the_sample():
    """Scores go to their columns by name, whatever order they came in; rows of no score have the prior."""
    sample = Sample("key", ("b", "a"), ("9", "8"))
    text = dump_submission(sample, {"8": {"a": 0.75, "b": 0.25}, "not asked": {}}, prior={"a": 0.5, "b": 0.5})
    assert text == "key,b,a\n9,0.5,0.5\n8,0.25,0.75\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty or not CSV"),
        ("id,a,c,b\n1,1,0,0\n2,1,0,0\n", "has the columns"),
        ("id,a,b,c\n1,1,0,0\n", "has 1 rows, the sample 2"),
        ("id,a,b,c\n1,1,0,0\n2,1,0,0\n3,1,0,0\n", "has 3 rows, the sample 2"),
        ("id,a,b,c\n2,1,0,0\n1,1,0,0\n", "line 2 of the submission is for"),
        ("id,a,b,c\n1,1,0,0\n2,1,0\n", "line 3.*has 2 values instead of 3"),
        ("id,a,b,c\n1,1,0,0\n2,nan,0,1\n", "line 3.*outside 0 to 1"),
        ("id,a,b,c\n1,1,0,0\n2,inf,0,1\n", "outside 0 to 1"),
        ("id,a,b,c\n1,1,0,0\n2,,0,1\n", "not a number"),
        ("id,a,b,c\n1,1.5,-0.5,0\n2,1,0,0\n", "outside 0 to 1"),
        ("id,a,b,c\n1,0.5,0.4,0\n2,1,0,0\n", "sums to 0.90000000, not 1"),
        ("id,a,b,c\n1\r1,1,0,0\n2,1,0,0\n", "not CSV"),
    ],
)
def test_a_wrong_submission_is_refused_with_its_line(text, words):
    """Each way of being wrong is told, with the line where it is."""
    with pytest.raises(RunError, match=words):
        check_submission(text, SAMPLE)


def test_a_wrong_submission_does_not_replace_the_one_that_stands(tmp_path):
    """The fallback stays where the new text fails the check."""
    path = tmp_path / "submission.csv"
    path.write_text("fallback", encoding="utf-8")
    with pytest.raises(RunError):
        put_submission(path, dump_submission(SAMPLE, {"1": dict.fromkeys(COLUMNS, math.nan)}, prior=PRIOR), SAMPLE)
    assert path.read_text(encoding="utf-8") == "fallback"


@pytest.mark.parametrize("stands", [True, False])
def test_a_full_disk_keeps_the_submission_that_stands_and_says_so(tmp_path, stands):
    """Where the disk takes no more, the error says whether a submission stands."""
    path = tmp_path / "submission.csv"
    sample = Sample("id", COLUMNS, tuple(map(str, range(1000))))
    if stands:
        path.write_text("fallback", encoding="utf-8")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(RunError, match="is kept" if stands else "NO submission stands"):
            put_submission(path, dump_submission(sample, {}, prior=PRIOR), sample)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [entry.read_text(encoding="utf-8") for entry in tmp_path.iterdir()] == ["fallback"] * stands


def test_an_id_that_the_sample_repeats_is_answered_each_time(tmp_path):
    """The submission has the sample's rows, whatever they are, and every other row its scores."""
    (tmp_path / "s.csv").write_text("id,a,b\n7,0,0\n8,0,0\n7,0,0\n")
    sample = read_sample(tmp_path / "s.csv")
    scores = {"7": {"a": 1.0, "b": 0.0}, "again": {"a": 0.0, "b": 1.0}}
    text = dump_submission(sample, scores, prior={"a": 0.5, "b": 0.5}, keys=["7", None, "again"])
    assert text == "id,a,b\n7,1,0\n8,0.5,0.5\n7,0,1\n"
    check_submission(text, sample)


def test_the_committed_sample_is_read(data):
    """The demo's sample has 300 ids and the three columns of the competition."""
    sample = read_sample(data / "sample_submission.csv")
    assert (sample.id_column, sample.columns) == ("id", ("winner_model_a", "winner_model_b", "winner_tie"))
    assert len(sample.ids) == 300


@pytest.mark.parametrize(
    "content", [b"\xef\xbb\xbfid,a,b\r\n1e5,.5,.5\r\n007,.5,.5\r\n", b"id,a,b\n1e5,0,0\n\n007,0,0"]
)
def test_bom_line_ends_and_numeric_ids_do_not_matter(tmp_path, content):
    """Ids are texts, letter for letter; a BOM, CRLF and blank lines are not part of them."""
    (tmp_path / "s.csv").write_bytes(content)
    assert read_sample(tmp_path / "s.csv") == Sample("id", ("a", "b"), ("1e5", "007"))


def test_ids_of_any_kind_come_back_from_a_file(tmp_path):
    """Commas, quotes and line ends in ids survive from the sample to the submission on disk."""
    ids = ["a,b", 'q"q', "n\nl", "c\rr", "c\r\nl", " s ", "ид", "'", "1e5"]
    path = tmp_path / "s.csv"
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([["id", *COLUMNS], *([row_id, 0, 0, 0] for row_id in ids)])
    sample = read_sample(path)
    put_submission(tmp_path / "submission.csv", dump_submission(sample, {}, prior=PRIOR), sample)
    assert list(read_sample(tmp_path / "submission.csv").ids) == ids


def test_a_sample_of_a_header_alone_gives_a_submission_of_a_header_alone(tmp_path):
    """No rows asked is no rows given, and that is valid."""
    (tmp_path / "s.csv").write_text("id,a,b,c\n", encoding="utf-8")
    sample = read_sample(tmp_path / "s.csv")
    put_submission(tmp_path / "submission.csv", dump_submission(sample, {}, prior=PRIOR), sample)
    assert (tmp_path / "submission.csv").read_text(encoding="utf-8") == "id,a,b,c\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "is missing"),
        (b"", "cannot be read as a sample submission"),
        (b"id\n1\n", "it needs an id and the label columns"),
        (b"id,a,a\n7,1,1\n", "names a column twice"),
        (b"id,a\n\xff\xfe,1\n", "cannot be read as a sample submission"),
    ],
)
def test_a_wrong_sample_is_a_data_error(tmp_path, content, words):
    """A sample that asks for nothing sensible is refused before anything is scored."""
    if content is not None:
        (tmp_path / "s.csv").write_bytes(content)
    with pytest.raises(DataError, match=words):
        read_sample(tmp_path / "s.csv")
