"""The login: the official client's places and order, and none of its traps."""

import json
import os
import pickle
import subprocess
import sys

import pytest
from scripted import CUT, KEY, QUICK, TOKEN, Reply

from kaggle_kit.errors import CredentialsError, RemoteError
from kaggle_kit.remote.client.client import Client
from kaggle_kit.remote.client.credentials import log_in
from kaggle_kit.remote.client.endpoint import Endpoint
from kaggle_kit.remote.client.login import Login, Secret

KNOWN = {"active": True, "username": "me"}


def key_file(home, **content):
    """A `kaggle.json` in the old place."""
    folder = home / ".kaggle"
    folder.mkdir(exist_ok=True)
    (folder / "kaggle.json").write_text(json.dumps(content))


def ask(login):
    """One call with the login; the server saw its header."""
    from kagglesdk.datasets.types.dataset_api_service import ApiGetDatasetStatusRequest

    client = Client(login, patience=QUICK)
    return client.read(
        client.sdk.datasets.dataset_api_client.get_dataset_status, ApiGetDatasetStatusRequest(), what="x"
    )


def test_a_token_is_checked_and_names_its_owner(script, monkeypatch):
    """The user name comes from Kaggle."""
    monkeypatch.setenv("KAGGLE_API_TOKEN", TOKEN)
    script.on("IntrospectToken", KNOWN)
    login = log_in(patience=QUICK)
    assert (login.username, login.method) == ("me", "access token of KAGGLE_API_TOKEN")
    assert script.seen[0].json == {"token": TOKEN}


def test_a_token_file(script, home):
    """A token in ~/.kaggle/access_token is found."""
    (home / ".kaggle").mkdir()
    (home / ".kaggle" / "access_token").write_text(f"{TOKEN}\n")
    script.on("IntrospectToken", KNOWN)
    assert log_in(patience=QUICK).method == "access token of ~/.kaggle/access_token"


def test_a_token_longer_than_a_file_name(script, monkeypatch):
    """The official client asks whether the token is a file, which fails for a long one; kit takes it as it is."""
    monkeypatch.setenv("KAGGLE_API_TOKEN", f"{'a' * 300}.{'b' * 300}")
    script.on("IntrospectToken", KNOWN)
    assert log_in(patience=QUICK).username == "me"


@pytest.mark.parametrize("answer", [Reply(400), Reply(401), Reply(403), Reply(404), {"active": False}, {}])
def test_an_unknown_token_says_how_to_log_in(script, monkeypatch, answer):
    """A token that Kaggle does not take is an error of the login, with the way out."""
    monkeypatch.setenv("KAGGLE_API_TOKEN", TOKEN)
    script.on("IntrospectToken", answer)
    with pytest.raises(CredentialsError, match=r"KAGGLE_API_TOKEN is not accepted.*kaggle auth login") as caught:
        log_in(patience=QUICK)
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize("answer", [Reply(500), CUT, Reply(body={}, after_s=3)])
def test_kaggle_in_trouble_is_no_unknown_token(script, monkeypatch, answer):
    """A server that fails, cuts or hangs is an error of the service, within the time limit."""
    monkeypatch.setenv("KAGGLE_API_TOKEN", TOKEN)
    script.on("IntrospectToken", answer)
    with pytest.raises(RemoteError, match="IntrospectToken for the access token") as caught:
        log_in(patience=QUICK.__class__(attempts=2, first_s=0.01, read_s=0.2))
    assert not isinstance(caught.value, CredentialsError)


def test_a_stale_token_does_not_shadow_the_key(script, home, monkeypatch):
    """With a bad token beside a good key, the key is used, and nothing of the token is sent with it."""
    monkeypatch.setenv("KAGGLE_API_TOKEN", TOKEN)
    key_file(home, username="me", key=KEY)
    script.on("IntrospectToken", Reply(403))
    script.on("GetDatasetStatus", {"status": "READY"})
    login = log_in(patience=QUICK)
    ask(login)
    assert script.seen[-1].headers["Authorization"].startswith("Basic ")
    assert "KAGGLE_API_TOKEN is not accepted" in login.notes[0]


@pytest.mark.usefixtures("script")
def test_other_variables_are_no_login(monkeypatch):
    """KAGGLE_TOKEN, which the official client sends unchecked, is not a login."""
    monkeypatch.setenv("KAGGLE_TOKEN", TOKEN)
    with pytest.raises(CredentialsError, match="no login"):
        log_in(patience=QUICK)


def test_the_key_of_the_environment_goes_over_the_file(home, monkeypatch):
    """KAGGLE_KEY with the file's user name makes a login, as with the official client."""
    key_file(home, username="me", key="older")
    monkeypatch.setenv("KAGGLE_KEY", KEY)
    login = log_in()
    assert login.username == "me"
    assert login.key is not None
    assert login.key.reveal() == KEY


@pytest.mark.parametrize("name", ["KAGGLE_KEY", "KAGGLE_USERNAME"])
def test_a_key_that_cannot_be_sent_is_said(home, monkeypatch, name):
    """A key or user name outside of ASCII, which no request's head can hold, is named, and the text not repeated."""
    key_file(home, username="me", key=KEY)
    monkeypatch.setenv(name, "\u201cquoted\u201d")
    with pytest.raises(CredentialsError, match="KAGGLE_KEY holds characters that no login") as caught:
        log_in(patience=QUICK)
    assert "quoted" not in str(caught.value)


