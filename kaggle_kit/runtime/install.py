"""The engine's own environment, made offline from the wheelhouse, in scratch space.

A wheelhouse is one folder (as `kit wheels fetch` makes it) or several parts (as `kit wheels dataset` does). Its
manifests may say: `pythons`, the Pythons it serves; `only`, the wheels that are for some of them; `true_names`, what a
file is called that Kaggle shows under another name; `mode`, "overlay" if the wheels lie over the image's packages;
`installed_bytes` by Python; `parts` and `engine_manifest`, which tie the parts to each other.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from kaggle_kit.child import child_environment
from kaggle_kit.errors import WheelhouseError
from kaggle_kit.files import sha256_file
from kaggle_kit.runtime.manifest import MANIFEST, FileEntry, Manifest, kaggle_path, read_manifest, verify_files
from kaggle_kit.runtime.permitted import session_environment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


UNPACKED = 3.5
"""Bytes installed for each byte of a wheel, at most: measured 2.6 for the local-cpu wheelhouse, 2.1 for a CUDA one."""
BYTECODE = "KIT_BYTECODE"
"""The variable that names a folder with the packages that are installed, and their bytecode. A dry run has it."""
_EARLIER = ("env", "overlay", "uv-cache")
"""What an earlier install left in scratch, in the order in which it is removed if space is short: what uv unpacked
serves another install of the same wheels."""
_CACHED = "__pycache__"
_LAST_LINES = 12
_LOCK_AGAIN = "lock the wheelhouse again with uv in it"


@dataclass(frozen=True)
class Wheel:
    """One wheel to install: the file, and the name that it must have for an installer."""

    path: Path
    name: str


@dataclass(frozen=True)
class Installed:
    """An environment: its Python, the variables that it needs, who made it ("uv", "pip"), and seconds by step."""

    python: Path
    environment: Mapping[str, str]
    installer: str
    wheels: int
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class Installer:
    """What installs: "uv" or "pip", the words that start it, and what to do if it does not run."""

    name: str
    program: tuple[str, ...]
    advice: str


@dataclass
class Clock:
    """Seconds by step."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time a step."""
        since = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = round(time.monotonic() - since, 3)


def install(wheelhouse: Path | Sequence[Path], *, scratch: Path) -> Path:
    """The Python of `install_engine`."""
    return install_engine(wheelhouse, scratch=scratch).python


def install_engine(wheelhouse: Path | Sequence[Path], *, scratch: Path, with_uv: bool = True) -> Installed:
    """Make `scratch`/env from the wheels in `wheelhouse` (its folder, or its parts), with no index.

    The wheels for the running Python are checked first, each by size and SHA-256. An overlay has no environment of its
    own: its packages go to `scratch`/overlay, and `environment` puts them before the image's. Without `with_uv` pip
    does it, as it does if no uv runs.
    Raises WheelhouseError if a part or a wheel is missing or corrupt, nothing is for this Python, the space does not
    suffice even without what an earlier install left there, or the installer fails (its own last words are in the
    message).
    """
    clock = Clock()
    folders = [wheelhouse] if isinstance(wheelhouse, Path) else list(wheelhouse)
    with clock.step("verify"):
        parts = _read_parts(folders)
        wheels = _checked(parts)
    _make_space(parts, scratch)
    with clock.step("prepare"):
        wheels = _with_true_names(wheels, scratch / "wheels")
        installer = find_installer(scratch, wheels, with_uv=with_uv, advice=_LOCK_AGAIN)
        requirements = scratch / "requirements.txt"
        requirements.write_text("".join(f"{wheel.path}\n" for wheel in wheels), encoding="utf-8")
        overlay = any(manifest.extra.get("mode") == "overlay" for _, manifest in parts)
        python = Path(sys.executable) if overlay else empty_environment(installer, scratch)
    with clock.step("install"):
        place = scratch / "overlay" if overlay else None
        _install(installer, requirements, python, scratch, place)
        _link_bytecode(place or environment_packages(python))
    environment = {"PYTHONPATH": str(place)} if place else {}
    return Installed(python, environment, installer.name, len(wheels), clock.seconds)


