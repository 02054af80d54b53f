"""The kit's own wheel: the same bytes for the same sources, and it works where nothing else is."""

import base64
import hashlib
import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import uv

import kaggle_kit
from kaggle_kit.wheelhouse.kit_wheel import build_kit_wheel, kit_wheel_bytes, kit_wheel_name

_ONLY_THE_WHEEL = """
import sys
sys.path.insert(0, sys.argv[1])
import kaggle_kit.runtime.manifest as module
print(module.__file__)
"""


def test_same_bytes() -> None:
    """Two builds give the same bytes."""
    assert kit_wheel_bytes() == kit_wheel_bytes()


def test_file_times_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same sources under other times, in another place, give the same bytes."""
    here = Path(kaggle_kit.__file__).parent
    package = tmp_path / "kaggle_kit"
    names = ("__init__.py", "child.py", "errors.py", "files.py", "outside.py", "owners.py")
    ground = [here / name for name in names]
    for path in [*ground, *(here / "runtime").rglob("*.py"), *(here / "model").rglob("*.py")]:
        copy = package / path.relative_to(here)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
        os.utime(copy, (1, 1))
    (package / "runtime" / "notes.txt").write_text("not a module")
    expected = kit_wheel_bytes()
    monkeypatch.setattr(kaggle_kit, "__file__", str(package / "__init__.py"))
    assert kit_wheel_bytes() == expected


def test_holds_the_runtime_only(tmp_path: Path) -> None:
    """Nothing but the runtime, a part of model, and the modules that both stand on is inside."""
    with zipfile.ZipFile(build_kit_wheel(tmp_path)) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    ground = {"__init__", "child", "errors", "files", "outside"}
    assert {f"kaggle_kit/{name}.py" for name in ground} < names
    assert "kaggle_kit/runtime/__init__.py" in names
    assert all(name.endswith(".py") and name.count("/") in {1, 2, 3} for name in names)
    assert not [name for name in names if name.startswith(("kaggle_kit/cli", "kaggle_kit/wheelhouse"))]


def test_holds_what_makes_a_model(tmp_path: Path) -> None:
    """With the wheel alone, in a Python without site-packages, a notebook's session and its program are imported."""
    wheel = build_kit_wheel(tmp_path)
    program = _ONLY_THE_WHEEL.replace("runtime.manifest", "model.make_session")
    program += "import kaggle_kit.model.quantize, kaggle_kit.model.make_program, kaggle_kit.model.calibration\n"
    command = [sys.executable, "-S", "-E", "-s", "-P", "-c", program, wheel]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(wheel))


def test_every_module_of_model_in_it_is_needed() -> None:
    """What is carried of model is what the session and its program import, and the worker that is run by its path."""
    program = (
        "import sys, kaggle_kit.model.make_session, kaggle_kit.model.make_program, kaggle_kit.model.quantize\n"
        "print(*(name for name in sys.modules if name.startswith('kaggle_kit.model')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    needed = {name.rpartition(".")[2] for name in done.stdout.split()} - {"model"} | {"quantize_worker"}
    with zipfile.ZipFile(io.BytesIO(kit_wheel_bytes())) as archive:
        inside = {Path(name).stem for name in archive.namelist() if name.startswith("kaggle_kit/model/")}
    assert inside - {"__init__"} == needed


def test_record_is_true(tmp_path: Path) -> None:
    """RECORD names each file with its SHA-256 and size, and itself without."""
    with zipfile.ZipFile(build_kit_wheel(tmp_path)) as archive:
        record_name = next(name for name in archive.namelist() if name.endswith("/RECORD"))
        for line in archive.read(record_name).decode().splitlines():
            name, told, size = line.rsplit(",", 2)
            if name != record_name:
                body = archive.read(name)
                digest = base64.urlsafe_b64encode(hashlib.sha256(body).digest()).rstrip(b"=").decode()
                assert (told, size) == (f"sha256={digest}", str(len(body)))
        assert len(archive.read(record_name).decode().splitlines()) == len(archive.namelist())


def test_written_once(tmp_path: Path) -> None:
    """A wheel whose bytes are there already is not written again."""
    os.utime(build_kit_wheel(tmp_path), (1, 1))
    assert build_kit_wheel(tmp_path).stat().st_mtime == 1


def test_imports_in_place(tmp_path: Path) -> None:
    """A Python without any site-packages imports the runtime straight from the wheel file."""
    wheel = build_kit_wheel(tmp_path)
    command = [sys.executable, "-S", "-E", "-s", "-P", "-c", _ONLY_THE_WHEEL, wheel]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.startswith(str(wheel))


def test_installs_offline(tmp_path: Path) -> None:
    """uv installs the wheel into an empty environment with no index, and finds it sound."""
    wheel = build_kit_wheel(tmp_path / "wheels")
    python = tmp_path / "env" / "bin" / "python"
    for arguments in (
        ["venv", "--offline", "--python", sys.executable, tmp_path / "env"],
        ["pip", "install", "--offline", "--no-index", wheel, "--python", python],
        ["pip", "check", "--python", python],
    ):
        subprocess.run([uv.find_uv_bin(), *arguments], capture_output=True, timeout=60, check=True)
    program = "import kaggle_kit.runtime as r, kaggle_kit as k; print(r.__file__, k.__version__)"
    done = subprocess.run([python, "-I", "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.startswith(str(tmp_path / "env"))
    assert done.stdout.split()[1] == kaggle_kit.__version__


def test_name_is_a_wheel_name() -> None:
    """The file is named by PEP 427 for any Python 3."""
    assert kit_wheel_name() == f"kaggle_kit_runtime-{kaggle_kit.__version__}-py3-none-any.whl"
