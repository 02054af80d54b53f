"""Kaggle as a plan reads it: what is not there, and what it only does not say."""

import pytest

from kaggle_kit.errors import RemoteError
from kaggle_kit.remote.plan.remote import Remote


def test_a_notebook_that_is_not_there_is_none(inside):
    """Kaggle's 404 is absence."""
    assert Remote(inside).notebook("rehearsal/score-it") is None


def test_a_notebook_whose_version_is_not_said_is_no_absent_one(script, client):
    """A reply without the newest version's number stops the plan: it would be made over what is there."""
    script.on("GetKernel", {"metadata": {"title": "Score it"}, "blob": {"source": "x = 1"}})
    with pytest.raises(RemoteError, match=r"me/score-it.*holds no currentVersionNumber"):
        Remote(client).notebook("me/score-it")
