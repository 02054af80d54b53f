"""The environment in which kit calls uv: where packages come from is this user's and this machine's business alone.

Left to itself uv also obeys a uv.toml or pyproject.toml in the working folder and in every folder above it, /tmp among
them, where anybody may put one; and variables that replace versions. Here it reads the user's and the machine's own
files, which nobody else can write, and of the variables those that say where the index is and how it is reached.
"""

import json
import os
import tomllib
from pathlib import Path
from typing import Any

from kaggle_kit.child import child_environment
from kaggle_kit.files import user_cache, write_atomic
from kaggle_kit.runtime.install import is_index_setting
from kaggle_kit.wheelhouse.download import certificates
from kaggle_kit.wheelhouse.pip_settings import pip_index_url, refuse_shared_settings

_KEPT = {
    "UV_EXCLUDE_NEWER",  # whoever set it wants nothing newer
    "SSL_CLIENT_CERT",
    # Where uv and keyring find logins of an index.
    *("XDG_DATA_HOME", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"),
}


def uv_environment() -> dict[str, str]:
    """What uv is given: this user's index, certificates and proxies, pip's where uv has none; and kit's own cache.

    Raises UsageError where somebody else could change a configuration file, or the cache.
    """
    environment = child_environment(network=True)
    environment |= {name: value for name, value in os.environ.items() if name in _KEPT or is_index_setting(name)}
    environment |= {"UV_NO_CONFIG": "1", "UV_CACHE_DIR": str(user_cache() / "uv")}
    if isinstance(bundle := certificates(), str):
        environment["SSL_CERT_FILE"] = bundle
    if configuration := _configuration():
        environment["UV_CONFIG_FILE"] = str(configuration)
    if not environment.keys() & {"UV_DEFAULT_INDEX", "UV_INDEX_URL"} and (index := pip_index_url()):
        environment["UV_DEFAULT_INDEX"] = index
    return environment


def local_uv_environment() -> dict[str, str]:
    """What uv is given for a question about this machine: no setting of anybody, and no network."""
    kept = {name: value for name, value in os.environ.items() if name == "XDG_DATA_HOME"}
    return child_environment(kept | {"UV_NO_CONFIG": "1", "UV_OFFLINE": "1", "UV_CACHE_DIR": str(user_cache() / "uv")})


def _configuration() -> Path | None:
    """The one file that uv is to read: the named one; else the user's, over the machine's where both are there."""
    if named := os.environ.get("UV_CONFIG_FILE"):
        path = Path(named).absolute()
        if path.exists():  # else uv says so
            refuse_shared_settings(path, whose="uv's")
        return path
    if os.environ.get("UV_NO_CONFIG", "").lower() not in {"", "0", "false", "no", "off", "n", "f"}:
        return None
    found = [path for path in (_users_file(), _machines_file()) if path]
    for path in found:
        refuse_shared_settings(path, whose="uv's")
    return _merged(*found) if len(found) == 2 else next(iter(found), None)


def _users_file() -> Path | None:
    base = os.environ.get("XDG_CONFIG_HOME")
    path = (Path(base) if base else Path.home() / ".config") / "uv" / "uv.toml"
    return path if path.is_file() else None


def _machines_file() -> Path | None:
    folders = (os.environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(os.pathsep)
    places = [*(Path(folder) / "uv" / "uv.toml" for folder in folders if folder), Path("/etc/uv/uv.toml")]
    return next((path for path in places if path.is_file()), None)


def _merged(user: Path, machine: Path) -> Path:
    """Both as one file, as uv itself joins them: of two values the user's, of two lists both, the user's first."""
    both = []
    for path in (user, machine):
        try:
            both.append(tomllib.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return path  # uv says what is wrong with it
    merged = _joined(*both)
    written = user_cache() / "uv.toml"
    write_atomic(written, "".join(f"{json.dumps(key)} = {_toml(value)}\n" for key, value in merged.items()))
    return written


def _joined(user: Any, machine: Any) -> Any:
    if isinstance(user, dict) and isinstance(machine, dict):
        shared = {key: _joined(user[key], machine[key]) for key in user.keys() & machine.keys()}
        return machine | user | shared
    if isinstance(user, list) and isinstance(machine, list):
        return user + machine
    return user


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False, default=str)
