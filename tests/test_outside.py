"""What others wrote is read within bounds, or refused with the file's name."""

from __future__ import annotations

import json
import os
import socket
import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaggle_kit.errors import KitError, OutsideError
from kaggle_kit.outside import (
    MEGA,
    parse_json,
    parse_toml,
    read_bytes,
    read_json,
    read_text,
    read_toml,
    whole_characters,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.mark.parametrize("kind", ["pipe", "socket", "folder", "device", "nothing", "link to a device"])
def test_only_a_regular_file_is_read(tmp_path, monkeypatch, kind):
    """A pipe does not make the reader wait, a device does not fill the memory; links may be followed to neither."""
    monkeypatch.chdir(tmp_path)  # a socket's path may have 107 bytes
    path = tmp_path / "config.json"
    with socket.socket(socket.AF_UNIX) as listener:
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "socket":
            listener.bind("config.json")
        elif kind == "folder":
            path.mkdir()
        elif kind == "link to a device":
            path.symlink_to("/dev/zero")
        elif kind == "device":
            path = Path("/dev/zero")
        for follow in (False, True):
            with pytest.raises(OutsideError, match=path.name):
                read_bytes(path, most_bytes=10, follow=follow)


def test_a_link_is_followed_only_where_that_is_asked(tmp_path):
    """A link to a file is the file where links are followed, and refused where not."""
    (tmp_path / "real").write_bytes(b"{}")
    (tmp_path / "link").symlink_to("real")
    assert read_json(tmp_path / "link", follow=True) == {}
    with pytest.raises(OutsideError, match="link is a link"):
        read_json(tmp_path / "link")


def test_a_file_over_its_bound_is_refused_unread(tmp_path):
    """An empty file of 8 TB, as sparse files can be, is refused at once; one of the bound's size is read."""
    path = tmp_path / "x"
    path.touch()
    os.truncate(path, 8 << 40)
    with pytest.raises(OutsideError, match="8,796,093,022,208 bytes"):
        read_bytes(path, most_bytes=MEGA)
    os.truncate(path, 10)
    assert read_bytes(path, most_bytes=10) == bytes(10)
    with pytest.raises(OutsideError, match="at most 9"):
        read_bytes(path, most_bytes=9)


def test_a_file_without_a_size_is_bounded_too():
    """Files of /proc say that they have no bytes, and have some."""
    with pytest.raises(OutsideError, match="more than 5 bytes"):
        read_bytes(Path("/proc/self/status"), most_bytes=5)


def test_a_name_that_no_file_can_have_is_refused(tmp_path):
    """A NUL in a name, or a name that is too long, is an error of the file."""
    for name in ("a\0b", "x" * 5000):
        with pytest.raises(OutsideError):
            read_text(tmp_path / name, most_bytes=10, follow=True)


@given(value=JSON)
def test_what_python_writes_is_read(value):
    """Any JSON of usual numbers is read as Python's own parser reads it."""
    for ascii_only in (True, False):
        text = json.dumps(value, ensure_ascii=ascii_only)
        assert parse_json(text.encode(), "x") == json.loads(text)


@given(raw=st.binary() | st.text(alphabet='[]{}",:\\u0d8 1en-').map(str.encode))
def test_any_bytes_are_read_or_refused(raw):
    """Nothing but KitError comes out."""
    try:
        parse_json(raw, "x")
    except KitError as error:
        assert str(error).startswith("x ")  # noqa: PT017


@pytest.mark.parametrize("opener", ["[", '{"a":', '[{"a":'])
def test_deep_nesting_is_refused_before_it_is_parsed(opener):
    """A million levels, 101 levels, closed or not; 100 are read."""
    for levels in (101, 1_000_000):
        with pytest.raises(OutsideError, match="nests more than 100 levels"):
            parse_json((opener * levels).encode(), "x")
    assert parse_json(b"[" * 100 + b"]" * 100, "x")


def test_brackets_in_strings_are_no_nesting():
    """Only brackets outside of strings count, whatever the strings escape."""
    value = ["[{" * 500, '"[' * 500, "\\", '\\"[' * 500]
    assert parse_json(json.dumps(value).encode(), "x") == value


def test_many_small_values_do_not_fill_the_memory():
    """60 MB of empty objects would take two gigabytes."""
    raw = b"[" + b"{}," * (20 * MEGA) + b"{}]"
    tracemalloc.start()
    try:
        with pytest.raises(OutsideError, match="more than 4,000,000 values"):
            parse_json(raw, "x")
        assert tracemalloc.get_traced_memory()[1] < 5 * len(raw)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "raw",
    [b'"' + b'\\"' * (16 * MEGA), b'"",' * (10 * MEGA), b"\\" * 32 * MEGA, b"{" * 32 * MEGA, b"1" * 32 * MEGA],
    ids=["escapes", "strings", "backslashes", "openers", "digits"],
)
def test_measuring_takes_time_in_proportion(raw):
    """No text makes the measuring slow."""
    start = time.monotonic()
    with pytest.raises(OutsideError):
        parse_json(raw, "x")
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("digits", [102, 309, 5000, 1_000_000])
def test_a_number_that_no_float_can_hold_is_refused(digits):
    """Such an integer would fail where it is first multiplied, or already in the parser."""
    for text in ("9" * digits, "-" + "9" * digits, f'{{"a": [{"9" * digits}]}}'):
        with pytest.raises(OutsideError, match="digits"):
            parse_json(text.encode(), "x")
    assert parse_json(b'{"model_max_length": 1000000000000000019884624838656}', "x")


