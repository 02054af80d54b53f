"""What a child process is given of the environment."""

import pytest

from kaggle_kit.child import child_environment


@pytest.mark.parametrize("network", [False, True])
def test_no_login_or_key_reaches_a_child(monkeypatch, network):
    """What a shell holds besides is not handed on, code to preload neither."""
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "LD_PRELOAD", "PYTHONPATH"):
        monkeypatch.setenv(name, "made-up")
    assert "made-up" not in child_environment(network=network).values()


def test_a_child_has_its_home_and_what_it_is_given(monkeypatch):
    """Programs find their home and speak the user's language."""
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    environment = child_environment({"UV_OFFLINE": "1"})
    assert environment["HOME"] == "/home/somebody"
    assert environment["LC_ALL"] == "C.UTF-8"
    assert environment["UV_OFFLINE"] == "1"


def test_proxies_are_for_children_that_use_the_network(monkeypatch):
    """A proxy's address may hold a password: who stays on this machine does not get it."""
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    assert "https_proxy" not in child_environment()
    assert child_environment(network=True)["https_proxy"] == "http://proxy:3128"