def test_a_token_that_cannot_be_sent_is_said(script, monkeypatch):
    """The same of an access token; Kaggle is not asked."""
    monkeypatch.setenv("KAGGLE_API_TOKEN", "\u201cquoted\u201d")
    with pytest.raises(CredentialsError, match="access token of KAGGLE_API_TOKEN holds characters"):
        log_in(patience=QUICK)
    assert script.seen == []


@pytest.mark.parametrize("home_named", ["~", "~nobody-of-this-name"])
def test_without_a_home_the_error_says_so(home, monkeypatch, home_named):  # noqa: ARG001
    """Where no home is known, that is the error."""
    monkeypatch.setenv("HOME", home_named)
    with pytest.raises(CredentialsError, match=r"no home folder.*set HOME"):
        log_in(patience=QUICK)


@pytest.mark.usefixtures("home")
def test_certificates_that_are_not_there_are_told(monkeypatch):
    """A variable that names a missing file of certificates is one error, which names the file and the variable."""
    monkeypatch.setenv("KAGGLE_API_TOKEN", TOKEN)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/certificates.pem")
    with pytest.raises(RemoteError, match=r"/nowhere/certificates\.pem.*REQUESTS_CA_BUNDLE"):
        log_in(patience=QUICK)


def test_half_a_key_is_said(home):
    """A key file without a user name is named in the error."""
    key_file(home, key=KEY)
    with pytest.raises(CredentialsError, match=r"kaggle\.json gives no user name"):
        log_in()


def test_a_broken_key_file_is_said(home):
    """A key file that is no JSON is named, not passed over."""
    key_file(home)
    (home / ".kaggle" / "kaggle.json").write_text("{")
    with pytest.raises(CredentialsError, match=r"kaggle\.json cannot be read"):
        log_in()


@pytest.mark.usefixtures("home")
def test_no_login_says_how():
    """Without any login the error says how to get one, and the exit code is 2."""
    with pytest.raises(CredentialsError, match="KAGGLE_API_TOKEN") as caught:
        log_in()
    assert caught.value.exit_code == 2


def browser(home, expires):
    """What `kaggle auth login` leaves."""
    (home / ".kaggle").mkdir()
    content = {"refresh_token": "refresh", "access_token": "old", "access_token_expiration": expires, "username": "me"}
    (home / ".kaggle" / "credentials.json").write_text(json.dumps(content))


def test_the_browsers_login_is_used(script, home):
    """A token that has not expired is used as it is."""
    browser(home, "2999-01-01T00:00:00+00:00")
    script.on("IntrospectToken", KNOWN)
    assert log_in(patience=QUICK).token.reveal() == "old"


def test_the_browsers_login_is_renewed(script, home):
    """A token that Kaggle no longer takes is renewed, and kept."""
    browser(home, "2999-01-01T00:00:00+00:00")
    script.on("IntrospectToken", {"active": False}, KNOWN)
    script.on("GenerateAccessToken", {"token": "new", "expiresIn": 3600})
    assert log_in(patience=QUICK).token.reveal() == "new"
    assert json.loads((home / ".kaggle" / "credentials.json").read_text())["access_token"] == "new"


@pytest.mark.parametrize(
    "wrong",
    [
        {"refresh_token": 5, "access_token": None},
        {"access_token": 5},
        {"access_token_expiration": "2999-01-01T00:00:00"},
        {"access_token": "\u201cquoted\u201d"},
    ],
    ids=str,
)
@pytest.mark.usefixtures("script")
def test_a_damaged_login_of_the_browser_is_said(home, wrong):
    """A file that holds something else than the official client writes is an error of the login, with the way out."""
    browser(home, "2999-01-01T00:00:00+00:00")
    path = home / ".kaggle" / "credentials.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | wrong))
    with pytest.raises(CredentialsError, match=r"credentials\.json has ended, or is damaged"):
        log_in(patience=QUICK)


def test_the_browsers_login_has_ended(script, home):
    """A refused renewal says so; the file is left alone, where the official client deletes it."""
    browser(home, "2000-01-01T00:00:00+00:00")
    script.on("GenerateAccessToken", Reply(401))
    with pytest.raises(CredentialsError, match="has ended"):
        log_in(patience=QUICK)
    assert (home / ".kaggle" / "credentials.json").exists()


def test_a_login_shows_no_secret():
    """Neither repr nor pickle holds the token or the key."""
    login = Login("me", "token", Endpoint("https://api.kaggle.com", loopback=False), token=Secret(TOKEN))
    assert TOKEN not in repr(login) + str(login) + repr(login.token)
    with pytest.raises(TypeError):
        pickle.dumps(login)


def test_nothing_is_printed_and_no_folder_is_made(home):
    """The login prints nothing, imports no `kaggle`, and leaves the home as it was."""
    code = (
        "import sys\nfrom kaggle_kit.errors import CredentialsError\n"
        "from kaggle_kit.remote.client.credentials import log_in\n"
        "try:\n    log_in()\nexcept CredentialsError:\n    assert 'kaggle' not in sys.modules\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ), check=True)
    assert (run.stdout, run.stderr, list(home.iterdir())) == ("", "", [])
