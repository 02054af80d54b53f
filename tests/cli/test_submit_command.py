"""`kit submit` and `kit push --submit`: a version is handed in once, its receipt knows it, and the advice is true."""

import dataclasses
import json
import os
import signal
import threading
import time

import pytest
from desk import NOTEBOOK

from kaggle_kit.loopback.faults import COMPETITIONS, FAULTS, Delay, Fault, removing
from kaggle_kit.loopback.records import Submission

GET = COMPETITIONS + "GetSubmission"


def lasting(name: str) -> Fault:
    """A fault that strikes whenever it can."""
    return dataclasses.replace(FAULTS[name], times=100_000)


def receipt(desk) -> dict:
    """What is kept of the first version."""
    return json.loads((desk.root / "receipts" / "answer-v1.json").read_text())


def descriptions(desk) -> list[str]:
    """How the submissions at Kaggle are called."""
    return [one.description for one in desk.kaggle._store.all(Submission)]


@pytest.fixture
def unscored(desk):
    """A desk after a push whose submission was not scored in time, and with Kaggle well again."""
    desk.kaggle.faults.add(lasting("submission-not-listed"))
    told = desk.push("--submit", "-m", "budget 768")
    assert told.code == 1
    assert "nothing is submitted twice" in told.err
    desk.kaggle.faults._faults.clear()
    return desk


def test_what_was_not_scored_in_time_is_not_handed_in_twice(unscored):
    """The advice, followed to the letter, waits for the score of the one submission."""
    told = unscored.kit("submit", "answer", "--wait")
    assert (told.code, told.out) == (0, "answer version 1: score 0.75\n")
    assert descriptions(unscored) == [f"budget 768 [{NOTEBOOK} v1]"]


def test_a_second_push_does_not_hand_in_twice(unscored):
    """Nor does `kit push --submit` without a message."""
    assert unscored.push("--submit").code == 0
    assert descriptions(unscored) == [f"budget 768 [{NOTEBOOK} v1]"]


def test_a_receipt_has_the_submission_before_its_score(unscored):
    """It names the submission although no score came."""
    kept = receipt(unscored)["submission"]
    assert (kept["state"], kept["description"]) == ("PENDING", f"budget 768 [{NOTEBOOK} v1]")


def test_a_submission_that_the_list_does_not_show_is_not_made_again(unscored):
    """The receipt's number is enough."""
    unscored.kaggle.faults.add(Fault("unlisted", "", COMPETITIONS + "ListSubmissions", removing("submissions")))
    assert unscored.kit("submit", "answer", "--wait").code == 0
    assert unscored.submissions == 1


def test_what_only_kaggle_knows_is_not_handed_in_twice(unscored):
    """Without a word in the receipt the version's submission is found at Kaggle, and noted."""
    path = unscored.root / "receipts" / "answer-v1.json"
    path.write_text(json.dumps(receipt(unscored) | {"submission": {}}))
    assert unscored.kit("submit", "answer", "--wait").code == 0
    assert unscored.submissions == 1
    assert receipt(unscored)["submission"]["description"] == f"budget 768 [{NOTEBOOK} v1]"


def test_another_message_hands_it_in_again(unscored):
    """That is the wish for a second submission."""
    assert unscored.kit("submit", "answer", "--wait", "-m", "once more").code == 0
    assert sorted(descriptions(unscored)) == [f"budget 768 [{NOTEBOOK} v1]", f"once more [{NOTEBOOK} v1]"]


def test_a_failed_submission_is_in_the_receipt(desk):
    """Its state is ERROR there, with Kaggle's reason; the next one has its message."""
    desk.kaggle.faults.add(FAULTS["submission-fails"])
    assert desk.push("--submit", "-m", "budget 768").code == 1
    kept = receipt(desk)["submission"]
    assert (kept["state"], kept["error"]) == ("ERROR", "Submission Scoring Error")
    assert desk.kit("submit", "answer", "--wait").code == 0
    assert descriptions(desk) == [f"budget 768 [{NOTEBOOK} v1]"] * 2


@pytest.mark.usefixtures("interruptible")
def test_an_interrupted_wait_leaves_the_submission_in_the_receipt(desk):
    """After Ctrl-C while its score is waited for."""
    desk.kaggle.faults.add(Fault("slow", "", GET, Delay(5.0)))

    def interrupt() -> None:
        ends = time.monotonic() + 20
        while not desk.kaggle.traffic.requests[GET] and time.monotonic() < ends:
            time.sleep(0.01)
        if desk.kaggle.traffic.requests[GET]:
            os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    told = desk.push("--submit")
    thread.join()
    assert told.code == 130
    assert receipt(desk)["submission"]["state"] == "PENDING"


def test_without_a_score_the_version_is_named(desk):
    """The command that is advised asks for this very version."""
    desk.kaggle.faults.add(FAULTS["submission-no-score"])
    told = desk.push("--submit")
    assert told.code == 1
    assert "kit submit answer --wait --version 1" in told.err


def test_a_version_that_is_not_as_asked_is_not_handed_in(desk):
    """The reason is told with exit code 1, and Kaggle is asked nothing."""
    desk.kaggle.faults.add(FAULTS["push-other-machine"])
    assert desk.push().code == 1
    desk.kaggle.traffic.reset()
    told = desk.kit("submit", "answer", "--wait")
    assert told.code == 1
    assert "is not handed in, for Kaggle has it otherwise than it was asked: accelerator is ''" in told.err
    assert not desk.kaggle.traffic.requests
    assert desk.submissions == 0
