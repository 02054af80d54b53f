"""The accelerator hours of the week."""

from kaggle_kit.remote.client.account import read_quota


def test_quota_in_seconds(inside):
    """The week's hours are read as seconds."""
    found = read_quota(inside)
    assert (found.gpu_used_s, found.gpu_allowed_s) == (0.0, 108_000.0)


def test_quota_that_is_not_said(script, client):
    """What Kaggle leaves out is None, not zero."""
    script.on("GetAcceleratorQuotaStatistics", {"gpuQuota": {"timeUsed": "1.5s"}})
    found = read_quota(client)
    assert (found.gpu_used_s, found.gpu_allowed_s, found.tpu_used_s) == (1.5, None, None)
