"""Which places a project may use: those below its folder, and those outside that its user has allowed.

A project may be a stranger's. A path that it names, and a link in it, could lead to any file of the user's; so one that
leaves its folder is refused, unless `outside` of its kit.toml lists the folder that it leads to, and the user has
allowed that folder for this project on this machine (`kit allow`). What was allowed is kept in the user's own
configuration, which no project can write.
"""

from __future__ import annotations

import json
import os
import shlex
import stat
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import OutsideError, ProjectError
from kaggle_kit.files import user_config, write_atomic
from kaggle_kit.outside import read_json, read_toml
from kaggle_kit.owners import own_folder, refuse_shared

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

CONFIG = "kit.toml"
KEY = "outside"
"""The key of kit.toml that lists folders outside of the project."""
_CONFIG_BYTES = 1 << 20
_VERSION = 1


def inside(root: Path, path: str | Path, *, key: str = "") -> Path:
    """The place `path`, below the project's folder `root` or absolute; it need not be there.

    `key` is the key of kit.toml that names it. Raises ProjectError where it leads, by itself or through a link, to a
    place that is neither below `root` nor in a folder that kit.toml lists and the user has allowed.
    """
    return _checked(root, path, key, usable=lambda: _usable(root))


def inside_whole(root: Path, path: str | Path, *, key: str = "") -> Path:
    """`inside`, for a folder and all that is in it.

    Raises ProjectError also for a link in it that leads outside, and for a pipe, a socket or a device: whoever opens
    one may wait for ever.
    """
    usable = cache(lambda: _usable(root))
    place = _checked(root, path, key, usable=usable)
    if place.exists() and not place.is_dir() and not place.is_file():
        raise ProjectError(f"{_named(root, path, key)} is neither a file nor a folder: name another place")
    for entry in _below(place) if place.is_dir() else ():
        if entry.is_symlink():
            _checked(root, entry.path, "", usable=usable)
        mode = _mode(entry)
        if mode and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise ProjectError(f"{entry.path} is neither a file nor a folder: remove it")
    return place


def is_outside(root: Path, path: Path) -> bool:
    """Whether `path` leads out of the project's folder."""
    return not path.resolve().is_relative_to(root.resolve())


def read_config(root: Path) -> dict[str, Any]:
    """`root`/kit.toml as a table. Raises ProjectError where it is missing, is no TOML, or a link out of the project."""
    path = root / CONFIG
    if not os.path.lexists(path):
        raise ProjectError(f"{path} is missing: a project is a folder with a {CONFIG}")
    real = path.resolve()
    if not real.is_relative_to(root.resolve()):
        raise ProjectError(f"{path} is a link to {real}, outside of the project: put the file itself there")
    try:
        return read_toml(path, most_bytes=_CONFIG_BYTES, follow=True)
    except OutsideError as error:
        raise ProjectError(str(error)) from error


def asked(root: Path) -> dict[str, Path]:
    """The folders outside of the project that its kit.toml lists: as written → absolute, links followed.

    A project without kit.toml asks for none. Raises ProjectError where the key is no list of folders' names.
    """
    if not os.path.lexists(root / CONFIG):
        return {}
    listed = read_config(root).get(KEY, [])
    if not isinstance(listed, list) or not all(isinstance(path, str) and path and "\0" not in path for path in listed):
        raise ProjectError(f'{root / CONFIG}: {KEY} = {listed!r} must be a list of folders, like ["../models"]')
    try:
        return {written: (root / Path(written).expanduser()).resolve() for written in listed}
    except (OSError, RuntimeError) as error:
        raise ProjectError(f"{root / CONFIG}: {KEY} = {listed!r} leads nowhere ({error})") from None


def allowed(root: Path) -> frozenset[Path]:
    """The folders outside that the user has allowed for this project. Raises ProjectError for a damaged list."""
    return frozenset(map(Path, _read_list().get(str(root.resolve()), ())))


def allow(root: Path, folders: Iterable[Path]) -> None:
    """Allow `folders` (absolute, links followed), and no others, for this project; none at all takes it from the list.

    Raises ProjectError where the list is damaged, OSError where it cannot be written.
    """
    projects = {name: places for name, places in _read_list().items() if name != str(root.resolve())}
    if chosen := sorted(map(str, folders)):
        projects[str(root.resolve())] = chosen
    body = {"version": _VERSION, "projects": projects}
    own_folder(user_config(), what="the folder of kit's settings", remedy="Set KIT_CONFIG_DIR to a folder of your own.")
    write_atomic(_list_path(), json.dumps(body, indent=1, sort_keys=True) + "\n")


