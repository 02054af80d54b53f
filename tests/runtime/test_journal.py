"""The journal: whole rows only, whatever happens to who writes them."""

import random
import secrets
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kaggle_kit.errors import RunError
from kaggle_kit.runtime.journal import _TABLES, PLAIN, SWAPPED, Entry, Journal

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
ENTRIES = st.builds(
    Entry,
    id=TEXT,
    tokens=st.integers(0, 10**6),
    cut=st.lists(TEXT, max_size=3).map(tuple),
    log_probabilities=st.none() | st.lists(st.floats(-1e300, 0), min_size=2, max_size=4).map(tuple),
    mass=st.none() | st.floats(0, 1),
    problem=st.none() | TEXT,
    flags=st.lists(TEXT, max_size=2).map(tuple),
)

WRITER = """
import sys
from pathlib import Path
from kaggle_kit.runtime.journal import Entry, Journal
with Journal(Path(sys.argv[1]), configuration="c") as journal:
    chunk = journal.count() // 8
    print("open", flush=True)
    while True:
        journal.begin(f"{chunk}/{i}" for i in range(8))
        journal.write(Entry(f"{chunk}/{i}", i, ("a",), (-0.5 - chunk, -1.5 - i), 0.9) for i in range(8))
        chunk += 1
"""


@given(entries=st.lists(ENTRIES, max_size=6, unique_by=lambda entry: entry.id))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_entries_come_back_as_they_were(tmp_path, entries):
    """Any ids and problems (NUL, quotes, any script) and every digit of the scores survive the file."""
    name = secrets.token_hex()  # Hypothesis seeds `random`
    with Journal(tmp_path / name, configuration="c") as journal:
        journal.write(entries)
    with Journal(tmp_path / name, configuration="c") as journal:
        assert journal.read() == {entry.id: entry for entry in entries}
        assert list(journal.read()) == [entry.id for entry in entries]
        assert journal.count() == len(entries)


def test_answers_are_the_models(tmp_path):
    """Neither a row with a problem nor one that a rule has answered counts; both passes do."""
    with Journal(tmp_path / "j", configuration="c") as journal:
        journal.write([Entry("1", 5, (), (-1.0, -1.0)), Entry("2", 5, problem="x"), Entry("3", 0, (), (-1.0, -1.0))])
        journal.write([Entry("1", 5, (), (-1.0, -1.0))], pass_name=SWAPPED)
        assert journal.answered() == 2


def test_a_journal_of_another_configuration_is_begun_anew(tmp_path):
    """Rows that were scored under other settings are never mixed in."""
    with Journal(tmp_path / "j", configuration="one") as journal:
        journal.write([Entry("1")])
    with Journal(tmp_path / "j", configuration="two") as journal:
        assert journal.read() == {}
    with Journal(tmp_path / "j", configuration="one") as journal:
        assert journal.read() == {}


def test_a_row_that_is_written_again_is_replaced(tmp_path):
    """The last word on a row counts."""
    with Journal(tmp_path / "j", configuration="c") as journal:
        journal.write([Entry("1", problem="refused")])
        journal.write([Entry("1", 5, (), (-0.1, -2.0))])
        assert journal.read() == {"1": Entry("1", 5, (), (-0.1, -2.0))}


def test_a_reader_sees_rows_while_the_writer_has_the_file_open(tmp_path):
    """The notebook counts rows that the worker has written, without waiting for its end."""
    with Journal(tmp_path / "j", configuration="c") as writer, Journal(tmp_path / "j", configuration="c") as reader:
        writer.write([Entry("1"), Entry("2")])
        assert reader.count() == 2
        writer.write([Entry("3")])
        assert list(reader.read()) == ["1", "2", "3"]


def test_a_chunk_is_written_whole_or_not_at_all(tmp_path):
    """Where one row of a chunk cannot be written, none of the chunk is."""
    with Journal(tmp_path / "j", configuration="c") as journal:
        with pytest.raises(RunError, match="cannot be written"):
            journal.write([Entry("1"), Entry("2", tokens=None)])
        assert journal.count() == 0


def test_kill_9_leaves_whole_chunks(tmp_path):
    """A writer that is killed at random moments, and started again, leaves whole chunks of whole rows each time."""
    path = tmp_path / "journal.sqlite"
    rng = random.Random(4)
    before = 0
    for _ in range(6):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
        with writer:
            assert writer.stdout.readline() == b"open\n"
            time.sleep(rng.uniform(0.01, 0.15))
            writer.send_signal(signal.SIGKILL)
            writer.wait()
        with Journal(path, configuration="c") as journal:
            entries = journal.read()
            assert journal.most_times() <= 1
            assert journal.in_flight().keys() in (set(), {f"{len(entries) // 8}/{i}" for i in range(8)})
        assert len(entries) % 8 == 0
        assert len(entries) >= before
        for number, entry in enumerate(entries.values()):
            chunk, i = divmod(number, 8)
            assert entry == Entry(f"{chunk}/{i}", i, ("a",), (-0.5 - chunk, -1.5 - i), 0.9)
        before = len(entries)
    assert before > 0


@pytest.mark.parametrize("kind", ["garbage", "folder", "below a file"])
def test_a_file_that_is_no_journal_is_an_error_with_its_path(tmp_path, kind):
    """Anything else that stands there is told, and not overwritten."""
    path = tmp_path / "j"
    match kind:
        case "garbage":
            path.write_bytes(b"no database " * 1000)
        case "folder":
            path.mkdir()
        case _:
            path.write_bytes(b"")
            path = path / "k"
    with pytest.raises(RunError, match=r"journal .*/j.* cannot be opened"):
        Journal(path, configuration="c")


