"""Whether a notebook is one of the account's own: Kaggle may refuse to show one that is not there (403, not 404)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kaggle_kit.errors import CredentialsError, RemoteError
from kaggle_kit.remote.client.client import RefusedError

if TYPE_CHECKING:
    from kaggle_kit.remote.client.client import Client

# The most that the official client asks for at once.
_PAGE = 100
_PAGES = 100


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

    found: set[str] = set()
    token = ""
    for _ in range(_PAGES):
        request = ApiListKernelsRequest()
        request.group, request.page_size = KernelsListViewType.PROFILE, _PAGE
        if token:
            request.page_token = token
        method = client.sdk.kernels.kernels_api_client.list_kernels
        reply = client.read(method, request, what=f"account {client.username}")
        listed = reply.get("kernels") or []
        found |= {str(one.get("ref") or "").strip("/").lower() for one in listed}
        token = str(reply.get("nextPageToken") or "")
        if not token:
            return found if len(listed) < _PAGE and "" not in found else None
    return None
