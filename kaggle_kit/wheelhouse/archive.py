"""What is inside a wheel file, read without unpacking it; and whether it is safe and whole.

A wheel is a zip (PEP 427). Installers differ in what they refuse, so kit refuses first: names that lead outside the
folder, links, the same name twice, contents that would fill the disk, and a RECORD that does not list what is there.

Reading a CUDA wheelhouse through takes minutes; the same bytes need it once, because what was found in a wheel is kept
in the user's cache by SHA-256.
"""

import base64
import csv
import hashlib
import io
import json
import lzma
import os
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from pydantic import TypeAdapter

from kaggle_kit.errors import OutsideError, WheelhouseError
from kaggle_kit.files import write_atomic
from kaggle_kit.outside import open_file, read_json, shown
from kaggle_kit.wheelhouse.elf import Elf, read_elf
from kaggle_kit.wheelhouse.lock import first_twice

LARGEST_RATIO = 100
"""A wheel that unpacks to more than this many times its size is a bomb; wheels of real packages stay below 15."""
LARGEST_BYTES = 24_000_000_000
"""What one wheel may unpack to."""
MOST_MEMBERS = 500_000
MOST_LIST_BYTES = 32_000_000
"""Of the zip's own list of files; torch's 15,000 files take 2 MB there, and as much in RECORD."""
MOST_RECORD_BYTES = 32_000_000
MOST_TEXT_BYTES = 4_000_000
"""Of METADATA and WHEEL each."""
_LONGEST_NAME = 4096
_LONGEST_LINE = 65_536
UNREADABLE = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, OutsideError),
    *(NotImplementedError, EOFError, RuntimeError, ValueError, OverflowError),
)
"""What the bytes of a file that is no whole zip make the library raise."""
_RATIO_FROM_BYTES = 1 << 24
_CHUNK_BYTES = 1 << 20
_UNLISTED = ("RECORD", "RECORD.jws", "RECORD.p7s")


@dataclass(frozen=True, kw_only=True)
class Archive:
    """A safe wheel: METADATA and WHEEL as texts, bytes when installed, the names of its files, and what its RECORD
    says wrongly of them (installers do not mind; the lock's SHA-256 vouches for the whole).
    """

    file: str
    metadata: str
    wheel: str
    installed_bytes: int
    members: tuple[str, ...]
    warnings: tuple[str, ...] = ()

    @property
    def tops(self) -> tuple[str, ...]:
        """What the wheel puts into site-packages: packages and modules, without `.dist-info` and `.data`."""
        names = {name.split("/", 1)[0].removesuffix(".py") for name in self.members}
        return tuple(sorted(name for name in names if not name.endswith((".dist-info", ".data", ".libs"))))


Reader = Callable[[str, Iterator[bytes]], None]


def read_archive(path: Path, *, reader: Reader | None = None) -> Archive:
    """Check the wheel `path` and read it.

    With `reader` every file's bytes are read, compared with RECORD, and given to it as they come; without, only the
    names and sizes are compared. Raises WheelhouseError naming the wheel, the file in it, and what is wrong.
    """
    file = path.name
    try:
        with open_wheel(path) as archive:
            if len(archive.infolist()) > MOST_MEMBERS:
                raise WheelhouseError(f"{file} holds more than {MOST_MEMBERS:,} files: no wheel has so many")
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            for entry in archive.infolist():
                _refuse_unsafe(entry, file)
            if (name := first_twice(entry.filename for entry in archive.infolist())) is not None:
                raise WheelhouseError(f"{file} holds {name!r} twice: two installers could take different ones")
            _refuse_bomb(entries, path)

            info = _info_folder(entries, file)
            record = _record(_text(archive, f"{info}/RECORD", file, most=MOST_RECORD_BYTES), file)
            warnings = _compare_names(record, entries, info, file)
            if reader:
                for entry in entries:
                    warnings += _read_through(archive, entry, record.get(entry.filename), file, reader)

            return Archive(
                file=file,
                metadata=_text(archive, f"{info}/METADATA", file),
                wheel=_text(archive, f"{info}/WHEEL", file),
                installed_bytes=sum(entry.file_size for entry in entries),
                members=tuple(entry.filename for entry in entries),
                warnings=tuple(warnings),
            )
    except UNREADABLE as error:
        raise WheelhouseError(f"{file} is not a whole zip file ({error}): it cannot be a wheel") from error


class _Bounded(io.FileIO):
    """A file that is never read by hundreds of megabytes: the library reads a zip's whole list of files at once."""

    def read(self, size: int | None = -1, /) -> bytes:
        """As ever. Raises BadZipFile where more than MOST_LIST_BYTES are asked for."""
        if size is None or size < 0:
            size = max(0, os.fstat(self.fileno()).st_size - self.tell())
        if size > MOST_LIST_BYTES:
            raise zipfile.BadZipFile(f"its list of files has more than {MOST_LIST_BYTES:,} bytes")
        return super().read(size) or b""

    def seek(self, place: int, whence: int = 0, /) -> int:
        """As ever, but for places that no file has."""
        try:
            return super().seek(place, whence)
        except (OSError, OverflowError) as error:
            raise zipfile.BadZipFile(f"it points outside of itself ({place:,})") from error


