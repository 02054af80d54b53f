"""Where kit asks for Kaggle, and where it never asks."""

import pytest

from kaggle_kit.errors import CredentialsError, RemoteError
from kaggle_kit.remote.client.endpoint import Endpoint, endpoint_from_environment


@pytest.fixture(autouse=True)
def _home(home):
    """No proxies and no settings."""


@pytest.mark.parametrize("value", ["TEST", "QA", "STAGING", "ADMIN", "localhost", "LOCAL HOST"])
def test_any_other_environment_is_refused(value, monkeypatch):
    """A value that the official client would silently take for production is an error."""
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", value)
    with pytest.raises(CredentialsError, match="PROD and LOCALHOST"):
        endpoint_from_environment()


def test_production_is_the_default():
    """Without a setting the real service is meant."""
    assert endpoint_from_environment() == Endpoint("https://api.kaggle.com", loopback=False)


def test_localhost_behind_a_loopback_proxy(monkeypatch):
    """A proxy on 127.0.0.1 stands for localhost, on any port."""
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "LOCALHOST")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:8123")
    assert endpoint_from_environment().name == "http://127.0.0.1:8123"


def test_localhost_without_a_proxy_is_port_80(monkeypatch):
    """With no proxy set a server on port 80 of this machine is meant."""
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "LOCALHOST")
    assert endpoint_from_environment() == Endpoint("http://localhost", loopback=True)


def test_a_proxy_elsewhere_is_refused(monkeypatch):
    """The login is not handed to another machine's proxy."""
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "LOCALHOST")
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    with pytest.raises(CredentialsError, match="another machine"):
        endpoint_from_environment()


@pytest.mark.parametrize("value", ["http://[::1", "http://me:pass@127.0.0.1:port", "http://127.0.0.1:99999999"])
def test_a_proxy_that_is_no_address_is_told(value, monkeypatch):
    """A malformed http_proxy is an error that names the variable, and not what may be its password."""
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "LOCALHOST")
    monkeypatch.setenv("http_proxy", value)
    with pytest.raises(CredentialsError, match="http_proxy is no address") as caught:
        endpoint_from_environment()
    assert "pass" not in str(caught.value)


@pytest.mark.parametrize("value", ["localhost", "127.0.0.1,localhost", "*"])
def test_a_bypassed_loopback_proxy_is_refused(value, monkeypatch):
    """With localhost in no_proxy the server behind the proxy would not be asked, so nobody is."""
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "LOCALHOST")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:8123")
    monkeypatch.setenv("no_proxy", value)
    with pytest.raises(CredentialsError, match="no_proxy"):
        endpoint_from_environment()


def test_the_login_stays_at_its_endpoint():
    """A request that was led to another host is refused before it is sent."""
    endpoint = Endpoint("https://api.kaggle.com", loopback=False)
    with pytest.raises(RemoteError, match="not sent there"):
        endpoint.guard("https://elsewhere.example/v1/x", {})


def test_a_lost_proxy_variable_stops_the_call():
    """A rehearsal whose proxy variable went away does not ask port 80 instead."""
    endpoint = Endpoint("http://localhost", loopback=True, proxy="http://127.0.0.1:8123")
    with pytest.raises(RemoteError, match="http_proxy"):
        endpoint.guard("http://localhost/api/v1/x", {})


@pytest.mark.parametrize(
    ("loopback", "url", "allowed"),
    [
        (False, "https://storage.example/upload", True),
        (False, "http://storage.example/upload", False),
        (False, "http://127.0.0.1:80/upload", False),
        (True, "http://127.0.0.1:8123/upload", True),
        (True, "http://[::1]:8123/upload", True),
        (True, "https://storage.example/upload", False),
        (True, "http://127.0.0.1.example/upload", False),
        (True, "file:///etc/passwd", False),
    ],
)
def test_files_go_over_tls_or_over_loopback(loopback, url, allowed):
    """The real service's files go over https, a rehearsal's stay on this machine."""
    assert Endpoint("-", loopback=loopback).allows_transfer(url) is allowed
