"""Whatever a wheel, a library or a lock holds, reading it ends with WheelhouseError, in bounded time and memory."""

import io
import os
import shutil
import struct
import time
import tracemalloc
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from planted import compile_library, make_wheel

from kaggle_kit.errors import WheelhouseError
from kaggle_kit.wheelhouse import archive as archives
from kaggle_kit.wheelhouse.archive import read_archive
from kaggle_kit.wheelhouse.elf import Elf, read_elf
from kaggle_kit.wheelhouse.lock import Lock, LockedWheel, dump_lock, parse_lock, read_lock
from kaggle_kit.wheelhouse.resolve import best_wheel, number_pair, target_tags
from kaggle_kit.wheelhouse.sbom import read_licence

FILE = "engine-1.0-py3-none-any.whl"
RECORD = "engine-1.0.dist-info/RECORD"
METADATA = "engine-1.0.dist-info/METADATA"
NINES = "9" * 5000
DIGITS = f"x-{NINES}-py3-none-any.whl"
_SECTION = struct.Struct("<IIQQQQIIQQ")
needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no gcc here to make libraries with")


def _with(folder: Path, name: str, content: bytes) -> Path:
    """A wheel in which one file is another."""
    path = make_wheel(folder)
    with zipfile.ZipFile(path) as old:
        members = {entry.filename: old.read(entry) for entry in old.infolist()}
    with zipfile.ZipFile(path, "w") as new:
        for member, body in (members | {name: content}).items():
            new.writestr(member, body)
    return path


@pytest.mark.parametrize(
    "content",
    [
        b"x" * 200_000 + b",,\n",
        b'"' + b"x\n" * 200_000 + b'",,\n',
        b"," * 200_000,
        b'engine.py,sha256=x,"' + b"9" * 100_000 + b'"\n',
        b'"\0",,\n',
        b"\n".join(b"f%d,," % n for n in range(600_000)),
    ],
    ids=["long field", "long field of lines", "many fields", "digits", "NUL", "many files"],
)
def test_a_record_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    """A field of 200,000 letters is over the csv module's limit, a size of 100,000 digits over Python's."""
    start = time.monotonic()
    with pytest.raises(WheelhouseError, match=FILE) as caught:
        read_archive(_with(tmp_path, RECORD, content))
    assert len(str(caught.value)) < 1000
    assert time.monotonic() - start < 20


def test_a_size_of_many_digits_is_a_warning(tmp_path: Path) -> None:
    """RECORD's sizes are compared as texts, and shown by their beginning."""
    with zipfile.ZipFile(make_wheel(tmp_path)) as old:
        record = old.read(RECORD).decode()
    line = next(line for line in record.splitlines() if line.startswith("engine.py"))
    changed = record.replace(line, line.rpartition(",")[0] + "," + "9" * 5000).encode()
    [warning] = read_archive(_with(tmp_path, RECORD, changed)).warnings
    assert len(warning) < 300


def test_a_text_that_unpacks_to_gigabytes_is_refused(tmp_path: Path) -> None:
    """METADATA, WHEEL and RECORD are read up to a bound; a licence is looked for within it too."""
    path = _with(tmp_path, METADATA, b"x" * 5_000_000)
    with pytest.raises(WheelhouseError, match=r"METADATA has 5,000,000 bytes, and at most 4,000,000 are read"):
        read_archive(path)
    assert read_licence(path) is None


def test_a_list_of_files_that_fills_the_memory_is_refused(tmp_path: Path) -> None:
    """A zip's list of files is read at once by the library, however long its end says that it is."""
    body = b"\0" * 40_000_000
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 65_535, 65_535, len(body), 0, 0)
    path = tmp_path / FILE
    path.write_bytes(body + end)
    tracemalloc.start()
    try:
        with pytest.raises(WheelhouseError, match="its list of files has more than"):
            read_archive(path)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()
    assert read_licence(path) is None


def test_a_wheel_of_too_many_files_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of files is bounded."""
    monkeypatch.setattr(archives, "MOST_MEMBERS", 3)
    with pytest.raises(WheelhouseError, match="more than 3 files"):
        read_archive(make_wheel(tmp_path))


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_a_wheel_with_changed_bytes_is_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    """Any bytes of the zip's own tables may be any others, or missing."""
    raw = bytearray(make_wheel(tmp_path).read_bytes())
    tables = raw.rindex(b"PK\1\2", 0, raw.index(b"PK\1\2") + 4)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(tables, len(raw) - 1) | st.integers(0, len(raw) - 1))
        raw[place] = data.draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]) | st.integers(0, 255))
    cut = data.draw(st.just(len(raw)) | st.integers(0, len(raw)))
    path = tmp_path / FILE
    path.write_bytes(raw[:cut])
    with suppress(WheelhouseError):
        read_archive(path, reader=lambda _name, _pieces: None)
    read_licence(path)


