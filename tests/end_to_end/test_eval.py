"""`kit eval` and `kit calibrate` for real: labelled rows through vLLM, calibrated, judged on rows that no fit saw.

Measured on 2026-11-24, 1,600 other rows of the same make: plain 0.642, in both orders 0.627, calibrated 0.626.
"""

from __future__ import annotations

import csv
import json
import subprocess

import polars as pl
import pytest
from demo import rows as demo_rows

from kaggle_kit.evaluation.answers import answers_of
from kaggle_kit.evaluation.scores import read_scores

FITTED, NEW = 400, 800
COLUMNS = ("winner_model_a", "winner_model_b", "winner_tie")


@pytest.fixture
def labelled(workshop):
    """A folder with 1,200 labelled rows that the demo model was not trained on."""
    folder = workshop.folder / "labelled"
    demo_rows.write_files(folder, rows=1, train_rows=FITTED + NEW, seed=21)
    return folder


def _part(path, out, keep):
    """The lines of a scores file whose id is in `keep`, with the file's own metadata."""
    facts = pl.read_parquet_metadata(path)["kaggle-kit"]
    pl.read_parquet(path).filter(pl.col("id").is_in(keep)).write_parquet(out, metadata={"kaggle-kit": facts})
    return str(out)


def test_a_calibrated_mean_of_both_orders_beats_one_pass_on_new_rows(workshop, labelled):
    """Fitted on 400 rows, calibrated and in both orders: less log loss than plain on 800 others, beyond noise."""
    out = workshop.folder / "scores.parquet"
    run = workshop.kit("eval", "lmsys", "--data", str(labelled), "-o", str(out))
    assert run.code == 0, run.err
    assert "1,200 rows, " in run.out
    assert "both orders less plain, log loss: -0." in run.out
    assert not out.with_name("scores.parquet.kit").exists()
    with (labelled / "train.csv").open(encoding="utf-8", newline="") as stream:
        ids = [record["id"] for record in csv.DictReader(stream)]
    seen = _part(out, workshop.folder / "seen.parquet", ids[:FITTED])
    new = _part(out, workshop.folder / "new.parquet", ids[FITTED:])
    calibration = str(workshop.folder / "calibration.json")
    fit = subprocess.run(
        [workshop.command()[0], "calibrate", seen, "-o", calibration], capture_output=True, text=True, check=False
    )
    assert fit.returncode == 0, fit.stderr
    assert "on rows that no fit saw" in fit.stdout
    judged = workshop.kit("eval", new, "--calibration", calibration, "--json")
    assert judged.code == 0, judged.err
    found = json.loads(judged.out)
    gain = found["difference_to_plain"]["calibrated"]
    print(f"calibrated and in both orders, less plain: {gain}")
    assert found["rows"] == NEW
    assert gain["low"] < gain["value"] < gain["high"] < 0
    _check_file(out, ids)


def _check_file(out, ids):
    """The file's lines: ids in order, distributions, passes mapped back, cut shares, prompts of the worst rows."""
    scores = read_scores(out)
    answers = answers_of(scores)
    assert answers.ids == ids
    assert scores.columns == COLUMNS
    for name in ("plain", "swapped"):
        lines = scores.of_pass(name)
        sums = lines.select(pl.sum_horizontal(pl.col(f"logp_{column}").exp() for column in COLUMNS)).to_series()
        assert sums.to_numpy() == pytest.approx(1, abs=1e-6)
    # Not mapped back, the passes would disagree on who won.
    both = answers.in_both
    agree = (answers.plain[both].argmax(axis=1) == answers.swapped[both].argmax(axis=1)).mean()
    assert both.mean() > 0.95
    assert agree > 0.75
    plain = scores.of_pass("plain")
    cut = plain.filter(pl.col("cut") != "")
    assert 0 < len(cut) < 100
    assert (cut["whole_tokens"] > cut["budget"]).all()
    assert (plain["tokens"] <= plain["budget"]).all()
    worst = plain.filter(pl.col("prompt").is_not_null())
    assert 40 <= len(worst) <= 50
    assert worst["prompt"].str.ends_with("[Preferred]\n").all()
    assert {"Latin", "Han", "Cyrillic", "Arabic", "Devanagari"} <= set(plain["script"])
