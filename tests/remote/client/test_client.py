"""One call: repeated where that is safe, sent once where it is not, and its failure said plainly."""

from contextlib import suppress
from dataclasses import replace
from urllib.parse import urlsplit

import pytest
import requests
from scripted import CUT, TOKEN, Reply

from kaggle_kit.errors import CredentialsError, RemoteError
from kaggle_kit.loopback.faults import DATASETS, Endless, Fault
from kaggle_kit.remote.client import competitions, datasets, models, notebooks, outputs, wire
from kaggle_kit.remote.client.client import Client, LostReplyError, RefusedError, call_name, enum_name
from kaggle_kit.remote.client.datasets import read_file
from kaggle_kit.remote.references import parse

WHAT = "dataset me/things"


def ask(client: Client, *, make: bool = False):
    """A read, or a call that makes something, of the typed client."""
    from kagglesdk.datasets.types.dataset_api_service import ApiCreateDatasetRequest, ApiGetDatasetStatusRequest

    service = client.sdk.datasets.dataset_api_client
    if make:
        return client.make(service.create_dataset, ApiCreateDatasetRequest(), what=WHAT)
    return client.read(service.get_dataset_status, ApiGetDatasetStatusRequest(), what=WHAT)


def test_a_read_is_repeated(script, client):
    """429, 5xx and a cut are waited out."""
    script.on("GetDatasetStatus", Reply(429), CUT, {"status": "READY"})
    assert ask(client) == {"status": "READY"}


def test_proxies_are_looked_up_once_for_each_server(script, client, monkeypatch):
    """The first call to a server reads the variables, the next ones do not; another server has its own answer."""
    plain, servers = requests.sessions.get_environ_proxies, []

    def looked_up(url, **options):
        servers.append(urlsplit(url).hostname)
        return plain(url, **options)

    monkeypatch.setattr(requests.sessions, "get_environ_proxies", looked_up)
    script.on("GetDatasetStatus", {"status": "READY"})
    for _ in range(3):
        ask(client)
    settings = client.wire.session.merge_environment_settings
    assert settings("http://127.0.0.1:1/", {}, True, None, None)["stream"] is True
    assert settings("http://127.0.0.1:1/", {}, None, None, None)["proxies"].get("http") is None
    assert servers == ["localhost", "127.0.0.1"]


@pytest.mark.parametrize("make", [False, True])
def test_an_answer_without_end_is_no_answer(kaggle, inside, make, monkeypatch):
    """A body that goes on for ever is let go, and told as such; a call that makes something may have made it."""
    monkeypatch.setattr(wire, "_WHOLE_ANSWER", 0)
    inside.patience = replace(inside.patience, attempts=2)
    kaggle.faults.add(Fault("endless", "no end", DATASETS + "*", Endless(), times=9))
    with pytest.raises(LostReplyError if make else RemoteError, match="did not come to an end"):
        ask(inside, make=make)


def test_a_larger_answer_than_kaggle_gives_is_no_answer(script, client, monkeypatch):
    """No more of it is read than any answer has."""
    monkeypatch.setattr(wire, "_MOST_BYTES", 1000)
    script.on("GetDatasetStatus", {"status": "READY", "more": "x" * 1000}, {"status": "READY"})
    assert ask(client) == {"status": "READY"}
    script.on("GetDatasetStatus", {"status": "READY", "more": "x" * 1000})
    with pytest.raises(RemoteError, match="did not come to an end"):
        ask(client)


def test_a_read_gives_up(script, client):
    """After the last attempt the error names call, resource and what to do."""
    script.on("GetDatasetStatus", Reply(503, {"message": "Down for cleaning"}))
    with pytest.raises(
        RefusedError, match=r'GetDatasetStatus for dataset me/things: .*503: "Down for cleaning".*later'
    ):
        ask(client)
    assert len(script.calls("GetDatasetStatus")) == 3


def test_retry_after_is_kept_to(script, client):
    """The service says how long to wait, and kit waits that long."""
    waits = []
    client.sleep = waits.append
    script.on("GetDatasetStatus", Reply(429, headers={"Retry-After": "7"}), {"status": "READY"})
    ask(client)
    assert 7 <= waits[0] < 8


