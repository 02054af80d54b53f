"""Where uv takes its settings from: this user's and this machine's files, and nothing that others can write."""

import tempfile
import tomllib
from pathlib import Path

import pytest
from fake_index import Index

from kaggle_kit.errors import UsageError
from kaggle_kit.targets import Target
from kaggle_kit.wheelhouse.index import ask_archive, local_uv_environment, pip_index_url, uv_environment
from kaggle_kit.wheelhouse.prove import find_python
from kaggle_kit.wheelhouse.resolve import resolve


@pytest.fixture
def attacker(stocked: Index) -> Index:
    """An index of somebody else, which has a newer wheel of one package."""
    assert stocked.port
    other = Index()
    server = other.start()
    other.add("helper-99.0-py3-none-any.whl")
    yield other
    server.shutdown()
    server.server_close()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without any configuration, and a machine without any; uv is not told to read none."""
    monkeypatch.delenv("UV_NO_CONFIG")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("XDG_CONFIG_DIRS", str(tmp_path / "machine"))
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("file", ["uv.toml", "pyproject.toml"])
@pytest.mark.parametrize("place", ["shared/uv-parent", "shared"])
def test_a_planted_configuration_changes_no_lock(attacker, home, target, tmp_path, monkeypatch, file, place):
    """Above the temporary folder, where anybody may put one: the attacker's wheel is not locked, nor asked for."""
    assert home.is_dir()
    (tmp_path / "shared" / "uv-parent").mkdir(parents=True)
    index = f'[[index]]\nname = "evil"\nurl = "{attacker.simple}"\n'
    if file == "pyproject.toml":
        index = f'[project]\nname = "x"\nversion = "1"\n[[tool.uv.index]]\nname = "evil"\nurl = "{attacker.simple}"\n'
    write(tmp_path / place / file, index)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "shared" / "uv-parent"))
    lock = resolve(target).lock
    assert {wheel.version for wheel in lock.wheels if wheel.name == "helper"} == {"1.5"}
    assert attacker.requests == []


def test_a_planted_configuration_chooses_no_source_archive(attacker, home, index, tmp_path, monkeypatch):
    """The question for a source archive is asked of this user's index, too."""
    assert home.is_dir()
    index.files["tool-1.0.tar.gz"] = b"mine"
    index.uploaded = {"tool-1.0.tar.gz": "2026-11-20T10:00:00Z"}
    attacker.files["tool-1.0.tar.gz"] = b"theirs"
    write(tmp_path / "shared" / "uv.toml", f'[[index]]\nname = "evil"\nurl = "{attacker.simple}"\n')
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "shared"))
    try:
        assert ask_archive("tool", "1.0")[2] == len(b"mine")
    finally:
        assert attacker.requests == []


@pytest.mark.parametrize(
    "name", ["UV_CONSTRAINT", "UV_OVERRIDE", "UV_BUILD_CONSTRAINT", "UV_WORKING_DIR", "UV_PROJECT"]
)
def test_variables_that_change_versions_or_places_are_not_handed_on(monkeypatch, name):
    """They belong to another use of uv."""
    monkeypatch.setenv(name, "elsewhere")
    assert name not in uv_environment()


def test_no_login_of_kaggle_reaches_uv(monkeypatch):
    """A build of a source archive runs code of others."""
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_KEY", "HF_TOKEN", "LD_PRELOAD"):
        monkeypatch.setenv(name, "made-up")
    assert "made-up" not in {*uv_environment().values(), *local_uv_environment().values()}


INDEX_SETTINGS = (
    *("UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_CORP_PASSWORD", "UV_INDEX_STRATEGY", "UV_KEYRING_PROVIDER"),
    *("UV_SYSTEM_CERTS", "UV_EXCLUDE_NEWER", "https_proxy", "SSL_CLIENT_CERT", "NETRC"),
)


@pytest.mark.parametrize("name", INDEX_SETTINGS)
def test_what_leads_to_the_index_is_handed_on(monkeypatch, name):
    """Behind a company's proxy and with its index kit works as uv does."""
    monkeypatch.setenv(name, "x")
    assert uv_environment()[name] == "x"


def test_the_users_own_file_counts(attacker, home, target, monkeypatch):
    """Named explicitly, because uv is told to look for none."""
    write(home / ".config/uv/uv.toml", f'[[index]]\nname = "own"\nurl = "{attacker.simple}"\n')
    lock = resolve(target).lock
    assert {wheel.version for wheel in lock.wheels if wheel.name == "helper"} == {"99.0"}
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    assert {wheel.version for wheel in resolve(target).lock.wheels if wheel.name == "helper"} == {"1.5"}


