"""An environment from a wheelhouse, made once and kept."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import uv
from fake_index import make_wheel

from kaggle_kit.errors import WheelhouseError
from kaggle_kit.runtime.manifest import MANIFEST, dump_manifest, make_manifest
from kaggle_kit.wheelhouse.environment import kit_wheel, ready_environment
from kaggle_kit.wheelhouse.kit_wheel import build_kit_wheel

WHEEL = "engine-{}-py3-none-any.whl"


def seal(folder):
    text = dump_manifest(make_manifest(folder, kind="wheelhouse", name="tiny"))
    (folder / MANIFEST).write_text(text, encoding="utf-8")


@pytest.fixture
def wheelhouse(tmp_path, monkeypatch):
    """The kit's wheel and one more; uv is on the PATH."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    build_kit_wheel(folder)
    (folder / WHEEL.format("1.0")).write_bytes(make_wheel(WHEEL.format("1.0")))
    seal(folder)
    monkeypatch.setenv("PATH", str(Path(uv.find_uv_bin()).parent), prepend=":")
    return folder


def version(python):
    code = "import engine, kaggle_kit.runtime; print(engine.version)"
    return subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_an_environment_holds_the_wheels_and_is_made_once(wheelhouse, tmp_path):
    """The second call gives the same Python and leaves the environment untouched."""
    python = ready_environment(wheelhouse, cache=tmp_path / "cache")
    assert version(python) == "1.0"
    mark = python.parent / "mine"
    mark.write_text("x")
    assert ready_environment(wheelhouse, cache=tmp_path / "cache") == python
    assert mark.is_file()


def test_another_wheel_is_another_environment(wheelhouse, tmp_path):
    """A wheelhouse that changed gets an environment of its own; the old one stays."""
    old = ready_environment(wheelhouse, cache=tmp_path / "cache")
    (wheelhouse / WHEEL.format("1.0")).unlink()
    (wheelhouse / WHEEL.format("2.0")).write_bytes(make_wheel(WHEEL.format("2.0")))
    seal(wheelhouse)
    new = ready_environment(wheelhouse, cache=tmp_path / "cache")
    assert (version(old), version(new)) == ("1.0", "2.0")


def test_one_that_was_cut_off_is_made_anew(wheelhouse, tmp_path):
    """Without its mark an environment is not trusted."""
    python = ready_environment(wheelhouse, cache=tmp_path / "cache")
    (folder,) = [path for path in (tmp_path / "cache" / "environments").iterdir() if path.is_dir()]
    (folder / ".complete").unlink()
    (python.parent / "mine").write_text("x")
    assert ready_environment(wheelhouse, cache=tmp_path / "cache") == python
    assert not (python.parent / "mine").exists()
    assert version(python) == "1.0"


def test_a_mark_names_no_program(wheelhouse, tmp_path):
    """What is started is found by its place: a mark that names another program is not read."""
    python = ready_environment(wheelhouse, cache=tmp_path / "cache")
    (mark,) = (tmp_path / "cache" / "environments").glob("*/.complete")
    mark.write_text("/tmp/evil/python\n")
    assert ready_environment(wheelhouse, cache=tmp_path / "cache") == python


def test_an_overlay_has_no_environment(wheelhouse, tmp_path):
    """Its packages lie over those of an image, which is not here."""
    manifest = make_manifest(wheelhouse, kind="wheelhouse", name="tiny")
    over = replace(manifest, extra={**manifest.extra, "mode": "overlay"})
    (wheelhouse / MANIFEST).write_text(dump_manifest(over), encoding="utf-8")
    with pytest.raises(WheelhouseError, match="overlay over the packages of an image"):
        ready_environment(wheelhouse, cache=tmp_path / "cache")


def test_a_corrupt_wheelhouse_leaves_no_environment(wheelhouse, tmp_path):
    """What does not verify is not installed, and the next call does not take it for ready."""
    (wheelhouse / WHEEL.format("1.0")).write_bytes(b"x")
    for _ in range(2):
        with pytest.raises(WheelhouseError, match=r"engine-1\.0"):
            ready_environment(wheelhouse, cache=tmp_path / "cache")


def test_the_kits_own_wheel_is_found(wheelhouse):
    """It is the one that the manifest names."""
    assert kit_wheel(wheelhouse).is_file()


def test_a_wheelhouse_without_the_kit_is_told(wheelhouse):
    """The error names the folder."""
    kit_wheel(wheelhouse).unlink()
    seal(wheelhouse)
    with pytest.raises(WheelhouseError, match="lacks the kit's own wheel"):
        kit_wheel(wheelhouse)
