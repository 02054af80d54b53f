"""An environment from the package index, each file by its SHA-256: for notebooks that run with internet."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING

from kaggle_kit.child import child_environment
from kaggle_kit.errors import WheelhouseError
from kaggle_kit.runtime.install import UNPACKED, Clock, Installed, empty_environment, find_installer, run_installer
from kaggle_kit.runtime.permitted import session_environment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from kaggle_kit.runtime.install import Installer

_KEPT = {
    *("UV_DEFAULT_INDEX", "UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_OFFLINE"),
    *("UV_HTTP_TIMEOUT", "UV_HTTP_CONNECT_TIMEOUT", "UV_REQUEST_TIMEOUT", "UV_HTTP_RETRIES", "UV_CONCURRENT_DOWNLOADS"),
    *(
        "SSL_CLIENT_CERT",
        "UV_SYSTEM_CERTS",
        "UV_NATIVE_TLS",
        "UV_INSECURE_HOST",
        "UV_KEYRING_PROVIDER",
        "UV_CREDENTIALS_DIR",
    ),
    *("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX"),
    *("PIP_PROXY", "PIP_TIMEOUT", "PIP_DEFAULT_TIMEOUT", "PIP_RETRIES", "PIP_KEYRING_PROVIDER"),
    *("PIP_CERT", "PIP_CLIENT_CERT", "PIP_TRUSTED_HOST", "PIP_USE_FEATURE"),
}
"""Where packages are from and how the network is reached is the machine's business: uv's settings of these by its list
of environment variables, pip's by its general options (its use of the system's certificates is a "feature"). Any other
setting could contradict the hashes, as a file of constraints does."""
_KEPT_ALL = "UV_INDEX_"
"""Those of single indexes: who logs in there, and with what."""
_PIN_ANOTHER = "pin an image that has one of them (image, in kit.toml)"


def refuse_python(pythons: Sequence[str]) -> None:
    """Raise WheelhouseError where the running Python is none of `pythons` ("3.12"), for which the packages are."""
    running = f"{sys.version_info.major}.{sys.version_info.minor}"
    if running not in pythons:
        raise WheelhouseError(
            f"this is Python {running}, and the packages of this notebook are locked for {' and '.join(pythons)}; "
            f"pin an image with such a Python (image, in kit.toml)"
        )


def installed_bytes(download: int) -> int:
    """What `download` bytes of wheels take when they are installed, at most."""
    return int(download * UNPACKED)


def install_from_index(*, wheels: str, archives: str, scratch: Path, with_uv: bool = True) -> Installed:
    """Make `scratch`/env of `wheels` and `archives`: requirements, a line each, every one with its hashes.

    Nothing is resolved: what the lines name is all that is installed. Source archives are built with what is in the
    environment. Without `with_uv` pip does it, as it does where the image has no uv. Raises WheelhouseError with the
    installer's own last words: not offered, not reached, another hash.
    """
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    clock = Clock()
    with clock.step("prepare"):
        installer = find_installer(scratch, with_uv=with_uv, advice=_PIN_ANOTHER)
        python = empty_environment(installer, scratch)
    with clock.step("wheels"):
        _add(installer, python, wheels, ("--only-binary", ":all:"), scratch)
    if archives.strip():
        with clock.step("archives"):
            _add(installer, python, archives, ("--no-build-isolation",), scratch)
    shutil.rmtree(scratch / "uv-cache", ignore_errors=True)
    number = len([line for line in (wheels + "\n" + archives).splitlines() if line.strip()])
    return Installed(python, {}, installer.name, number, clock.seconds)


def _add(installer: Installer, python: Path, lines: str, options: Sequence[str], scratch: Path) -> None:
    requirements = scratch / "requirements.txt"
    requirements.write_text(lines + "\n", encoding="utf-8")
    fixed = [*options, "--require-hashes", "--no-deps", "--quiet", "-r", str(requirements)]
    if installer.name == "uv":
        command = [*installer.program, "pip", "install", "--python", str(python), *fixed]
    else:
        quiet = ["--no-compile", "--no-cache-dir", "--no-warn-conflicts", "--no-warn-script-location"]
        command = [*installer.program, "--python", str(python), "install", *quiet, *fixed]
    run_installer(command, scratch, _environment(python), advice=installer.advice)


def is_index_setting(name: str) -> bool:
    """Whether a variable tells an installer where packages are from, or how the network is reached."""
    return name in _KEPT or name.startswith(_KEPT_ALL)


def _environment(python: Path) -> Mapping[str, str]:
    kept = {name: value for name, value in os.environ.items() if is_index_setting(name)}
    # A build calls the environment's own programs.
    path = os.pathsep.join([str(python.parent), os.environ.get("PATH", os.defpath)])
    alone = {"PATH": path, "UV_NO_CONFIG": "1", "PIP_CONFIG_FILE": os.devnull}
    return session_environment(child_environment(kept | alone, network=True))
