"""The seal `none`: the file tree of a room laid out under a folder, as read-only as links can make it."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from kaggle_kit.errors import SandboxError
from kaggle_kit.sandbox.seal_room import Mount, Room


def lay_out(room: Room, root: Path) -> None:
    """Make under `root` what the room has inside; a writable mount is a link to its folder.

    A read-only folder becomes a tree of real folders without write permission, whose files are links: nothing
    can be added or removed (but by root), yet a file's own permissions decide whether it can be overwritten.
    Raises SandboxError where `root` already holds something in the way.
    """
    try:
        for mount in room.ordered_mounts():
            if Path(mount.target).resolve() == mount.source:
                continue
            target = Path(f"{root}{mount.target}")
            target.parent.mkdir(parents=True, exist_ok=True)
            if mount.writable or mount.source.is_file():
                target.symlink_to(mount.source)
            else:
                _link_tree(mount, target)
        Path(f"{root}/kaggle/working").mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise SandboxError(
            f"{error.filename2 or error.filename} is in the way of the sandbox: give it an empty folder"
        ) from error


def _link_tree(mount: Mount, target: Path) -> None:
    target.mkdir(exist_ok=True)
    made = [target]
    for folder, folders, names in os.walk(mount.source, followlinks=True):
        here = target / Path(folder).relative_to(mount.source)
        for name in folders:
            (here / name).mkdir(exist_ok=True)
            made.append(here / name)
        for name in names:
            (here / name).symlink_to(Path(folder, name))
    for each in made:
        each.chmod(0o555)


def translate(room: Room, root: Path) -> dict[str, str]:
    """The room's environment with its paths as they are under `root`.

    Added are the offline switches, and KIT_KAGGLE_ROOT, which says where /kaggle is.
    """
    inside = {
        name: os.pathsep.join(room.outside(part, root) for part in value.split(os.pathsep))
        for name, value in room.environment.items()
    }
    return {**offline_environment(), **inside, "KIT_KAGGLE_ROOT": f"{root}/kaggle"}


def offline_environment() -> Mapping[str, str]:
    """Variables that make tools give up at once instead of waiting for a network that is not there."""
    dead = "http://127.0.0.1:9"
    proxies = {name: dead for each in ("http_proxy", "https_proxy", "all_proxy") for name in (each, each.upper())}
    switches = {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "UV_OFFLINE": "1",
    }
    return {**proxies, **switches, "PIP_NO_INDEX": "1", "no_proxy": "127.0.0.1,localhost"}


def remove_layout(folder: Path) -> None:
    """Delete what `lay_out` made: links, never what they lead to."""
    for each, folders, _ in os.walk(folder):
        for name in folders:
            path = Path(each, name)
            if not path.is_symlink():
                path.chmod(0o755)
    shutil.rmtree(folder, ignore_errors=True)