def test_a_very_long_wait_is_left_to_the_user(script, client):
    """An hour is not waited for: the message says so."""
    script.on("GetDatasetStatus", Reply(429, headers={"Retry-After": "3600"}))
    with pytest.raises(RemoteError, match="60 minutes"):
        ask(client)


def test_a_refusal_is_not_repeated(script, client):
    """What a second attempt would not change is asked once."""
    script.on("GetDatasetStatus", Reply(403, {"code": 403, "message": "Permission denied"}))
    with pytest.raises(RefusedError, match="403"):
        ask(client)
    assert len(script.seen) == 1


def test_a_hanging_server_is_left(script, client):
    """No call waits longer than its limit, though the official client has none."""
    client.patience = client.patience.__class__(attempts=1, read_s=0.2)
    script.on("GetDatasetStatus", Reply(body={}, after_s=3))
    with pytest.raises(RemoteError, match="did not answer within"):
        ask(client)


def test_nobody_listens(script, client):
    """A refused connection says where nothing listens."""
    script.close()
    with pytest.raises(RemoteError, match=r"nothing listens at http://127\.0\.0\.1"):
        ask(client)


def test_401_is_a_matter_of_the_login(script, client):
    """A login that is not accepted ends with exit code 2 and how to log in."""
    script.on("GetDatasetStatus", Reply(401, {"message": "Unauthenticated"}))
    with pytest.raises(CredentialsError, match="Log in again") as caught:
        ask(client)
    assert caught.value.exit_code == 2


def test_the_token_is_in_no_message(script, client):
    """A server that says the token back does not get it printed."""
    script.on("GetDatasetStatus", Reply(400, {"message": f"bad header Bearer {TOKEN}"}))
    with pytest.raises(RefusedError) as caught:
        ask(client)
    assert TOKEN not in str(caught.value)
    assert "<secret>" in str(caught.value)


def test_an_unknown_enum_value_is_given_as_it_is(script, client):
    """The typed SDK breaks on a status that is new; the client hands it on."""
    script.on("GetDatasetStatus", {"status": "SHINY_NEW"})
    assert ask(client) == {"status": "SHINY_NEW"}


def test_an_error_in_a_good_answer_is_an_error(script, client):
    """A body with `error` under status 200 is a refusal."""
    script.on("GetDatasetStatus", {"error": "Quota exceeded"})
    with pytest.raises(RefusedError, match="Quota exceeded"):
        ask(client)


def test_a_code_in_a_good_answer_is_the_status(script, client):
    """A body with a code of 404 under status 200 is a 404."""
    script.on("GetDatasetStatus", {"code": 404, "message": "no such"})
    with pytest.raises(RefusedError) as caught:
        ask(client)
    assert caught.value.status == 404


def test_a_page_instead_of_json(script, client):
    """A captive portal's page is not taken for an answer."""
    script.on("GetDatasetStatus", Reply(body=b"<html>Welcome to the hotel", headers={"Content-Type": "text/html"}))
    with pytest.raises(RemoteError, match="not Kaggle's"):
        ask(client)


@pytest.mark.parametrize(
    "answer", [CUT, Reply(500), Reply(502), Reply(body=b"{", length=90), Reply(body=b"<html>"), {}, Reply(504)]
)
def test_making_is_sent_once(script, client, answer):
    """Where it is not known whether something was made, it is not sent again."""
    script.on("CreateDataset", answer)
    with pytest.raises(LostReplyError, match="may have been made"):
        ask(client, make=True)
    assert len(script.calls("CreateDataset")) == 1


def test_making_waits_for_its_turn(script, client):
    """429 made nothing: it is sent again."""
    script.on("CreateDataset", Reply(429), {"url": "u"})
    assert ask(client, make=True) == {"url": "u"}


def test_making_without_a_server(script, client):
    """A connection that never came about made nothing, and the message says so."""
    script.close()
    with pytest.raises(RemoteError, match="Nothing was made") as caught:
        ask(client, make=True)
    assert not isinstance(caught.value, LostReplyError)


def lose(*, again: bool = True):
    """A call whose reply is lost."""
    raise LostReplyError("lost", again=again)


def test_what_is_found_is_not_made_again(client):
    """After a lost reply the thing is looked for, and found after a while."""
    looks = iter([None, None, "there"])
    assert client.make_once(lose, lambda: next(looks), what=WHAT) == "there"


