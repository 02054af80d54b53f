"""git, started without believing what any configuration says; and the commit that a project stands at.

A repository's configuration can name programs: for the file monitor, hooks, filters, a pager and more, and git starts
them. So every git here gets a fixed environment, in which no configuration but kit's own counts. HEAD is read as text;
only whether files differ from it is git's to say, and git is given a folder of kit's own for the repository, with an
empty configuration: of the project's it sees the objects and the index.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kaggle_kit.child import child_environment
from kaggle_kit.errors import OutsideError
from kaggle_kit.outside import MEGA, read_text

if TYPE_CHECKING:
    from collections.abc import Mapping

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_REFERENCE = re.compile(r"refs/(?!.*\.\.)[^\x00-\x20\x7f~^:?*\[\\]+")
_SECONDS = 20
_TEXT_BYTES = 4096
_PACKED_BYTES = 64 * MEGA
_INDEX_BYTES = 256 * MEGA
_MOST_STEPS = 5
_STATUS = ("--porcelain", "--untracked-files=no", "--ignore-submodules=all", "-z")
_OFF = (
    *("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "core.untrackedCache=false"),
    *("-c", "core.fileMode=false", "-c", "core.pager=cat", "-c", "safe.bareRepository=explicit", "--no-pager"),
)


def run_git(
    *arguments: str, home: Path, added: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[bytes] | None:
    """What git answers in a fixed environment, with `home` as its home; None if git is missing or does not end.

    Without `added`, which may name a repository, it finds none, wherever it is started.
    """
    git = shutil.which("git", path=_search_path())
    if git is None:
        return None

    fixed = {
        "GIT_DIR": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ALLOW_PROTOCOL": "",
        "HOME": str(home),
    }
    try:
        return subprocess.run(
            [git, *_OFF, *arguments],
            env=child_environment(fixed | dict(added or {})),
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None


@dataclass(frozen=True)
class _Repository:
    """A repository on the disk: the top of its files, its own folder, and the one that work trees share."""

    top: Path
    own: Path
    common: Path


def project_commit(root: Path) -> str | None:
    """The commit of the repository that the folder `root` stands in, 40 or 64 hex digits; None if there is none.

    A + after it: tracked files differ from it. A ?: that could not be found out.
    """
    repository = _find(root.resolve())
    head = _head(repository) if repository else None
    if repository is None or head is None:
        return None
    differs = _differs(repository, head)
    return f"{head}{'?' if differs is None else '+' if differs else ''}"


def _find(root: Path) -> _Repository | None:
    """The nearest `.git` at or above `root`; a folder that only looks like a bare repository is none."""
    for folder in (root, *root.parents):
        if os.path.lexists(folder / ".git"):
            return _repository(folder)
    return None


def _repository(top: Path) -> _Repository | None:
    git = top / ".git"
    if git.is_dir():
        return _Repository(top, git, git)

    named = _line(git)
    own = Path(os.path.normpath(top / named.removeprefix("gitdir: "))) if named.startswith("gitdir: ") else None
    if own is None or not own.is_dir():
        return None

    # A work tree's folder in the main repository names the work tree in its turn.
    if shared := _line(own / "commondir"):
        back = own / _line(own / "gitdir")
        return _Repository(top, own, own / shared) if back.resolve() == git.resolve() else None

    # A submodule's lies in the repository around it.
    around = any(own.is_relative_to(folder / ".git" / "modules") for folder in top.parents)
    return _Repository(top, own, own) if around else None


def _line(path: Path) -> str:
    """The one line of a small file; "" where there is none."""
    try:
        return read_text(path, most_bytes=_TEXT_BYTES).rstrip("\r\n")
    except OutsideError:
        return ""


def _head(repository: _Repository) -> str | None:
    """The commit that HEAD names, by itself or through references."""
    text = _line(repository.own / "HEAD")
    for _ in range(_MOST_STEPS):
        if _COMMIT.fullmatch(text):
            return text
        name = text.removeprefix("ref: ").strip()
        if not text.startswith("ref: ") or not _REFERENCE.fullmatch(name):
            return None
        text = _line(repository.common / name) or _packed(repository.common, name)
    return None


def _packed(common: Path, name: str) -> str:
    try:
        lines = read_text(common / "packed-refs", most_bytes=_PACKED_BYTES).splitlines()
    except OutsideError:
        return ""
    return next((line.split(" ", 1)[0] for line in lines if line.endswith(f" {name}")), "")


def _differs(repository: _Repository, head: str) -> bool | None:
    """Whether tracked files differ from the commit `head`; None if git is not here, or cannot say."""
    index, objects = repository.own / "index", repository.common / "objects"
    if index.is_symlink() or not index.is_file() or not objects.is_dir() or index.stat().st_size > _INDEX_BYTES:
        return None

    with tempfile.TemporaryDirectory(prefix="kit-git-") as scratch:
        places = {
            "GIT_DIR": str(_stand_in(Path(scratch), head)),
            "GIT_WORK_TREE": str(repository.top),
            "GIT_INDEX_FILE": str(index),
            "GIT_OBJECT_DIRECTORY": str(objects),
        }
        done = run_git("status", *_STATUS, home=Path(scratch), added=places)
    return bool(done.stdout) if done and done.returncode == 0 else None


def _stand_in(folder: Path, head: str) -> Path:
    """A repository's folder of kit's own at the commit `head`, with nothing else to say."""
    (folder / "refs").mkdir()
    (folder / "objects").mkdir()
    (folder / "HEAD").write_text(f"{head}\n", encoding="ascii")

    kind = "[core]\n\trepositoryformatversion = 0\n\tbare = false\n"
    if len(head) == 64:
        kind = "[core]\n\trepositoryformatversion = 1\n\tbare = false\n[extensions]\n\tobjectformat = sha256\n"
    (folder / "config").write_text(kind, encoding="ascii")
    return folder


def _search_path() -> str:
    """PATH without folders that are relative, such as the one that the command stands in."""
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return os.pathsep.join(folder for folder in folders if Path(folder).is_absolute())
