"""The one policy for calls that are tried again."""

import pytest

from kaggle_kit.errors import RemoteError
from kaggle_kit.retry import NOTHING_DONE, Failed, Patience, Retries, may_pass, retry_after


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

    def retries(self, *, attempts=3):
        """Retries whose waits are kept here."""
        patience = Patience(attempts=attempts, first_s=1.0, longest_s=3.0)
        return Retries(patience, tell=lambda _: None, sleep=self.append, chance=lambda: 0.5)


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
