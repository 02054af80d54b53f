"""A notebook that makes a model: what it refuses before it downloads anything, what it tells, what it leaves.

The whole of it runs in tests/end_to_end/test_quantize_notebook.py.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import psutil
import pytest
from checkpoints import DEMO, WEIGHTS, edit_json, read_file, sparse_file
from full_precision import make_adapter, narrowed
from test_calibration import TASK

from kaggle_kit.errors import KitError, ModelError, UsageError, WheelhouseError
from kaggle_kit.model.make_session import MakeSession, Packages, Stages
from kaggle_kit.model.quantize_source import compute_type
from kaggle_kit.runtime.install import installed_bytes
from kaggle_kit.runtime.manifest import MANIFEST, dump_manifest, make_manifest

FULL = Path(__file__).parents[1] / "demo" / "full"
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture
def lines():
    """What the session writes."""
    return []


@pytest.fixture
def session(tmp_path, lines):
    """A function: a session on a copy of the demo model in fp16."""
    base = Path(shutil.copytree(FULL, tmp_path / "base"))

    def make(**given) -> MakeSession:
        settings = {
            "name": "demo-awq",
            "task": TASK,
            "table": tmp_path / "train.csv",
            "base": base,
            "adapter": None,
            "kit": tmp_path / "kit.whl",
            "working": tmp_path / "working",
            "scratch": tmp_path / "scratch",
            "packages": Packages([HERE], "", "", 1_000_000),
            "token_budget": 256,
            "rows": 8,
            "group_size": 128,
            "seed": 0,
            "tell": lines.append,
            "record": {},
        }
        return MakeSession(**(settings | given))

    return make


def with_manifest(folder: Path, name: str) -> Path:
    (folder / MANIFEST).write_text(dump_manifest(make_manifest(folder, kind="model", name=name)))
    return folder


def test_all_is_well(session, lines, tmp_path):
    """Base and adapter are whole, and the size of what will be made is told, within a few percent."""
    adapter = with_manifest(make_adapter(tmp_path / "adapter", FULL), "adapter")
    made = session(adapter=adapter)
    made.check()
    assert "the base is whole: 5.8 MB" in lines[0]
    assert lines[0].endswith("; the adapter adapter is whole")
    awq = (FULL.parent / "model" / "model.safetensors").stat().st_size
    assert made.record["make"]["expected_bytes"] == pytest.approx(awq, rel=0.05)


@pytest.mark.parametrize("name", ["", "Demo", "a/b", "../x", "a b", "-a", "a--b"])
def test_a_name_that_is_no_folders_or_datasets(session, name):
    """The name becomes a folder, and a table of kit.toml."""
    with pytest.raises(UsageError, match="name = "):
        session(name=name).check()


@pytest.mark.parametrize(
    ("setting", "value"), [("group_size", 96), ("group_size", 0), ("rows", 0), ("token_budget", 0), ("split", 0)]
)
def test_a_setting_that_cannot_be(session, setting, value):
    """The parameter is named, before anything is read."""
    with pytest.raises(UsageError, match=f"^{setting} = {value}: take "):
        session(**{setting: value}).check()


def test_a_base_that_is_quantised_already(session, tmp_path):
    """Seen in its config.json."""
    base = with_manifest(Path(shutil.copytree(DEMO, tmp_path / "awq")), "awq")
    with pytest.raises(ModelError, match=r"is quantised already \(awq\); name the model in full precision"):
        session(base=base).check()


def test_a_base_that_is_not_sound(session):
    """What `kit model inspect` finds without a tokenizer's library is said now."""
    made = session()
    edit_json(made.base / "config.json", num_hidden_layers=5)
    with_manifest(made.base, "demo-full")
    with pytest.raises(ModelError, match=r"cannot be quantised as it is:\n  config\.json: says num_hidden_layers = 5"):
        made.check()


def test_groups_that_do_not_fill_the_inputs(session):
    """The layer is named, by the headers, with a size that fills it."""
    made = session()
    header, _ = read_file(made.base / WEIGHTS)
    header.pop("__metadata__", None)
    shapes = {name: (told["dtype"], [448 if n == 512 else n for n in told["shape"]]) for name, told in header.items()}
    sparse_file(made.base / WEIGHTS, shapes)
    edit_json(made.base / "config.json", intermediate_size=448)
    with_manifest(made.base, "demo-full")
    with pytest.raises(ModelError, match=r"down_proj\.weight has 448 inputs, which groups of 128 .* take .* 64"):
        made.check()


def test_padding_is_counted_and_refused_before_the_download(session):
    """Zeros for two cards make the model larger; three cards cannot share its heads."""
    made = session(group_size=64)
    narrowed(made.base, 448)
    with_manifest(made.base, "demo-full")
    made.check()
    two = session(group_size=64, split=2)
    two.check()
    assert two.record["make"]["expected_bytes"] > made.record["make"]["expected_bytes"]
    with pytest.raises(ModelError, match="cannot be split over 3 cards"):
        session(group_size=64, split=3).check()


