"""The sealed /kaggle that a notebook runs in: its mounts, its variables, and the folder on disk behind them."""

from __future__ import annotations

import contextlib
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from kaggle_kit.files import remove_aside, user_cache
from kaggle_kit.sandbox.seal import Mount, Room, driver_mount, offline_environment
from kaggle_kit.wheelhouse.index import uv_program

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kaggle_kit.sandbox.image import Image

OUT = "/kit/out"
"""The folder inside into which papermill writes the executed notebook."""
_OFFER = "/kit/packages"
_PROGRAMS = "/kit/bin"


def kaggle_room(
    notebook: Path,
    *,
    inputs: Sequence[Mount],
    image: Image,
    scratch: Path,
    working_bytes: int,
    hidden: bool = False,
    offer: Path | None = None,
) -> Room:
    """The room of one run of `notebook`: `inputs` below /kaggle/input, and in `scratch` whatever nobody keeps.

    `offer` is a folder of packages that stands in for the package index: what a notebook with internet installs.
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
        Mount(folders["tmp"], "/tmp", writable=True),  # noqa: S108  the room's own
        *(_offered(offer) if offer else ()),
    )
    return Room(
        mounts=mounts,
        working_bytes=working_bytes,
        environment=_environment(image, hidden=hidden, offered=offer is not None),
        workdir="/kaggle/working",
    )


def _offered(offer: Path) -> tuple[Mount, ...]:
    """The packages, and uv, which Kaggle's image has on its path."""
    return Mount(offer, _OFFER), Mount(Path(uv_program()), f"{_PROGRAMS}/uv")


def _environment(image: Image, *, hidden: bool, offered: bool) -> dict[str, str]:
    """The variables of a Kaggle session that a notebook may look at, and a home of its own."""
    programs = f":{_PROGRAMS}" if offered else ""
    return {
        **offline_environment(),
        **({"UV_FIND_LINKS": _OFFER, "PIP_FIND_LINKS": _OFFER} if offered else {}),
        "PATH": f"{image.python.parent}{programs}:/usr/local/bin:/usr/bin:/bin",
        "HOME": "/tmp/home",  # noqa: S108  the room's own
        "TMPDIR": "/tmp",  # noqa: S108
        "LANG": "C.UTF-8",
        "KAGGLE_KERNEL_RUN_TYPE": "Batch",
        **({"KAGGLE_IS_COMPETITION_RERUN": "1"} if hidden else {}),
    }


@contextmanager
def room_folder() -> Iterator[Path]:
    """A folder on disk for what the sealed notebook writes, removed whatever happens."""
    base = user_cache() / "dryruns"
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
    """Whether the kit that made a room's folder still runs."""
    pid = folder.name.split("-")[0]
    return pid.isdigit() and Path(f"/proc/{pid}").exists()


def _retire(folder: Path) -> None:
    """Mark a room's folder as dead and remove it aside: a removal that is cut off is taken up by the next dry run."""
    dead = folder.with_name(f"dead-{folder.name.removeprefix('dead-')}")
    with contextlib.suppress(OSError):
        folder.replace(dead)
    remove_aside(dead)
