"""How /kaggle is laid out for a sealed notebook: its inputs, variables, and the folder on disk behind them.

Inputs are mounted in Kaggle's way of 2026, or in the one before it.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from kaggle_kit.errors import SandboxError
from kaggle_kit.files import remove_aside, user_scratch
from kaggle_kit.runtime.install import BYTECODE
from kaggle_kit.sandbox.mounts import Mount, Sandbox, offline_environment
from kaggle_kit.sandbox.seal import WORKING, driver_mount
from kaggle_kit.wheelhouse.index import uv_program

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kaggle_kit.project import Model, Project
    from kaggle_kit.sandbox.image import Image

OUT = "/kit/out"
"""The folder inside into which papermill writes the executed notebook."""
_PACKAGES = "/kit/packages"
_BYTECODE = "/kit/bytecode"
_PROGRAMS = "/kit/bin"
STYLES = ("2026", "flat")


def kaggle_sandbox(
    notebook: Path,
    *,
    inputs: Sequence[Mount],
    image: Image,
    scratch: Path,
    working_bytes: int,
    hidden: bool = False,
    packages: Path | None = None,
    bytecode: Path | None = None,
) -> Sandbox:
    """The sandbox of one run of `notebook`: `inputs` below /kaggle/input, and in `scratch` whatever nobody keeps.

    `packages` is a folder that stands in for the package index: what a notebook with internet installs. `bytecode` are
    the same packages as the notebook will install, with their bytecode: an engine then starts without compiling them.
    No folder that the host reads afterwards is writable inside: what the run leaves comes out by the driver alone.
    """
    folders = {name: scratch / name for name in ("temp", "tmp", "out")}
    for folder in (*folders.values(), folders["tmp"] / "home"):
        folder.mkdir()
    mounts = (
        *inputs,
        *image.mounts,
        driver_mount(),
        Mount(notebook, "/kit/notebook.ipynb"),
        Mount(folders["out"], OUT, writable=True),
        Mount(folders["temp"], "/kaggle/temp", writable=True),
        Mount(folders["tmp"], "/tmp", writable=True),  # noqa: S108  the sandbox's own
        *(_package_mounts(packages) if packages else ()),
        *((Mount(bytecode, _BYTECODE),) if bytecode else ()),
    )
    environment = _environment(image, hidden=hidden, online=packages is not None)
    if bytecode:
        environment[BYTECODE] = _BYTECODE
    return Sandbox(mounts=mounts, working_bytes=working_bytes, environment=environment, workdir=WORKING)


def _package_mounts(packages: Path) -> tuple[Mount, ...]:
    """The packages, and uv, which Kaggle's image has on its path."""
    return Mount(packages, _PACKAGES), Mount(Path(uv_program()), f"{_PROGRAMS}/uv")


def _environment(image: Image, *, hidden: bool, online: bool) -> dict[str, str]:
    """The variables of a Kaggle session that a notebook may look at, and a home of its own."""
    programs = f":{_PROGRAMS}" if online else ""
    return {
        **offline_environment(),
        **({"UV_FIND_LINKS": _PACKAGES, "PIP_FIND_LINKS": _PACKAGES} if online else {}),
        "PATH": f"{image.python.parent}{programs}:/usr/local/bin:/usr/bin:/bin",
        "HOME": "/tmp/home",  # noqa: S108  the sandbox's own
        "TMPDIR": "/tmp",  # noqa: S108
        "LANG": "C.UTF-8",
        "KAGGLE_KERNEL_RUN_TYPE": "Batch",
        **({"KAGGLE_IS_COMPETITION_RERUN": "1"} if hidden else {}),
    }


def input_mounts(
    project: Project,
    *,
    style: str,
    data: Path,
    wheelhouse: tuple[str, Path],
    models: Sequence[tuple[Model, Path]],
) -> tuple[Mount, ...]:
    """The read-only mounts below /kaggle/input.

    `wheelhouse` and `models` pair what Kaggle calls them with their folders here. Style "2026":
    `competitions/SLUG`, `datasets/OWNER/SLUG`, `models/OWNER/MODEL/FRAMEWORK/VARIATION/VERSION`; style "flat":
    `SLUG`, and `MODEL/FRAMEWORK/VARIATION/VERSION`. Raises SandboxError where two sources would lie in one place.
    """
    places = [(("competitions", project.competition), data), (("datasets", wheelhouse[0]), wheelhouse[1])]
    for checkpoint, weights in models:
        if checkpoint.kaggle_model:
            places.append((("models", checkpoint.kaggle_model), weights))
        else:
            places.append((("datasets", str(checkpoint.dataset)), weights))
    return mounts_of(places, style=style)


def mounts_of(sources: Sequence[tuple[tuple[str, str], Path]], *, style: str = "2026") -> tuple[Mount, ...]:
    """The mounts of sources: each its group ("competitions", "datasets", "models") and reference, and its folder."""

    def place(group: str, reference: str) -> str:
        if style == "2026":
            return f"{group}/{reference}"
        return reference.split("/", 1)[1] if "/" in reference else reference

    places = [(place(*what), folder) for what, folder in sources]
    names = [name for name, _ in places]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise SandboxError(
            f"two sources would lie in /kaggle/input/{twice}; give one another name in kit.toml, or use --mounts 2026"
        )
    return tuple(Mount(folder, f"/kaggle/input/{name}") for name, folder in places)


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder for what the sealed notebook writes, removed whatever happens."""
    base = user_scratch() / "dryruns"
    base.mkdir(parents=True, exist_ok=True)
    for left in base.iterdir():
        if not _is_alive(left):
            _retire(left)
    folder = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=base))
    try:
        yield folder
    finally:
        _retire(folder)


def _is_alive(folder: Path) -> bool:
    """Whether the kit that made a scratch folder still runs."""
    pid = folder.name.split("-")[0]
    return pid.isdigit() and Path(f"/proc/{pid}").exists()


def _retire(folder: Path) -> None:
    """Mark a scratch folder as dead and remove it aside: a removal that is cut off is taken up by the next dry run."""
    dead = folder.with_name(f"dead-{folder.name.removeprefix('dead-')}")
    with contextlib.suppress(OSError):
        folder.replace(dead)
    remove_aside(dead)
