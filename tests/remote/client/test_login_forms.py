"""The own login and a proxy's password are said nowhere, in whatever form a server or a library says them back."""

import base64
import json
import traceback
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted import KEY, QUICK, TOKEN, Reply

from kaggle_kit.errors import CredentialsError, KitError, RemoteError
from kaggle_kit.remote.client import notebooks
from kaggle_kit.remote.client.client import Client
from kaggle_kit.remote.client.endpoint import Endpoint, endpoint_from_environment
from kaggle_kit.remote.client.login import Login, Secret
from kaggle_kit.remote.receipt import Receipt, save_receipt, with_run
from kaggle_kit.secrets.redaction import forms, proxy_forms, redact, without_login

ODD = 'k"e\\y/1+2%3=4&5'
PASSWORD = "hunter2hunter2"
BASIC = base64.b64encode(f"me:{KEY}".encode()).decode()


def login(key=KEY):
    """A login by user name and key, at the server that the environment names."""
    return Login("me", "key of kaggle.json", endpoint_from_environment(), key=Secret(key))


def ask(client):
    """One call, and all that its error says, causes included."""
    from kagglesdk.datasets.types.dataset_api_service import ApiGetDatasetStatusRequest

    method = client.sdk.datasets.dataset_api_client.get_dataset_status
    with pytest.raises(KitError) as caught:
        client.read(method, ApiGetDatasetStatusRequest(), what="dataset a/b")
    return "".join(traceback.format_exception(caught.value))


SAID = {
    "as it is": "{key}",
    "the header": "Authorization: Basic {basic}",
    "Base64 in an address": "auth={basic_quoted}",
    "Base64 of the key alone": "{alone}",
    "Base64 of more": "{more}",
    "in an address": "https://x/?key={quoted}",
    "in an address, small": "https://x/?key={small}",
    "in an address, twice": "https://x/?key={twice}",
    "in JSON": "{json}",
}


@pytest.mark.parametrize("key", [KEY, ODD])
@pytest.mark.parametrize("form", SAID)
@pytest.mark.parametrize("status", [400, 401, 404, 500])
def test_a_server_that_says_the_key_back(script, form, key, status):
    """No error repeats it, in any form; nor what it is cut to."""
    quoted = quote(key, safe="")
    said = SAID[form].format(
        key=key,
        basic=base64.b64encode(f"me:{key}".encode()).decode(),
        basic_quoted=quote(base64.b64encode(f"me:{key}".encode()).decode(), safe=""),
        alone=base64.b64encode(key.encode()).decode(),
        more=base64.b64encode(f"login is {key}!".encode()).decode(),
        quoted=quoted,
        small=quoted.replace("%2F", "%2f").replace("%2B", "%2b").replace("%3D", "%3d").replace("%5C", "%5c"),
        twice=quote(quoted, safe=""),
        json=json.dumps(key)[1:-1],
    )
    client = Client(login(key), patience=QUICK)
    for padding in ("", "x" * 390):
        script.on("GetDatasetStatus", Reply(status, {"code": status, "message": f"{padding} {said} is wrong"}))
        told = ask(client)
        for known in (key, quoted, base64.b64encode(f"me:{key}".encode()).decode()[:-4]):
            assert known not in told
        assert key[:6] not in told
    client.close()


def test_no_word_of_a_reply_holds_it(script, tmp_path):
    """Not the state of a run, not what a push made, not the receipt of it; a notebook's source is left as it is."""
    client = Client(login(), patience=QUICK)
    script.on("GetKernelSessionStatus", {"status": f"odd {BASIC}", "failureMessage": f"OSError: {KEY} at 3"})
    state = notebooks.status(client, "me/one", 1)
    assert KEY not in repr(state)
    assert BASIC not in repr(state)
    plain = {"url": "u", "source": "s", "build": "b", "pushed": "p", "made_by": None, "target": None}
    receipt = Receipt(
        name="one", notebook="me/one", version=1, inputs=(), checks=(), server=client.login.endpoint.name, **plain
    )
    text = save_receipt(tmp_path, with_run(receipt, state)).read_text()
    assert KEY not in text
    facts = {"title": f"t {KEY}", "datasetDataSources": [f"a/{KEY}"], "currentVersionNumber": 1}
    script.on("GetKernel", {"metadata": facts, "blob": {"source": f"x = '{KEY}'"}})
    found = notebooks.read(client, "me/one")
    assert found.source == f"x = '{KEY}'"
    assert KEY not in repr(found).replace(found.source, "").replace(repr(found.source), "")
    client.close()


def test_a_runs_failure_is_masked_in_its_receipt(script):
    """Another service's token in a failure's words is masked: a receipt is kept in git."""
    token = "hf" + "_AbCdEfGhIjKlMnOpQrStUvWxYz01234567"
    client = Client(login(), patience=QUICK)
    script.on("GetKernelSessionStatus", {"status": "error", "failureMessage": f"401 for {token}"})
    assert token not in repr(notebooks.status(client, "me/one", 1))
    client.close()