@contextmanager
def open_wheel(path: Path) -> Iterator[zipfile.ZipFile]:
    """The zip file `path`, open to be read. What its bytes can make this raise is in UNREADABLE."""
    with open_file(path, follow=True):  # no pipe and no device
        pass
    with _Bounded(path) as stream, zipfile.ZipFile(cast("IO[bytes]", stream)) as archive:
        yield archive


def read_metadata(path: Path) -> str:
    """The METADATA of the wheel `path`, nothing else of it checked. Raises WheelhouseError, or one of UNREADABLE."""
    with open_wheel(path) as archive:
        return _text(archive, f"{_info_folder(archive.infolist(), path.name)}/METADATA", path.name)


def _refuse_unsafe(entry: zipfile.ZipInfo, file: str) -> None:
    name = entry.orig_filename
    pure = PurePosixPath(name)
    if len(name) > _LONGEST_NAME:
        raise WheelhouseError(f"{file} holds {shown(name)}, a name of {len(name):,} letters")
    if pure.is_absolute() or "\\" in name or ":" in name.split("/", 1)[0]:
        raise WheelhouseError(f"{file} holds {name!r}, an absolute path: it would write outside its folder")
    if ".." in pure.parts or "\0" in name:
        raise WheelhouseError(f"{file} holds {name!r}, which leads outside its folder: path traversal")
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind == stat.S_IFLNK:
        raise WheelhouseError(f"{file} holds {name!r}, a symbolic link, which may lead outside its folder")
    if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
        raise WheelhouseError(f"{file} holds {name!r}, which is no plain file")
    if entry.flag_bits & 1:
        raise WheelhouseError(f"{file} holds {name!r} encrypted: it cannot be checked or installed")


def _refuse_bomb(entries: list[zipfile.ZipInfo], path: Path) -> None:
    size = path.stat().st_size
    total = sum(entry.file_size for entry in entries)
    if total > LARGEST_BYTES or (total > _RATIO_FROM_BYTES and total > LARGEST_RATIO * size):
        raise WheelhouseError(
            f"{path.name} has {size:,} bytes and would unpack to {total:,}: a zip bomb, or no wheel to ship "
            f"(at most {LARGEST_RATIO} times its size and {LARGEST_BYTES / 1e9:.0f} GB)"
        )
    if sum(entry.compress_size for entry in entries) > size:
        raise WheelhouseError(f"{path.name} holds files that lie over each other: a zip bomb")


def _info_folder(entries: list[zipfile.ZipInfo], file: str) -> str:
    tops = {entry.filename.split("/", 1)[0] for entry in entries}
    folders = {top for top in tops if top.endswith(".dist-info")}
    if len(folders) != 1:
        raise WheelhouseError(f"{file} holds {len(folders)} .dist-info folders, a wheel has one")
    return folders.pop()


def _record(text: str, file: str) -> dict[str, tuple[str, str]]:
    """File name → hash ("sha256=…") and size, as RECORD lists them; either may be empty."""
    record: dict[str, tuple[str, str]] = {}
    try:
        for line in csv.reader(_lines(text, file)):
            if line and len(line) < 3:
                fields = shown(",".join(line))
                raise WheelhouseError(f"{file}: RECORD has the line {fields}, not a name, a hash and a size")
            if line:
                record[line[0]] = (line[1], line[2])
            if len(record) > MOST_MEMBERS:
                raise WheelhouseError(f"{file}: RECORD lists more than {MOST_MEMBERS:,} files: no wheel has so many")
    except csv.Error as error:  # a field longer than the module's limit, for one
        raise WheelhouseError(f"{file}: RECORD cannot be read ({error}): it is no wheel's") from error
    return record


def _lines(text: str, file: str) -> Iterator[str]:
    for line in io.StringIO(text):
        if len(line) > _LONGEST_LINE:
            raise WheelhouseError(f"{file}: RECORD has a line of {len(line):,} letters: it is no wheel's")
        yield line


def _compare_names(
    record: Mapping[str, tuple[str, str]], entries: list[zipfile.ZipInfo], info: str, file: str
) -> list[str]:
    free = {f"{info}/{name}" for name in _UNLISTED}
    sizes = {entry.filename: entry.file_size for entry in entries}
    warnings = []
    for name in sizes:
        if name not in record and name not in free:
            raise WheelhouseError(f"{file} holds {name!r}, which its RECORD does not list: it was added later")
    for name, (_, size) in record.items():
        if name not in sizes and name not in free:
            raise WheelhouseError(f"{file} lacks {shown(name)}, which its RECORD lists")
        if name in sizes and size and size != str(sizes[name]):
            warnings.append(f"{file}: {name!r} has {sizes[name]:,} bytes, its RECORD says {shown(size)}")
    return warnings


