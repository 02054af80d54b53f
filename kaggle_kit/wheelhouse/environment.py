"""An environment of this machine from a wheelhouse, kept in the user's cache: made once, used by many runs."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
from typing import TYPE_CHECKING

from kaggle_kit.errors import WheelhouseError
from kaggle_kit.files import user_cache, write_atomic
from kaggle_kit.runtime.install import environment_python, install
from kaggle_kit.runtime.manifest import KIT_WHEEL, MANIFEST, read_manifest

if TYPE_CHECKING:
    from pathlib import Path

_COMPLETE = ".complete"


def kit_wheel(wheelhouse: Path) -> Path:
    """The kit's own wheel in a wheelhouse, from which Python imports as it is. Raises WheelhouseError for none."""
    for entry in read_manifest(wheelhouse / MANIFEST).files:
        if entry.path.startswith(KIT_WHEEL):
            return wheelhouse / entry.path
    raise WheelhouseError(f"{wheelhouse} lacks the kit's own wheel; fetch the wheelhouse again")


def ready_environment(wheelhouse: Path, *, cache: Path | None = None) -> Path:
    """The Python of an environment that holds the engine of `wheelhouse`, made on first use.

    The kit's own wheel in it may be an older one: put `kit_wheel(wheelhouse)` before it on PYTHONPATH.
    One that was cut off is made anew; of two processes that need it at once one makes it while the other waits.
    Raises WheelhouseError where the wheelhouse is not whole, lies over an image's packages, or does not install.
    """
    manifest = read_manifest(wheelhouse / MANIFEST)
    if manifest.extra.get("mode") == "overlay":
        raise WheelhouseError(f"{wheelhouse} is an overlay over the packages of an image, which this machine has not")
    hashes = "".join(entry.sha256 for entry in manifest.files if not entry.path.startswith(KIT_WHEEL))
    key = hashlib.sha256(hashes.encode()).hexdigest()[:16]
    folder = (cache or user_cache()) / "environments" / key
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{key}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        mark = folder / _COMPLETE
        if not mark.is_file():
            shutil.rmtree(folder, ignore_errors=True)
            install(wheelhouse, scratch=folder)
            shutil.rmtree(folder / "uv-cache", ignore_errors=True)
            write_atomic(mark, "")
        return environment_python(folder)
