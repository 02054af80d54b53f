"""An environment for a tool that cannot share one: wheels from a lock, and source archives by their hashes."""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kaggle_kit.errors import WheelhouseError
from kaggle_kit.files import user_cache, write_atomic
from kaggle_kit.wheelhouse.assemble import assemble
from kaggle_kit.wheelhouse.environment import ready_environment
from kaggle_kit.wheelhouse.fetch import Progress, fetch, silent
from kaggle_kit.wheelhouse.index import uv_program
from kaggle_kit.wheelhouse.ready import Host, fitting_lock, this_host
from kaggle_kit.wheelhouse.uv_settings import uv_environment

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from kaggle_kit.targets import Target

_LAST_LINES = 12


@dataclass(frozen=True, kw_only=True)
class SourceArchive:
    """A pure Python package that is offered without a wheel: its name, its version, the archive's SHA-256."""

    name: str
    version: str
    sha256: str

    @property
    def requirement(self) -> str:
        """As pip and uv read it."""
        return f"{self.name}=={self.version} --hash=sha256:{self.sha256}"


def own_environment(
    target: Target,
    *,
    lock: Path,
    archives: Sequence[SourceArchive] = (),
    cache: Path | None = None,
    host: Host | None = None,
    progress: Progress = silent,
) -> Path:
    """The Python of an environment with the wheels of `lock` and, without their dependencies, `archives`.

    It is made on first use and kept in the user's cache (or `cache`). For another Python than the lock's the target is
    resolved anew. Archives are built with the environment's own setuptools, which the lock must hold, and are taken
    only with their SHA-256. Raises WheelhouseError where something cannot be had, or does not install.
    """
    cache = cache or user_cache()
    fitting = fitting_lock(target, lock, host=host or this_host())
    fetch(fitting.lock, cache=cache, progress=progress, urls=fitting.urls)
    wheelhouse = assemble(fitting.lock, cache=cache, out=cache / "wheelhouses" / target.name)
    python = ready_environment(wheelhouse, cache=cache)
    if archives:
        _add(archives, python, cache)
    return python


def _add(archives: Sequence[SourceArchive], python: Path, cache: Path) -> None:
    """Install `archives`, once: a mark beside the environment says which are in it."""
    text = "".join(f"{archive.requirement}\n" for archive in archives)
    folder = python.parents[2]
    mark = folder / f".archives-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    with folder.with_name(f"{folder.name}.lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if mark.is_file():
            return
        requirements = folder / "archives.txt"
        write_atomic(requirements, text)
        command = [
            *(uv_program(), "pip", "install", "--python", str(python), "--quiet", "--no-progress", "--color", "never"),
            *("--no-deps", "--no-build-isolation", "--require-hashes", "-r", str(requirements)),
        ]
        environment = uv_environment() | {"UV_CACHE_DIR": str(cache / "uv"), "PATH": _first(python.parent)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            words = "\n".join(done.stderr.strip().splitlines()[-_LAST_LINES:])
            named = ", ".join(f"{archive.name} {archive.version}" for archive in archives)
            raise WheelhouseError(
                f"{named} cannot be installed:\n{words}\nTry again where the package index is reached"
            )
        write_atomic(mark, text)


def _first(folder: Path) -> str:
    return os.pathsep.join([str(folder), os.environ.get("PATH", os.defpath)])