def _read_through(
    archive: zipfile.ZipFile, entry: zipfile.ZipInfo, recorded: tuple[str, str] | None, file: str, reader: Reader
) -> list[str]:
    """Give `entry`'s bytes to `reader`, and compare their hash with what RECORD says."""
    algorithm, _, expected = (recorded[0] if recorded else "").partition("=")
    known = algorithm in {"sha256", "sha384", "sha512"}
    digest = hashlib.new(algorithm if known else "sha256")

    def pieces() -> Iterator[bytes]:
        with archive.open(entry) as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                digest.update(chunk)
                yield chunk

    rest = pieces()
    reader(entry.filename, rest)
    for _ in rest:  # what the reader did not want
        pass
    if known and base64.urlsafe_b64encode(digest.digest()).rstrip(b"=").decode() != expected.rstrip("="):
        return [f"{file}: {entry.filename!r} does not have the {algorithm} that its RECORD lists"]
    return []


def _text(archive: zipfile.ZipFile, name: str, file: str, *, most: int = 0) -> str:
    most = most or MOST_TEXT_BYTES
    try:
        size = archive.getinfo(name).file_size
    except KeyError:
        raise WheelhouseError(f"{file} holds no {name}: it is not a wheel") from None
    if size > most:
        raise WheelhouseError(f"{file}: {name} has {size:,} bytes, and at most {most:,} are read")
    with archive.open(name) as stream:
        return stream.read(most).decode("utf-8", errors="replace")


_FORMAT = 2
_MOST_KEPT_BYTES = 256 << 20
_MAGIC = b"\x7fELF"


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """One wheel: what its archive holds, and its libraries by their names in it."""

    archive: Archive
    libraries: Mapping[str, Elf]
    unreadable: Mapping[str, str]
    """Files that begin as ELF files do and are none: why."""


@dataclass(frozen=True, kw_only=True)
class Inspected:
    """All wheels of a wheelhouse: by file name, and those that are unsafe or broken, with the reason."""

    wheels: Mapping[str, Inspection]
    refused: Mapping[str, str]


def inspect_all(wheels: Mapping[Path, str], *, cache: Path) -> Inspected:
    """Inspect `wheels` (path → SHA-256, checked before), several at a time, the largest first."""
    inspections: dict[str, Inspection] = {}
    refused: dict[str, str] = {}
    largest_first = sorted(wheels, key=lambda path: -path.stat().st_size)
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # inflating and hashing let other threads run
        jobs = {path: pool.submit(inspect_wheel, path, sha256=wheels[path], cache=cache) for path in largest_first}
        for path, job in jobs.items():
            try:
                inspections[path.name] = job.result()
            except WheelhouseError as error:
                refused[path.name] = str(error)
    return Inspected(wheels=dict(sorted(inspections.items())), refused=dict(sorted(refused.items())))


def inspect_wheel(path: Path, *, sha256: str, cache: Path) -> Inspection:
    """Inspect one wheel of the given SHA-256. Raises WheelhouseError if its archive is unsafe or broken."""
    kept = cache / "inspected" / f"{sha256}.json"
    if (known := _read(kept, path.name)) is not None:
        return known
    libraries: dict[str, Elf] = {}
    unreadable: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="kit-inspect-") as folder:

        def read(name: str, pieces: Iterator[bytes]) -> None:
            first = next(pieces, b"")
            if not first.startswith(_MAGIC) or ".so" not in name.rsplit("/", 1)[-1]:
                return
            copy = Path(folder) / "library"
            with copy.open("wb") as stream:
                stream.write(first)
                for piece in pieces:
                    stream.write(piece)
            try:
                libraries[name] = read_elf(copy)
            except WheelhouseError as error:
                unreadable[name] = str(error).replace(copy.name, name, 1)

        archive = read_archive(path, reader=read)
    inspection = Inspection(archive=archive, libraries=libraries, unreadable=unreadable)
    write_atomic(kept, json.dumps({"format": _FORMAT} | asdict(inspection), sort_keys=True))
    return inspection


def _read(kept: Path, file: str) -> Inspection | None:
    """What the cache knows of a wheel; None if it knows nothing that can be read."""
    try:
        body: dict[str, Any] = read_json(kept, most_bytes=_MOST_KEPT_BYTES)
        if body["format"] != _FORMAT:
            return None
        inspection = TypeAdapter(Inspection).validate_python(body)
    except (OutsideError, ValueError, KeyError, TypeError):  # ValueError: a ValidationError too
        return None
    return replace(inspection, archive=replace(inspection.archive, file=file))
