"""Environments from wheelhouses and locks: made once and kept, archives by their hashes only, the offline folder."""

import hashlib
import importlib.util
import py_compile
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import uv
from fake_index import make_wheel

from kaggle_kit.errors import WheelhouseError
from kaggle_kit.runtime.install import environment_packages
from kaggle_kit.runtime.manifest import MANIFEST, dump_manifest, make_manifest
from kaggle_kit.targets import load_target
from kaggle_kit.wheelhouse.environments import (
    ARCHIVES,
    AUTOAWQ,
    SourceArchive,
    notebook_quantizer,
    quantizer_lock,
    quantizer_target,
    ready_bytecode,
    ready_environment,
    ready_offer,
)
from kaggle_kit.wheelhouse.folder import build_kit_wheel, kit_wheel
from kaggle_kit.wheelhouse.lock import Lock, LockedWheel, read_lock
from kaggle_kit.wheelhouse.resolve import refuse_old_lock

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


def _bytecode(python):
    return Path(importlib.util.cache_from_source(str(environment_packages(python) / "engine.py")))


def test_the_packages_are_compiled_once_and_checked_by_their_source(wheelhouse, tmp_path):
    """A worker that sees them read-only need not compile them; the bytecode serves the same file in another place."""
    python = ready_environment(wheelhouse, cache=tmp_path / "cache")
    compiled = _bytecode(python).read_bytes()
    source = environment_packages(python) / "engine.py"
    assert compiled[4:16] == b"\3\0\0\0" + importlib.util.source_hash(source.read_bytes())
    _bytecode(python).unlink()
    ready_environment(wheelhouse, cache=tmp_path / "cache")
    assert not _bytecode(python).exists()


def test_an_environment_of_an_earlier_kit_is_compiled(wheelhouse, tmp_path):
    """It is whole, and has no mark that says so of its bytecode: nothing is installed again.

    What it has compiled goes by the time of its source's last change, which another place's file has not.
    """
    python = ready_environment(wheelhouse, cache=tmp_path / "cache")
    source = environment_packages(python) / "engine.py"
    py_compile.compile(str(source), invalidation_mode=py_compile.PycInvalidationMode.TIMESTAMP)
    (python.parents[2] / ".compiled").unlink()
    (python.parent / "mine").write_text("x")
    ready_environment(wheelhouse, cache=tmp_path / "cache")
    assert _bytecode(python).read_bytes()[8:16] == importlib.util.source_hash(source.read_bytes())
    assert (python.parent / "mine").is_file()


@pytest.mark.parametrize("planted", ["evil.pth", "sitecustomize.py", "usercustomize.py", "compileall.py"])
def test_a_package_runs_nothing_when_it_is_compiled(wheelhouse, tmp_path, planted):
    """What runs when a Python starts, or stands before its own modules, does not run; bad code stops nothing."""
    name = WHEEL.format("1.0")
    with zipfile.ZipFile(wheelhouse / name, "a") as archive:
        archive.writestr(planted, f"import pathlib; pathlib.Path({str(tmp_path / 'ran')!r}).touch()\n")
        archive.writestr("bad.py", "this is no Python\n")
    seal(wheelhouse)
    assert _bytecode(ready_environment(wheelhouse, cache=tmp_path / "cache")).is_file()
    assert not (tmp_path / "ran").exists()


def test_without_an_environment_there_is_no_bytecode(wheelhouse, tmp_path, monkeypatch):
    """A wheelhouse that does not install is the sealed run's to tell of: here it is none."""
    monkeypatch.setenv("KIT_CACHE_DIR", str(tmp_path / "cache"))
    told = []
    packages = ready_bytecode(wheelhouse, say=told.append)
    assert (packages / "engine.py").is_file()
    assert [sentence.split()[0] for sentence in told] == ["installing", "compiling"]
    (wheelhouse / WHEEL.format("1.0")).write_bytes(b"x")
    seal(wheelhouse)
    assert ready_bytecode(wheelhouse, say=told.append) is None


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


@pytest.mark.parametrize("name", ARCHIVES)
def test_a_quantisers_lock_is_its_targets(name):
    """Who changes `NAME.toml` makes the lock anew."""
    refuse_old_lock(read_lock(quantizer_lock(name)), quantizer_target(name), path=quantizer_lock(name))


@pytest.mark.parametrize(("name", "transformers"), [("autoawq", "4."), ("llmcompressor", "5.")])
def test_a_quantisers_lock_holds_what_it_lives_with(name, transformers):
    """Its own transformers, torch's CPU build, and peft."""
    versions = {wheel.name: wheel.version for wheel in read_lock(quantizer_lock(name)).wheels}
    assert versions["transformers"].startswith(transformers)
    assert versions["torch"].endswith("+cpu")
    assert "peft" in versions
    assert not {"triton", "torchvision"} & versions.keys()