def test_it_is_sent_twice_at_most(client):
    """Two lost replies and nothing to see: an error that says what to look at."""
    sent = []

    def make():
        sent.append(1)
        lose()

    with pytest.raises(RemoteError, match="See on Kaggle's page"):
        client.make_once(make, lambda: None, what=WHAT)
    assert len(sent) == 2


def test_an_empty_answer_is_not_sent_again(client):
    """A server that answers nothing is not asked to make it a second time."""
    sent = []

    def make():
        sent.append(1)
        lose(again=False)

    with pytest.raises(RemoteError):
        client.make_once(make, lambda: None, what=WHAT)
    assert len(sent) == 1


def test_the_client_is_the_official_one(script, client):
    """The call is the official SDK's: its path and its bearer header."""
    script.on("GetDatasetStatus", {"status": "READY"})
    ask(client)
    assert script.seen[0].target == "http://localhost/api/v1/datasets.DatasetApiService/GetDatasetStatus"
    assert script.seen[0].headers["Authorization"] == f"Bearer {TOKEN}"


def test_no_redirect_carries_the_login_away(script, client):
    """An answer that leads to another host is not followed."""
    script.on("GetDatasetStatus", Reply(302, headers={"Location": "http://elsewhere.example/x"}))
    with pytest.raises(RemoteError, match="not sent there"):
        ask(client)


def test_names_are_kaggles():
    """A method's name is shown as the service calls it."""
    assert call_name(Client.make_once) == "MakeOnce"


@pytest.mark.parametrize("value", ["CANCEL_ACKNOWLEDGED", "cancelAcknowledged", "cancel_acknowledged"])
def test_enum_values_have_one_name(value):
    """However the service spells a value, it is one."""
    assert enum_name(value) == "CANCEL_ACKNOWLEDGED"


@pytest.mark.usefixtures("home")
def test_tests_cannot_reach_kaggle():
    """What a test would send over TLS ends at a port where nothing listens."""
    with pytest.raises(requests.exceptions.ProxyError):
        requests.get("https://api.kaggle.com/v1", timeout=2)


@pytest.mark.parametrize("failure", [Reply(520), Reply(425), Reply(503), CUT], ids=str)
def test_downloads_and_calls_keep_to_one_list(script, client, tmp_path, failure):
    """What one of them takes for passing, the other does too."""
    script.on("ListKernelSessionOutput", failure, {"files": [{"fileName": "a", "url": f"{script.url}/files/f0"}]})
    script.on("f0", failure, Reply(body=b"whole"))
    (path,) = outputs.output(client, "me/score-it", 1, tmp_path).files
    assert path.read_bytes() == b"whole"
    script.on("DownloadDataset", failure, Reply(302, headers={"Location": f"{script.url}/files/f1"}))
    script.on("f1", failure, Reply(body=b"small"))
    assert read_file(client, "me/data", 1, "manifest.json") == b"small"


READERS = {
    "ListDatasetFiles": lambda client: datasets.list_files(client, "a/b", version=1),
    "GetDataset": lambda client: datasets.read(client, "a/b"),
    "GetKernel": lambda client: notebooks.read(client, "a/b"),
    "ListSubmissions": lambda client: competitions.submissions(client, "preferences"),
    "ListModelInstances": lambda client: models.newest(client, parse("a/b/pytorch/c")),
    "ListModelInstanceVersionFiles": lambda client: models.list_files(client, parse("a/b/pytorch/c"), 1),
}
NO_LISTS = (3, "x", {"a": 1}, [3], ["x"], [None], [[]], [{"name": 3, "size": "x", "versionNumber": [1], "ref": {}}])


@pytest.mark.parametrize("call", READERS)
def test_a_reply_whose_lists_are_none(script, client, call):
    """Whatever stands where Kaggle has a list, it is read or an error: never a traceback."""
    lists = ("files", "datasetFiles", "versions", "submissions", "instances")
    for value in NO_LISTS:
        facts = {f"{kind}DataSources": value for kind in ("dataset", "kernel", "competition", "model")}
        body = dict.fromkeys(lists, value) | {"metadata": facts, "blob": {"source": "x"}, "versionList": {}}
        for versions in (value, {"versions": value}):
            script.on(call, body | {"versionList": versions})
            with suppress(RemoteError):
                READERS[call](client)
