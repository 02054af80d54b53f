"""The measured rate of uploads."""

import pytest

from kaggle_kit.remote.plan.rate import measured_rate, remember_rate


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