def test_an_adapter_of_another_base(session, tmp_path):
    """Its layers are compared with the base's before the packages come."""

    def narrow(tensors):
        name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
        tensors[name] = tensors[name][:, :128].copy()

    adapter = with_manifest(make_adapter(tmp_path / "adapter", FULL, change=narrow), "adapter")
    with pytest.raises(ModelError, match=r"adapter does not fit the base .*(?s:.*)q_proj: the adapter is for a weight"):
        session(adapter=adapter).check()


def test_the_check_needs_no_library(session, tmp_path, monkeypatch):
    """A notebook's Python may lack tokenizers: what they would tell is found by the quantiser's own Python."""
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    session(adapter=with_manifest(make_adapter(tmp_path / "adapter", FULL), "adapter")).check()


def test_packages_for_another_python(session):
    """Said before they are downloaded."""
    with pytest.raises(WheelhouseError, match=r"locked for 3\.1"):
        session(packages=Packages(["3.1"], "", "", 1)).check()


def test_a_file_that_changed(session):
    """The base is hashed: what its manifest says is what the new model's will say."""
    made = session()
    weights = made.base / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(ModelError, match=r"model\.safetensors of the model demo-full .* is corrupt"):
        made.check()


def test_an_adapter_that_was_cut(session, tmp_path):
    """The adapter too is compared with the manifest that came with it."""
    adapter = with_manifest(make_adapter(tmp_path / "adapter", FULL), "adapter")
    (adapter / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"adapter_config\.json .* was cut or changed"):
        session(adapter=adapter).check()


def test_a_model_beyond_the_memory(session, tmp_path):
    """A 340B in fp16 is refused by the headers of its files, before its terabyte is hashed."""
    base = tmp_path / "large"
    base.mkdir()
    layers = {f"model.layers.{n}.mlp.up_proj.weight": ("F16", [100_000, 34_000]) for n in range(100)}
    sparse_file(base / "model.safetensors", layers)
    with pytest.raises(ModelError, match=r"needs about 884 GB of memory to be quantised, and \d+ GB are free"):
        session(base=base).check()


