"""Files that are either the old one or the new one, never half of one; and their hashes."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kaggle_kit.child import child_environment

_CHUNK_BYTES = 1 << 20
_OWN_CACHE = (
    "Programs are kept there and started: name a folder that is yours alone by KIT_CACHE_DIR (a new one is made so); "
    "or make this one yours with chown and chmod go-w, if you trust what is in it"
)


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write `content` beside `path` under a temporary name, then rename it into place.

    Raises OSError (ENOSPC on a full disk); `path` then still holds what it held before.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    temporary = Path(name)
    try:
        with naming(path), os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Errors of the system within are about `path`: a write that finds its disk full does not say which."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


@contextmanager
def fresh_folder(folder: Path) -> Iterator[Path]:
    """A new folder beside `folder` that takes its place if all went well, and is removed if not."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        yield fresh
        fresh.chmod(0o755)
        old = folder.with_name(f".{folder.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.replace(old)
        fresh.replace(folder)
        shutil.rmtree(old, ignore_errors=True)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise


def link_or_copy(source: Path, target: Path) -> None:
    """Put `source` at `target`, where nothing stands: as a hard link, or as a copy on another file system.

    Raises FileNotFoundError where `source` is missing.
    """
    try:
        target.hardlink_to(source)
    except OSError:  # another file system, or one without hard links
        shutil.copy2(source, target)


def make_once(mark: Path, make: Callable[[], None], *, waits: Callable[[], None] = lambda: None) -> None:
    """Have `make` fill the folder of the file `mark`, which is written at the end, unless it stands there.

    Of two processes that need the folder at once one makes it while the other waits, after it has called `waits`.
    """
    if mark.is_file():
        return
    folder = mark.parent
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waits()
            fcntl.flock(lock, fcntl.LOCK_EX)
        if not mark.is_file():
            make()
            write_atomic(mark, "")


def remove_aside(folder: Path) -> None:
    """Remove `folder` without waiting: the 40,000 files of an environment can take minutes on some disks.

    Its place is free at once: it gets another name first.
    """
    aside = folder
    with suppress(OSError):
        fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            aside = folder.replace(fresh)
        except OSError:
            fresh.rmdir()
            raise
    subprocess.run(
        # A folder that was closed, as a sealed process can close its own, is opened first.
        ["sh", "-c", '(chmod -R u+rwX -- "$1"; rm -rf -- "$1") &', "sh", str(aside)],
        env=child_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        check=False,
    )


def sha256_file(path: Path) -> str:
    """The SHA-256 of a file's bytes, in lower-case hex."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def user_cache() -> Path:
    """The folder for downloads and other things that can be made again, made where it is missing.

    `$KIT_CACHE_DIR`, else `$XDG_CACHE_HOME/kaggle-kit`, else `~/.cache/kaggle-kit`. Programs that lie in it are
    started, and hashes that it remembers are believed. Raises UsageError where anybody but this user could change it.
    """
    from kaggle_kit.owners import own_folder

    folder = _user_folder("KIT_CACHE_DIR", base="XDG_CACHE_HOME", default=".cache")
    return own_folder(folder, what="the cache folder", remedy=_OWN_CACHE)


def user_scratch() -> Path:
    """The folder in which dry runs and proofs write what nobody keeps, 3 GB each, made where it is missing.

    `$KIT_SCRATCH_DIR`, else the user's cache. Raises UsageError where anybody but this user could change it.
    """
    from kaggle_kit.owners import own_folder

    if folder := os.environ.get("KIT_SCRATCH_DIR"):
        remedy = "Name a folder that is yours alone by KIT_SCRATCH_DIR (a new one is made so), or leave it out"
        return own_folder(Path(folder), what="the folder for scratch", remedy=remedy)
    return user_cache()


def user_config() -> Path:
    """The folder for what this user has decided; it need not be there.

    `$KIT_CONFIG_DIR`, else `$XDG_CONFIG_HOME/kaggle-kit`, else `~/.config/kaggle-kit`.
    """
    return _user_folder("KIT_CONFIG_DIR", base="XDG_CONFIG_HOME", default=".config")


def _user_folder(chosen: str, *, base: str, default: str) -> Path:
    """The folder that the variable `chosen` names, else kit's own in the one that `base` names, or below the home."""
    if folder := os.environ.get(chosen):
        return Path(folder)
    return Path(os.environ.get(base) or Path.home() / default) / "kaggle-kit"
