"""The two of pip's settings that uv would need and does not read: where else to look, and which index.

Places and order as pip documents them (https://pip.pypa.io/en/stable/topics/configuration/): a variable
wins over the environment's own file, that over the user's, that over the machine's. A file that somebody else could
change stops the run.
"""

import configparser
import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

from kaggle_kit.owners import refuse_shared


def pip_find_links() -> tuple[str, ...]:
    """pip's find-links: addresses, or folders as absolute paths; empty where none is set."""
    return tuple(_absolute(link) for link in _setting("find-links").split())


def pip_index_url() -> str | None:
    """pip's index-url, None where none is set."""
    return _setting("index-url").strip() or None


def refuse_shared_settings(path: Path, *, whose: str) -> None:
    """Raise UsageError where somebody else could change `path`, a configuration file of pip or uv; OSError for none."""
    remedy = "It says where packages come from: take the right to write there from others (chmod go-w), or remove it"
    refuse_shared(path, what=f"{whose} configuration {path}", remedy=remedy)


def _setting(name: str) -> str:
    variable = f"PIP_{name.upper().replace('-', '_')}"
    if variable in os.environ:
        return os.environ[variable]
    for path in _files():
        if path.is_file():
            refuse_shared_settings(path, whose="pip's")
        parser = configparser.RawConfigParser()
        try:
            parser.read(path, encoding="utf-8")
        except (configparser.Error, OSError, UnicodeDecodeError):
            continue  # pip reports its own broken files; kit only looks for a hint in them
        if value := parser.get("global", name, fallback=""):
            return value
    return ""


def _files() -> list[Path]:
    """pip's configuration files, the strongest first."""
    named = os.environ.get("PIP_CONFIG_FILE")
    if named == os.devnull:
        return []
    home = Path.home()
    user = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    machine = (os.environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(os.pathsep)
    return [
        *([Path(named)] if named else []),
        Path(sys.prefix) / "pip.conf",
        user / "pip" / "pip.conf",
        home / ".pip" / "pip.conf",
        Path("/etc/pip.conf"),
        *(Path(folder) / "pip" / "pip.conf" for folder in machine),
    ]


def _absolute(link: str) -> str:
    # uv runs in a folder of its own, where a relative path would lead elsewhere.
    return link if urlsplit(link).scheme else str(Path(link).expanduser().resolve())
