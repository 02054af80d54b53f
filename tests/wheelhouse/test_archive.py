"""What a wheel holds, and what no wheel may hold."""

import zipfile
from pathlib import Path

import pytest
from planted import make_wheel

from kaggle_kit.errors import WheelhouseError
from kaggle_kit.wheelhouse.archive import read_archive

FILE = "engine-1.0-py3-none-any.whl"


def test_a_good_wheel_is_read(tmp_path: Path) -> None:
    """Its metadata, tags, size and files are told."""
    archive = read_archive(make_wheel(tmp_path, members={"engine_more/__init__.py": b"x" * 1000}))
    assert "Name: engine" in archive.metadata
    assert "Tag: py3-none-any" in archive.wheel
    assert archive.installed_bytes > 1000
    assert archive.tops == ("engine", "engine_more")
    assert archive.warnings == ()


def test_the_reader_gets_every_file(tmp_path: Path) -> None:
    """A reader is given each file's bytes, in pieces."""
    seen = {}
    big = bytes(range(256)) * 8192
    read_archive(
        make_wheel(tmp_path, members={"engine_big.bin": big}),
        reader=lambda name, pieces: seen.update({name: b"".join(pieces)}),
    )
    assert seen["engine_big.bin"] == big
    assert len(seen) == 5


def test_a_wrong_hash_in_record_is_a_warning(tmp_path: Path) -> None:
    """Real packages ship RECORDs that a later tool made untrue; the lock's hash vouches for the file."""
    path = make_wheel(tmp_path)
    with zipfile.ZipFile(path) as old:
        members = {entry.filename: old.read(entry) for entry in old.infolist()}
    with zipfile.ZipFile(path, "w") as new:
        for name, content in members.items():
            new.writestr(name, content.replace(b"__version__ = '1.0'", b"__version__ = '1.1'"))
    archive = read_archive(path, reader=lambda _name, _pieces: None)
    assert archive.warnings == (f"{FILE}: 'engine.py' does not have the sha256 that its RECORD lists",)


def test_a_listed_file_that_is_not_there(tmp_path: Path) -> None:
    """A wheel that lacks what it lists was cut."""
    path = make_wheel(tmp_path, members={"gone.py": b"x"})
    with zipfile.ZipFile(path) as old:
        members = {entry.filename: old.read(entry) for entry in old.infolist() if entry.filename != "gone.py"}
    with zipfile.ZipFile(path, "w") as new:
        for name, content in members.items():
            new.writestr(name, content)
    with pytest.raises(WheelhouseError, match=r"lacks 'gone\.py', which its RECORD lists"):
        read_archive(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_the_same_name_twice(tmp_path: Path) -> None:
    """Two files of one name are refused: installers differ in which they take."""
    path = make_wheel(tmp_path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("engine.py", b"other")
    with pytest.raises(WheelhouseError, match=r"holds 'engine\.py' twice"):
        read_archive(path)


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04 cut"])
def test_no_zip(tmp_path: Path, content: bytes) -> None:
    """What is no zip is no wheel."""
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(WheelhouseError, match=r"engine-1\.0-py3-none-any\.whl is not a whole zip file"):
        read_archive(tmp_path / FILE)


def test_a_damaged_file_inside(tmp_path: Path) -> None:
    """A flipped byte of a file in the archive is found when it is read through."""
    path = make_wheel(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"__version__ = '1.0'", b"__version__ = '6.0'", 1))
    with pytest.raises(WheelhouseError, match="is not a whole zip file"):
        read_archive(path, reader=lambda _name, _pieces: None)


def test_a_zip_that_is_no_wheel(tmp_path: Path) -> None:
    """A zip without .dist-info is named."""
    with zipfile.ZipFile(tmp_path / FILE, "w") as archive:
        archive.writestr("engine.py", "")
    with pytest.raises(WheelhouseError, match=r"holds 0 \.dist-info folders, a wheel has one"):
        read_archive(tmp_path / FILE)


def test_files_that_share_bytes(tmp_path: Path) -> None:
    """Entries that lie over each other, the other form of a zip bomb, are found by the sum of their sizes."""
    path = make_wheel(tmp_path, members={"engine_a.bin": b"a" * 100_000})
    with zipfile.ZipFile(path, "a") as archive:
        entry = archive.getinfo("engine_a.bin")
        for count in range(9):
            twin = zipfile.ZipInfo(f"twin{count}")
            for key in ("header_offset", "CRC", "compress_size", "file_size", "compress_type", "external_attr"):
                setattr(twin, key, getattr(entry, key))
            archive.filelist.append(twin)
            archive.NameToInfo[twin.filename] = twin
        archive._didModify = True
    with pytest.raises(WheelhouseError, match="lie over each other: a zip bomb"):
        read_archive(path)
