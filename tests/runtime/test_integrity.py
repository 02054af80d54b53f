"""Hashes beside the scoring: when they are made, what they find, and that nobody has to wait for them."""

import hashlib
import json
import os
import shutil
import time
from pathlib import Path

import pytest

from kaggle_kit.runtime.integrity import BackgroundHashes
from kaggle_kit.runtime.manifest import dump_manifest, make_manifest
from kaggle_kit.runtime.record import BadFile, RunRecord

ENGINE = {"event": "engine", "name": "vllm 1"}
LOADING = {"event": "stage", "name": "engine start"}
SCORING = {"event": "stage", "name": "scoring"}


@pytest.fixture
def copied(tmp_path: Path, model: Path) -> Path:
    """The demo model in a folder of the test's own."""
    return shutil.copytree(model, tmp_path / "model")


def corrupted(folder: Path, name: str = "model.safetensors") -> str:
    """Change one bit in the middle of a file, which keeps its size; the SHA-256 that it has now."""
    path = folder / name
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)
    return hashlib.sha256(body).hexdigest()


def until(holds) -> None:
    """Stay until `holds()`; fail after ten seconds."""
    end = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def test_a_sound_model_is_hashed_whole(model):
    """Once its engine has loaded, every file of the model is hashed, and nothing is found."""
    hashes = BackgroundHashes([model])
    hashes.see(ENGINE, model)
    until(lambda: hashes.done)
    (found,) = hashes.record().values()
    assert list(hashes.record()) == ["demo"]
    assert found.checked_files == found.files >= 4
    assert found.checked_bytes == found.bytes > 2_000_000
    assert (found.bad, hashes.news()) == ((), [])


def test_a_corrupt_file_of_the_same_size_is_found(copied):
    """One bit that changed is told with the file, both hashes and what to do, and stands in the record."""
    before = hashlib.sha256((copied / "model.safetensors").read_bytes()).hexdigest()
    after = corrupted(copied)
    hashes = BackgroundHashes([copied])
    hashes.see(ENGINE, copied)
    until(lambda: hashes.done)
    (sentence,) = hashes.news()
    assert sentence.startswith("WARNING: model.safetensors of the model demo is CORRUPT")
    assert after in sentence
    assert before in sentence
    assert "upload it again" in sentence
    body = RunRecord(integrity=hashes.record()).to_json(["integrity"])
    record = RunRecord.from_json(json.loads(json.dumps(body)))
    bad = BadFile("model.safetensors", "", manifest=before, found=after)
    assert record.integrity["demo"].bad == (bad,)
    assert record.corrupt == "model.safetensors of the model demo"
    assert record.models["model demo"].startswith("CORRUPT: model.safetensors (other SHA-256)")


def test_a_finding_is_told_once(copied):
    """The notebook hears of a corrupt file once, however often it asks."""
    corrupted(copied)
    hashes = BackgroundHashes([copied])
    hashes.wait(10)
    assert len(hashes.news()) == 1
    assert hashes.news() == []


def test_a_file_that_cannot_be_read_is_a_finding(copied):
    """A file that is gone is named with the reason, its bytes do not count as checked, and the rest is checked."""
    (copied / "model.safetensors").unlink()
    hashes = BackgroundHashes([copied])
    hashes.wait(10)
    found = hashes.record()["demo"]
    assert found.checked_files == found.files
    assert found.checked_bytes < found.bytes
    assert found.bad[0].error == "No such file or directory"
    assert "model.safetensors of the model demo cannot be read (No such file or directory)" in hashes.news()[0]


def test_nothing_is_read_before_an_engine_has_loaded(model):
    """The start of an engine is not disturbed: until it is over, no thread has begun."""
    hashes = BackgroundHashes([model])
    hashes.see({"event": "stage", "name": "prepare"}, model)
    hashes.see(LOADING, model)
    assert hashes._thread is None
    assert hashes.record()["demo"].checked_files == 0


