"""A scores file comes back as it was written, and nothing else is taken for one."""

import polars as pl
import pytest
from evaluation.made_scores import COLUMNS, scores_of, truth

from kaggle_kit.errors import DataError
from kaggle_kit.evaluation.scores import KEY, Scores, read_scores, write_scores


@pytest.fixture
def scores():
    """Five rows in both passes."""
    logs, outcome = truth(5)
    return scores_of(logs, outcome, logs)


def test_what_is_written_is_read(tmp_path, scores):
    """Lines, their order, and the metadata with the order of its labels."""
    write_scores(tmp_path / "s.parquet", scores)
    found = read_scores(tmp_path / "s.parquet")
    assert found.lines.equals(scores.lines)
    assert found.facts == {**scores.facts, "format": 1}
    assert found.columns == COLUMNS
    assert found.lines["pass"].to_list() == ["plain"] * 5 + ["swapped"] * 5


def test_a_line_that_has_no_mass_has_null(tmp_path):
    """Where no model answered there is no mass, in a file of such rows too."""
    logs, outcome = truth(2)
    write_scores(tmp_path / "s.parquet", scores_of(logs, outcome, mass=[None, None], answered=["rule", "prior"]))
    assert read_scores(tmp_path / "s.parquet").lines["mass"].to_list() == [None, None]


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("missing", "is missing; `kit eval NAME -o"),
        ("text", "cannot be read as Parquet"),
        ("deep", "cannot be read as Parquet"),
        ("table", "is a table, but no scores file; make one with `kit eval`"),
        ("format", "has the format 2, this kit reads 1"),
        ("column", "lacks the columns outcome, or has them in another type"),
        ("type", "lacks the columns tokens, or has them in another type"),
        ("empty", "has no rows"),
        ("shape", r"does not say of itself what `kit eval` writes \(prior, engine_options, stages\); make one"),
    ],
)
def test_what_is_no_scores_file_is_told(tmp_path, scores, case, words):
    """The error names the file and what is wrong with it."""
    path = tmp_path / "s.parquet"
    match case:
        case "text":
            path.write_text("id,p\n1,2\n")
        case "deep":
            scores.lines.write_parquet(path, metadata={KEY: "[" * 200_000})
        case "table":
            scores.lines.write_parquet(path, metadata={KEY: '{"format": 1}'})
        case "format":
            write_scores(path, Scores(scores.lines, {**scores.facts, "format": 2}))
        case "column":
            write_scores(path, Scores(scores.lines.drop("outcome"), scores.facts))
        case "type":
            write_scores(path, Scores(scores.lines.with_columns(pl.col("tokens").cast(pl.Float64)), scores.facts))
        case "shape":
            facts = {**scores.facts, "prior": 5, "stages": {"scoring": "long"}, "engine_options": ["x"]}
            write_scores(path, Scores(scores.lines, facts))
        case "empty":
            write_scores(path, Scores(scores.lines.clear(), scores.facts))
    with pytest.raises(DataError, match=words):
        read_scores(path)
