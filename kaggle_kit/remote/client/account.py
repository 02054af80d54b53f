"""What an account has: its own notebooks, and the accelerator hours of its week."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import CredentialsError, RemoteError
from kaggle_kit.remote.client.client import RefusedError, entries, filled

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kaggle_kit.remote.client.client import Client

# The most notebooks that the official client asks for at once.
_PAGE = 100


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


def is_absence(client: Client, ref: str, refusal: RemoteError) -> bool:
    """Whether `refusal`, to show the notebook `owner/slug`, only means that it is not there.

    The official client takes 401 and 403 here for a wrong slug. Sure is it only of the account's own notebooks, where
    Kaggle's list of them lacks it.
    """
    denied = isinstance(refusal, CredentialsError) or (isinstance(refusal, RefusedError) and refusal.status == 403)
    if not denied or ref.split("/", maxsplit=1)[0].lower() != client.username.lower():
        return False
    try:
        own = _own(client)
    except RemoteError:
        return False
    return own is not None and ref.lower() not in own


def _own(client: Client) -> set[str] | None:
    """The references of all the account's notebooks in lower case; None where the list is not surely whole."""
    from kagglesdk.kernels.types.kernels_api_service import ApiListKernelsRequest
    from kagglesdk.kernels.types.kernels_enums import KernelsListViewType

    request = filled(ApiListKernelsRequest(), group=KernelsListViewType.PROFILE)
    method = client.sdk.kernels.kernels_api_client.list_kernels
    what = f"account {client.username}"
    replies = client.pages(method, request, what=what, size=_PAGE)
    pages = [entries(reply, "kernels", what=what, kind=dict) for reply in replies]
    own = {str(one.get("ref") or "").strip("/").lower() for page in pages for one in page}
    return own if len(pages[-1]) < _PAGE and "" not in own else None
