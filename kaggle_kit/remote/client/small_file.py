"""One small file of a dataset's or model's version, read without fetching the rest: the manifest that identifies it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import RemoteError
from kaggle_kit.remote.client.outputs import AGAIN, OutputFile, open_file
from kaggle_kit.remote.client.wire import no_answer, transfer_session

if TYPE_CHECKING:
    from kaggle_kit.remote.client.client import Client
    from kaggle_kit.remote.client.model_ref import ModelRef

_LARGEST_BYTES = 16 << 20


def dataset_file(client: Client, ref: str, version: int, path: str) -> bytes | None:
    """The file `path` of a version of `owner/slug`; None where Kaggle has no such file or version (404).

    Raises RemoteError where Kaggle does not answer, or the file is larger than 16 MiB.
    """
    owner, slug = ref.split("/")
    asked = {"ownerSlug": owner, "datasetSlug": slug, "datasetVersionNumber": str(version), "fileName": path}
    return _read(
        client, "datasets.DatasetApiService/DownloadDataset", asked, f"dataset {ref} version {version}: {path}"
    )


def model_file(client: Client, ref: ModelRef, version: int, path: str) -> bytes | None:
    """The file `path` of a version of a model's variation; as `dataset_file`."""
    from kagglesdk.models.types.model_api_service import ApiDownloadModelInstanceVersionRequest

    from kaggle_kit.remote.client.models import place

    request = place(ApiDownloadModelInstanceVersionRequest(), ref)
    request.version_number, request.path = version, path
    asked = type(request).to_dict(request)
    return _read(client, "models.ModelApiService/DownloadModelInstanceVersion", asked, f"model {ref} version {version}")


def _read(client: Client, call: str, asked: dict[str, Any], what: str) -> bytes | None:
    for attempt in range(1, client.patience.attempts + 1):
        found = _attempt(client, call, asked, what)
        if not isinstance(found, str):
            return found
        why = found
        if attempt < client.patience.attempts:
            client.wait(attempt, f"{what}: {why}")
    raise RemoteError(f"{what} could not be read: {why}. Run the same command again")


def _attempt(client: Client, call: str, asked: dict[str, Any], what: str) -> bytes | str | None:
    """The file's bytes, None where there is none, or why another attempt may help.

    The call answers with another address; the login must not go there, so the typed client, which follows it, is not
    asked.
    """
    import requests

    timeouts = (client.patience.connect_s, client.patience.read_s)
    try:
        with client.wire.post(call, asked, timeouts=timeouts) as reply:
            if reply.status_code == 404:
                return None
            if reply.status_code in AGAIN:
                return f"Kaggle answered {reply.status_code}"
            address = reply.headers.get("Location") if reply.is_redirect else None
        if address is None:
            raise RemoteError(f"{what} cannot be read: Kaggle answered {reply.status_code}. Check owner and name")
        file = OutputFile(what, address)
        with transfer_session(client.login.endpoint) as session, open_file(client, session, file, timeouts) as response:
            if response.status_code == 404:
                return None
            if response.status_code != 200:
                return f"the file server answered {response.status_code}"
            body = response.raw.read(_LARGEST_BYTES + 1)
    except requests.exceptions.RequestException as error:
        return no_answer(error, timeouts=timeouts, whom=client.login.endpoint.name).why
    if len(body) > _LARGEST_BYTES:
        raise RemoteError(f"{what} is larger than {_LARGEST_BYTES:,} bytes: it is no manifest of kit's")
    return bytes(body)
