"""Installing from an index by hash: a folder stands in for the index here, as in a rehearsal."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import uv

from kaggle_kit.errors import WheelhouseError
from kaggle_kit.files import sha256_file
from kaggle_kit.runtime.index_install import _environment, install_from_index, refuse_python

INFO = "tiny-1.0.dist-info"


@pytest.fixture
def offered(tmp_path, monkeypatch):
    """A folder with one wheel, as the only place where packages are; the line that requires it."""
    folder = tmp_path / "offered"
    folder.mkdir()
    wheel = folder / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny.py", "word = 'tiny'\n")
        archive.writestr(f"{INFO}/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        archive.writestr(f"{INFO}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{INFO}/RECORD", f"tiny.py,,\n{INFO}/METADATA,,\n{INFO}/WHEEL,,\n{INFO}/RECORD,,\n")
    for name in ("UV_FIND_LINKS", "PIP_FIND_LINKS"):
        monkeypatch.setenv(name, str(folder))
    monkeypatch.setenv("PATH", f"{Path(uv.find_uv_bin()).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    # Read, it would end each call: the file is not there.
    monkeypatch.setenv("UV_CONSTRAINT", str(tmp_path / "missing.txt"))
    monkeypatch.setenv("PIP_CONSTRAINT", str(tmp_path / "missing.txt"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return f"tiny==1.0 --hash=sha256:{sha256_file(wheel)}"


@pytest.mark.parametrize("with_uv", [True, False])
def test_it_is_installed(offered, tmp_path, with_uv):
    """uv does it, or pip where there is no uv; other settings of the image do not get in the way."""
    made = install_from_index(wheels=offered, archives="", scratch=tmp_path / "scratch", with_uv=with_uv)
    assert made.installer == ("uv" if with_uv else "pip")
    assert made.wheels == 1
    told = subprocess.run([made.python, "-I", "-c", "import tiny; print(tiny.word)"], capture_output=True, check=True)
    assert told.stdout == b"tiny\n"


@pytest.mark.parametrize("with_uv", [True, False])
def test_another_hash_is_refused(offered, tmp_path, with_uv):
    """The file that is offered is not the one that was locked."""
    wrong = offered[:-64] + "0" * 64
    with pytest.raises(WheelhouseError, match=r"failed \(exit code [12]\)"):
        install_from_index(wheels=wrong, archives="", scratch=tmp_path / "scratch", with_uv=with_uv)


def test_a_package_that_is_not_offered(offered, tmp_path):
    """The installer's own words are told."""
    wanted = f"{offered}\nother==1.0 --hash=sha256:{'0' * 64}"
    with pytest.raises(WheelhouseError, match="other"):
        install_from_index(wheels=wanted, archives="", scratch=tmp_path / "scratch")


def test_no_installer_at_all(tmp_path, monkeypatch):
    """Where neither uv nor pip runs, the advice is of the image: there is no wheelhouse to lock."""
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(WheelhouseError, match=r"^there is no uv that runs here, and no pip; pin an image that has one"):
        install_from_index(wheels="", archives="", scratch=tmp_path / "scratch")


@pytest.mark.parametrize(
    "name",
    [
        *("HTTPS_PROXY", "SSL_CERT_FILE", "UV_HTTP_TIMEOUT", "UV_SYSTEM_CERTS", "UV_NATIVE_TLS"),
        *("UV_INDEX_OWN_PASSWORD", "PIP_PROXY", "PIP_TIMEOUT", "PIP_CERT", "PIP_CLIENT_CERT"),
    ],
)
def test_the_network_is_reached_as_the_machine_says(tmp_path, monkeypatch, name):
    """Proxies, certificates, time limits and logins are settings of the machine, and stay."""
    monkeypatch.setenv(name, "x")
    assert _environment(tmp_path / "python")[name] == "x"


@pytest.mark.parametrize("name", ["UV_CONSTRAINT", "UV_NO_BINARY", "UV_TORCH_BACKEND", "PIP_NO_DEPS", "PIP_TARGET"])
def test_what_else_an_installer_is_told_is_dropped(tmp_path, monkeypatch, name):
    """The lines and their hashes say what is installed, and nothing else does."""
    monkeypatch.setenv(name, "x")
    assert name not in _environment(tmp_path / "python")


def test_a_foreign_python_is_refused():
    """Packages that are locked for other Pythons are not tried."""
    with pytest.raises(WheelhouseError, match=r"this is Python 3\.\d+, and the packages .* for 3\.1 and 3\.2; pin"):
        refuse_python(["3.1", "3.2"])
    refuse_python([f"{sys.version_info.major}.{sys.version_info.minor}"])
