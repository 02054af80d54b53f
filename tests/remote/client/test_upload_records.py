"""What is kept of uploads between two runs: begun sessions, and the measured rate."""

import resource

import pytest

from kaggle_kit.errors import RemoteError
from kaggle_kit.remote.client.upload_records import KEPT_S, Session, Sessions, measured_rate, remember_rate


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KIT_CACHE_DIR", str(tmp_path))


def test_a_rate_is_remembered():
    """Bytes over seconds of the last large upload."""
    assert measured_rate() is None
    remember_rate(100_000_000, 10.0)
    assert measured_rate() == pytest.approx(1e7)


@pytest.mark.parametrize(("size", "seconds"), [(1000, 1.0), (100_000_000, 0.0)])
def test_a_small_upload_tells_nothing(size, seconds):
    """What is over in no time measures no line."""
    remember_rate(size, seconds)
    assert measured_rate() is None


@pytest.mark.parametrize("text", ["", "{}", '{"bytes_a_second": "x"}', '{"bytes_a_second": -1}', "[]"])
def test_a_damaged_note_is_none(text, tmp_path):
    """A note that cannot be read is no rate."""
    (tmp_path / "upload-rate.json").write_text(text, encoding="utf-8")
    assert measured_rate() is None


@pytest.mark.usefixtures("home")
def test_sessions_age():
    """After six days a session is not used any more."""
    now = [1000.0]
    sessions = Sessions(server="s", account="a", now=lambda: now[0])
    sessions.keep("f", Session("t", "u"))
    assert sessions.get("f") == Session("t", "u")
    now[0] += KEPT_S + 1
    assert sessions.get("f") is None


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("damage", ["another file", "torn"])
def test_a_damaged_file_of_sessions_is_begun_anew(damage):
    """What cannot be read costs what it knew, and no push."""
    kept = Sessions(server="s", account="a")
    for number in range(200):
        kept.keep(f"f{number}", Session("t" * 100, "u"))
    whole = kept.path.read_bytes()
    kept.path.write_bytes(b"garbage" * 1000 if damage == "another file" else whole[:8192] + b"x" * (len(whole) - 8192))
    anew = Sessions(server="s", account="a")
    assert anew.get("f1") is None
    anew.keep("f", Session("t", "u"))
    assert Sessions(server="s", account="a").get("f") == Session("t", "u")


@pytest.mark.usefixtures("home")
def test_a_file_of_sessions_that_cannot_be_written_is_told():
    """What the disk refuses is one error that names the file, and what the file knew is kept."""
    kept = Sessions(server="s", account="a")
    kept.keep("f", Session("t", "u"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (kept.path.stat().st_size, limits[1]))
    try:
        with pytest.raises(RemoteError, match=r"sqlite3 cannot be used.*make room on the disk"):
            kept.keep("g", Session("t" * 100_000, "u"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert Sessions(server="s", account="a").get("f") == Session("t", "u")


@pytest.mark.usefixtures("home")
def test_servers_and_accounts_share_nothing():
    """A session of one server or account is not seen by another, as it is by the official client."""
    Sessions(server="s", account="a").keep("f", Session("t", "u"))
    assert Sessions(server="s", account="b").get("f") is None
    assert Sessions(server="r", account="a").get("f") is None


def test_a_session_shows_nothing():
    """Neither token nor address is in a session's repr."""
    assert repr(Session("tok", "http://u")) == "<upload session>"
