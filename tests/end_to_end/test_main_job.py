"""The main job: a built notebook scores the sample, offline, through real vLLM and a real AWQ model."""

from __future__ import annotations

import csv

import pytest

KAGGLE_MODEL = 'kaggle_model = "your-kaggle-name/kit-demo/transformers/awq/3"'


def test_rows_that_cannot_be_read_get_the_prior_and_are_named(workshop):
    """One row of each unreadable kind stops nothing: it is counted, named with its reason, and has the prior.

    Without a seal, and with the checkpoint in a version of a Kaggle Model, found where Kaggle used to mount it.
    """
    workshop.edit("kit.toml", 'dataset = "your-kaggle-name/kit-demo-model"', KAGGLE_MODEL)
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
