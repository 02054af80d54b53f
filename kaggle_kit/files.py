"""Files that are either the old one or the new one, never half of one; and their hashes."""

import errno
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from kaggle_kit.child import child_environment
from kaggle_kit.errors import UsageError

_CHUNK_BYTES = 1 << 20
_OWN_CACHE = (
    "Programs are kept there and started: name a folder that is yours alone by KIT_CACHE_DIR (a new one is made so); "
    "or make this one yours with chown and chmod go-w, if you trust what is in it"
)


class Stamp(NamedTuple):
    """What distinguishes one state of a file from the next without reading it.

    Whoever writes a file can set its time back, but not `ctime_ns`, the time of its last change of any kind.
    """

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @property
    def content(self) -> tuple[int, ...]:
        """What changes with the bytes: a further link to a file changes `ctime_ns` alone."""
        return self[:-1]


def stamp_of(status: os.stat_result) -> Stamp:
    """The state of a file that the system has just told of."""
    return Stamp(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write `content` beside `path` under a temporary name, then rename it into place.

    Raises OSError (ENOSPC on a full disk); `path` then still holds what it held before.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as stream:
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
    """Errors of the system within are about `path`: a write that finds its disk full does not say which.

    Nor does anybody know the temporary file beside it.
    """
    try:
        yield
    except OSError as error:
        beside = error.filename is None or Path(error.filename).parent == path.absolute().parent
        if beside or error.filename2 is not None:  # a renaming names both
            error.filename, error.filename2 = str(path), None
        raise


_DISK_REFUSES = {
    errno.ENOSPC: "is full",
    errno.EDQUOT: "has no room left for this user (a quota)",
    errno.EROFS: "is for reading alone",
}


def refusal(error: OSError, place: Path | None = None) -> str:
    """What the system refused, and where: at `place`, else where the error says. Of a disk that takes nothing, which.

    A disk is named by where it is mounted.
    """
    named = place or error.filename
    if error.errno not in _DISK_REFUSES:
        return f"{named or os.environ.get('PWD', 'the working folder')}: {error.strerror or error}"
    text = f"{named}: {error.strerror}" if named else str(error.strerror)
    given = Path(os.fsdecode(named)).absolute() if named and not isinstance(named, int) else None
    if given and (given.is_char_device() or given.is_fifo()):
        return text
    disk = mount_of(given) if given and (given.exists() or given.parent.is_dir()) else _full_disk()
    if disk is None:
        return text
    what = _DISK_REFUSES[error.errno]
    with suppress(OSError):
        room = os.statvfs(disk)
        if error.errno == errno.ENOSPC and room.f_bavail and room.f_files and not room.f_favail:
            what = "has room, and no number left for another file (inodes)"
    return f"{text}: the disk mounted at {disk} {what}"


def _full_disk() -> Path | None:
    """The disk without room among those that kit writes to, where an error says of none that it is that."""
    for folder in (Path.cwd(), Path(os.environ.get("TMPDIR", "/tmp")), home_folder()):  # noqa: S108  nothing is written there
        with suppress(OSError):
            disk = mount_of(folder)
            room = os.statvfs(disk)
            if not room.f_bavail or (room.f_files and not room.f_favail):
                return disk
    return None


def mount_of(path: Path) -> Path:
    """Where the disk is mounted that `path` is on, or would be."""
    place = Path(os.path.realpath(path))
    while place != place.parent and not (place.exists() and place.is_mount()):
        place = place.parent
    return place


@contextmanager
def fresh_folder(folder: Path, *, placed: Callable[[Path], None] | None = None) -> Iterator[Path]:
    """A new folder beside `folder` that takes its place if all went well, and is removed if not.

    With `placed`, which hears where it stands at the end, what another process has put there meanwhile is left alone:
    the new folder then gets a number. What a process that was killed left beside `folder` is cleared away.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    _clear_leftovers(folder)
    fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}.{os.getpid()}-", suffix=_NEW, dir=folder.parent))
    old = fresh.with_name(fresh.name.removesuffix(_NEW) + _OLD)
    held = os.open(fresh, os.O_RDONLY | os.O_DIRECTORY)
    before = os.open(folder, os.O_RDONLY | os.O_DIRECTORY) if folder.is_dir() else None
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield fresh
        fresh.chmod(0o755)
        if placed:
            placed(_put_beside(fresh, folder, old, before=before))
        else:
            _put_over(fresh, folder, old)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    finally:
        for descriptor in (held, before):
            if descriptor is not None:
                os.close(descriptor)
        shutil.rmtree(old, ignore_errors=True)


_NEW, _OLD = ".new", ".old"
_SETTLED_S = 5.0
"""What is younger than this may be at its beginning: nobody calls it a leftover."""


def _put_over(fresh: Path, folder: Path, old: Path) -> None:
    """Put `fresh` at `folder`, whatever stands there; that moves to `old`."""
    while True:
        with suppress(FileNotFoundError):
            folder.replace(old)
        try:
            fresh.replace(folder)
        except OSError as error:
            if error.errno not in _TAKEN:
                if os.path.lexists(old):
                    old.replace(folder)
                raise
            shutil.rmtree(old, ignore_errors=True)
        else:
            return


_TAKEN = frozenset({errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR})


def _put_beside(fresh: Path, folder: Path, old: Path, *, before: int | None) -> Path:
    """Put `fresh` at `folder` if there is still what was opened as `before`, else beside it; where it stands now."""
    if before is not None:
        # Of several that would take its place one has it; the others see then that it is gone.
        fcntl.flock(before, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.path.samestat(folder.stat(), os.fstat(before)):
                folder.replace(old)
    for number in range(1, 1000):
        place = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        try:
            return fresh.replace(place)
        except OSError as error:
            if error.errno not in _TAKEN:
                if os.path.lexists(old):
                    old.replace(folder)
                raise
    raise OSError(errno.EEXIST, os.strerror(errno.EEXIST), str(folder))


def _clear_leftovers(folder: Path) -> None:
    """Clear away what killed processes left beside `folder`; what stood there before goes back to its place."""
    leftover = re.compile(rf"\.{re.escape(folder.name)}\.([0-9]+)-\w+(\.new|\.old)")
    for entry in folder.parent.iterdir():
        found = leftover.fullmatch(entry.name)
        if not found or Path(f"/proc/{found[1]}").exists() or not _is_left(entry):
            continue
        with suppress(OSError):
            if found[2] == _OLD and not os.path.lexists(folder):
                entry.replace(folder)
        shutil.rmtree(entry, ignore_errors=True)


def _is_left(entry: Path) -> bool:
    """Whether nobody holds a folder, of this machine or of another container on it."""
    try:
        descriptor = os.open(entry, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        if time.time() - os.fstat(descriptor).st_mtime < _SETTLED_S:
            return False
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


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


def readable_cache() -> Path | None:
    """The same for whoever can do without; None where there is none, and none can be made.

    A question is answered on a full disk, and by a user who has no home.
    """
    try:
        return user_cache()
    except UsageError as error:
        if isinstance(error.__cause__, OSError | RuntimeError):
            return None
        raise


def user_config() -> Path:
    """The folder for what this user has decided; it need not be there.

    `$KIT_CONFIG_DIR`, else `$XDG_CONFIG_HOME/kaggle-kit`, else `~/.config/kaggle-kit`.
    """
    return _user_folder("KIT_CONFIG_DIR", base="XDG_CONFIG_HOME", default=".config")


def _user_folder(chosen: str, *, base: str, default: str) -> Path:
    """The folder that the variable `chosen` names, else kit's own in the one that `base` names, or below the home."""
    if folder := os.environ.get(chosen):
        return Path(folder)
    if folder := os.environ.get(base):
        return Path(folder) / "kaggle-kit"
    try:
        return Path.home() / default / "kaggle-kit"
    except RuntimeError as error:
        raise UsageError(
            f"this user has no home folder, in which kit keeps its files: set HOME to a folder of yours, or {chosen}"
        ) from error


def home_folder() -> Path:
    """The user's home; where neither HOME nor the system's list of users names one, what systems call no home."""
    try:
        return Path.home()
    except RuntimeError:
        return Path("/nonexistent")