def test_a_full_disk_is_an_error_and_keeps_what_was_written(tmp_path):
    """Where the file may not grow, the write fails as a RunError, and earlier rows stay readable."""
    with Journal(tmp_path / "j", configuration="c") as journal:
        journal.write([Entry("1")])
        journal._connection.execute("PRAGMA max_page_count = 8")
        with pytest.raises(RunError, match=r"cannot be written: .*full"):
            journal.write(Entry(f"{i:1000}") for i in range(1000))
        assert list(journal.read()) == ["1"]


def test_the_file_is_closed_at_the_end(tmp_path):
    """After the with-block no more can be written."""
    with Journal(tmp_path / "j", configuration="c") as journal:
        pass
    with pytest.raises((RunError, sqlite3.ProgrammingError)):
        journal.write([Entry("1")])


def test_passes_are_kept_apart(tmp_path):
    """A row has an entry in each pass, and count() counts both."""
    with Journal(tmp_path / "j", configuration="c") as journal:
        journal.write([Entry("1", 5)])
        journal.write([Entry("1", 6)], pass_name=SWAPPED)
        assert journal.read(pass_name=PLAIN) == {"1": Entry("1", 5)}
        assert journal.read(pass_name=SWAPPED) == {"1": Entry("1", 6)}
        assert journal.count() == 2
        assert journal.most_times() == 1


def test_a_row_that_was_written_twice_is_counted(tmp_path):
    """most_times() tells a row that was scored again; an empty journal has 0."""
    with Journal(tmp_path / "j", configuration="c") as journal:
        assert journal.most_times() == 0
        journal.write([Entry("1"), Entry("2")])
        journal.write([Entry("1")])
        assert journal.most_times() == 2


def test_rows_are_in_flight_until_they_are_written(tmp_path):
    """What the engine was given and never answered survives the process, with how often it was alone."""
    with Journal(tmp_path / "j", configuration="c") as journal:
        journal.begin(["1", "2", "3"])
        journal.write([Entry("2")])
    with Journal(tmp_path / "j", configuration="c") as journal:
        assert journal.in_flight() == {"1": 0, "3": 0}
        journal.begin(["1"])
        journal.begin(iter(["1"]))
        assert journal.in_flight() == {"1": 2, "3": 0}
        journal.write([Entry("1"), Entry("3", problem="x")], pass_name=SWAPPED)
        assert journal.in_flight() == {}


def test_another_configuration_forgets_what_was_in_flight(tmp_path):
    """A row that killed another model's engine is no suspect."""
    with Journal(tmp_path / "j", configuration="one") as journal:
        journal.begin(["1"])
    with Journal(tmp_path / "j", configuration="two") as journal:
        assert journal.in_flight() == {}


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER t AFTER INSERT ON rows BEGIN DELETE FROM rows; END",
        "CREATE VIEW v AS SELECT 1",
        "CREATE INDEX i ON rows (lower(id))",
        "ALTER TABLE rows ADD COLUMN more TEXT",
        "CREATE VIRTUAL TABLE f USING fts5(id)",
    ],
)
def test_a_file_with_more_in_it_than_a_journal_is_refused(tmp_path, statement):
    """A database that came with somebody else's project brings no trigger, view or function of its own."""
    with Journal(tmp_path / "j", configuration="c") as journal:
        journal.write([Entry("1")])
    with closing(sqlite3.connect(tmp_path / "j")) as planted, planted:
        planted.execute(statement)
    with pytest.raises(RunError, match=r"it is not a journal.*delete it"):
        Journal(tmp_path / "j", configuration="c")


@pytest.mark.parametrize("made", [0, 1, 2])
def test_a_journal_that_was_half_made_is_made_whole(tmp_path, made):
    """A writer killed between two tables leaves some of them; the next one goes on."""
    with closing(sqlite3.connect(tmp_path / "j")) as begun, begun:
        for statement in _TABLES.split(";")[:made]:
            begun.execute(statement)
    with Journal(tmp_path / "j", configuration="c") as journal:
        journal.write([Entry("1")])
        assert list(journal.read()) == ["1"]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("cut", "5"),
        ("cut", "[[]]"),
        ("flags", "{"),
        ("log_probabilities", '["x"]'),
        ("log_probabilities", "5"),
        ("log_probabilities", f"[1{'0' * 400}]"),
        ("log_probabilities", "[" * 100_000),
        ("tokens", "many"),
        ("mass", "much"),
        ("cut", "[" * 100_000),
        ("problem", b"bytes"),
    ],
)
def test_a_row_that_no_journal_wrote_is_an_error(tmp_path, column, value):
    """A value of another kind is told with what to do, and is no traceback."""
    with Journal(tmp_path / "j", configuration="c") as journal:
        journal.write([Entry("1", log_probabilities=(-1.0,))])
    with closing(sqlite3.connect(tmp_path / "j")) as planted, planted:
        planted.execute(f"UPDATE rows SET {column} = ?", (value,))
    with (
        Journal(tmp_path / "j", configuration="c") as journal,
        pytest.raises(RunError, match="a row that kit did not write"),
    ):
        journal.read()