def test_on_a_gpu_torch_is_the_indexs_own():
    """For Kaggle's Pythons, no build with a local version, which an index does not have; CUDA comes with it."""
    lock = read_lock(quantizer_lock("autoawq-cuda"))
    assert lock.pythons == load_target("kaggle-t4x2").pythons
    for python in lock.pythons:
        versions = {wheel.name: wheel.version for wheel in lock.wheels_for(python)}
        assert versions["transformers"] == "4.51.3"
        assert versions["torch"] == "2.13.0"
        assert {"triton", "nvidia-cublas", "peft", "setuptools"} <= versions.keys()


def test_on_kaggle_it_holds_what_the_image_imports():
    """The image's sitecustomize imports wrapt in every Python that starts, one of an environment of our own too."""
    lock = read_lock(quantizer_lock("autoawq-cuda"))
    assert all("wrapt" in {wheel.name for wheel in lock.wheels_for(python)} for python in lock.pythons)


@pytest.mark.parametrize(("target", "name"), [("kaggle-t4x2", "autoawq-cuda"), ("local-cpu", "autoawq")])
def test_a_notebook_quantises_with_its_targets_packages(target, name):
    """CUDA's where the target has GPUs."""
    assert notebook_quantizer(load_target(target)) == name


def test_an_archive_is_required_with_its_hash():
    """As pip and uv read it."""
    assert AUTOAWQ.requirement.startswith("autoawq==0.2.9 --hash=sha256:f33976")


@pytest.fixture
def cached(tmp_path):
    """A function: put a file into the cache; its SHA-256."""

    def put(file: str, text: str) -> str:
        sha256 = hashlib.sha256(text.encode()).hexdigest()
        path = tmp_path / "wheels" / sha256 / file
        path.parent.mkdir(parents=True)
        path.write_text(text)
        return sha256

    return put


def locked(sha256: str) -> Lock:
    wheel = LockedWheel(name="a", version="1.0", file="a-1.0-py3-none-any.whl", sha256=sha256, size=3)
    return Lock(target="x", pythons=("3.12",), machine="x86_64", glibc="2.35", engine="a==1.0", wheels=(wheel,))


def test_what_is_cached_is_offered(cached, tmp_path):
    """Wheels and archives lie side by side, and nothing is asked of a network for them."""
    lock = locked(cached("a-1.0-py3-none-any.whl", "one"))
    archive = SourceArchive(name="b", version="2.0", sha256=cached("b-2.0.tar.gz", "two"))
    folder = ready_offer(lock, [archive], cache=tmp_path)
    assert {path.name: path.read_text() for path in folder.iterdir()} == {
        "a-1.0-py3-none-any.whl": "one",
        "b-2.0.tar.gz": "two",
    }
    assert ready_offer(lock, [archive], cache=tmp_path) == folder
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_another_lock_is_another_folder(cached, tmp_path):
    """What one notebook installs is not offered to another."""
    lock = locked(cached("a-1.0-py3-none-any.whl", "one"))
    archive = SourceArchive(name="b", version="2.0", sha256=cached("b-2.0.tar.gz", "two"))
    assert ready_offer(lock, [], cache=tmp_path) != ready_offer(lock, [archive], cache=tmp_path)


def test_a_cached_archive_that_changed(cached, index, tmp_path, monkeypatch):
    """A file of the cache that is not the archive any more is fetched anew, from the address that the index tells."""
    lock = locked(cached("a-1.0-py3-none-any.whl", "one"))
    archive = SourceArchive(name="b", version="2.0", sha256=cached("b-2.0.tar.gz", "two"))
    (tmp_path / "wheels" / archive.sha256 / "b-2.0.tar.gz").write_text("changed")
    index.files["b-2.0.tar.gz"] = b"two"
    told = (index.url("b-2.0.tar.gz"), "b-2.0.tar.gz", 3, archive.sha256)
    monkeypatch.setattr("kaggle_kit.wheelhouse.environments.ask_archive", lambda *_: told)
    assert (ready_offer(lock, [archive], cache=tmp_path) / "b-2.0.tar.gz").read_text() == "two"


def test_an_archive_that_changed_is_refused(cached, tmp_path, monkeypatch):
    """The index offers a release with another hash: it is not fetched."""
    lock = locked(cached("a-1.0-py3-none-any.whl", "one"))
    found = ("https://example.org/b-2.0.tar.gz", "b-2.0.tar.gz", 3, "e" * 64)
    monkeypatch.setattr("kaggle_kit.wheelhouse.environments.ask_archive", lambda *_: found)
    archive = SourceArchive(name="b", version="2.0", sha256="f" * 64)
    with pytest.raises(WheelhouseError, match=r"b-2\.0\.tar\.gz with SHA-256 eeee.* do not use it"):
        ready_offer(lock, [archive], cache=tmp_path)
