"""The main job: a built notebook scores the sample, offline, through real vLLM and a real AWQ model."""

from __future__ import annotations

import csv
import json

import pytest

KAGGLE_MODEL = 'kaggle_model = "your-kaggle-name/kit-demo/transformers/awq/3"'


@pytest.fixture(params=[("bwrap", "a dataset"), ("unshare", "a Kaggle Model")], ids=" with ".join)
def scored(workshop, request, why_not):
    """The reference notebook's dry run over the whole sample: in each seal, its checkpoint from either source.

    Where a seal does not work the run is in the one that does: what is said of the sources holds there too.
    """
    seal, source = request.param
    if source == "a Kaggle Model":
        workshop.edit("kit.toml", 'dataset = "your-kaggle-name/kit-demo-model"', KAGGLE_MODEL)
    return workshop.dryrun(*(() if why_not(seal) else ("--seal", seal)), "--json")


def test_the_sample_is_scored_well_and_whole(scored, workshop):
    """Every row is scored by the model, the log loss is below 0.80, and all figures and files are there.

    The checkpoint is a dataset's, and in the other run a version of a Kaggle Model, found where Kaggle mounts it.
    """
    assert scored.code == 0, scored.err
    report = json.loads(scored.out)
    assert report["outcome"].startswith("OK: submission.csv is valid: 300 of 300 rows scored by the model")
    assert (report["scored_rows"], report["prior_rows"], report["unreadable_count"]) == (300, 0, 0)
    assert report["log_loss"] < 0.80
    assert report["label_mass_mean"] > 0.99
    assert report["integrity"]["model demo"].startswith("all 5 files as its manifest says")
    assert report["unsealed"] == []
    for stage in ("install", "engine start", "scoring", "whole notebook"):
        assert report["seconds"][stage] > 0
    assert report["rows_per_second"] > 0
    assert report["tokens_per_second"] > 0
    assert report["peak_bytes"] > 500e6
    assert report["projected_seconds"] > report["seconds"]["whole notebook"]
    with (workshop.results / "submission.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    with (workshop.folder / "tests/demo/data/sample_submission.csv").open() as stream:
        sample = list(csv.DictReader(stream))
    assert [row["id"] for row in rows] == [row["id"] for row in sample]
    assert {path.name for path in workshop.results.iterdir()} == {
        "executed.ipynb",
        "kit-run.json",
        "log.txt",
        "report.json",
        "report.txt",
        "submission.csv",
    }


def test_rows_that_cannot_be_read_get_the_prior_and_are_named(workshop):
    """One row of each unreadable kind stops nothing: it is counted, named with its reason, and has the prior."""
    bad = {
        "not-json": "plain text",
        "number": "[1, 2]",
        "object": '[{"text": "hello"}]',
        "scalar": '"just a text"',
        "no-text": '["", null]',
    }
    data = workshop.folder / "mixed"
    data.mkdir()
    with (workshop.folder / "tests/demo/data/test.csv").open() as stream:
        good = list(csv.DictReader(stream))[:20]
    with (data / "test.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=["id", "prompt", "response_a", "response_b"])
        writer.writeheader()
        for number, (name, cell) in enumerate(bad.items()):
            writer.writerow({"id": name, "prompt": cell, "response_a": cell, "response_b": cell})
            writer.writerows(good[4 * number : 4 * number + 4])
    with (data / "sample_submission.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", "winner_model_a", "winner_model_b", "winner_tie"])
        writer.writerows([row_id, 0.3, 0.3, 0.4] for row_id in [*bad, *(row["id"] for row in good)])
    run = workshop.dryrun("--data", str(data), "--mounts", "flat", "--seal", "none")
    assert run.code == 0, run.err
    assert run.report["scored_rows"] == 20
    assert run.report["unreadable_count"] == 5
    assert set(run.report["unreadable_rows"]) == set(bad)
    assert "(5 could not be read)" in run.out
    assert "number: prompt: turn 1 is a number" in run.out
    assert "NOT SEALED" in run.out
    with (workshop.results / "submission.csv").open() as stream:
        values = {row["id"]: row for row in csv.DictReader(stream)}
    assert float(values["not-json"]["winner_model_a"]) == pytest.approx(0.349)