def test_a_pipe_is_no_wheel(tmp_path: Path) -> None:
    """It is not waited for."""
    os.mkfifo(tmp_path / FILE)
    with pytest.raises(WheelhouseError, match=FILE):
        read_archive(tmp_path / FILE)


def _library(sections: list[tuple[bytes, bytes]], body: bytes) -> bytes:
    """An ELF file of these sections, each its header without the name, and `body` behind the first 64 bytes."""
    names = b"\0" + b"".join(name + b"\0" for name, _ in sections) + b".shstrtab\0"
    place, table = 64 + len(body), b"\0" * 64
    at = 1
    for name, header in sections:
        table += struct.pack("<I", at) + header
        at += len(name) + 1
    table += _SECTION.pack(at, 3, 0, 0, place, len(names), 0, 0, 1, 0)
    count = len(sections) + 2
    head = b"\x7fELF\2\1\1" + bytes(9)
    head += struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 0, place + len(names), 0, 64, 0, 0, 64, count, count - 1)
    return head + body + names + table


def _header(kind: int, flags: int, size: int, *, info: int = 0, link: int = 1, entry: int = 0) -> bytes:
    return _SECTION.pack(0, kind, flags, 0, 64, size, link, info, 1, entry)[4:]


def _refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "library.so"
    path.write_bytes(content)
    start = time.monotonic()
    tracemalloc.start()
    try:
        with suppress(WheelhouseError):
            read_elf(path)
        assert tracemalloc.get_traced_memory()[1] < 200_000_000 + 3 * len(content)
    finally:
        tracemalloc.stop()
    assert time.monotonic() - start < 60


def test_a_table_of_names_without_bytes_takes_none(tmp_path: Path) -> None:
    """A section that says that it is 2^40 bytes of nothing would be made of zeros."""
    _refused(tmp_path, _library([(b".dynstr", _header(8, 0, 1 << 40))], bytes(64)))


def test_a_packed_table_of_names_is_not_unpacked(tmp_path: Path) -> None:
    """300 MB of zeros in 300 kB."""
    packer = zlib.compressobj()
    body = b"".join(packer.compress(bytes(1_000_000)) for _ in range(300)) + packer.flush()
    packed = struct.pack("<IIQQ", 1, 0, 300_000_000, 1) + body
    _refused(tmp_path, _library([(b".dynstr", _header(3, 0x800, len(packed)))], packed))


def test_a_section_of_another_kind_than_its_name_is_refused(tmp_path: Path) -> None:
    """`.dynamic` and `.gnu.version_r` that are something else have no tags and no versions."""
    for name in (b".dynamic", b".gnu.version_r"):
        path = tmp_path / "library.so"
        path.write_bytes(_library([(name, _header(1, 0, 16))], bytes(64)))
        with pytest.raises(WheelhouseError, match="is not a whole ELF file"):
            read_elf(path)


def test_a_table_of_versions_that_turns_in_a_circle_ends(tmp_path: Path) -> None:
    """Each version's next one is itself, four billion times."""
    body = struct.pack("<HHIII", 1, 65_535, 0, 0, 0) + bytes(64)
    _refused(tmp_path, _library([(b".gnu.version_r", _header(0x6FFFFFFE, 0, 16, info=0xFFFFFFFF))], body))


def test_sections_without_end_are_refused(tmp_path: Path) -> None:
    """Where the number of sections stands in the first one, it may be 2^60."""
    raw = bytearray(_library([], bytes(64)))
    raw[60:62] = bytes(2)  # e_shnum
    place = int.from_bytes(raw[40:48], "little")
    raw[place + 32 : place + 40] = (1 << 60).to_bytes(8, "little")
    path = tmp_path / "library.so"
    path.write_bytes(raw)
    with pytest.raises(WheelhouseError, match="sections"):
        read_elf(path)


def test_gpu_code_of_many_kinds_is_refused(tmp_path: Path) -> None:
    """Each piece for a card of its own was counted through all the others."""
    pieces = b"".join(struct.pack("<HHIQ12xI", 2, 0, 32, 0, n) for n in range(200_000))
    body = struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(pieces)) + pieces
    path = tmp_path / "library.so"
    path.write_bytes(_library([(b".nv_fatbin", _header(1, 0, len(body)))], body))
    start = time.monotonic()
    with pytest.raises(WheelhouseError, match="more kinds of GPU than there are"):
        read_elf(path)
    assert time.monotonic() - start < 20


@pytest.mark.parametrize("version", ["GLIBC_2..17", "GLIBC_.", "GLIBC_" + "9" * 5000, "GLIBC_٣.٤", "GLIBC_"])
def test_a_version_that_is_no_number_counts_for_nothing(version: str) -> None:
    """Dots without numbers, and numbers of 5,000 digits."""
    assert Elf(machine="x64", versions={"libc.so.6": (version, "GLIBC_2.17")}).newest("GLIBC") == (2, 17)


