"""Environments of this machine from locks, kept in the user's cache: each made once, used by many runs.

The quantisers cannot share one with current transformers: `NAME.toml` says what is locked for each, and its lock lies
beside it. As a program (`python -m kaggle_kit.wheelhouse.environments`) this module makes these locks again.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from kaggle_kit.child import child_environment
from kaggle_kit.errors import WheelhouseError
from kaggle_kit.files import link_or_copy, make_once, user_cache, write_atomic
from kaggle_kit.runtime.install import environment_packages, environment_python, install
from kaggle_kit.runtime.manifest import KIT_WHEEL, MANIFEST, read_manifest
from kaggle_kit.targets import Target
from kaggle_kit.wheelhouse.fetch import Progress, fetch, is_cached, silent
from kaggle_kit.wheelhouse.folder import assemble
from kaggle_kit.wheelhouse.index import ask_archive, uv_environment, uv_program
from kaggle_kit.wheelhouse.lock import Lock, LockedWheel, lock_name, write_lock
from kaggle_kit.wheelhouse.resolve import Host, fitting_lock, resolve, this_host

_MOST_COMPILING = 1800.0


def ready_environment(
    wheelhouse: Path,
    *,
    cache: Path | None = None,
    say: Callable[[str], None] = lambda _sentence: None,
    archives: Sequence["SourceArchive"] = (),
) -> Path:
    """The Python of an environment that holds the engine of `wheelhouse`, made on first use; `say` is told so.

    `archives` are built and installed too, with the environment's own setuptools. The kit's own wheel in it may be an
    older one: put `kit_wheel(wheelhouse)` before it on PYTHONPATH. One that was cut off is made again; of two
    processes that need it at once one makes it while the other waits.
    Raises WheelhouseError if the wheelhouse is not whole, lies over an image's packages, or does not install.
    """
    manifest = read_manifest(wheelhouse / MANIFEST)
    if manifest.extra.get("mode") == "overlay":
        raise WheelhouseError(f"{wheelhouse} is an overlay over the packages of an image, which this machine has not")

    hashes = "".join(entry.sha256 for entry in manifest.files if not entry.path.startswith(KIT_WHEEL))
    key = hashlib.sha256(hashes.encode()).hexdigest()[:16]
    folder = (cache or user_cache()) / "environments" / key
    python = environment_python(folder)

    def make() -> None:
        say(f"installing the packages of {manifest.name}, once, in {folder}")
        shutil.rmtree(folder, ignore_errors=True)
        install(wheelhouse, scratch=folder)
        shutil.rmtree(folder / "uv-cache", ignore_errors=True)

    def compile_all() -> None:
        say(f"compiling the Python files of {manifest.name}, once")
        _compile(environment_packages(python))

    make_once(folder / ".complete", make)
    if archives:
        _add(archives, python, cache or user_cache())
    make_once(folder / ".compiled", compile_all)
    return python


def ready_bytecode(wheelhouse: Path, *, say: Callable[[str], None]) -> Path | None:
    """The packages of a `ready_environment` with their bytecode, for a sealed run that installs the same wheels.

    None if no such environment can be made: the run finds out why, and says it.
    """
    try:
        return environment_packages(ready_environment(wheelhouse, say=say))
    except WheelhouseError:
        return None


def _compile(packages: Path) -> None:
    """Keep the bytecode of all files: workers see an environment read-only, and each would compile what it imports.

    That takes 18 s of an engine's start of 30. The Python is kit's own, without the packages: one of them may bring
    a file that runs when a Python starts. Each bytecode has its source's hash, so that it serves wherever the same
    file is installed; what was compiled before goes by its time of change, and is compiled again. What cannot be
    compiled is left to whoever imports it.
    """
    command = [sys.executable, "-I", "-S", "-m", "compileall", "-f", "-q", "-j", "0"]
    command += ["--invalidation-mode", "checked-hash", str(packages)]
    with suppress(subprocess.TimeoutExpired):
        subprocess.run(command, env=child_environment(), capture_output=True, check=False, timeout=_MOST_COMPILING)


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
    resolved again. Archives are built with the environment's own setuptools, which the lock must hold, and are taken
    only with their SHA-256. Raises WheelhouseError if something cannot be had, or does not install.
    """
    cache = cache or user_cache()

    fitting = fitting_lock(target, lock, host=host or this_host())
    fetch(fitting.lock, cache=cache, progress=progress, urls=fitting.urls)
    wheelhouse = assemble(fitting.lock, cache=cache, out=cache / "wheelhouses" / target.name)
    return ready_environment(wheelhouse, cache=cache, archives=archives)


