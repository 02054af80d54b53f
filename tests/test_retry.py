"""The one policy for calls that are tried again."""

import pytest

from kaggle_kit.errors import RemoteError
from kaggle_kit.retry import NOTHING_DONE, Failed, Patience, Retries, Wait, may_pass, retry_after


def test_retry_after_may_be_a_date():
    """The header's other form is understood."""
    headers = {"retry-after": "Thu, 01 Jan 1970 00:01:40 GMT"}
    assert retry_after(headers, now=lambda: 40.0) == 60.0


@pytest.mark.parametrize("text", ["soon", "", "-"])
def test_a_retry_after_of_another_form_asks_for_nothing(text):
    """What is neither a number nor a date is no wait."""
    assert retry_after({"Retry-After": text}) is None


def test_what_may_pass():
    """The server's own trouble and its limits may pass, and no answer about the request itself."""
    passing = {status for status in range(100, 600) if may_pass(status)}
    assert passing == {408, 425, 429, *range(500, 600)}
    assert passing >= NOTHING_DONE


class Waits(list):
    """A sleep that only keeps how long it was to be."""

    def __init__(self):
        """Nothing was waited for, and nothing said."""
        super().__init__()
        self.said = []

    def retries(self, *, attempts=3, until=None):
        """Retries whose waits are kept here, within a wait that ends `until` so many seconds from the first one."""
        patience = Patience(attempts=attempts, first_s=1.0, longest_s=3.0)
        wait = None if until is None else Wait(until, lambda: sum(self))
        return Retries(patience, tell=self.said.append, sleep=self.append, chance=lambda: 0.5, wait=wait)

    @staticmethod
    def fail_for_good(retries):
        """One failure after the other, until there is an error."""
        while True:
            retries.wait(FAILED)


FAILED = Failed("it broke", RemoteError("it broke for good"))


def test_waits_grow_to_the_longest():
    """Each wait is twice the one before, to the longest; after the last attempt the error is raised."""
    waits = Waits()
    retries = waits.retries(attempts=5)
    for _ in range(4):
        retries.wait(FAILED)
    with pytest.raises(RemoteError, match="for good"):
        retries.wait(FAILED)
    assert waits == [1.0, 2.0, 3.0, 3.0]


def test_progress_begins_the_count_again():
    """After progress there are as many attempts as at the beginning."""
    waits = Waits()
    retries = waits.retries()
    for _ in range(5):
        retries.wait(FAILED)
        retries.reset()
    assert waits == [1.0] * 5


def test_a_wait_outlasts_every_outage_to_its_deadline():
    """Within a wait no number of failures ends the attempts: its deadline does."""
    waits = Waits()
    with pytest.raises(RemoteError, match="for good"):
        waits.fail_for_good(waits.retries(until=3600.0))
    assert sum(waits) == 3600.0
    assert len(waits) > 1000


def test_an_outage_is_spoken_of_now_and_then():
    """An outage of two hours gives a line at its beginning and one every ten minutes, each with how long it lasts."""
    waits = Waits()
    with pytest.raises(RemoteError):
        waits.fail_for_good(waits.retries(until=7200.0))
    outage = [line for line in waits.said if "goes on asking" in line]
    assert 11 <= len(outage) <= 13
    assert "It has been so for 10 min" in outage[1]


def test_a_server_may_ask_for_much_within_a_wait():
    """Retry-After of half an hour is kept where a wait lasts longer, and refused where it does not."""
    long = Failed("busy", RemoteError("busy"), after_s=1800.0)
    waits = Waits()
    waits.retries(until=3600.0).wait(long)
    assert 1800.0 <= waits[0] < 1802.0
    with pytest.raises(RemoteError, match="30 minutes"):
        Waits().retries(until=900.0).wait(long)


def test_answers_after_an_outage_are_told():
    """What was said to be away is said to be back, once."""
    now, said = [0.0], []
    wait = Wait(1000.0, lambda: now[0])
    wait.outage("503", said.append)
    now[0] = 90.0
    wait.answered(said.append)
    wait.answered(said.append)
    assert said[1:] == ["the answers are back, after 90 s"]
