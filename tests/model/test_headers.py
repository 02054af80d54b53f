"""Headers of safetensors files: what is read, and what is refused."""

from __future__ import annotations

import json

import pytest
from checkpoints import DEMO, WEIGHTS, read_file, write_file

from kaggle_kit.errors import ModelError
from kaggle_kit.model.headers import MOST_HEADER_BYTES, read_header

ONE = {"dtype": "F16", "shape": [2], "data_offsets": [0, 4]}


def refused(tmp_path, header, data=b"", *, length=None):
    """The message with which such a file is refused."""
    path = tmp_path / "x.safetensors"
    write_file(path, header, data, length=length)
    with pytest.raises(ModelError) as caught:
        read_header(path)
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value)


def test_a_header_is_read_as_the_library_reads_it():
    """Names, types, shapes and sizes are those that the safetensors library gives."""
    safetensors = pytest.importorskip("safetensors")
    ours = read_header(DEMO / WEIGHTS).tensors
    with safetensors.safe_open(DEMO / WEIGHTS, framework="numpy") as theirs:
        assert set(ours) == set(theirs.keys())
        for name, tensor in ours.items():
            part = theirs.get_slice(name)
            assert (list(tensor.shape), tensor.dtype) == (part.get_shape(), part.get_dtype())


F32 = '"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}'
FURTHER = F32.replace("4]}", '4], "more": 1}')
EMPTY = '"x": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}'
SCALAR = '"y": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]}'


@pytest.mark.parametrize(
    "text",
    [
        f'{{"__metadata__": null, {F32}}}',
        f'{{"__metadata__": {{}}, {F32}}}',
        f'{{{F32}, "__metadata__": {{"format": "pt"}}}}',
        f'{{"__metadata__": {{"a": 1}}, {F32}}}',
        f'{{"__metadata__": {{"a": null}}, {F32}}}',
        f'{{"__metadata__": [], {F32}}}',
        f'{{"__metadata__": "pt", {F32}}}',
        f'{{"__metadata__": {{"a": {{}}}}, {F32}}}',
        f'{{"__metadata__": {{}}, "__metadata__": null, {F32}}}',
        f"  {{{F32}}}",
        f"\n{{{F32}}}\n   ",
        f"{{{F32}}}\0",
        f"\ufeff{{{F32}}}",
        f"[{{{F32}}}]",
        f"{{{FURTHER}}}",
        f"{{{F32.replace('[1]', '[1.0]')}}}",
        f"{{{F32.replace('[1]', 'null')}}}",
        f"{{{F32.replace('F32', 'f32')}}}",
        f'{{{F32}, "y": null}}',
        '{"x": {"dtype": "F32", "shape": [1]}}',
        f'{{"__metadata__": null, {EMPTY}, {SCALAR}}}',
    ],
)
def test_oddities_are_read_and_refused_as_the_library_does(tmp_path, text):
    """A header that the library reads is no error, and one that it refuses is."""
    safetensors = pytest.importorskip("safetensors")
    path = tmp_path / "x.safetensors"
    write_file(path, text.encode(), b"1234")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            theirs = set(file.keys())
    except safetensors.SafetensorError:
        theirs = None
    try:
        ours = set(read_header(path).tensors)
    except ModelError:
        ours = None
    assert ours == theirs


def test_an_empty_tensor_and_a_single_number_are_allowed(tmp_path):
    """Shapes [0] and [] take no bytes and one number's."""
    path = tmp_path / "x.safetensors"
    header = {
        "a": {"dtype": "F16", "shape": [0], "data_offsets": [0, 0]},
        "b": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]},
    }
    write_file(path, header, b"1234")
    assert read_header(path).tensors["b"].numbers == 1


def test_a_truncated_file_is_refused(tmp_path):
    """The tensors need more bytes than the file has."""
    header, data = read_file(DEMO / WEIGHTS)
    assert "it was cut off" in refused(tmp_path, header, data[:-1])


def test_a_file_cut_off_in_its_header_is_refused(tmp_path):
    """The header's length goes beyond the file."""
    assert "it was cut off" in refused(tmp_path, {"a": ONE}, length=1000)


def test_a_huge_header_is_refused_without_being_read(tmp_path):
    """A length of 2^63 is not allocated."""
    assert f"{MOST_HEADER_BYTES:,} are the most" in refused(tmp_path, {"a": ONE}, length=1 << 63)


def test_bytes_after_the_last_tensor_are_refused(tmp_path):
    """A file is as long as its tensors."""
    assert "1 bytes follow" in refused(tmp_path, {"a": ONE}, b"12345")


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ([2, 6], "overlaps the one before it"),
        ([0, 4], "overlaps the one before it"),
        ([6, 10], "leaves 2 bytes unused"),
        ([4, 1 << 62], "its offsets"),
        ([8, 4], "its offsets"),
    ],
)
def test_offsets_that_overlap_leave_holes_or_lie_are_refused(tmp_path, second, message):
    """Every byte belongs to one tensor."""
    header = {"a": ONE, "b": {"dtype": "F16", "shape": [2], "data_offsets": second}}
    assert message in refused(tmp_path, header, b"12345678")


def test_a_name_that_stands_twice_is_refused(tmp_path):
    """The last one would win in most readers."""
    one = json.dumps(ONE)
    assert "'a' stands twice" in refused(tmp_path, f'{{"a": {one}, "a": {one}}}'.encode(), b"1234")


@pytest.mark.parametrize(
    "told",
    [
        {"dtype": "F17", "shape": [2], "data_offsets": [0, 4]},
        {"dtype": "F16", "shape": [-2], "data_offsets": [0, 4]},
        {"dtype": "F16", "shape": [2.0], "data_offsets": [0, 4]},
        {"dtype": "F16", "shape": [True, 2], "data_offsets": [0, 4]},
        {"dtype": "F16", "shape": 2, "data_offsets": [0, 4]},
        {"dtype": "F16", "shape": [2], "data_offsets": [0]},
        {"dtype": "F16", "shape": [2]},
        {"dtype": ["F16"], "shape": [2], "data_offsets": [0, 4]},
        {"dtype": "F16", "shape": [1 << 62, 1 << 62], "data_offsets": [0, 4]},
        "F16",
    ],
)
def test_a_tensor_that_is_not_told_properly_is_refused(tmp_path, told):
    """Types, shapes and offsets are checked one by one."""
    assert "tensor 'a'" in refused(tmp_path, {"a": told}, b"1234")


@pytest.mark.parametrize(
    "header", [b"[]", b"{", b"<html>not found</html>", b'{"a": ' + b"[" * 200_000, b"{\xff}", b'{"a": 1e999}']
)
def test_what_is_no_json_object_is_refused(tmp_path, header):
    """A web page, another format, or nested without end."""
    refused(tmp_path, header, b"1234")


def test_a_file_of_a_few_bytes_is_refused(tmp_path):
    """There is not even a length."""
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"123")
    with pytest.raises(ModelError, match="too few for a safetensors file"):
        read_header(path)
