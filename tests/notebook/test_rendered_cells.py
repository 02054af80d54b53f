"""The frame's cells run as they are in the built notebook, in a laid-out /kaggle."""

import csv
import json
import os
import re
import subprocess
import sys
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from kaggle_kit.files import sha256_file
from kaggle_kit.notebook.build import build
from kaggle_kit.project import load_project
from kaggle_kit.runtime.manifest import MANIFEST, dump_manifest, make_manifest, read_manifest, verify_files
from kaggle_kit.sandbox.kaggle_layout import STYLES, input_mounts
from kaggle_kit.targets import load_target
from kaggle_kit.wheelhouse.folder import build_kit_wheel

RUN = """
import json, sys
names = {}
notebook = json.load(open(sys.argv[1]))
for cell in notebook["cells"]:
    if cell["cell_type"] == "code":
        exec(compile("".join(cell["source"]), cell["id"], "exec"), names)
    if cell["id"] == sys.argv[2]:
        break
"""
SAMPLE = 'id,second,first\n7,0.5,0.5\n3,0.5,0.5\n"a,b",0.5,0.5\n'
PRIOR = [["id", "second", "first"], ["7", "0.25", "0.75"], ["3", "0.25", "0.75"], ["a,b", "0.25", "0.75"]]


@dataclass(frozen=True)
class Kaggle:
    """A /kaggle in a temporary folder, and the notebook to run there."""

    root: Path
    notebook: Path
    sources: dict[str, Path] = field(default_factory=dict)

    def run(self, *, until: str, hidden: bool = False) -> subprocess.CompletedProcess[str]:
        """Run the notebook's code cells up to and including the cell `until`."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        environment |= {"KIT_KAGGLE_ROOT": str(self.root)} | ({"KAGGLE_IS_COMPETITION_RERUN": "1"} if hidden else {})
        # -I: the kit of this checkout cannot be imported, only the one of the wheelhouse.
        return subprocess.run(
            [sys.executable, "-I", "-S", "-c", RUN, str(self.notebook), until],
            env=environment,
            cwd=self.root / "working",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def submission(self) -> list[list[str]]:
        """What stands as the submission."""
        with (self.root / "working" / "submission.csv").open(newline="", encoding="utf-8") as stream:
            return list(csv.reader(stream))

    def record(self) -> dict[str, object]:
        """What the notebook noted of its run."""
        return json.loads((self.root / "working" / "kit-run.json").read_text(encoding="utf-8"))


def seal(folder: Path, *, kind: str, name: str) -> None:
    (folder / MANIFEST).write_text(dump_manifest(make_manifest(folder, kind=kind, name=name)), encoding="utf-8")


def lay_out(minimal: Path, tmp_path: Path, style: str) -> Kaggle:
    """The minimal project's sources, as Kaggle mounts them in `style`."""
    sources = {name: tmp_path / name for name in ("data", "wheels", "weights")}
    for folder in sources.values():
        folder.mkdir()
    (sources["data"] / "sample_submission.csv").write_text(SAMPLE)
    (sources["data"] / "test.csv").write_text('id,question\n7,x\n3,y\n"a,b",z\n')
    build_kit_wheel(sources["wheels"])
    seal(sources["wheels"], kind="wheelhouse", name="local-cpu")
    (sources["weights"] / "config.json").write_text("{}")
    seal(sources["weights"], kind="model", name="small")
    project = load_project(minimal)
    root = tmp_path / "kaggle"
    (root / "working").mkdir(parents=True)
    for mount in input_mounts(
        project,
        style=style,
        data=sources["data"],
        wheelhouse=(project.wheelhouses["local-cpu"], sources["wheels"]),
        models=[(project.models["small"], sources["weights"])],
    ):
        place = root / mount.target.removeprefix("/kaggle/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(mount.source)
    notebook = build(project, "answer", target=load_target("local-cpu"), out=tmp_path / "built").notebook
    return Kaggle(root, notebook, sources)


@pytest.fixture
def kaggle(minimal, tmp_path):
    """The minimal project in the mount layout of 2026."""
    return lay_out(minimal, tmp_path, "2026")


@pytest.mark.parametrize("style", STYLES)
def test_the_fallback_stands_in_every_layout(minimal, tmp_path, style):
    """The prior fills the sample's rows and columns, in the sample's order, and the temporary file is gone."""
    kaggle = lay_out(minimal, tmp_path, style)
    done = kaggle.run(until="fallback")
    assert done.returncode == 0, done.stderr
    assert kaggle.submission() == PRIOR
    assert "3 rows with the prior stand" in done.stdout
    assert sorted(path.name for path in (kaggle.root / "working").iterdir()) == ["kit-run.json", "submission.csv"]


@pytest.mark.parametrize("style", STYLES)
def test_the_kit_is_found_in_every_layout(minimal, tmp_path, style):
    """Wheelhouse and model are found by their manifests, and the runtime is imported from the wheel."""
    kaggle = lay_out(minimal, tmp_path, style)
    done = kaggle.run(until="kit")
    assert done.returncode == 0, done.stderr
    assert set(kaggle.record()["stages"]) == {"inputs", "fallback", "kit"}


PUBLIC = {
    "dataset": 'dataset = "eve/big-model"',
    "model": 'kaggle_model = "eve/big/Transformers/awq/2"',
}


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("kind", PUBLIC)
def test_anothers_model_without_a_manifest_is_found_by_its_reference(minimal, tmp_path, style, kind, edit):
    """It is hashed as it is there, and the notebook goes on with a folder that has kit's manifest of it."""
    edit(minimal / "kit.toml", PUBLIC[kind], 'dataset = "ada/small-model"')
    kaggle = lay_out(minimal, tmp_path, style)
    weights = kaggle.sources["weights"]
    (weights / MANIFEST).write_text('["another\'s manifest"]')
    (weights / "original").mkdir()
    (weights / "original" / "model.safetensors").write_bytes(b"weights")
    for _ in range(2):
        done = kaggle.run(until="kit")
        assert done.returncode == 0, done.stderr
        assert "has no manifest; 2 files hashed" in done.stdout
    folder = kaggle.root / "temp" / "kit" / "models" / "small"
    manifest = read_manifest(folder / MANIFEST)
    verify_files(folder, manifest)
    assert (manifest.kind, manifest.name) == ("model", "small")
    assert [entry.path for entry in manifest.files] == ["config.json", "original/model.safetensors"]
    assert (weights / MANIFEST).read_text() == '["another\'s manifest"]'


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda weights: (weights / "config.json").unlink(), "holds no config.json"),
        (lambda weights: weights.rename(weights.with_name("elsewhere")), "attach it to the notebook"),
    ],
    ids=["no model", "not attached"],
)
def test_anothers_model_that_is_none_is_told(minimal, tmp_path, edit, spoil, message):
    """By its reference, before anything is installed; a manifest of kit's own is taken where there is one."""
    edit(minimal / "kit.toml", PUBLIC["model"], 'dataset = "ada/small-model"')
    kaggle = lay_out(minimal, tmp_path, "2026")
    assert "no manifest" not in kaggle.run(until="kit").stdout
    (kaggle.sources["weights"] / MANIFEST).unlink()
    spoil(kaggle.sources["weights"])
    done = kaggle.run(until="kit")
    assert done.returncode == 1
    assert message in done.stderr


