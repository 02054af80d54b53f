"""`kit model compare`: on which rows it measures, and which limit holds. Its scores: end_to_end/test_quantize.py."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest

from kaggle_kit.cli.main import run
from kaggle_kit.cli.model_compare import _calibration_lines, _limit_lines, _own_limit, _unseen
from kaggle_kit.errors import DataError
from kaggle_kit.evaluation.tables import read_table, write_table
from kaggle_kit.model.calibration import DIGESTS, CalibrationSource, calibration_prompts
from kaggle_kit.notebook.source import notebook_task
from kaggle_kit.project import load_project

pytestmark = pytest.mark.usefixtures("guarded_here")

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "tests" / "demo"
TRAIN = DEMO / "data" / "train.csv"


@pytest.fixture(scope="module")
def task():
    """The reference notebook's task."""
    return notebook_task(load_project(ROOT), "lmsys", assignments=())[0]


@pytest.fixture
def pair(tmp_path) -> dict[str, Path]:
    """A reference, and a model whose manifest says nothing of a calibration."""
    return {
        "reference": Path(shutil.copytree(DEMO / "full", tmp_path / "full")),
        "quantised": Path(shutil.copytree(DEMO / "model", tmp_path / "awq")),
    }


def calibrate(folder: Path, task, *, rows: int = 16) -> tuple[str, ...]:
    """Write into a manifest that rows of the demo's train.csv calibrated the model; their ids."""
    asked = CalibrationSource(task=task, budget=512, table=TRAIN, rows=rows, seed=0)
    prompts = calibration_prompts(asked, model=folder)
    path = folder / "manifest.json"
    body = json.loads(path.read_text()) | {"quantisation": {"calibration": {DIGESTS: " ".join(prompts.digests)}}}
    path.write_text(json.dumps(body))
    return prompts.row_ids


def ids(unseen) -> list[str]:
    """The ids of the rows that are left."""
    return [record["id"] for record in unseen.records]


def test_rows_that_calibrated_are_left_out(pair, task):
    """The first rows of the table are taken, but for exactly those that the quantiser drew, which are counted."""
    drawn = set(calibrate(pair["quantised"], task))
    every = [record["id"] for record in read_table(TRAIN)]
    found = _unseen(TRAIN, task, 10_000, **pair)
    assert ids(found) == [row_id for row_id in every if row_id not in drawn]
    assert found.left_out == len(drawn) == 16
    assert ids(_unseen(TRAIN, task, 50, **pair)) == ids(found)[:50]


def test_a_row_is_known_again_wherever_it_stands(pair, task, tmp_path):
    """Under another id, in another order, as Parquet, and with its answers exchanged, it is the same row."""
    drawn = calibrate(pair["quantised"], task)
    records = [
        record | {"id": f"new-{record['id']}", "response_a": record["response_b"], "response_b": record["response_a"]}
        for record in reversed(read_table(TRAIN))
    ]
    write_table(tmp_path / "other.parquet", records)
    found = _unseen(tmp_path / "other.parquet", task, 10_000, **pair)
    assert found.left_out == 16
    assert not {f"new-{row_id}" for row_id in drawn} & set(ids(found))


def test_cells_that_are_lists_are_read_as_their_json(pair, task, tmp_path):
    """A table of JSON lines may hold the turns themselves."""
    calibrate(pair["quantised"], task)
    records = read_table(TRAIN)
    lines = [json.dumps(one | {name: json.loads(one[name]) for name in task.fields}) for one in records]
    (tmp_path / "train.jsonl").write_text("\n".join(lines))
    assert _unseen(tmp_path / "train.jsonl", task, 10_000, **pair).left_out == 16


def test_the_rows_of_the_reference_count_too(pair, task):
    """Where the reference was quantised as well, its rows are left out as well."""
    calibrate(pair["quantised"], task, rows=4)
    drawn = set(calibrate(pair["reference"], task, rows=8))
    assert not drawn & set(ids(_unseen(TRAIN, task, 10_000, **pair)))


def test_the_rows_of_the_reference_are_told_as_its_own(pair, task):
    """They are counted apart, but for those that calibrated both, and the words say whose they are."""
    own = set(calibrate(pair["quantised"], task, rows=4))
    more = set(calibrate(pair["reference"], task, rows=8)) - own
    found = _unseen(TRAIN, task, 10_000, **pair)
    assert (found.left_out, found.reference_only) == (4, len(more))
    assert _calibration_lines(found) == [
        "  4 rows of the table calibrated the quantised model, and are left out",
        f"  {len(more)} more calibrated the reference alone, and are left out",
    ]


