"""The wheelhouse folder of a lock: the wheels, the kit's own wheel, and a manifest, written last."""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from kaggle_kit.errors import KitError, WheelhouseError
from kaggle_kit.files import link_or_copy, write_atomic
from kaggle_kit.places import inside
from kaggle_kit.runtime.manifest import (
    MANIFEST,
    FileEntry,
    Manifest,
    dump_manifest,
    read_manifest,
    verify_files,
)
from kaggle_kit.wheelhouse.download import disk_error
from kaggle_kit.wheelhouse.fetch import cached_path, is_untouched
from kaggle_kit.wheelhouse.kit_wheel import kit_wheel_bytes, kit_wheel_name
from kaggle_kit.wheelhouse.lock import Lock
from kaggle_kit.wheelhouse.names import kaggle_name

KIND = "wheelhouse"
PROOF = "proof.json"
"""The one file beside the manifest that it does not list: what `kit wheels prove` found."""


def wheelhouse_path(project: Path, target: str) -> Path:
    """Where a project keeps the wheel files of a target. Raises ProjectError where a link leads out of the project."""
    return inside(project, Path("wheels", target))


def assemble(lock: Lock, *, cache: Path, out: Path) -> Path:
    """Make `out` the wheelhouse of `lock`, from wheels that `fetch` brought into `cache`.

    Wheels are hard links where the file system allows, else copies. Only what differs is written, and the
    manifest goes first and comes last: a folder with a manifest is whole. Files that do not belong are
    removed. Raises WheelhouseError: a wheel is not in the cache, `out` is a folder of something else, disk.
    """
    kit_wheel = kit_wheel_bytes()
    manifest = _manifest(lock, kit_wheel)
    text = dump_manifest(manifest)
    wheels = {wheel.file: cached_path(cache, wheel) for wheel in lock.wheels}
    own = {*wheels, kit_wheel_name(), MANIFEST, PROOF}
    try:
        out.mkdir(parents=True, exist_ok=True)
        with _alone(out):
            _refuse_other_folder(out)
            stale = [path for path in out.iterdir() if path.name not in own]
            absent = {name: path for name, path in wheels.items() if not _is_placed(out / name, path)}
            kit_differs = _bytes_of(out / kit_wheel_name()) != kit_wheel
            if not (stale or absent or kit_differs) and _bytes_of(out / MANIFEST) == text.encode():
                return out
            for name in (PROOF, MANIFEST):  # what was proved is no more
                (out / name).unlink(missing_ok=True)
            _remove(stale)
            _place(absent, out)
            if kit_differs:
                write_atomic(out / kit_wheel_name(), kit_wheel)
            write_atomic(out / MANIFEST, text)
    except OSError as error:
        raise disk_error(error, out) from error
    return out


def verify(folder: Path, *, quick: bool = False) -> Manifest:
    """Check that `folder` is a whole wheelhouse and nothing else; its manifest.

    Every file of the manifest is there in its size and, unless `quick`, its SHA-256, and no other file is.
    Raises WheelhouseError naming the file, what is wrong, and the command that repairs it.
    """
    name = folder.name
    try:
        manifest = read_manifest(folder / MANIFEST)
        if manifest.kind != KIND:
            raise WheelhouseError(f"{folder} is the folder of a {manifest.kind}, not of a wheelhouse")
        name = manifest.name
        _refuse_renamed(folder, manifest)
        verify_files(folder, manifest, hashes=not quick)
        known = {MANIFEST, PROOF, *(entry.path for entry in manifest.files)}
        for path in sorted(folder.rglob("*")):
            if not path.is_dir() and path.relative_to(folder).as_posix() not in known:
                raise WheelhouseError(f"{path.name} in {folder} does not belong to the wheelhouse {name}")
    except KitError as error:
        raise WheelhouseError(f"{error}\nRepair it with: kit wheels fetch --target {name}") from error
    return manifest


def _manifest(lock: Lock, kit_wheel: bytes) -> Manifest:
    entries = [FileEntry(wheel.file, wheel.sha256, wheel.size) for wheel in lock.wheels]
    own = FileEntry(kit_wheel_name(), hashlib.sha256(kit_wheel).hexdigest(), len(kit_wheel))
    files = tuple(sorted([*entries, own], key=lambda entry: entry.path))
    extra: dict[str, object] = {"pythons": list(lock.pythons)}
    if only := {wheel.file: list(wheel.pythons) for wheel in lock.wheels if wheel.pythons}:
        extra["only"] = only
    if lock.mode != "isolated":
        extra["mode"] = lock.mode
    return Manifest(kind=KIND, name=lock.target, files=files, extra=extra)


def _refuse_renamed(folder: Path, manifest: Manifest) -> None:
    """A file that came back from Kaggle has lost some signs of its name: say so, rather than that it is missing."""
    for entry in manifest.files:
        shown = kaggle_name(Path(entry.path).name)
        if not (folder / entry.path).exists() and (folder / entry.path).with_name(shown).exists():
            raise WheelhouseError(
                f"{entry.path} in {folder} is there as {shown}, the name that Kaggle shows: no installer takes it"
            )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until no other process is assembling `folder`, then keep others waiting."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _refuse_other_folder(out: Path) -> None:
    """Files that do not belong are removed below, so `out` must be ours: a manifest, or wheels only."""
    if (out / MANIFEST).exists():
        try:
            kind = read_manifest(out / MANIFEST).kind
        except KitError:
            kind = KIND  # a manifest that was cut: the wheelhouse that it was is made anew
        if kind != KIND:
            raise WheelhouseError(f"{out} is the folder of a {kind}; name an empty or a new folder")
        return
    for path in out.iterdir():
        if path.is_dir() or (path.suffix != ".whl" and not path.name.startswith(".")):
            raise WheelhouseError(
                f"{out} holds {path.name} and no manifest, so it is not a wheelhouse; name an empty or a new folder"
            )


def _is_placed(path: Path, cached: Path) -> bool:
    try:
        return not path.is_symlink() and (
            path.samefile(cached) or (is_untouched(path) and path.stat().st_size == cached.stat().st_size)
        )
    except FileNotFoundError:
        return False


def _place(wheels: Mapping[str, Path], out: Path) -> None:
    for name, cached in wheels.items():
        temporary = out / f".{name}.tmp"
        temporary.unlink(missing_ok=True)
        try:
            try:
                link_or_copy(cached, temporary)
            except FileNotFoundError:
                raise WheelhouseError(f"{name} is not in the cache ({cached}); fetch it first") from None
            temporary.replace(out / name)
        finally:
            temporary.unlink(missing_ok=True)


def _remove(paths: list[Path]) -> None:
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _bytes_of(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except (FileNotFoundError, IsADirectoryError):
        return None
