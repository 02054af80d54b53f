"""Calibration prompts are what the notebook would ask."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from demo import task as demo

from kaggle_kit.errors import DataError
from kaggle_kit.model.calibration import CalibrationSource, calibration_prompts, record_digest
from kaggle_kit.runtime.job import Task
from kaggle_kit.runtime.tokenizers import load_tokenizer

pytestmark = pytest.mark.usefixtures("guarded_here")

DEMO = Path(__file__).parents[1] / "demo"
TRAIN = DEMO / "data" / "train.csv"
TASK = Task(
    labels=demo.LABELS,
    prior=dict.fromkeys(demo.LABELS, 1 / 3),
    fields=demo.SHARES,
    template=demo.TEMPLATE,
    swap={"response_a": "response_b", "winner_model_a": "winner_model_b"},
    rules={"identical": dict.fromkeys(demo.LABELS, 1 / 3)},
)


def source(**given):
    """Sixteen rows of the demo's train.csv, unless something else is given."""
    parts = {"task": TASK, "budget": 512, "table": TRAIN, "rows": 16, "seed": 0} | given
    return CalibrationSource(**parts)


def draw(**given):
    """The prompts."""
    return calibration_prompts(source(**given), model=DEMO / "model")


def test_prompts_are_the_notebooks():
    """Token by token what the demo's own prompt builder makes of the same rows."""
    found = draw()
    with TRAIN.open(encoding="utf-8", newline="") as stream:
        rows = {row["id"]: row for row in csv.DictReader(stream)}
    tokenizer = load_tokenizer(DEMO / "model")
    for row_id, ids in zip(found.row_ids, found.token_ids, strict=True):
        assert ids == tuple(demo.prompt_of(rows[row_id], tokenizer=tokenizer, budget=512).token_ids)


def test_the_seed_draws_the_rows():
    """The same seed draws the same rows, another one others."""
    assert draw() == draw()
    assert draw().sha256 != draw(seed=1).sha256


def test_each_row_has_a_digest_of_its_texts():
    """As many as rows; a row of the table itself has the same one, and one that cannot be read has none."""
    found = draw()
    with TRAIN.open(encoding="utf-8", newline="") as stream:
        rows = {row["id"]: row for row in csv.DictReader(stream)}
    assert tuple(record_digest(rows[row_id], TASK) for row_id in found.row_ids) == found.digests
    assert len(set(found.digests)) == 16
    assert record_digest(rows[found.row_ids[0]] | {"prompt": "not JSON"}, TASK) is None


def test_no_prompt_is_longer_than_the_budget():
    """Calibration sees cut prompts, as the model will."""
    assert max(map(len, draw(budget=128, rows=64).token_ids)) <= 128


def test_rows_that_no_model_sees_are_left_out():
    """Unreadable rows and those with a rule are not drawn, however many are asked for."""
    found = draw(rows=10_000)
    assert 200 < len(found.row_ids) < 300


def test_no_row_is_an_error(tmp_path):
    """A table of unreadable rows gives nothing to calibrate on."""
    table = tmp_path / "train.csv"
    table.write_text("id,prompt,response_a,response_b\n1,x,y,z\n")
    with pytest.raises(DataError, match="nothing to calibrate on"):
        draw(table=table)


def test_a_table_without_the_fields_is_an_error(tmp_path):
    """The missing column is named."""
    table = tmp_path / "train.csv"
    table.write_text("id,question\n1,x\n")
    with pytest.raises(DataError, match="no column 'prompt'"):
        draw(table=table)