PROXIES = {
    "a port that is none": "http://ada:{}@127.0.0.1:notaport",
    "a slash in the password": "http://ada:{}/x@127.0.0.1:9",
    "no scheme": "ada:{}@127.0.0.1:9",
    "a scheme that is not known": "ftp://ada:{}@127.0.0.1:9",
    "no library for it": "socks5://ada:{}@127.0.0.1:9",
    "nothing listens": "http://ada:{}@127.0.0.1:9",
    "half a bracket": "http://ada:{}@[::1",
    "no host": "http://ada:{}@",
    "a sign": "http://ada:{}ä@127.0.0.1:9",
    "a port too high": "http://ada:{}@127.0.0.1:99999",
}


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("case", PROXIES)
@pytest.mark.parametrize("variable", ["https_proxy", "HTTPS_PROXY", "all_proxy"])
def test_a_proxys_password_is_in_no_error(monkeypatch, case, variable):
    """Whatever is wrong with a proxy of the real service, its password is not said, in no cause either."""
    monkeypatch.delenv("https_proxy", raising=False)
    monkeypatch.delenv("KAGGLE_API_ENVIRONMENT", raising=False)
    monkeypatch.setenv(variable, PROXIES[case].format(PASSWORD))
    with pytest.raises(KitError) as caught:
        ask_real_service()
    told = "".join(traceback.format_exception(caught.value))
    assert PASSWORD not in told
    assert base64.b64encode(f"ada:{PASSWORD}".encode()).decode() not in told


def ask_real_service():
    """A call that ends at the proxy: nothing of it leaves this machine."""
    from kagglesdk.datasets.types.dataset_api_service import ApiGetDatasetStatusRequest

    client = Client(login(), patience=QUICK.__class__(attempts=1, connect_s=1))
    try:
        method = client.sdk.datasets.dataset_api_client.get_dataset_status
        client.read(method, ApiGetDatasetStatusRequest(), what="dataset a/b")
    finally:
        client.close()


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("case", ["a port that is none", "no host", "half a bracket"])
def test_a_proxy_that_is_none_is_said(monkeypatch, case):
    """The variable is named, with what should stand there."""
    monkeypatch.setenv("https_proxy", PROXIES[case].format(PASSWORD))
    with pytest.raises(CredentialsError, match=r"https_proxy .or all_proxy. is no address"):
        endpoint_from_environment()


def test_a_loopback_proxys_password_is_in_no_name(script, monkeypatch):
    """The server's name in errors and receipts is without the login, which is used all the same."""
    monkeypatch.setenv("http_proxy", f"http://ada:{PASSWORD}@127.0.0.1:{script.port}")
    script.on("GetDatasetStatus", Reply(403, {"code": 403, "message": f"proxy ada:{PASSWORD} is odd"}))
    client = Client(login(), patience=QUICK)
    assert client.login.endpoint.name == f"http://127.0.0.1:{script.port}"
    assert PASSWORD not in repr(client.login)
    assert PASSWORD not in ask(client)
    wanted = base64.b64encode(f"ada:{PASSWORD}".encode()).decode()
    assert script.seen[-1].headers["Proxy-Authorization"] == f"Basic {wanted}"
    client.close()


def test_a_loopback_proxy_where_nothing_listens(home, monkeypatch):  # noqa: ARG001
    """The error names the server, without the login."""
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "LOCALHOST")
    monkeypatch.setenv("http_proxy", f"http://ada:{PASSWORD}@127.0.0.1:9")
    client = Client(login(), patience=QUICK.__class__(attempts=1))
    with pytest.raises(RemoteError, match=r"nothing listens at http://127\.0\.0\.1:9"):
        notebooks.status(client, "a/b", 1)
    client.close()


@given(
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=12, max_size=60),
    st.text(st.characters(min_codepoint=97, max_codepoint=122), min_size=1, max_size=12),
    st.binary(max_size=5),
)
def test_every_form_of_any_key_is_redacted(key, user, before):
    """Raw, escaped, and within the Base64 of any longer text, wherever it begins there."""
    known = forms(key, user)
    whole = base64.b64encode(before + key.encode()).decode()
    for said in (key, json.dumps(key), repr(key), quote(key, safe=""), quote(key), f"{user}:{key}"):
        assert key not in redact(f"x {said} y", known)
    core = whole[-(-len(before) * 8 // 6) : len(before + key.encode()) * 8 // 6]
    assert core not in redact(f"x {whole} y", known)


@pytest.mark.parametrize("address", ["http://u:p@h:1/x", "u:p@h:1/x", "http://u:p@p@h:1/x"])
def test_an_address_without_its_login(address):
    """Up to the last @ all is login."""
    assert without_login(address) in {"http://h:1/x", "h:1/x"}


def test_a_short_proxy_password_is_hidden_beside_its_user_alone():
    """A password of a word's length is no reason to take that word out of every text."""
    known = proxy_forms({"https_proxy": "http://ada:files@proxy:3128"})
    assert redact("the files are here", known) == "the files are here"
    assert "files" not in redact("http://ada:files@proxy:3128 failed", known)


def test_an_endpoint_shows_no_login():
    """Not in its name, not in what a debugger prints of it."""
    endpoint = Endpoint("http://localhost", loopback=True, proxy=f"http://ada:{PASSWORD}@127.0.0.1:9")
    assert PASSWORD not in repr(endpoint) + endpoint.name


def test_a_token_is_no_less_hidden(script):
    """The same of an access token."""
    client = Client(Login("me", "access token", endpoint_from_environment(), token=Secret(TOKEN)), patience=QUICK)
    packed = base64.b64encode(TOKEN.encode()).decode()
    script.on("GetDatasetStatus", Reply(400, {"code": 400, "message": f"Bearer {TOKEN} or {packed} or {quote(TOKEN)}"}))
    told = ask(client)
    assert TOKEN not in told
    assert packed not in told
    client.close()