def test_the_files_of_user_and_machine_are_joined(home, tmp_path):
    """As uv joins them: of two values the user's, of two lists both, the user's first."""
    user = 'offline = false\n[[index]]\nurl = "http://user.test/é\\"\\n"\n[pip]\nno-deps = false\n'
    machine = 'offline = true\nnative-tls = true\n[[index]]\nurl = "http://machine.test"\ndefault = true\n'
    machine += "[pip]\nall-extras = true\n"
    write(home / ".config/uv/uv.toml", user)
    write(tmp_path / "machine/uv/uv.toml", machine)
    told = tomllib.loads(Path(uv_environment()["UV_CONFIG_FILE"]).read_text(encoding="utf-8"))
    assert told == {
        "offline": False,
        "native-tls": True,
        "index": [{"url": 'http://user.test/é"\n'}, {"url": "http://machine.test", "default": True}],
        "pip": {"no-deps": False, "all-extras": True},
    }


def test_the_machines_file_counts_alone(home, tmp_path):
    """Where the user has none."""
    assert home.is_dir()
    path = write(tmp_path / "machine/uv/uv.toml", "offline = true\n")
    assert uv_environment()["UV_CONFIG_FILE"] == str(path)


def test_a_broken_file_is_uvs_to_explain(home, tmp_path):
    """It is handed on as it is."""
    broken = write(home / ".config/uv/uv.toml", "[[[")
    write(tmp_path / "machine/uv/uv.toml", "offline = true\n")
    assert uv_environment()["UV_CONFIG_FILE"] == str(broken)


@pytest.mark.parametrize("shared", ["file", "folder"])
def test_an_own_file_that_others_can_write_stops_the_run(home, shared):
    """It would choose where packages come from."""
    path = write(home / ".config/uv/uv.toml", "offline = true\n")
    (path if shared == "file" else path.parent).chmod(0o777)
    with pytest.raises(UsageError, match=r"uv's configuration .*every user of this machine can write"):
        uv_environment()


def test_a_named_file_that_others_can_write_stops_the_run(home, tmp_path, monkeypatch):
    """By whatever way it was found."""
    assert home.is_dir()
    path = write(tmp_path / "named.toml", "offline = true\n")
    monkeypatch.setenv("UV_CONFIG_FILE", str(path))
    assert uv_environment()["UV_CONFIG_FILE"] == str(path)
    path.chmod(0o666)
    with pytest.raises(UsageError, match="every user"):
        uv_environment()


def test_pips_file_that_others_can_write_stops_the_run(tmp_path, monkeypatch):
    """pip's index would become uv's."""
    path = write(tmp_path / "pip.conf", "[global]\nindex-url = http://evil.test/simple\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(path))
    assert pip_index_url() == "http://evil.test/simple"
    path.chmod(0o666)
    with pytest.raises(UsageError, match="pip's configuration"):
        pip_index_url()


def test_uvs_cache_is_kits_own(cache, monkeypatch):
    """What lies there is believed without hashing it again: no folder of another place will do."""
    monkeypatch.setenv("UV_CACHE_DIR", "/tmp/shared")
    assert uv_environment()["UV_CACHE_DIR"] == local_uv_environment()["UV_CACHE_DIR"] == str(cache / "uv")


def test_a_python_of_the_working_folder_is_not_started(home, tmp_path, monkeypatch):
    """A .venv that a cloned project brings is not asked which Python it is."""
    assert home.is_dir()
    python = write(tmp_path / "clone/.venv/bin/python", f"#!/bin/sh\ntouch {tmp_path}/started\n")
    python.chmod(0o755)
    write(tmp_path / "clone/.venv/pyvenv.cfg", "home = /usr/bin\nversion = 3.98.1\n")
    monkeypatch.chdir(tmp_path / "clone")
    assert find_python("3.98") is None
    assert not (tmp_path / "started").exists()


def test_a_targets_lock_is_the_same_in_any_folder(stocked, home, target: Target, tmp_path, monkeypatch):
    """A .python-version, a .env and a workspace of the working folder mean nothing to a lock."""
    assert stocked.port
    assert home.is_dir()
    before = resolve(target).lock
    write(tmp_path / "clone/.python-version", "3.13\n")
    write(tmp_path / "clone/.env", "UV_INDEX=http://127.0.0.1:9/simple\n")
    write(tmp_path / "clone/pyproject.toml", '[tool.uv]\noverride-dependencies = ["helper==0.1"]\n')
    monkeypatch.chdir(tmp_path / "clone")
    assert resolve(target).lock == before