def test_a_manifest_that_does_not_say_beside_a_reference_that_does(pair, task):
    """Only the reference's rows are left out, and only of the other's it is said that they may be there."""
    calibrate(pair["reference"], task, rows=8)
    found = _unseen(TRAIN, task, 10_000, **pair)
    assert (len(found.records), found.left_out, found.reference_only) == (292, None, 8)
    assert _calibration_lines(found) == [
        "  the quantised model's manifest does not say which rows calibrated it: they may be among these",
        "  8 calibrated the reference alone, and are left out",
    ]


def test_an_error_names_the_model_that_was_calibrated(pair, task, tmp_path):
    """Where all rows calibrated the reference, it is the one that is named."""
    drawn = set(calibrate(pair["reference"], task, rows=8))
    write_table(tmp_path / "few.parquet", [record for record in read_table(TRAIN) if record["id"] in drawn])
    with pytest.raises(DataError, match=rf"calibrated {pair['reference']}: "):
        _unseen(tmp_path / "few.parquet", task, 500, **pair)


def test_a_manifest_that_does_not_say_is_told(pair, task):
    """Nothing is left out, and nothing is claimed."""
    found = _unseen(TRAIN, task, 10_000, **pair)
    assert (len(found.records), found.left_out) == (300, None)


def test_no_row_left_is_an_error(pair, task, tmp_path, capsys):
    """Where all rows calibrated it, the command ends with 2 before any engine starts, and says what to do."""
    drawn = set(calibrate(pair["quantised"], task))
    table = tmp_path / "train.csv"
    with TRAIN.open(newline="", encoding="utf-8") as stream, table.open("w", newline="", encoding="utf-8") as out:
        reader = csv.DictReader(stream)
        writer = csv.DictWriter(out, fieldnames=reader.fieldnames)
        writer.writeheader()
        writer.writerows(row for row in reader if row["id"] in drawn)
    with pytest.raises(DataError, match=r"all 16 rows of .* calibrated .*awq.*--data"):
        _unseen(table, task, 500, **pair)
    command = ["model", "compare", *map(str, pair.values()), "--data", str(table), "--project", str(ROOT)]
    assert run(command) == 2
    assert "all 16 rows" in capsys.readouterr().err


@pytest.fixture
def limited(tmp_path):
    """A function: a project with these tables under models, beside the demo's notebook."""

    def make(tables: str):
        text = (ROOT / "kit.toml").read_text(encoding="utf-8")
        (tmp_path / "kit.toml").write_text(text + tables, encoding="utf-8")
        (tmp_path / "models").mkdir(exist_ok=True)
        return load_project(tmp_path)

    return make


TABLE = '[models.{name}]\npath = "models/awq"\ndataset = "ada/{name}-model"\n{more}\n'


def test_the_limit_is_the_tables(limited, tmp_path, monkeypatch):
    """The folder's own table in kit.toml gives the limit, however the folder is written; the smallest of several."""
    project = limited("\n" + TABLE.format(name="awq", more="most_kl = 0.02"))
    told = (0.02, "models.awq.most_kl of kit.toml")
    assert _own_limit(project, tmp_path / "models" / "awq") == told
    monkeypatch.chdir(tmp_path)
    assert _own_limit(project, Path("models/../models/awq")) == told
    two = TABLE.format(name="awq", more="most_kl = 0.02") + TABLE.format(name="strict", more="most_kl = 0.01")
    assert _own_limit(limited("\n" + two), tmp_path / "models" / "awq") == (0.01, "models.strict.most_kl of kit.toml")


def test_no_table_is_no_limit(limited, tmp_path):
    """A folder that kit.toml does not know, or whose table has no limit, has none."""
    project = limited("\n" + TABLE.format(name="awq", more=""))
    assert _own_limit(project, tmp_path / "models" / "awq") == (None, None)
    assert _own_limit(project, tmp_path / "elsewhere") == (None, None)


def test_the_limit_is_said():
    """The text names the limit, where it stands, and whether it is kept."""
    said = _limit_lines(0.02, "models.awq.most_kl of kit.toml", beyond=True)
    assert said[-1] == "limit 0.02 of the mean KL (models.awq.most_kl of kit.toml): NOT kept"
    assert _limit_lines(0.02, "--limit", beyond=False)[-1].endswith("(--limit): kept")
    assert _limit_lines(None, None, beyond=False) == []
