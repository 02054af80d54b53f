"""The Python that kit runs on, as much of it as a sealed process needs to start it."""

from __future__ import annotations

import sys
from pathlib import Path

from kaggle_kit.sandbox.seal_room import Mount

_LIBRARY_FOLDERS = ("lib", "lib64")


def base_python() -> Path:
    """The interpreter that environments stand on; in an environment sys.executable is a link in it."""
    return Path(getattr(sys, "_base_executable", "") or sys.executable)


def python_mounts() -> tuple[Mount, ...]:
    """The read-only mounts of the base interpreter: its programs and its libraries, each at its own place.

    Nothing of what the system's own mounts bring already.
    """
    paths = dict.fromkeys(path for prefix in _prefixes() for path in installed_paths(prefix))
    return tuple(Mount(path, str(path)) for path in paths)


def installed_paths(prefix: Path) -> list[Path]:
    """What a Python that is installed at `prefix` needs: its programs, its libraries, and nothing else that lies there.

    The folder may be the user's home, or one that holds more of the user than a Python, such as ~/.local.
    """
    programs = [path for path in sorted((prefix / "bin").glob("python*")) if path.is_file()]
    return programs + [path for name in _LIBRARY_FOLDERS if (path := prefix / name).is_dir()]


def _prefixes() -> list[Path]:
    """The folders of the installation, as an environment knows them and as they are if a link is on the way."""
    places = (Path(sys.base_prefix), Path(sys.base_exec_prefix), base_python().resolve().parent.parent)
    found = dict.fromkeys(path for place in places for path in (place.absolute(), place.resolve()))
    return [path for path in found if path != Path("/") and not path.is_relative_to("/usr")]