@needs_gcc
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(changes=st.lists(st.tuples(st.integers(0, 100_000), st.integers(0, 255)), min_size=1, max_size=6))
def test_a_library_with_changed_bytes_is_read_or_refused(tmp_path: Path, changes: list[tuple[int, int]]) -> None:
    """Any bytes of its header and tables may be any others."""
    source = tmp_path / "sound.so"
    if not source.exists():
        compile_library("int PyInit_x(void) { return 1; }", source)
    raw = bytearray(source.read_bytes())
    for place, value in changes:
        # The header, or the table of sections at the end.
        raw[place % 64 if place % 2 else -1 - place % 2000] = value
    path = tmp_path / "library.so"
    path.write_bytes(raw)
    with suppress(WheelhouseError):
        read_elf(path)


def packaged(old: str, new: str) -> str:
    """The text of a lock of one wheel with `old` replaced."""
    wheel = LockedWheel(name="engine", version="1.0", file="engine-1.0-py3-none-any.whl", sha256="a" * 64, size=1)
    lock = Lock(target="tiny", pythons=("3.11",), machine="x86_64", glibc="2.35", engine="engine==1.0", wheels=(wheel,))
    assert old in dump_lock(lock)
    return dump_lock(lock).replace(old, new)


@pytest.mark.parametrize(
    "text",
    [
        "packages = " + "[" * 100_000,
        "a" + ".a" * 100_000 + " = 1",
        "lock-version = " + "9" * 5000,
        packaged("size = 1", "size = 1e400"),
        packaged("engine-1.0-py3", f"{'x' * 9999}-1.0-py3"),
        packaged('version = "1.0"', f"version = '{NINES}'").replace("engine-1.0-py3", f"engine-{DIGITS}-py3"),
        f"lock-version = {{ x = '{'x' * 100_000}' }}",
        packaged('version = "1.0"', f"version = '1.0'\nmarker = '{'(' * 100_000}'"),
        packaged('version = "1.0"', f"version = '1.0'\nrequires-python = '{'>=3,' * 100_000}>=3'"),
        packaged('["3.11"]', "[" + '"3.11",' * 100_000 + "]"),
        packaged('"tiny"', f"'{'t' * 1_000_000}'"),
    ],
    ids=[
        *("nested", "parts", "digits", "infinite", "long name", "long version", "long value"),
        *("deep marker", "many specifiers", "many Pythons", "long target"),
    ],
)
def test_a_lock_that_is_none_is_refused(text: str) -> None:
    """In time, and with the beginning of what was found."""
    start = time.monotonic()
    with pytest.raises(WheelhouseError, match="lock") as caught:
        parse_lock(text)
    assert len(str(caught.value)) < 12_000
    assert time.monotonic() - start < 10


def test_a_lock_that_is_no_file_is_refused(tmp_path: Path) -> None:
    """A pipe, a device, a file of terabytes."""
    os.mkfifo(tmp_path / "pylock.pipe.toml")
    (tmp_path / "pylock.device.toml").symlink_to("/dev/zero")
    (tmp_path / "pylock.large.toml").touch()
    os.truncate(tmp_path / "pylock.large.toml", 1 << 42)
    for name in ("pipe", "device", "large"):
        with pytest.raises(WheelhouseError, match=name):
            read_lock(tmp_path / f"pylock.{name}.toml")


@pytest.mark.parametrize("version", ["3.1000000000", "3." + "9" * 5000, "2.999999999"])
def test_a_version_of_billions_makes_no_tags(version: str) -> None:
    """Each minor version below it would be a tag."""
    with pytest.raises(WheelhouseError, match="is not two numbers"):
        number_pair(version, what="version")
    with pytest.raises(WheelhouseError):
        target_tags(python="3.12", glibc=version, machine="x86_64")


def test_a_file_name_of_digits_fits_nowhere() -> None:
    """A build number of 5,000 digits is no name of a wheel."""
    tags = target_tags(python="3.12", glibc="2.35", machine="x86_64")
    assert best_wheel([f"x-1-{'9' * 5000}-py3-none-any.whl", f"x-{'9' * 5000}-py3-none-any.whl"], tags) is None


def test_the_bounded_file_is_a_file_like_any(tmp_path: Path) -> None:
    """What a wheel holds comes out as it went in."""
    content = bytes(range(256)) * 100_000
    path = make_wheel(tmp_path, members={"big.bin": content})
    seen = io.BytesIO()
    read_archive(path, reader=lambda name, pieces: seen.write(b"".join(pieces)) if name == "big.bin" else None)
    assert seen.getvalue() == content
