"""What is known to fail before the rehearsal of a notebook that makes a model begins."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from kaggle_kit.errors import DataError, KitError, ModelError, UsageError
from kaggle_kit.project import load_project
from kaggle_kit.sandbox.dryrun import Listener, Options, dry_run
from kaggle_kit.targets import load_target

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "model"))

from full_precision import make_adapter  # noqa: E402

pytestmark = pytest.mark.usefixtures("guarded_here", "filled_here")


@pytest.fixture
def folder(tmp_path):
    """What of the reference project is needed."""
    folder = tmp_path / "project"
    folder.mkdir()
    shutil.copyfile(ROOT / "kit.toml", folder / "kit.toml")
    shutil.copytree(ROOT / "notebooks_src", folder / "notebooks_src")
    for name in ("full", "data"):
        shutil.copytree(ROOT / "tests" / "demo" / name, folder / "tests" / "demo" / name)
    return folder


@pytest.fixture
def refused(folder, tmp_path):
    """A function: the error of a dry run that cannot begin, which leaves nothing."""

    def run(kind: type[KitError], *, target: str = "local-cpu", **options) -> str:
        listener = Listener(say=lambda _text: None, line=lambda _text: None, fetching=lambda *_: None)
        with pytest.raises(kind) as caught:
            dry_run(
                load_project(folder),
                "quantize",
                target=load_target(target),
                options=Options(**options),
                out=tmp_path / "out" / "run",
                listener=listener,
            )
        assert not (tmp_path / "out").exists()
        return str(caught.value)

    return run


def test_options_of_scoring(refused):
    """Rows, a solution, the hidden run: none is of a notebook that makes a model."""
    assert "-p rows=N" in refused(UsageError, rows=3)
    assert "--solution" in refused(UsageError, solution=Path("x.csv"))
    assert "--hidden" in refused(UsageError, hidden=True)


def test_a_target_with_gpus(refused):
    """There is none here."""
    assert "kaggle-t4x2 needs 2 GPUs" in refused(UsageError, target="kaggle-t4x2")


def test_no_table(refused, folder):
    """The competition's train.csv is what it is calibrated on."""
    (folder / "tests" / "demo" / "data" / "train.csv").unlink()
    assert "train.csv is missing" in refused(DataError)


def test_a_column_that_is_not_there(refused, folder):
    """The fields of the prompt are columns."""
    (folder / "tests" / "demo" / "data" / "train.csv").write_text("id,prompt\n1,x\n")
    assert "has no column 'response_a'" in refused(DataError)


def test_an_empty_table(refused, folder):
    """No rows, no calibration."""
    (folder / "tests" / "demo" / "data" / "train.csv").write_text("id,prompt,response_a,response_b\n")
    assert "has no rows" in refused(DataError)


def test_a_base_that_changed(refused, folder):
    """The base is hashed against its manifest."""
    config = folder / "tests" / "demo" / "full" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"hidden_size": 7}))
    assert "config.json of the model demo-full" in refused(ModelError)


def test_an_adapter_of_another_base(refused, folder, edit):
    """Its shapes are compared before anything is made."""
    adapter = make_adapter(folder / "adapter", folder / "tests" / "demo" / "full", change=_widen)
    assert adapter.is_dir()
    edit(folder / "kit.toml", '\nadapter = "other"\nmodel = "demo-full"\n', '\nmodel = "demo-full"\n')
    edit(folder / "kit.toml", '[models.other]\npath = "adapter"\ndataset = "ada/other-adapter"')
    assert "does not fit the base" in refused(ModelError)


def _widen(tensors):
    key = next(key for key in tensors if key.endswith("lora_A.weight"))
    tensors[key] = tensors[key].repeat(2, axis=1)


def test_an_adapter_that_is_not_there(refused, folder, edit):
    """The key that named it is in the message."""
    edit(folder / "kit.toml", '\nadapter = "other"\nmodel = "demo-full"\n', '\nmodel = "demo-full"\n')
    edit(folder / "kit.toml", '[models.other]\npath = "adapter"\ndataset = "ada/other-adapter"')
    assert "models.other.path = 'adapter'" in refused(KitError)