def test_a_model_is_found_beside_a_record(kaggle):
    """A dataset made of a notebook's whole output holds the model in its folder, and kit-run.json beside it."""
    weights = kaggle.sources["weights"]
    (weights / "small").mkdir()
    for path in [path for path in weights.iterdir() if path.is_file()]:
        path.rename(weights / "small" / path.name)
    (weights / "kit-run.json").write_text('{"kind": "model", "name": "small"}')
    done = kaggle.run(until="kit")
    assert done.returncode == 0, done.stderr


def test_a_model_that_is_mounted_twice_is_one(kaggle):
    """Two folders of the same files are no reason to stop."""
    (kaggle.root / "input" / "a-second-mount").symlink_to(kaggle.sources["weights"])
    done = kaggle.run(until="kit")
    assert done.returncode == 0, done.stderr


def test_the_kit_is_found_in_a_part_of_its_own(kaggle, tmp_path):
    """A wheelhouse in two datasets, engine and kit: the kit's wheel is taken from the part that holds it."""
    engine = tmp_path / "engine"
    engine.mkdir()
    (engine / "torch.whl").write_text("a wheel of the engine")
    seal(engine, kind="wheelhouse", name="local-cpu")
    (kaggle.root / "input" / "a-first-part").symlink_to(engine)
    done = kaggle.run(until="kit")
    assert done.returncode == 0, done.stderr