def _read_parts(folders: Sequence[Path]) -> list[tuple[Path, Manifest]]:
    """The folders with their manifests, checked to be parts of one wheelhouse."""
    parts = [(folder, read_manifest(folder / MANIFEST)) for folder in folders]
    for folder, manifest in parts:
        if manifest.kind != "wheelhouse":
            raise WheelhouseError(f"{folder} is the folder of a {manifest.kind}, not of a wheelhouse")
        if manifest.name != parts[0][1].name:
            raise WheelhouseError(
                f"{folder} is a part of the wheelhouse {manifest.name}, {parts[0][0]} one of {parts[0][1].name}; "
                f"attach the parts of one wheelhouse only"
            )

    by_part = {str(manifest.extra.get("part")): folder for folder, manifest in parts}
    for folder, manifest in parts:
        for part in _texts(manifest.extra.get("parts")):
            if part not in by_part:
                raise WheelhouseError(
                    f"the part {part!r} of the wheelhouse {manifest.name} is missing (found {folder}); attach its "
                    f"dataset to the notebook"
                )
        expected = manifest.extra.get("engine_manifest")
        if expected and (engine := by_part.get("engine")) and sha256_file(engine / MANIFEST) != expected:
            raise WheelhouseError(
                f"{folder} was made for another version of the wheelhouse {manifest.name} than {engine} holds; "
                f"upload both parts again, or attach the versions that belong together"
            )
    return parts


def _checked(parts: Sequence[tuple[Path, Manifest]]) -> list[Wheel]:
    """The wheels for the running Python, each of the right size and SHA-256; every other file of the right size."""
    checks = []
    wheels = []
    for folder, manifest in parts:
        true_names: Any = manifest.extra.get("true_names") or {}
        wanted = set(_for_this_python(manifest, folder))
        for entry in manifest.files:
            actual = _as_found(entry, folder)
            alone = replace(manifest, files=(actual,))
            checks.append(partial(verify_files, folder, alone, hashes=entry.path in wanted))
            if entry.path in wanted:
                name = str(true_names.get(entry.path, PurePosixPath(entry.path).name))
                if "/" in name or name in {"", ".", ".."}:
                    raise WheelhouseError(f"{folder / MANIFEST} gives {entry.path} the name {name!r}; do not use it")
                wheels.append(Wheel(folder / actual.path, name))

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # hashing lets other threads run
        for future in [pool.submit(check) for check in checks]:
            future.result()
    if not wheels:
        raise WheelhouseError(f"the wheelhouse {parts[0][1].name} in {parts[0][0]} holds no wheels; lock it again")
    return sorted(wheels, key=lambda wheel: wheel.name)


def _running_python() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _for_this_python(manifest: Manifest, folder: Path) -> list[str]:
    running = _running_python()
    pythons = _texts(manifest.extra.get("pythons"))
    if pythons and running not in pythons:
        raise WheelhouseError(
            f"this is Python {running}; the wheelhouse {manifest.name} in {folder} is for {', '.join(pythons)}. "
            f"Pin the image that it was made for, or lock it for this Python and upload it again"
        )
    only: Any = manifest.extra.get("only") or {}
    return [
        entry.path
        for entry in manifest.files
        if entry.path.endswith(".whl") and running in (_texts(only.get(entry.path)) or [running])
    ]


def _as_found(entry: FileEntry, folder: Path) -> FileEntry:
    """`entry` where its file is: under its own name, the one that Kaggle gave it, or without its sub-folder."""
    name = PurePosixPath(entry.path).name
    for path in (entry.path, kaggle_path(entry.path), name, kaggle_path(name)):
        if (folder / path).is_file():
            return replace(entry, path=path)
    return entry


def _make_space(parts: Sequence[tuple[Path, Manifest]], scratch: Path) -> None:
    needed = 0
    for _, manifest in parts:
        sizes: Any = manifest.extra.get("installed_bytes") or {}
        guess = int(sum(entry.size for entry in manifest.files) * UNPACKED)
        needed += int(sizes.get(_running_python(), guess))
    scratch.mkdir(parents=True, exist_ok=True)
    leftovers = [path for name in _EARLIER if (path := scratch / name).exists()]
    removed = ", now that the environment of an earlier run is removed from there" if leftovers else ""
    while (free := shutil.disk_usage(scratch).free) < needed and leftovers:
        shutil.rmtree(leftovers.pop(0), ignore_errors=True)
    if free < needed:
        raise WheelhouseError(
            f"{scratch} has {free / 1e9:.1f} GB free{removed}; the environment needs about "
            f"{needed / 1e9:.1f} GB: free space there"
        )


def _with_true_names(wheels: Sequence[Wheel], folder: Path) -> list[Wheel]:
    """The wheels, those with a name that no installer takes as symbolic links in `folder`."""
    shutil.rmtree(folder, ignore_errors=True)
    named = []
    for wheel in wheels:
        if wheel.path.name == wheel.name:
            named.append(wheel)
            continue
        folder.mkdir(parents=True, exist_ok=True)
        link = folder / wheel.name
        link.symlink_to(wheel.path.absolute())
        named.append(Wheel(link, wheel.name))
    return named


