"""The engine's own environment, made offline from the wheelhouse, in scratch space."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from kaggle_kit.errors import WheelhouseError
from kaggle_kit.runtime.manifest import MANIFEST, Manifest, read_manifest, verify_files

if TYPE_CHECKING:
    from collections.abc import Sequence

_UNPACKED = 3.5
"""Bytes installed for each byte of a wheel, at most: measured 2.6 for the local-cpu wheelhouse, 2.1 for a CUDA one."""


def install(wheelhouse: Path, *, scratch: Path) -> Path:
    """Make `scratch`/env from the wheels in `wheelhouse`, with no index; returns its Python.

    Every wheel's size and SHA-256 is checked first. Raises WheelhouseError where a wheel is missing or corrupt, the
    space does not suffice, or the installer fails (its own last words are in the message).
    """
    manifest = read_manifest(wheelhouse / MANIFEST)
    verify_files(wheelhouse, manifest)
    _check_space(manifest, scratch)
    scratch.mkdir(parents=True, exist_ok=True)
    uv = _uv(wheelhouse, manifest, scratch)
    env = scratch / "env"
    wheels = sorted(entry.path for entry in manifest.files if entry.path.endswith(".whl"))
    # uv clears only what is a whole environment; one that was interrupted may not be.
    shutil.rmtree(env, ignore_errors=True)
    _run(uv, ["venv", "--quiet", "--clear", "--python", sys.executable, str(env)], scratch)
    python = env / "bin" / "python"
    requirements = scratch / "requirements.txt"
    requirements.write_text("".join(f"{wheelhouse / name}\n" for name in wheels), encoding="utf-8")
    _run(
        uv,
        [
            "pip",
            "install",
            "--python",
            str(python),
            "--offline",
            "--no-index",
            "--no-deps",
            "-r",
            str(requirements),
        ],
        scratch,
    )
    return python


def _check_space(manifest: Manifest, scratch: Path) -> None:
    needed = int(sum(entry.size for entry in manifest.files) * _UNPACKED)
    scratch.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(scratch).free
    if free < needed:
        raise WheelhouseError(
            f"{scratch} has {free / 1e9:.1f} GB free, the environment needs about {needed / 1e9:.1f} GB; "
            f"free space there"
        )


def _uv(wheelhouse: Path, manifest: Manifest, scratch: Path) -> Path:
    """The installer: the wheelhouse's own `uv`, which is the one that was tested, else the image's."""
    for entry in manifest.files:
        name = Path(entry.path).name
        if name.startswith("uv-") and name.endswith(".whl"):
            with zipfile.ZipFile(wheelhouse / entry.path) as wheel:
                inside = [item for item in wheel.namelist() if item.endswith(".data/scripts/uv")]
                if not inside:
                    raise WheelhouseError(f"{name} in {wheelhouse} holds no uv program; lock the wheelhouse again")
                target = scratch / "uv"
                target.write_bytes(wheel.read(inside[0]))
            target.chmod(target.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
            return target
    if found := shutil.which("uv"):
        return Path(found)
    raise WheelhouseError(f"the wheelhouse {wheelhouse} holds no uv, and the image has none; lock it again")


def _run(uv: Path, arguments: Sequence[str], scratch: Path) -> None:
    """Run uv, cut off from any configuration of the image. Raises WheelhouseError with its last words."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("UV_", "PIP_", "PYTHON"))}
    environment = kept | {
        "UV_CACHE_DIR": str(scratch / "uv-cache"),
        "UV_NO_CONFIG": "1",
        "UV_NO_PROGRESS": "1",
    }
    try:
        done = subprocess.run(
            [str(uv), *arguments], env=environment, capture_output=True, text=True, errors="replace", check=False
        )
    except OSError as error:
        raise WheelhouseError(
            f"{uv} cannot be run here: {error.strerror}; lock the wheelhouse for this machine's kind"
        ) from error
    if done.returncode:
        words = "\n".join(done.stderr.strip().splitlines()[-12:])
        raise WheelhouseError(f"uv {arguments[0]} failed (exit code {done.returncode}):\n{words}")
