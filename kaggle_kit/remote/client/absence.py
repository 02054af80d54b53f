"""Whether a refusal means that there is no such thing: Kaggle says so in several forms.

404 says it. 403 says it too, of datasets, models and notebooks that were never made, and of those that were made a
moment ago: the official client and kagglehub take it so, and logs of 2023 to 2026 show it. So does 401, of notebooks.
But 403 is also what a private thing of somebody else answers, and 401 a wrong login. What tells them apart is whose
the thing is, and whether the account's own list has it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from kaggle_kit.errors import CredentialsError, RemoteError
from kaggle_kit.remote.client.client import RefusedError, entries, filled
from kaggle_kit.remote.references import bare

if TYPE_CHECKING:
    from collections.abc import Callable

    from kaggle_kit.remote.client.client import Client

T = TypeVar("T")
Listed = bool | None
"""Whether the account's own list has a thing; None where that list is not to be had, or not surely whole."""
_DATASETS_PAGE = 20
_PAGE = 100


@dataclass(frozen=True)
class Sought:
    """What is looked up: `what` names it in errors, `owner` is whose it is.

    `listed` asks the account's own list. It is None for a part of something that Kaggle has shown (a version, a file,
    a run), and for what was made from here a moment ago: a refusal then only means that it is not there, or not yet.
    `shown`: Kaggle has shown what this is a part of, so a refusal says nothing of that.
    `guarded`: Kaggle itself refuses to make it where it is there, so a list that cannot be had is not needed.
    """

    what: str
    owner: str
    listed: Callable[[], Listed] | None = None
    shown: bool = False
    guarded: bool = True


def find(client: Client, method: Callable[[Any], Any], request: Any, sought: Sought) -> dict[str, Any] | None:
    """As `Client.read`, but None where there is no such thing. Raises as `unless_absent`."""
    return unless_absent(client, lambda: client.read(method, request, what=sought.what), sought)


def find_pages(
    client: Client, method: Callable[[Any], Any], request: Any, sought: Sought
) -> list[dict[str, Any]] | None:
    """As `Client.pages`, but None where there is no such thing. Raises as `unless_absent`."""
    return unless_absent(client, lambda: list(client.pages(method, request, what=sought.what)), sought)


def unless_absent(client: Client, ask: Callable[[], T], sought: Sought) -> T | None:
    """What `ask()` gives, or None where it is refused for there is no such thing.

    One's own that Kaggle lists and does not show is asked for again for a while. Raises RefusedError for another's
    that Kaggle does not show, with both possible reasons, and whatever else `ask` raises.
    """
    try:
        return ask()
    except (RefusedError, CredentialsError) as refusal:
        meaning = _meaning(client, refusal, sought)
        if meaning == "absent":
            return None
        if meaning == "refused":
            raise
        part = replace(sought, listed=None)
        shown = client.settle(lambda: unless_absent(client, ask, part))
        if shown is None:
            raise _still_hidden(refusal, sought) from refusal
        return shown


Meaning = Literal["absent", "hidden", "refused"]
"""Of a refusal: there is no such thing; it is one's own, and Kaggle lists it without showing it; what it says."""


def _meaning(client: Client, refusal: RemoteError, sought: Sought) -> Meaning:
    """What a refusal means. Raises RefusedError for another's with 403, of which nobody can tell."""
    status = _status(refusal)
    if status == 404:
        return "absent"
    if status not in (401, 403):
        return "refused"
    if is_own(client, sought.owner):
        return _of_own(client, sought, denied=status == 403)
    if status == 403 and not sought.shown:
        raise _foreign(refusal, sought) from refusal
    return "absent" if status == 403 else "refused"


def _of_own(client: Client, sought: Sought, *, denied: bool) -> Meaning:
    """What a refusal of one's own means: 403 where it is `denied`, else 401, which puts the login in question."""
    if sought.listed is None:
        # A list that comes proves the login.
        return "absent" if denied or own_notebook(client, "") is not None else "refused"
    listed = sought.listed()
    if listed is None:
        return "absent" if denied and sought.guarded else "refused"
    if listed:
        return "hidden" if denied else "refused"
    return "absent"


def is_own(client: Client, owner: str) -> bool:
    """Whether `owner` is the account that is logged in, however its name is spelt."""
    return owner.lower() == client.username.lower()


def own_dataset(client: Client, ref: str) -> Listed:
    """Whether Kaggle's list of the account's own datasets has `owner/slug`."""
    from kagglesdk.datasets.types.dataset_api_service import ApiListDatasetsRequest
    from kagglesdk.datasets.types.dataset_enums import DatasetSelectionGroup

    group = DatasetSelectionGroup.DATASET_SELECTION_GROUP_MY
    request = filled(ApiListDatasetsRequest(), group=group, search=ref.rpartition("/")[2])
    method = client.sdk.datasets.dataset_api_client.list_datasets
    return _lists(client, method, request, "datasets", ref, size=_DATASETS_PAGE)


def own_model(client: Client, ref: str) -> Listed:
    """Whether Kaggle's list of the account's own models has `owner/model`."""
    from kagglesdk.models.types.model_api_service import ApiListModelsRequest

    request = filled(ApiListModelsRequest(), owner=client.username, search=ref.rpartition("/")[2])
    method = client.sdk.models.model_api_client.list_models
    return _lists(client, method, request, "models", ref, size=_PAGE)


def own_notebook(client: Client, ref: str) -> Listed:
    """Whether Kaggle's list of the account's own notebooks has `owner/slug`."""
    from kagglesdk.kernels.types.kernels_api_service import ApiListKernelsRequest
    from kagglesdk.kernels.types.kernels_enums import KernelsListViewType

    request = filled(ApiListKernelsRequest(), group=KernelsListViewType.PROFILE)
    return _lists(client, client.sdk.kernels.kernels_api_client.list_kernels, request, "kernels", ref, size=_PAGE)


def _lists(client: Client, method: Callable[[Any], Any], request: Any, key: str, ref: str, *, size: int) -> Listed:
    """Whether a list has `ref`, by the normal form of references."""
    what = f"account {client.username}"
    try:
        pages = [
            entries(reply, key, what=what, kind=dict) for reply in client.pages(method, request, what=what, size=size)
        ]
    except RemoteError:
        return None
    refs = {bare(str(entry.get("ref") or "")) for page in pages for entry in page}
    if bare(ref) in refs and ref:
        return True
    return False if len(pages[-1]) < size and "" not in refs else None


def _status(refusal: RemoteError) -> int:
    if isinstance(refusal, CredentialsError):
        return 401
    return refusal.status if isinstance(refusal, RefusedError) else 0


def _still_hidden(refusal: RemoteError, sought: Sought) -> RefusedError:
    return RefusedError(
        f"{refusal}. Kaggle lists {sought.what} among your own and does not show it: it may be at work on it. Run the "
        "same command again in some minutes; if it stays so, the token may not be allowed to read it: make a new one",
        status=403,
        said=getattr(refusal, "said", ""),
    )


def _foreign(refusal: RemoteError, sought: Sought) -> RefusedError:
    return RefusedError(
        f"{refusal}. Either there is no {sought.what}, or it is {sought.owner}'s and not yours to see: private, or "
        "with terms that its page on Kaggle asks you to accept",
        status=403,
        said=getattr(refusal, "said", ""),
    )
