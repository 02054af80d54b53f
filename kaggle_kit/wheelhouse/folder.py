"""The wheelhouse folder of a lock: the wheels, the kit's own wheel, and a manifest, written last.

The kit's own wheel is the runtime that was tested here, and that scores on Kaggle. Only what runs there is in it:
`kaggle_kit.runtime`, what of `kaggle_kit.model` a notebook needs that makes a model, and the small modules that both
stand on. The same sources give the same bytes: fixed times, sorted entries, nothing compressed (zlib's output differs
between versions, and the whole is small).
"""

import base64
import fcntl
import hashlib
import io
import os
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import kaggle_kit
from kaggle_kit.errors import KitError, WheelhouseError
from kaggle_kit.files import link_or_copy, user_cache, write_atomic
from kaggle_kit.places import inside
from kaggle_kit.runtime.manifest import (
    KIT_WHEEL,
    MANIFEST,
    FileEntry,
    Manifest,
    dump_manifest,
    kaggle_name,
    read_manifest,
    verify_files,
)
from kaggle_kit.targets import Target
from kaggle_kit.wheelhouse.fetch import Progress, cached_path, disk_error, fetch, is_untouched, silent
from kaggle_kit.wheelhouse.lock import Lock, lock_path
from kaggle_kit.wheelhouse.resolve import Host, fitting_lock, this_host

KIND = "wheelhouse"
PROOF = "proof.json"
"""The one file beside the manifest that it does not list: what `kit wheels prove` found."""


def wheelhouse_path(project: Path, target: str) -> Path:
    """Where a project keeps the wheel files of a target. Raises ProjectError if a link leads out of the project."""
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
            kind = KIND  # a manifest that was cut: the wheelhouse that it was is made again
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


@dataclass(frozen=True, kw_only=True)
class Wheelhouse:
    """A folder that is whole, the lock it was made from, and what the user should know of it, if anything."""

    folder: Path
    lock: Lock
    note: str | None


def ready_wheelhouse(
    target: Target, *, project: Path, host: Host | None = None, progress: Progress = silent
) -> Wheelhouse:
    """The wheelhouse of `target`, fit for `host` (None: this machine); what is missing is fetched.

    The project's lock is used where it fits; where `host` has another Python, processor or an older glibc,
    the target is resolved again, once, into the user's cache, and the note says so.
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


DISTRIBUTION = "kaggle_kit_runtime"
_GROUND = ("__init__.py", "child.py", "errors.py", "files.py", "outside.py", "owners.py")
_MODEL = (
    *("__init__", "calibration", "checks", "folder", "headers", "inspect", "make_program", "make_session", "merge"),
    *("packing", "padding", "quantize", "quantize_source", "quantize_worker", "tokenizer_check", "worker_process"),
)
"""The modules of `model` that `kaggle_kit.model.quantize` stands on, and those that call it in a notebook."""
_OLDEST_TIME = (1980, 1, 1, 0, 0, 0)  # the first moment that a zip file can hold


def kit_wheel_name() -> str:
    """The file name of the kit's own wheel in this version."""
    return f"{DISTRIBUTION}-{kaggle_kit.__version__}-py3-none-any.whl"


def build_kit_wheel(out: Path) -> Path:
    """Write the kit's own wheel into the folder `out`, and nothing where its bytes are there already."""
    path, content = out / kit_wheel_name(), kit_wheel_bytes()
    if not (path.is_file() and path.read_bytes() == content):
        write_atomic(path, content)
    return path


def kit_wheel_sha256() -> str:
    """The SHA-256 in hex of the kit's own wheel as it is now."""
    return hashlib.sha256(kit_wheel_bytes()).hexdigest()


def kit_wheel_bytes() -> bytes:
    """The bytes of the kit's own wheel: wheel version 1.0 (PEP 427), importable in place as a zip too.

    Made once in a process while the files stay as they are: every build names the wheel's hash.
    """
    states = [(str(path), path.stat()) for path in _source_files()]
    key = tuple((path, state.st_mtime_ns, state.st_size, state.st_ino) for path, state in states)
    info = f"{DISTRIBUTION}-{kaggle_kit.__version__}.dist-info"
    about = (("METADATA", _metadata()), ("WHEEL", _WHEEL), ("entry_points.txt", _ENTRY_POINTS))
    return _packed(info, about, key)


@lru_cache(maxsize=1)
def _packed(
    info: str,
    about: tuple[tuple[str, bytes], ...],
    states: tuple[tuple[str | int, ...], ...],  # noqa: ARG001 - of the files that are read: only a key
) -> bytes:
    members = _sources() | {f"{info}/{name}": content for name, content in about}
    record = [f"{name},sha256={_urlsafe(content)},{len(content)}" for name, content in sorted(members.items())]
    record_name = f"{info}/RECORD"

    body = io.BytesIO()
    with zipfile.ZipFile(body, "w", compression=zipfile.ZIP_STORED) as archive:
        for name, content in sorted(members.items()):
            archive.writestr(_entry(name), content)
        archive.writestr(_entry(record_name), "\n".join([*record, f"{record_name},,", ""]).encode())
    return body.getvalue()


def _source_files() -> list[Path]:
    package = Path(kaggle_kit.__file__).parent
    paths = [package / name for name in _GROUND]
    paths += sorted(path for ending in ("py", "json") for path in (package / "runtime").rglob(f"*.{ending}"))
    return paths + [package / "model" / f"{name}.py" for name in _MODEL]


def _sources() -> dict[str, bytes]:
    """The Python files and their data, by their path in the wheel."""
    package = Path(kaggle_kit.__file__).parent
    return {path.relative_to(package.parent).as_posix(): path.read_bytes() for path in _source_files()}


def _metadata() -> bytes:
    lines = [
        "Metadata-Version: 2.1",
        "Name: kaggle-kit-runtime",
        f"Version: {kaggle_kit.__version__}",
        "Summary: The part of kaggle-kit that runs inside a notebook",
        "License: Apache-2.0",
        "Requires-Python: >=3.10",
        "",
    ]
    return "\n".join(lines).encode()


_WHEEL = b"Wheel-Version: 1.0\nGenerator: kaggle-kit\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


_ENTRY_POINTS = b"[vllm.general_plugins]\nkaggle-kit = kaggle_kit.runtime.kernel_plugin:register\n"


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, date_time=_OLDEST_TIME)
    entry.external_attr = (0o100644) << 16
    entry.create_system = 3  # Unix, whatever wrote it
    return entry


def _urlsafe(content: bytes) -> str:
    """The SHA-256 as RECORD wants it: base64 for URLs, without padding."""
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


def kit_wheel(wheelhouse: Path) -> Path:
    """The kit's own wheel in a wheelhouse, from which Python imports as it is. Raises WheelhouseError for none."""
    for entry in read_manifest(wheelhouse / MANIFEST).files:
        if entry.path.startswith(KIT_WHEEL):
            return wheelhouse / entry.path
    raise WheelhouseError(f"{wheelhouse} lacks the kit's own wheel; fetch the wheelhouse again")
