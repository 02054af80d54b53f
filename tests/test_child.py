"""What a child process is given of the environment."""

import ast
from pathlib import Path

import pytest

import kaggle_kit
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


def test_every_child_is_started_with_a_list_of_variables():
    """No call that starts a program hands this process's whole environment on, but within the seal."""
    package = Path(kaggle_kit.__file__).parent
    starters = {"run", "Popen", "call", "check_call", "check_output"}
    bare = [
        f"{path.relative_to(package)}:{node.lineno}"
        for path in package.rglob("*.py")
        if path.name != "seal_driver.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "subprocess"
        and node.func.attr in starters
        and "env" not in {keyword.arg for keyword in node.keywords}
    ]
    assert bare == []