def test_the_record_says_what_ran(kaggle):
    """The record names the target, and that this was no hidden run."""
    kaggle.run(until="inputs")
    assert kaggle.record()["target"] == "local-cpu"
    assert kaggle.record()["hidden_run"] is False
    assert "failed" not in kaggle.record()


@pytest.mark.parametrize("text", ["[]", "[1, 2]", "null", '"x"', "{", "{}", '{"kind": 1}', "\ud800"])
def test_a_strangers_manifest_disturbs_nothing(kaggle, text):
    """Another dataset's manifest.json, whatever it holds, is passed over."""
    stranger = kaggle.root / "input" / "a-strangers"
    stranger.mkdir()
    (stranger / "manifest.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    done = kaggle.run(until="kit")
    assert done.returncode == 0, done.stderr


def test_no_data(kaggle):
    """Without the competition's files the error says what to attach."""
    (kaggle.sources["data"] / "test.csv").unlink()
    done = kaggle.run(until="fallback")
    assert done.returncode == 1
    assert "holds test.csv and sample_submission.csv: attach it to the notebook" in done.stderr
    assert kaggle.record()["failed"]["stage"] == "inputs"


def test_a_sample_with_other_columns(kaggle):
    """A sample that the prior does not fit is an error that shows both."""
    (kaggle.sources["data"] / "sample_submission.csv").write_text("id,first,third\n1,0.5,0.5\n")
    done = kaggle.run(until="fallback")
    assert done.returncode == 1
    assert "sample_submission.csv has the columns ['first', 'third'], the prior has ['first', 'second']" in done.stderr


def test_a_sample_with_other_columns_in_the_hidden_run(kaggle):
    """Nobody can change anything there: what Kaggle itself would take stands."""
    text = "id,first,third\n1,0.5,0.5\n"
    (kaggle.sources["data"] / "sample_submission.csv").write_text(text)
    done = kaggle.run(until="fallback", hidden=True)
    assert done.returncode == 0
    assert kaggle.submission() == [line.split(",") for line in text.splitlines()]


@pytest.mark.parametrize("row_id", [b"caf\xe9", b"\xff\xfe", b"7", b'"a, b"'])
def test_an_id_of_any_bytes_stands_in_the_fallback(kaggle, row_id):
    """An id that is no UTF-8, or stands twice, is handed in as it is."""
    (kaggle.sources["data"] / "sample_submission.csv").write_bytes(b"id,first,second\n7,0,0\n%s,0,0\n" % row_id)
    done = kaggle.run(until="fallback")
    assert done.returncode == 0, done.stderr
    lines = (kaggle.root / "working" / "submission.csv").read_bytes().splitlines()
    assert [line.rsplit(b",", 2)[0] for line in lines] == [b"id", b"7", row_id]


def test_a_sample_with_a_byte_order_mark(kaggle):
    """A byte order mark is no part of the first column's name."""
    (kaggle.sources["data"] / "sample_submission.csv").write_text(SAMPLE, encoding="utf-8-sig")
    kaggle.run(until="fallback")
    assert kaggle.submission() == PRIOR


def no_wheelhouse(kaggle: Kaggle) -> None:
    (kaggle.sources["wheels"] / MANIFEST).unlink()


def no_model(kaggle: Kaggle) -> None:
    seal(kaggle.sources["weights"], kind="model", name="another")


def corrupt_wheel(kaggle: Kaggle) -> None:
    wheel = next(kaggle.sources["wheels"].glob("*.whl"))
    content = bytearray(wheel.read_bytes())
    content[len(content) // 2] ^= 1
    wheel.write_bytes(content)


def missing_wheel(kaggle: Kaggle) -> None:
    next(kaggle.sources["wheels"].glob("*.whl")).unlink()


def no_kit_wheel(kaggle: Kaggle) -> None:
    missing_wheel(kaggle)
    seal(kaggle.sources["wheels"], kind="wheelhouse", name="local-cpu")


def wheel_of_another_kit(kaggle: Kaggle) -> None:
    wheel = next(kaggle.sources["wheels"].glob("*.whl"))
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("kaggle_kit/runtime/later.py", "")
    seal(kaggle.sources["wheels"], kind="wheelhouse", name="local-cpu")


def two_models_of_one_name(kaggle: Kaggle) -> None:
    older = kaggle.root / "input" / "an-older-one"
    older.mkdir()
    (older / "config.json").write_text('{"older": true}')
    seal(older, kind="model", name="small")


BROKEN = {
    two_models_of_one_name: "are both the model 'small', and differ: detach one of them",
    no_wheelhouse: "no wheelhouse 'local-cpu' below .*: attach its dataset to the notebook",
    no_model: "no model 'small' below .*: attach its dataset to the notebook",
    corrupt_wheel: r"kaggle_kit_runtime-.*\.whl is corrupt: upload the wheelhouse again",
    missing_wheel: r"kaggle_kit_runtime-.*\.whl",
    no_kit_wheel: "lacks the kit's own wheel",
    wheel_of_another_kit: "is of another kit than the one that built this notebook: push both again",
}


@pytest.mark.parametrize("spoil", BROKEN)
def test_what_is_missing_or_corrupt_is_named(kaggle, spoil):
    """The error says what to attach or upload, the record keeps it, and the fallback stands."""
    spoil(kaggle)
    done = kaggle.run(until="kit")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert re.search(BROKEN[spoil], last), last
    assert kaggle.record()["failed"]["stage"] == "kit"
    assert kaggle.submission() == PRIOR


@pytest.mark.parametrize("spoil", BROKEN)
def test_a_hidden_run_ends_well(kaggle, spoil):
    """In the hidden run the same failures end the notebook with code 0, told in its log, with the fallback."""
    spoil(kaggle)
    done = kaggle.run(until="kit", hidden=True)
    assert done.returncode == 0
    assert "Traceback" in done.stderr
    assert kaggle.record()["failed"]["stage"] == "kit"
    assert kaggle.record()["hidden_run"] is True
    assert kaggle.submission() == PRIOR


def test_a_failed_install_leaves_the_fallback(kaggle):
    """A wheelhouse without an installer and engine fails in the cell `install`, and the fallback stands."""
    (kaggle.sources["wheels"] / "engine-1-py3-none-any.whl").write_bytes(b"no wheel")
    seal(kaggle.sources["wheels"], kind="wheelhouse", name="local-cpu")
    done = kaggle.run(until="install")
    assert done.returncode == 1
    assert kaggle.record()["failed"]["stage"] == "install"
    assert kaggle.record()["failed"]["error"].startswith("WheelhouseError: ")
    assert kaggle.submission() == PRIOR


def test_the_inputs_are_only_read(kaggle):
    """Nothing below the inputs changes."""
    folders = list(kaggle.sources.values())
    before = {path: sha256_file(path) for folder in folders for path in folder.rglob("*")}
    kaggle.run(until="kit")
    assert {path: sha256_file(path) for folder in folders for path in folder.rglob("*")} == before
