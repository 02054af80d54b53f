"""The image: the Python environment of a dry run, made for real, and papermill sealed in it."""

import json
import os
import re
import subprocess
import threading
import time
from pathlib import Path

import nbformat
import pytest

from kaggle_kit.errors import SandboxError
from kaggle_kit.sandbox import image as image_module
from kaggle_kit.sandbox.image import LOCK, Image, ready_image
from kaggle_kit.sandbox.mounts import Mount, Sandbox
from kaggle_kit.sandbox.output import Limits, Receiver
from kaggle_kit.sandbox.seal import choose_seal, driver_command, driver_mount

pytestmark = pytest.mark.end_to_end
SECONDS = 300.0


@pytest.fixture(scope="session")
def image() -> Image:
    return ready_image(progress=lambda _: None)


@pytest.fixture
def small_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lock of one small package, for what is about the making and not about the packages."""
    text = LOCK.read_text(encoding="utf-8")
    found = re.search(r"^nest-asyncio==.*?(?=^\S)", text, re.MULTILINE | re.DOTALL)
    assert found
    lock = tmp_path / "image.lock"
    lock.write_text(found[0])
    monkeypatch.setattr(image_module, "LOCK", lock)
    # No kernel comes with this package; its file is what shows a finished environment.
    monkeypatch.setattr(image_module, "_KERNEL", Path("lib"))
    return lock


def papermill(image: Image, seal_name: str, folder: Path, *sources: str, stop_at: str = "") -> tuple[int, str]:
    """Run a notebook of these cells sealed: the exit code and the log. Its files come to folder/out."""
    try:
        seal = choose_seal(seal_name, root=folder / "root")
    except SandboxError as error:
        pytest.skip(str(error))
    cells = [nbformat.v4.new_code_cell(source, id=f"cell-{n}") for n, source in enumerate(sources)]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    for name in ("temp", "out"):
        (folder / name).mkdir()
    nbformat.write(notebook, folder / "given.ipynb")
    mounts = (
        Mount(folder / "given.ipynb", "/kit/given.ipynb"),
        Mount(folder / "temp", "/kaggle/temp", writable=True),
        driver_mount(),
        *image.mounts,
    )
    environment = {
        "PATH": f"{image.python.parent}:/usr/bin:/bin",
        "HOME": "/kaggle/temp",
        "TMPDIR": "/kaggle/temp",
        "LANG": "C.UTF-8",
    }
    sandbox = Sandbox(mounts, 20 << 20, environment, "/kaggle/working")
    target = "/kaggle/working/__notebook__.ipynb"
    command = [str(image.python), "-m", "papermill", "/kit/given.ipynb", target, "--no-progress-bar"]
    with (
        Receiver(folder / "out", limits=Limits(1 << 30)) as receiver,
        seal.start(
            sandbox,
            driver_command(image.python, command, pipe=receiver.write_end, most_bytes=1 << 30),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(receiver.write_end,),
        ) as sealed,
    ):
        receiver.close_write_end()
        if stop_at:
            end = time.monotonic() + SECONDS
            while not (folder / "temp" / stop_at).exists():
                assert time.monotonic() < end
                time.sleep(0.05)
            sealed.stop(grace_seconds=25)
        said, _ = sealed.process.communicate(timeout=SECONDS)
    return sealed.process.returncode, said.decode()


@pytest.mark.parametrize("seal_name", ["bwrap", "unshare", "none"])
def test_papermill_runs_a_notebook_sealed(image: Image, seal_name: str, tmp_path: Path) -> None:
    """Two cells share a kernel inside the seal, and the executed notebook comes out."""
    code, said = papermill(image, seal_name, tmp_path, "import pandas\nx = 41", "print(x + 1)")
    assert code == 0, said
    executed = nbformat.read(tmp_path / "out/__notebook__.ipynb", as_version=4)
    assert executed.cells[1].outputs[0].text == "42\n"


@pytest.mark.parametrize("seal_name", ["bwrap", "unshare"])
def test_a_failing_cell_leaves_the_notebook_with_a_banner(image: Image, seal_name: str, tmp_path: Path) -> None:
    """The executed notebook starts with papermill's banner, and the files written before come out."""
    code, said = papermill(image, seal_name, tmp_path, "open('submission.csv', 'w').write('id')", "1 / 0", "x = 1")
    assert code == 1
    assert "ZeroDivisionError" in said
    executed = nbformat.read(tmp_path / "out/__notebook__.ipynb", as_version=4)
    assert "An Exception was encountered" in executed.cells[0].source
    assert (tmp_path / "out/submission.csv").read_text() == "id"


