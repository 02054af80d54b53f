"""Manifests: what a folder must hold, and an error that names the first file that is not so."""

import json

import pytest

from kaggle_kit.errors import KitError, ModelError, WheelhouseError
from kaggle_kit.files import write_atomic
from kaggle_kit.runtime.manifest import (
    MANIFEST,
    FileEntry,
    Manifest,
    dump_manifest,
    files_digest,
    make_manifest,
    read_manifest,
    verify_files,
)


@pytest.fixture
def folder(tmp_path):
    """A folder of two files, one of them below another folder, with its manifest."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "b.bin").write_bytes(b"12345")
    (tmp_path / "sub" / "é +1.bin").write_bytes(b"")
    save(tmp_path, "model")
    return tmp_path


def save(folder, kind):
    write_atomic(folder / MANIFEST, dump_manifest(make_manifest(folder, kind=kind, name="n", extra={"x": [1]})))


def test_a_manifest_comes_back_as_it_was(folder):
    """Made, dumped and read again, a manifest is the same, its extra keys too, and does not name itself."""
    manifest = read_manifest(folder / MANIFEST)
    assert manifest == make_manifest(folder, kind="model", name="n", extra={"x": [1]})
    assert [entry.path for entry in manifest.files] == ["b.bin", "sub/é +1.bin"]
    verify_files(folder, manifest)


def test_the_same_folder_gives_the_same_bytes(folder):
    """Making the manifest again changes no byte."""
    before = (folder / MANIFEST).read_bytes()
    save(folder, "model")
    assert (folder / MANIFEST).read_bytes() == before


@pytest.mark.parametrize(("kind", "error"), [("model", ModelError), ("wheelhouse", WheelhouseError), ("x", KitError)])
def test_a_missing_file_is_an_error_of_the_folders_kind(folder, kind, error):
    """The file and the folder's name are told, in the error that fits what the folder is."""
    save(folder, kind)
    (folder / "b.bin").unlink()
    with pytest.raises(error, match=rf"b\.bin is missing from the {kind} n"):
        verify_files(folder, read_manifest(folder / MANIFEST))


def test_a_file_where_a_folder_should_be_is_a_missing_file(folder):
    """A path that leads through a file is told as missing."""
    (folder / "sub" / "é +1.bin").unlink()
    (folder / "sub").rmdir()
    (folder / "sub").write_bytes(b"")
    with pytest.raises(ModelError, match=r"sub/é.*is missing"):
        verify_files(folder, read_manifest(folder / MANIFEST))


@pytest.mark.parametrize("hashes", [True, False])
def test_a_cut_file_is_told_by_its_size(folder, hashes):
    """A truncated file is found with and without hashing."""
    (folder / "b.bin").write_bytes(b"123")
    with pytest.raises(ModelError, match=r"b\.bin.*has 3 bytes, its manifest says 5"):
        verify_files(folder, read_manifest(folder / MANIFEST), hashes=hashes)


def test_a_changed_byte_is_told_by_the_hash(folder):
    """A file of the right size with one other byte is corrupt."""
    (folder / "b.bin").write_bytes(b"12340")
    with pytest.raises(ModelError, match=r"b\.bin.*is corrupt"):
        verify_files(folder, read_manifest(folder / MANIFEST))


def entry(**changes):
    return {"kind": "model", "name": "n", "version": 1, "files": [{"path": "a", "sha256": "0", "size": 1} | changes]}


@pytest.mark.parametrize("path", ["../a", "/etc/passwd", "a/../../b"])
def test_a_path_outside_the_folder_is_refused(tmp_path, path):
    """A manifest cannot make kit read or check files elsewhere."""
    (tmp_path / MANIFEST).write_text(json.dumps(entry(path=path)), encoding="utf-8")
    with pytest.raises(KitError, match="outside its folder"):
        read_manifest(tmp_path / MANIFEST)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe\x00",
        b"[]",
        b"null",
        b'{"version": 2}',
        b'{"version": 1}',
        b'{"version": 1, "kind": "model", "name": "n", "files": 3}',
        b'{"version": 1, "kind": "model", "name": "n", "files": [{}]}',
        b'{"version": 1, "kind": "model", "name": "n", "files": ["a"]}',
        json.dumps(entry(size="big")).encode(),
        json.dumps(entry(size=float("inf"))).encode(),
    ],
)
def test_what_is_no_manifest_is_an_error_with_its_path(tmp_path, content):
    """Any other content says which file it is, and to make it again."""
    (tmp_path / MANIFEST).write_bytes(content)
    with pytest.raises(KitError, match=r"manifest\.json .*make it again"):
        read_manifest(tmp_path / MANIFEST)


def test_a_missing_manifest_is_an_error_with_its_path(tmp_path):
    """A folder without one cannot be checked, and the error says so."""
    with pytest.raises(KitError, match=r"manifest\.json is missing"):
        read_manifest(tmp_path / MANIFEST)


def test_the_files_digest_is_of_the_files_alone():
    """What else the manifest says does not change it; a file does."""
    files = (FileEntry("model.safetensors", "0" * 64, 1),)
    plain, told = Manifest("model", "x", files, {}), Manifest("model", "y", files, {"quality": 1})
    other = Manifest("model", "x", (FileEntry("model.safetensors", "1" * 64, 1),), {})
    assert files_digest(plain) == files_digest(told) != files_digest(other)
