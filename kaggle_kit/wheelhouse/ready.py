"""The one call of those who need a wheelhouse on this machine: whatever is missing is made."""

import hashlib
import platform
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kaggle_kit.errors import WheelhouseError
from kaggle_kit.files import user_cache
from kaggle_kit.targets import Target
from kaggle_kit.wheelhouse.assemble import assemble, wheelhouse_path
from kaggle_kit.wheelhouse.fetch import Progress, fetch, silent
from kaggle_kit.wheelhouse.lock import Lock, lock_name, lock_path, read_lock, write_lock
from kaggle_kit.wheelhouse.resolve import resolve
from kaggle_kit.wheelhouse.tags import best_wheel, number_pair, target_tags


@dataclass(frozen=True, kw_only=True)
class Host:
    """The machine that will install: Python ("3.12"), processor ("x86_64"), glibc ("2.36"; None: unknown)."""

    python: str
    machine: str
    glibc: str | None


@dataclass(frozen=True, kw_only=True)
class Wheelhouse:
    """A folder that is whole, the lock it was made from, and what the user should know of it, if anything."""

    folder: Path
    lock: Lock
    note: str | None


def this_host() -> Host:
    """The machine and the Python that run now."""
    name, version = platform.libc_ver()
    return Host(
        python=f"{sys.version_info.major}.{sys.version_info.minor}",
        machine=platform.machine(),
        glibc=version if name == "glibc" else None,
    )


def ready_wheelhouse(
    target: Target, *, project: Path, host: Host | None = None, progress: Progress = silent
) -> Wheelhouse:
    """The wheelhouse of `target`, fit for `host` (None: this machine); what is missing is fetched.

    The project's lock is used where it fits; where `host` has another Python, processor or an older glibc,
    the target is resolved anew, once, into the user's cache, and the note says so.
    Raises WheelhouseError: no lock, a lock made for another engine, or anything that keeps the files away.
    """
    path = lock_path(project, target.name)
    fitting = fitting_lock(target, path, host=host or this_host())
    fetch(fitting.lock, cache=user_cache(), progress=progress, urls=fitting.urls)
    own = fitting.path != path
    out = (
        user_cache() / "wheelhouses" / fitting.path.stem.removeprefix("pylock.")
        if own
        else wheelhouse_path(project, target.name)
    )
    folder = assemble(fitting.lock, cache=user_cache(), out=out)
    return Wheelhouse(folder=folder, lock=fitting.lock, note=fitting.note)


@dataclass(frozen=True, kw_only=True)
class FittingLock:
    """A lock that serves a machine: its file, the addresses that are known, and why it is not the one asked for."""

    lock: Lock
    path: Path
    urls: Mapping[str, str]
    note: str | None


def fitting_lock(target: Target, path: Path, *, host: Host) -> FittingLock:
    """The lock of `target` in `path` where it fits `host`, else one resolved anew, once, into the user's cache.

    Raises WheelhouseError: no lock there, or one that was made for another engine.
    """
    locked = read_lock(path)
    refuse_old_lock(locked, target, path=path)
    reason = _misfit(locked, host)
    if reason is None:
        return FittingLock(lock=locked, path=path, urls={}, note=None)
    own, lock, urls = _own_lock(target, host)
    return FittingLock(lock=lock, path=own, urls=urls, note=f"{reason}: resolved anew into {own}")


def refuse_old_lock(lock: Lock, target: Target, *, path: Path) -> None:
    """Raise WheelhouseError where `lock`, read from `path`, is not for what `target` asks now."""
    asked = {
        "target": target.name,
        "pythons": target.pythons,
        "machine": target.machine,
        "glibc": target.glibc,
        "engine": lock.engine if lock.engine_given else target.engine,
        "extras": target.extras,
        "exclude": target.exclude,
        "torch_backend": target.torch_backend,
    }
    for key, now in asked.items():
        if (then := getattr(lock, key)) != now:
            raise WheelhouseError(
                f"{path} was made for {key} {_said(then)}, the target {target.name} now says {_said(now)}. "
                f"Make it anew with: kit wheels lock --target {target.name}"
            )


def _said(value: object) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)


def _misfit(lock: Lock, host: Host) -> str | None:
    """Why `lock` does not serve `host`, as the first half of a sentence; None where it does."""
    if host.python not in lock.pythons:
        return f"Python {host.python} here, the lock is for {' and '.join(lock.pythons)}"
    if host.machine != lock.machine:
        return f"{host.machine} here, the lock is for {lock.machine}"
    if host.glibc is None or number_pair(host.glibc, what="glibc version") >= number_pair(
        lock.glibc, what="glibc version"
    ):
        return None
    tags = target_tags(python=host.python, glibc=host.glibc, machine=host.machine)
    for wheel in lock.wheels_for(host.python):
        if best_wheel([wheel.file], tags) is None:
            return f"glibc {host.glibc} here, and the lock's {wheel.file} needs a newer one"
    return None


def _own_lock(target: Target, host: Host) -> tuple[Path, Lock, Mapping[str, str]]:
    """The lock of `target` for `host` in the user's cache, made where it is not there yet."""
    glibc = _older(target.glibc, host.glibc) if host.glibc else target.glibc
    question = repr((target.engine, target.extras, target.exclude, target.torch_backend, glibc))
    key = hashlib.sha256(question.encode()).hexdigest()[:12]
    path = user_cache() / "locks" / lock_name(f"{target.name}-py{host.python.replace('.', '')}-{host.machine}-{key}")
    if path.is_file():
        with suppress(WheelhouseError):  # a lock of the cache that cannot be read is made again
            return path, read_lock(path), {}
    made = resolve(target, python=host.python, machine=host.machine, glibc=glibc)
    write_lock(path, made.lock)
    return path, made.lock, made.urls


def _older(one: str, other: str) -> str:
    return min(one, other, key=lambda text: number_pair(text, what="glibc version"))