@pytest.mark.parametrize("seal_name", ["bwrap", "unshare", "none"])
def test_a_stopped_run_leaves_the_notebook_so_far(image: Image, seal_name: str, tmp_path: Path) -> None:
    """SIGTERM in mid-cell brings out the files and the notebook with the cells that had ended."""
    cells = ["print('first')", "import os, time\nopen(os.environ['HOME'] + '/ready', 'w')\ntime.sleep(1000)"]
    code, said = papermill(image, seal_name, tmp_path, *cells, stop_at="ready")
    assert code != 0, said
    executed = nbformat.read(tmp_path / "out/__notebook__.ipynb", as_version=4)
    assert "first\n" in [output.text for cell in executed.cells for output in cell.outputs if "text" in output]


@pytest.mark.parametrize("seal_name", ["bwrap", "unshare"])
def test_a_cell_cannot_reach_the_network(image: Image, seal_name: str, tmp_path: Path) -> None:
    """A connection attempt in a cell fails, although the cell's kernel speaks over loopback."""
    cell = "import socket\nsocket.create_connection(('192.0.2.1', 80), timeout=5)"
    code, said = papermill(image, seal_name, tmp_path, cell)
    assert code == 1
    assert "Network is unreachable" in said


def test_the_image_has_no_kit(image: Image) -> None:
    """Neither the kit nor a path to this checkout can be imported: the notebook brings its own."""
    code = "import importlib.util as u; print([u.find_spec(n) is not None for n in ('kaggle_kit', 'papermill')])"
    done = subprocess.run([image.python, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[False, True]"


def test_the_image_has_the_versions_of_kaggle(image: Image) -> None:
    """The packages that execute a notebook are those of Kaggle's image."""
    wanted = {"papermill": "2.7.0", "nbclient": "0.5.13", "ipykernel": "6.17.1", "jupyter_client": "7.4.9"}
    code = f"import importlib.metadata as m, json; print(json.dumps([m.version(n) for n in {list(wanted)}]))"
    done = subprocess.run([image.python, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == list(wanted.values())


def test_the_image_is_compiled(image: Image) -> None:
    """Bytecode is there, for inside the image is read-only and would be compiled anew at every start."""
    packages = next(image.python.parent.parent.glob("lib/python*/site-packages"))
    assert list(packages.glob("papermill/__pycache__/execute.*.pyc"))


def test_the_lock_names_no_place() -> None:
    """The lock holds neither an index nor a path, and every package has its hashes."""
    text = LOCK.read_text(encoding="utf-8")
    assert not re.search(r"https?://|file:|--index|--find-links|^/", text, re.MULTILINE)
    for entry in re.findall(r"^\w.*?(?=^\w|\Z)", text, re.MULTILINE | re.DOTALL):
        assert "--hash=sha256:" in entry, entry


@pytest.mark.usefixtures("small_lock")
def test_an_interrupted_creation_is_begun_again(tmp_path: Path) -> None:
    """An environment without its marker is taken for a half one and made anew."""
    told: list[str] = []
    first = ready_image(cache=tmp_path, progress=told.append)
    folder = first.python.parent.parent
    (folder / ".complete").unlink()
    (folder / "half").touch()
    assert ready_image(cache=tmp_path, progress=told.append) == first
    assert not (folder / "half").exists()
    assert ready_image(cache=tmp_path, progress=told.append) == first
    assert len(told) == 2


@pytest.mark.usefixtures("small_lock")
def test_two_at_once_make_one_image(tmp_path: Path) -> None:
    """Of two that need the image at once one makes it, and both have it."""
    told: list[str] = []
    made: list[Image] = []
    threads = [
        threading.Thread(target=lambda: made.append(ready_image(cache=tmp_path, progress=told.append)))
        for _ in range(2)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert made[0] == made[1]
    assert len([sentence for sentence in told if sentence.startswith("Creating")]) == 1


def test_a_package_that_was_tampered_with_is_refused(small_lock: Path, tmp_path: Path) -> None:
    """Where a hash does not fit, nothing counts as ready and the error holds uv's own words."""
    small_lock.write_text(re.sub(r"sha256:\w{8}", "sha256:00000000", small_lock.read_text()))
    with pytest.raises(SandboxError, match="Hash mismatch"):
        ready_image(cache=tmp_path, progress=lambda _: None)
    assert not list(tmp_path.glob("images/*/.complete"))


@pytest.mark.usefixtures("small_lock")
def test_the_base_interpreter_is_mounted(tmp_path: Path) -> None:
    """The installation that the environment stands on is among the mounts, or is the system's own."""
    mounts = ready_image(cache=tmp_path, progress=lambda _: None).mounts
    library = os.path.realpath(os.__file__)
    inside = [library.startswith(f"{mount.source}/") for mount in mounts]
    assert library.startswith("/usr") or any(inside)
    assert not any(mount.writable for mount in mounts)
