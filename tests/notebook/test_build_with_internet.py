"""A notebook that makes a model: built like any other, with internet and with every package's hash in it."""

import json
import re
import shutil
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from kaggle_kit.cli.main import run
from kaggle_kit.errors import SourceError
from kaggle_kit.notebook.build import build, stale
from kaggle_kit.project import load_project
from kaggle_kit.runtime.manifest import read_manifest
from kaggle_kit.targets import load_target
from kaggle_kit.wheelhouse import folder as folder_module
from kaggle_kit.wheelhouse.environments import quantizer_lock
from kaggle_kit.wheelhouse.lock import read_lock

ROOT = Path(__file__).parents[2]
LINE = re.compile(r"[a-z0-9-]+==[0-9a-z.+]+( ; python_version == '3\.\d+')?( --hash=sha256:[0-9a-f]{64})+")


@pytest.fixture
def project(tmp_path):
    """What of the reference project is built."""
    folder = tmp_path / "project"
    folder.mkdir()
    shutil.copyfile(ROOT / "kit.toml", folder / "kit.toml")
    shutil.copytree(ROOT / "notebooks_src", folder / "notebooks_src")
    return folder


@pytest.fixture
def built(project, tmp_path):
    """A function: build it for a target; the cells by name, and the metadata."""

    def make(target: str = "kaggle-t4x2", out: str = "built"):
        made = build(load_project(project), "quantize", target=load_target(target), out=tmp_path / out)
        cells = json.loads(made.notebook.read_text())["cells"]
        metadata = json.loads((made.folder / "kernel-metadata.json").read_text())
        return {cell["id"]: "".join(cell["source"]) for cell in cells}, metadata

    return make


def test_internet_is_on_where_it_is_asked_for(built, project, tmp_path):
    """In the one notebook, and not in its neighbour."""
    assert built()[1]["enable_internet"] is True
    other = build(load_project(project), "lmsys", target=load_target("kaggle-t4x2"), out=tmp_path / "other")
    assert json.loads((other.folder / "kernel-metadata.json").read_text())["enable_internet"] is False


def test_the_same_bytes(built, tmp_path):
    """Two builds do not differ."""
    built(out="one")
    built(out="two")
    files = ("quantize.ipynb", "kernel-metadata.json", "manifest.json")
    assert all((tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes() for file in files)


@pytest.mark.parametrize("target", ["kaggle-t4x2", "local-cpu"])
def test_every_package_has_a_hash(built, target):
    """Each line of the requirements names one version and the hashes of its files."""
    lines = [line for line in built(target)[0]["packages"].splitlines() if "==" in line and not line.startswith("#")]
    assert len(lines) > 40
    assert [line for line in lines if not LINE.fullmatch(line)] == []
    assert any(line.startswith("autoawq==0.2.9 ") for line in lines)


def test_the_gpus_packages_are_for_gpus(built):
    """CUDA's build of torch for a target with GPUs, the CPU's for one without."""
    assert "\ntorch==2.13.0 " in built("kaggle-t4x2")[0]["packages"]
    assert "\ntorch==2.13.0+cpu " in built("local-cpu")[0]["packages"]


def test_of_the_wheelhouse_only_kits_own_wheel_is_attached(built):
    """The engine's gigabytes are not."""
    assert built()[1]["dataset_sources"] == [
        "your-kaggle-name/kit-demo-full",
        "your-kaggle-name/kit-wheels-kaggle-t4x2-kit",
    ]


def test_an_adapter_is_attached_and_found_by_its_name(built, project, edit):
    """The field adapter names a table under models, whose dataset is a source."""
    edit(project / "kit.toml", '\nadapter = "demo"\nmodel = "demo-full"\n', '\nmodel = "demo-full"\n')
    cells, metadata = built()
    assert "find_model('demo')" in cells["kit"]
    assert "your-kaggle-name/kit-demo-model" in metadata["dataset_sources"]


def test_without_an_adapter_there_is_none(built):
    """Then nothing is looked for."""
    assert "ADAPTER = None" in built()[0]["kit"]


def test_there_is_no_fallback(built):
    """It makes a model and no submission."""
    assert "submission" not in "".join(text for name, text in built()[0].items() if name != "inputs")
    assert [*built()[0]][-5:] == ["packages", "check", "install", "quantize", "result"]


def test_a_parameter_that_is_missing_is_named(project, built):
    """A source without one of the template's parameters is not built."""
    source = project / "notebooks_src" / "quantize.py"
    source.write_text(source.read_text().replace("group_size: int = 128\n", ""))
    with pytest.raises(SourceError, match="'check' uses 'group_size', which no cell before it defines"):
        built()


def test_the_cards_that_share_the_model_are_a_parameter_that_may_be_missing(project, built):
    """An older source pads nothing."""
    assert "split=split," in built()[0]["check"]
    source = project / "notebooks_src" / "quantize.py"
    source.write_text(source.read_text().replace("split: int = 1\n", ""))
    assert "split" not in built(out="old")[0]["check"]


def test_it_needs_no_proved_wheelhouse(project):
    """It installs none: `kit build` does not ask for the proof."""
    assert run(["build", "quantize", "--project", str(project)]) == 0
    assert run(["build", "lmsys", "--project", str(project)]) == 1


@pytest.fixture
def with_other_packages(project, tmp_path):
    """A build whose packages are not the kit's own, as on another Python."""
    lock = read_lock(quantizer_lock("autoawq"))
    lock = replace(lock, wheels=lock.wheels[:20])
    target = load_target("local-cpu")
    return build(load_project(project), "quantize", target=target, out=tmp_path / "built", packages=lock).folder


def test_other_packages_are_not_stale(project, with_other_packages):
    """A build is compared with the same packages, and with sources that changed it is still found stale."""
    assert stale(load_project(project), "quantize", with_other_packages) is None
    source = project / "notebooks_src" / "quantize.py"
    source.write_text(source.read_text().replace("group_size: int = 128", "group_size: int = 64"))
    assert "is older than its sources" in stale(load_project(project), "quantize", with_other_packages)


@pytest.mark.parametrize("text", [None, "format = 1\n"])
def test_packages_that_are_not_those_of_the_build(project, with_other_packages, text):
    """Where the lock beside it is gone or another, nobody knows what the build was made of: it is stale."""
    lock = with_other_packages / "pylock.toml"
    lock.write_text(text) if text else lock.unlink()
    assert "pylock.toml is not the lock" in stale(load_project(project), "quantize", with_other_packages)


def test_kits_own_packages_leave_no_lock(project, with_other_packages):
    """Built again with the kit's own, the folder holds no other lock."""
    build(load_project(project), "quantize", target=load_target("local-cpu"), out=with_other_packages)
    assert not (with_other_packages / "pylock.toml").exists()
    assert stale(load_project(project), "quantize", with_other_packages) is None


def test_the_build_names_the_kits_wheel(project, tmp_path, monkeypatch):
    """By its SHA-256; with another runtime the build is stale."""
    folder = build(load_project(project), "quantize", target=load_target("kaggle-t4x2"), out=tmp_path / "built").folder
    told = read_manifest(folder / "manifest.json").extra["kit_wheel"]
    assert told == sha256(folder_module.kit_wheel_bytes()).hexdigest()
    assert stale(load_project(project), "quantize", folder) is None
    monkeypatch.setattr(folder_module, "_WHEEL", folder_module._WHEEL + b"X-Changed: yes\n")
    assert "was built by another version of kit" in stale(load_project(project), "quantize", folder)
