"""The Python in which a dry run's notebook executes: a stand-in for Kaggle's image, without the kit in it."""

import hashlib
import platform
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from kaggle_kit.errors import SandboxError
from kaggle_kit.files import make_once, user_cache
from kaggle_kit.sandbox.mounts import Mount, base_python, python_mounts
from kaggle_kit.wheelhouse.index import uv_environment, uv_program

LOCK = Path(__file__).with_name("image.lock")
_KERNEL = Path("share/jupyter/kernels/python3/kernel.json")
_COMPLETE = ".complete"
_SAID_LINES = 12


@dataclass(frozen=True)
class Image:
    """An environment that is ready to be mounted.

    `python` is its interpreter, at the same path inside and outside. `mounts` are the read-only folders it
    needs beside the system's own: the environment, and the installation of its base interpreter.
    """

    python: Path
    mounts: tuple[Mount, ...]


def ready_image(*, cache: Path | None = None, progress: Callable[[str], None]) -> Image:
    """The image for this Python, created on first use in `cache` (by default the user's cache folder).

    `progress` is told in one sentence what takes long. A creation that was cut off is begun again, and of two
    processes that need the image at once one creates it while the other waits.
    Raises WheelhouseError where uv is missing, SandboxError where the packages cannot be had.
    """
    folder = (cache or user_cache()) / "images" / _name()
    waits = partial(progress, "Another kit is creating the notebook's Python environment: waiting for it")
    make_once(folder / _COMPLETE, partial(_create, folder, progress), waits=waits)
    own = folder.absolute()
    return Image(python=own / "bin" / "python", mounts=(Mount(own, str(own)), *python_mounts()))


def _name() -> str:
    """Names the packages, this Python's version and its place: one that moved needs a new environment."""
    facts = (LOCK.read_text(encoding="utf-8"), platform.python_version(), str(base_python()))
    return hashlib.sha256("\0".join(facts).encode()).hexdigest()[:16]


def _create(folder: Path, progress: Callable[[str], None]) -> None:
    # Scripts of an environment hold its path, so it is made in its place; the marker comes last.
    shutil.rmtree(folder, ignore_errors=True)
    progress(f"Creating the notebook's Python environment (once, about 250 MB) in {folder}")
    uv = uv_program()
    _run([uv, "venv", "--quiet", "--no-project", "--python", str(base_python()), str(folder)], "be created")
    install = [uv, "pip", "sync", "--quiet", "--python", str(folder / "bin" / "python")]
    install += ["--require-hashes", "--only-binary", ":all:", "--compile-bytecode"]
    # It may have been made on another disk than uv's cache, and is never changed afterwards.
    install += ["--link-mode", "copy", str(LOCK)]
    _run(install, "be filled")
    if not (folder / _KERNEL).exists():
        raise SandboxError(f"the notebook's Python environment {folder} has no kernel python3: delete it, try again")


def _run(argv: list[str], wanted: str) -> None:
    done = subprocess.run(argv, env=uv_environment(), cwd="/", capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = "\n".join(done.stderr.strip().splitlines()[-_SAID_LINES:])
        raise SandboxError(
            f"the notebook's Python environment could not {wanted} (uv ended with code {done.returncode}). "
            f"It needs the package registry once; uv said:\n{said}"
        )