def test_half_a_character_is_refused():
    """A surrogate alone could not be printed or written again; a pair is one character."""
    with pytest.raises(OutsideError, match="half a character"):
        parse_json(b'["\\ud800"]', "x")
    assert parse_json(b'["\\ud83d\\ude00"]', "x") == ["😀"]


def test_a_name_twice():
    """The last one counts, as for Python's own parser, unless once is asked for."""
    assert parse_json(b'{"a": 1, "a": 2}', "x") == {"a": 2}
    with pytest.raises(OutsideError, match="'a' stands twice"):
        parse_json(b'{"a": 1, "a": 2}', "x", once=True)


@pytest.mark.parametrize(
    "text",
    ["a = " + "[" * 100_000, "a" + " . a" * 100_000 + " = 1", "a = {b=" * 100_000, "a = " + "9" * 5000, "a" * 4 * MEGA],
    ids=["lists", "parts", "tables", "digits", "letters"],
)
def test_a_wild_table_is_refused_in_time(text, tmp_path):
    """Nesting, keys of many parts, long numbers."""
    start = time.monotonic()
    with pytest.raises(OutsideError, match=r"x\.toml"):
        parse_toml(text, "x.toml")
    assert time.monotonic() - start < 5
    (tmp_path / "y.toml").write_text("a.b = 1")
    assert read_toml(tmp_path / "y.toml") == {"a": {"b": 1}}


@pytest.mark.parametrize("part", ['"="', "'['", '","', '"\\""', "'#'", '"{"', "'.='"])
@pytest.mark.parametrize("before", ["", 'x = """\n\' """\n', '# """\n', "x = {a = '''\n\" ''', ", "[[", "[ "])
def test_a_key_of_many_quoted_parts_is_refused(part, before):
    """Also if its quotes hold what elsewhere ends a key, or a quote before it could hide it."""
    with pytest.raises(OutsideError, match="more than 30 parts"):
        parse_toml(before + ".".join([part] * 3000) + " = 1", "x.toml")


def test_dots_elsewhere_are_no_parts_of_keys():
    """Texts, comments and lists of numbers may have as many as they like."""
    text = f'a = "{"b.c " * 500}"\nd = [{"1.5, " * 500}] # {"." * 500}\n' + f"e = '''{'..' * 500}'''\n"
    assert set(parse_toml(text, "x.toml")) == {"a", "d", "e"}


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (rb'"\ud83d"', "\ufffd"),
        (rb'"a\udc80b"', "a\ufffdb"),
        (rb'"\ud83d\ude00"', "😀"),
        (rb'"\\ud83d"', "\\ud83d"),
        (rb'"\\\ud83d\ud83d\ude00"', "\\\ufffd😀"),
    ],
)
def test_half_a_character_can_be_replaced(written, read):
    """A log may be cut within one; whole characters and escaped backslashes stay."""
    assert parse_json(whole_characters(written), "x") == read