def _list_path() -> Path:
    return user_config() / "allowed.json"


def _read_list() -> dict[str, list[str]]:
    path = _list_path()
    if not os.path.lexists(path):
        return {}
    refuse_shared(path, what=f"the list of what you have allowed {path}", remedy="Delete it, and allow anew.")
    try:
        body = read_json(path, follow=True)
    except OutsideError as error:
        raise ProjectError(f"{error}; or delete it, and allow the folders again with: kit allow") from error
    projects = body.get("projects") if isinstance(body, dict) and body.get("version") == _VERSION else None
    if not isinstance(projects, dict) or not all(isinstance(places, list) for places in projects.values()):
        raise ProjectError(f"{path} is no list of kit: delete it, and allow the folders again with: kit allow")
    return {str(name): [str(place) for place in places] for name, places in projects.items()}


def homes(root: Path) -> tuple[Path, ...]:
    """All folders below which the project's files may lie, links followed: its own, and those that are allowed."""
    return (root.resolve(), *sorted(_usable(root)))


def _usable(root: Path) -> frozenset[Path]:
    """The folders outside that kit.toml lists and the user has allowed."""
    listed = asked(root).values()
    return allowed(root).intersection(listed) if listed else frozenset()


def _checked(root: Path, path: str | Path, key: str, *, usable: Callable[[], frozenset[Path]]) -> Path:
    if key and str(path).startswith("~"):
        raise ProjectError(f"{_named(root, path, key)}: ~ is not a home folder here; write the whole path")
    try:
        place = root / path
        real, home = place.resolve(), root.resolve()
    except (OSError, RuntimeError, ValueError) as error:  # links in a circle; a NUL in the name
        raise ProjectError(f"{_named(root, path, key)} leads nowhere ({error}); name another place") from None
    if real.is_relative_to(home) or any(real.is_relative_to(folder) for folder in usable()):
        return place
    raise ProjectError(_refusal(root, path, real, key))


def _refusal(root: Path, path: str | Path, real: Path, key: str) -> str:
    """Why a place outside is refused, and the way to have it."""
    link = _first_link(root, root / path)
    by = f" (by the link {link})" if link and link != root / path else ""
    way = f"{_named(root, path, key)} {'is a link' if link == root / path else 'leads'} to {real}{by}"
    for written, folder in asked(root).items():
        if real.is_relative_to(folder):
            return (
                f"{way}, outside of the project. {CONFIG} asks for {folder} there, and you have not allowed it on this "
                f"machine: look what it is, then allow it with: kit allow {shlex.quote(written)}"
            )
    base = link.resolve() if link else real
    folder = base if base.is_dir() else base.parent
    return (
        f"{way}, outside of the project: put it into the project, or list its folder at the top of {CONFIG}, "
        f'{KEY} = ["{folder}"], and allow that with: kit allow {shlex.quote(str(folder))}'
    )


def _named(root: Path, path: str | Path, key: str) -> str:
    return (
        f"{root / CONFIG}: {key} = {str(path)!r}" if key and not Path(path).is_relative_to(root) else str(root / path)
    )


def _first_link(root: Path, place: Path) -> Path | None:
    """The first link on the way from the project's folder to `place` that leads out of it; None where none does."""
    home = root.resolve()
    way = [step for step in (*reversed(place.parents), place) if step != root and step.is_relative_to(root)]
    return next((step for step in way if step.is_symlink() and not step.resolve().is_relative_to(home)), None)


def _below(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Everything below `folder`, links not followed. Raises ProjectError where a folder cannot be read."""
    left = [str(folder)]
    while left:
        try:
            with os.scandir(left.pop()) as scan:
                entries = list(scan)
        except OSError as error:
            raise ProjectError(f"{error.filename} cannot be read: {error.strerror}") from error
        for entry in entries:
            yield entry
            if entry.is_dir(follow_symlinks=False):
                left.append(entry.path)


def _mode(entry: os.DirEntry[str]) -> int:
    """The mode of what an entry is, or leads to; 0 for a link to nothing."""
    try:
        return entry.stat().st_mode
    except OSError:
        return 0
