"""The accelerator hours of an account's week."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kaggle_kit.remote.client.client import Client


@dataclass(frozen=True)
class Quota:
    """Accelerator hours of this week, in seconds; None where Kaggle does not say."""

    gpu_used_s: float | None
    gpu_allowed_s: float | None
    tpu_used_s: float | None
    tpu_allowed_s: float | None
    renewed: str | None


def read_quota(client: Client) -> Quota:
    """How much of the week's accelerator time is used."""
    from kagglesdk.kernels.types.kernels_api_service import ApiGetAcceleratorQuotaStatisticsRequest

    request = ApiGetAcceleratorQuotaStatisticsRequest()
    method = client.sdk.kernels.kernels_api_client.get_accelerator_quota_statistics
    reply = client.read(method, request, what=f"account {client.username}")
    return Quota(
        gpu_used_s=_seconds(reply, "gpuQuota", "timeUsed"),
        gpu_allowed_s=_seconds(reply, "gpuQuota", "totalTimeAllowed"),
        tpu_used_s=_seconds(reply, "tpuQuota", "timeUsed"),
        tpu_allowed_s=_seconds(reply, "tpuQuota", "totalTimeAllowed"),
        renewed=reply.get("quotaRefreshTime"),
    )


def _seconds(reply: Mapping[str, Any], part: str, name: str) -> float | None:
    """A duration as Kaggle writes it: `3600s`, `1.5s`."""
    found = reply.get(part)
    value = found.get(name) if isinstance(found, dict) else None
    try:
        return float(str(value).removesuffix("s"))
    except ValueError:
        return None