@pytest.mark.parametrize(("capability", "kind"), [("7.5", "float16"), ("8.0", "auto")])
def test_a_card_without_bfloat16(tmp_path, monkeypatch, capability, kind):
    """A T4 computes in float16 what the memory does not hold in float32; other cards in the checkpoint's own type."""
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\necho '15360, {capability}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    numbers = psutil.virtual_memory().available // 4
    assert compute_type(numbers, where=tmp_path) == kind
    assert compute_type(numbers // 8, where=tmp_path) == "float32"


def test_no_weights(session, tmp_path):
    """A folder without safetensors is named."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="holds no weights in safetensors"):
        session(base=tmp_path / "empty").check()


def test_packages_beyond_the_disk(session):
    """The space for packages and for what is made on the way is looked at first."""
    with pytest.raises(KitError, match=r"scratch has .* free, and the packages .* need about 3,500,000\.0 GB"):
        session(packages=Packages([HERE], "", "", 10**15)).check()


def test_one_disk_for_both(session, monkeypatch):
    """On one file system the packages and both copies of the model are added up."""
    made = session()
    made.check()
    one = made.record["make"]["expected_bytes"]
    free = (256 << 20) + installed_bytes(made.packages.download) + one + one // 2
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: shutil._ntuple_diskusage(free, 0, free))
    with pytest.raises(
        KitError, match=r"the packages and the model demo-awq, there and in .*working, .* on the same disk"
    ):
        made.check()


@pytest.fixture
def disk(monkeypatch):
    """A function: the folders that it is given are on a disk of so many bytes, and nothing else is."""

    def hold(size: int, *folders: Path) -> None:
        def usage(_folder):
            files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
            return shutil._ntuple_diskusage(size, 0, size - sum(path.stat().st_size for path in files))

        monkeypatch.setattr(shutil, "disk_usage", usage)

    return hold


def held(folder: Path, size: int) -> None:
    """A file of an earlier run, which takes space."""
    folder.mkdir(parents=True)
    (folder / "earlier").write_bytes(b"x" * size)


def test_what_an_earlier_run_left_is_free(session, disk):
    """A second run has the space of the first one's packages, model and output, all of which it replaces."""
    made = session()
    made.check()
    one = made.record["make"]["expected_bytes"]
    packages = installed_bytes(made.packages.download)
    held(made.scratch / "quantiser" / "env", packages)
    held(made.scratch / "made" / "demo-awq", one)
    held(made.working / "demo-awq", one)
    disk((256 << 20) + packages + 2 * one, made.scratch, made.working)
    made.check()


def test_what_an_earlier_run_left_is_told(session, disk):
    """Where even that does not suffice, the message says how much of the space the earlier run holds."""
    made = session()
    held(made.scratch / "made" / "demo-awq", 2_000_000)
    disk(256 << 20, made.scratch, made.working)
    with pytest.raises(KitError, match=r"scratch has 268\.4 MB free \(2\.0 MB of it held by an earlier run\)"):
        made.check()


def test_another_folder_of_the_output_is_not_free(session, disk):
    """What is not replaced stays, and takes its space."""
    made = session()
    made.check()
    one = made.record["make"]["expected_bytes"]
    held(made.working / "other", one)
    disk((256 << 20) + installed_bytes(made.packages.download) + 2 * one, made.scratch, made.working)
    with pytest.raises(KitError, match="on the same disk"):
        made.check()


def test_out_of_order(session):
    """The quantiser's environment comes first."""
    with pytest.raises(UsageError, match="install"):
        session().quantize()


def test_what_is_made_is_handed_over_whole(session, lines):
    """The output has one folder of the model's name, as its manifest says; the last lines tell what is next."""
    made = session(record={"make": {}})
    shutil.copytree(FULL, made.scratch / "made" / "demo-awq")
    made.working.mkdir()
    made.finish()
    assert [path.name for path in made.working.iterdir()] == ["demo-awq"]
    assert {path.name for path in (made.working / "demo-awq").iterdir()} == {path.name for path in FULL.iterdir()}
    assert made.record["make"]["model"]["name"] == "demo-awq"
    assert "kit model compare REFERENCE demo-awq" in "\n".join(lines)


@pytest.mark.parametrize("room", [0, 100_000_000])
def test_a_second_model_of_the_name_takes_the_place_of_the_first(session, disk, room):
    """It needs no more space than the first one left, and has it where both fit."""
    made = session(record={"make": {}})
    shutil.copytree(FULL, made.scratch / "made" / "demo-awq")
    size = sum(path.stat().st_size for path in FULL.iterdir())
    held(made.working / "demo-awq", size)
    disk((256 << 20) + size + room, made.working)
    made.finish()
    assert [path.name for path in made.working.iterdir()] == ["demo-awq"]
    assert {path.name for path in (made.working / "demo-awq").iterdir()} == {path.name for path in FULL.iterdir()}


def test_half_a_model_is_not_handed_over(session):
    """A file that is not as the manifest says leaves nothing under the model's name."""
    made = session(record={"make": {}})
    folder = shutil.copytree(FULL, made.scratch / "made" / "demo-awq")
    (folder / "config.json").write_text("{}")
    made.working.mkdir()
    with pytest.raises(ModelError, match=r"config\.json"):
        made.finish()
    assert not [*made.working.iterdir()]


def test_a_file_that_cannot_be_read_leaves_nothing(session):
    """What cannot be copied is told in a sentence, and no part of the model stays in the output."""
    made = session(record={"make": {}})
    folder = Path(shutil.copytree(FULL, made.scratch / "made" / "demo-awq"))
    (folder / "inner").mkdir()
    (folder / "inner" / "lost").symlink_to("/nowhere")
    made.working.mkdir()
    with pytest.raises(ModelError, match=r"the model demo-awq could not be copied from .* see that there is space"):
        made.finish()
    assert not [*made.working.iterdir()]


def test_stages_and_layers_are_told():
    """A line for each; the layers are a stage of their own, with the time that they still take."""
    lines: list[str] = []
    stages = Stages(lines.append)
    for event in (
        {"event": "stage", "name": "loading the model"},
        {"event": "layer", "done": 0, "total": 2},
        {"event": "layer", "done": 1, "total": 2},
        {"event": "note", "message": "as you like it"},
        {"event": "stage", "name": "writing"},
    ):
        stages(event)
    stages.end()
    told = [line.removeprefix("[   0:00] ") for line in lines]
    assert told == ["loading the model", "layer 0/2", "layer 1/2  0:00 left", "as you like it", "writing"]
    assert [*stages.seconds] == ["loading the model", "layers", "writing"]


def test_the_program_says_what_was_foreseen(tmp_path):
    """An adapter that does not fit is refused in kit's own words, without the end of a log."""
    from kaggle_kit.model import make_program
    from kaggle_kit.model.worker_process import run_worker

    adapter = make_adapter(tmp_path / "adapter", FULL)
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"peft_type": "IA3"}))
    request = {
        "do": "make",
        "source": str(FULL),
        "out": str(tmp_path / "out"),
        "adapter": str(adapter),
        "group_size": 128,
        "calibration": {
            "task": TASK.to_json(),
            "budget": 256,
            "table": str(FULL.parent / "data" / "train.csv"),
            "rows": 8,
            "seed": 0,
            "id_column": "id",
        },
    }
    with pytest.raises(ModelError, match=r"^\S+ is an adapter of the kind 'IA3'; kit merges LORA \(.*\)$"):
        run_worker(
            Path(sys.executable),
            request,
            scratch=tmp_path,
            tell=lambda _event: None,
            program=Path(make_program.__file__),
        )