def find_installer(scratch: Path, wheels: Sequence[Wheel] = (), *, advice: str, with_uv: bool = True) -> Installer:
    """The wheelhouse's own uv, which is the one that was tested; else the image's uv; else the image's pip.

    `advice` ends the error's sentence. Raises WheelhouseError if none of these runs.
    """
    for wheel in wheels if with_uv else ():
        if wheel.name.startswith("uv-") and (program := _unpacked_uv(wheel, scratch / "uv")):
            return Installer("uv", (str(program),), advice)
    if with_uv and (uv := shutil.which("uv")) and _runs([uv, "--version"]):
        return Installer("uv", (uv,), advice)
    pip = (sys.executable, "-I", "-m", "pip")
    if _runs([*pip, "--version"]):
        return Installer("pip", pip, advice)
    raise WheelhouseError(f"there is no uv that runs here, and no pip; {advice}")


def _unpacked_uv(wheel: Wheel, target: Path) -> Path | None:
    """The uv program of a wheel, or None if the wheel holds none or it does not run here."""
    try:
        with zipfile.ZipFile(wheel.path) as archive:
            inside = [item for item in archive.namelist() if item.endswith(".data/scripts/uv")]
            if not inside:
                return None
            target.unlink(missing_ok=True)
            with archive.open(inside[0]) as source, target.open("wb") as stream:
                shutil.copyfileobj(source, stream)
    except zipfile.BadZipFile:
        return None
    target.chmod(target.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    return target if _runs([str(target), "--version"]) else None


def _runs(command: Sequence[str]) -> bool:
    try:
        done = subprocess.run(command, env=session_environment(), capture_output=True, check=False)
    except OSError:  # another machine's program, or a scratch folder in which nothing may be executed
        return False
    return done.returncode == 0


def empty_environment(installer: Installer, scratch: Path) -> Path:
    """A new `scratch`/env without packages; its Python."""
    env = scratch / "env"
    # uv clears only what is a whole environment; one that was interrupted may not be.
    shutil.rmtree(env, ignore_errors=True)
    if installer.name == "uv":
        command = [*installer.program, "venv", "--quiet", "--clear", "--python", sys.executable, str(env)]
    else:  # without pip: Kaggle's image has no ensurepip
        command = [sys.executable, "-I", "-m", "venv", "--without-pip", str(env)]
    _run(command, scratch, installer.advice)
    return environment_python(scratch)


def environment_python(scratch: Path) -> Path:
    """Where an install in `scratch` has its Python."""
    return scratch / "env" / "bin" / "python"


def _install(installer: Installer, requirements: Path, python: Path, scratch: Path, place: Path | None) -> None:
    where = ["--target", str(place)] if place else []
    if place:
        shutil.rmtree(place, ignore_errors=True)
    own = "--offline" if installer.name == "uv" else "--quiet"
    options = [own, "--no-index", "--no-deps", *where, "-r", str(requirements)]
    _run(_install_command(installer, python, options), scratch, installer.advice)


def environment_packages(python: Path) -> Path:
    """Where the packages of an environment lie that was made here."""
    return python.parents[1] / "lib" / f"python{_running_python()}" / "site-packages"


def _link_bytecode(packages: Path) -> None:
    """Let the packages take their bytecode from where KIT_BYTECODE says, if it does.

    It is checked against each source's hash when it is imported, and what does not fit is compiled as ever.
    """
    source = os.environ.get(BYTECODE)
    for folder, folders, _ in os.walk(source) if source else ():
        if _CACHED not in folders:
            continue
        folders.remove(_CACHED)
        target = packages / Path(folder).relative_to(str(source))
        if target.is_dir() and not (target / _CACHED).exists():
            (target / _CACHED).symlink_to(Path(folder, _CACHED))


def _install_command(installer: Installer, python: Path, options: Sequence[str]) -> list[str]:
    if installer.name == "uv":
        return [*installer.program, "pip", "install", "--python", str(python), *options]
    quiet = ["--no-compile", "--no-cache-dir", "--no-warn-conflicts", "--no-warn-script-location"]
    return [*installer.program, "--python", str(python), "install", *quiet, *options]


def _run(command: Sequence[str], scratch: Path, advice: str) -> None:
    """Run an installer, cut off from any configuration of the image. Raises WheelhouseError with its last words."""
    isolated = {"UV_NO_CONFIG": "1", "PIP_CONFIG_FILE": os.devnull}
    run_installer(command, scratch, session_environment(isolated), advice=advice)


def run_installer(command: Sequence[str], scratch: Path, environment: Mapping[str, str], *, advice: str) -> None:
    """Run an installer in `environment`, its caches in `scratch`.

    Raises WheelhouseError with its last words; with `advice` if it cannot be run at all.
    """
    environment = {
        **environment,
        "UV_CACHE_DIR": str(scratch / "uv-cache"),
        "UV_NO_PROGRESS": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    what = " ".join([Path(command[0]).name, *command[1:3]])
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace", check=False)
    except OSError as error:
        raise WheelhouseError(f"{what} cannot be run here: {error.strerror}; {advice}") from error
    if done.returncode:
        words = "\n".join((done.stderr.strip() or done.stdout.strip()).splitlines()[-_LAST_LINES:])
        raise WheelhouseError(f"{what} failed (exit code {done.returncode}):\n{words}")


def _texts(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, (list, tuple)) else []


_INDEX_SETTINGS = {
    *("UV_DEFAULT_INDEX", "UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_OFFLINE"),
    *("UV_HTTP_TIMEOUT", "UV_HTTP_CONNECT_TIMEOUT", "UV_REQUEST_TIMEOUT", "UV_HTTP_RETRIES", "UV_CONCURRENT_DOWNLOADS"),
    *("SSL_CLIENT_CERT", "UV_SYSTEM_CERTS", "UV_NATIVE_TLS"),
    *("UV_INSECURE_HOST", "UV_KEYRING_PROVIDER", "UV_CREDENTIALS_DIR"),
    *("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX"),
    *("PIP_PROXY", "PIP_TIMEOUT", "PIP_DEFAULT_TIMEOUT", "PIP_RETRIES", "PIP_KEYRING_PROVIDER"),
    *("PIP_CERT", "PIP_CLIENT_CERT", "PIP_TRUSTED_HOST", "PIP_USE_FEATURE"),
}
"""Where packages are from and how the network is reached is the machine's business: uv's settings of these by its list
of environment variables, pip's by its general options (its use of the system's certificates is a "feature"). Any other
setting could contradict the hashes, as a file of constraints does."""
_OF_SINGLE_INDEXES = "UV_INDEX_"
"""Who logs in at a single index, and with what."""
_PIN_ANOTHER = "pin an image that has one of them (image, in kit.toml)"


def refuse_python(pythons: Sequence[str]) -> None:
    """Raise WheelhouseError if the running Python is none of `pythons` ("3.12"), for which the packages are."""
    if _running_python() not in pythons:
        raise WheelhouseError(
            f"this is Python {_running_python()}, and the packages of this notebook are locked for "
            f"{' and '.join(pythons)}; pin an image with such a Python (image, in kit.toml)"
        )


def installed_bytes(download: int) -> int:
    """What `download` bytes of wheels take when they are installed, at most."""
    return int(download * UNPACKED)


def install_from_index(*, wheels: str, archives: str, scratch: Path, with_uv: bool = True) -> Installed:
    """Make `scratch`/env of `wheels` and `archives`: requirements, a line each, every one with its hashes.

    Nothing is resolved: what the lines name is all that is installed. Source archives are built with what is in the
    environment. Without `with_uv` pip does it, as it does if the image has no uv. Raises WheelhouseError with the
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
    number = sum(bool(line.strip()) for text in (wheels, archives) for line in text.splitlines())
    return Installed(python, {}, installer.name, number, clock.seconds)


def _add(installer: Installer, python: Path, lines: str, options: Sequence[str], scratch: Path) -> None:
    requirements = scratch / "requirements.txt"
    requirements.write_text(lines + "\n", encoding="utf-8")
    command = _install_command(
        installer, python, [*options, "--require-hashes", "--no-deps", "--quiet", "-r", str(requirements)]
    )
    run_installer(command, scratch, _index_environment(python), advice=installer.advice)


def is_index_setting(name: str) -> bool:
    """Whether a variable says where packages are from, or how the network is reached."""
    return name in _INDEX_SETTINGS or name.startswith(_OF_SINGLE_INDEXES)


def _index_environment(python: Path) -> Mapping[str, str]:
    settings = {name: value for name, value in os.environ.items() if is_index_setting(name)}
    # A build calls the environment's own programs.
    path = os.pathsep.join([str(python.parent), os.environ.get("PATH", os.defpath)])
    isolated = {"PATH": path, "UV_NO_CONFIG": "1", "PIP_CONFIG_FILE": os.devnull}
    return session_environment(child_environment(settings | isolated, network=True))