def test_hashing_rests_while_a_worker_loads(model):
    """Of two workers one has loaded: the hashes go on when the other has too, or has died."""
    hashes = BackgroundHashes([model])
    hashes.see(LOADING | {"worker": 1}, model)
    hashes.see(ENGINE | {"worker": 0}, model)
    time.sleep(0.2)
    assert hashes.record()["demo"].checked_files == 0
    hashes.see(SCORING | {"worker": 0}, model)
    time.sleep(0.1)
    assert hashes.record()["demo"].checked_files == 0
    hashes.see({"event": "restart", "message": "x", "worker": 1}, model)
    until(lambda: hashes.done)


def test_each_model_of_an_ensemble_has_its_turn(copied, model, tmp_path):
    """Each model is hashed after its own engine has loaded, and has a part of the record of its own."""
    other = shutil.copytree(model, tmp_path / "other")
    (other / "manifest.json").write_text(dump_manifest(make_manifest(other, kind="model", name="other")))
    corrupted(other)
    hashes = BackgroundHashes([copied, other])
    hashes.see(ENGINE, copied)
    until(lambda: hashes.record()["demo"].checked_files == hashes.record()["demo"].files)
    assert hashes.record()["other"].checked_files == 0
    assert not hashes.done
    hashes.see(ENGINE, other)
    until(lambda: hashes.done)
    assert hashes.record()["demo"].bad == ()
    assert RunRecord(integrity=hashes.record()).corrupt == "model.safetensors of the model other"


def test_a_restarted_worker_does_not_hash_again(model):
    """An engine that loads for the second time begins nothing."""
    hashes = BackgroundHashes([model])
    hashes.see(ENGINE, model)
    until(lambda: hashes.done)
    seconds = hashes.record()["demo"].seconds
    hashes.see(LOADING, model)
    hashes.see(ENGINE, model)
    time.sleep(0.1)
    assert hashes.record()["demo"].seconds == seconds


def test_the_thread_has_the_lowest_priority(model):
    """The engine's threads come first."""
    hashes = BackgroundHashes([model])
    hashes.see(ENGINE, model)
    until(lambda: hashes._thread.native_id is not None)
    until(lambda: hashes.done)
    assert os.getpriority(os.PRIO_PROCESS, hashes._thread.native_id) == 19
    assert os.getpriority(os.PRIO_PROCESS, os.getpid()) < 19


def test_an_end_that_does_not_wait_says_how_far_it_came(copied):
    """Of a large file nothing counts that was not read to its end, and ending does not wait for that."""
    with (copied / "large.bin").open("wb") as stream:
        stream.truncate(4_000_000_000)
    manifest = json.loads((copied / "manifest.json").read_text())
    manifest["files"].append({"path": "large.bin", "sha256": "0" * 64, "size": 4_000_000_000})
    (copied / "manifest.json").write_text(json.dumps(manifest))
    hashes = BackgroundHashes([copied])
    hashes.see(ENGINE, copied)
    until(lambda: hashes.record()["demo"].checked_files == len(manifest["files"]) - 1)
    hashes.wait(0)
    found = hashes.record()["demo"]
    assert (found.checked_files, found.files) == (len(manifest["files"]) - 1, len(manifest["files"]))
    assert found.bytes - found.checked_bytes == 4_000_000_000
    hashes._thread.join(timeout=5)
    assert not hashes._thread.is_alive()
    said = RunRecord(integrity=hashes.record()).models["model demo"]
    assert said.startswith(f"not wholly checked: {len(manifest['files']) - 1} of {len(manifest['files'])} files hashed")


def test_what_never_loaded_is_hashed_at_the_end(model):
    """Where no engine was needed, waiting hashes the files all the same."""
    hashes = BackgroundHashes([model])
    hashes.wait(10)
    assert hashes.done


def test_a_folder_without_a_manifest_is_left_out(tmp_path):
    """The worker tells of it; nothing fails here, and nothing is claimed."""
    hashes = BackgroundHashes([tmp_path])
    hashes.see(ENGINE, tmp_path)
    hashes.wait(0)
    assert hashes.record() == {}


def test_a_record_of_an_earlier_kit_says_nothing():
    """Where nothing was hashed, nothing is known."""
    assert RunRecord().corrupt == ""
    assert RunRecord().models == {}