def _add(archives: Sequence[SourceArchive], python: Path, cache: Path) -> None:
    """Install `archives`, once: a mark beside the environment says which are in it."""
    text = "".join(f"{archive.requirement}\n" for archive in archives)
    folder = python.parents[2]

    def make() -> None:
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

    make_once(folder / f".archives-{hashlib.sha256(text.encode()).hexdigest()[:16]}", make)


def _first(folder: Path) -> str:
    return os.pathsep.join([str(folder), os.environ.get("PATH", os.defpath)])


_FOLDER = Path(__file__).parent
AUTOAWQ = SourceArchive(
    name="autoawq", version="0.2.9", sha256="f3397687118c7d23c769de0de05ff1dca8950a2644acbe1b6eb1399c691fe7ee"
)
"""AutoAWQ's last release, of May 2025; it is offered as a source archive only."""
ARCHIVES = {"autoawq": (AUTOAWQ,), "autoawq-cuda": (AUTOAWQ,), "llmcompressor": ()}
"""The environments by name, and what is in each besides the wheels of its lock."""


def notebook_quantizer(target: Target) -> str:
    """The environment in which a notebook on `target` quantises."""
    return "autoawq-cuda" if target.gpus else "autoawq"


def quantizer_target(name: str) -> Target:
    """What is locked."""
    body = tomllib.loads((_FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
    return Target.model_validate({"name": name} | body)


def quantizer_lock(name: str) -> Path:
    """Where the lock lies."""
    return _FOLDER / lock_name(name)


def quantizer_environment(name: str, *, progress: Progress = silent) -> Path:
    """The Python of a quantiser's environment, made on first use. Raises WheelhouseError if it cannot be had."""
    return own_environment(
        quantizer_target(name), lock=quantizer_lock(name), archives=ARCHIVES[name], progress=progress
    )


def main() -> None:
    """Make the locks again."""
    for name in ARCHIVES:
        write_lock(quantizer_lock(name), resolve(quantizer_target(name)).lock)


if __name__ == "__main__":
    main()


def ready_offer(
    lock: Lock,
    archives: Sequence[SourceArchive],
    *,
    cache: Path | None = None,
    urls: Mapping[str, str] | None = None,
    progress: Progress = silent,
) -> Path:
    """A folder with the wheels of `lock` and the archives, flat, as installers read a folder of links (`--find-links`).

    What is missing is fetched into `cache` (by default the user's), where the folder is kept. Raises WheelhouseError
    where a file cannot be had, or comes with another SHA-256.
    """
    cache = cache or user_cache()
    sources = [_archive(archive, cache) for archive in archives]
    whole = replace(lock, wheels=(*lock.wheels, *(file for file, _ in sources)))
    known = {file.file: url for file, url in sources if url}
    files = fetch(whole, cache=cache, urls={**(urls or {}), **known}, progress=progress)

    key = hashlib.sha256("\n".join(sorted(file.sha256 for file in whole.wheels)).encode()).hexdigest()[:16]
    folder = cache / "offers" / key
    if not folder.is_dir():
        _fill(folder, files)
    return folder


def _archive(archive: SourceArchive, cache: Path) -> tuple[LockedWheel, str]:
    """The archive as a file of a lock, and its address; none where the cache has it already, unchanged."""
    for path in (cache / "wheels" / archive.sha256).glob("*"):
        locked = _as_locked(archive, path.name, path.stat().st_size)
        if is_cached(cache, locked):
            return locked, ""
    url, file, size, sha256 = ask_archive(archive.name, archive.version)
    if sha256 != archive.sha256:
        raise WheelhouseError(
            f"the index offers {file} with SHA-256 {sha256}, and kit knows it with {archive.sha256}: do not use it"
        )
    return _as_locked(archive, file, size), url


def _as_locked(archive: SourceArchive, file: str, size: int) -> LockedWheel:
    return LockedWheel(name=archive.name, version=archive.version, file=file, sha256=archive.sha256, size=size)


def _fill(folder: Path, files: Mapping[str, Path]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        for name, path in files.items():
            link_or_copy(path, fresh / name)
        fresh.chmod(0o755)
        with suppress(OSError):  # another process was quicker
            fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
