"""The state's file: read, written, merged, lost, locked."""

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plan_memory import dataset, notebook

from kaggle_kit.errors import ProjectError, UsageError
from kaggle_kit.remote.plan.state import (
    STATE,
    Merged,
    Pushed,
    PushedNotebook,
    State,
    dump_state,
    load_state,
    push_lock,
    save_state,
)

HASH = st.sampled_from(["0" * 64, "ab" * 32])
PUSHED = st.builds(
    Pushed,
    version=st.integers(1, 99),
    digest=HASH,
    size=st.integers(0, 2**60),
    files=st.dictionaries(st.text(st.characters(codec="utf-8"), min_size=1), st.just(f"{'0' * 64} 7")),
)
NOTEBOOK = st.builds(
    PushedNotebook,
    version=st.integers(1, 99),
    digest=HASH,
    source=HASH,
    inputs=st.lists(st.just("a/b/1")),
    merged=st.none() | st.builds(Merged, version=st.integers(1, 99), source=HASH),
)
STATES = st.builds(
    State,
    version=st.just(1),
    datasets=st.dictionaries(st.text(st.characters(codec="utf-8")), PUSHED),
    models=st.dictionaries(st.just("a/b/c/d"), PUSHED),
    notebooks=st.dictionaries(st.just("a/b"), NOTEBOOK),
    pending=st.dictionaries(st.sampled_from(["dataset a/b", "notebook a/b"]), PUSHED | NOTEBOOK),
)


@given(STATES)
def test_what_is_saved_is_loaded(tmp_path_factory, state):
    """A state comes back from its file as it was."""
    root = tmp_path_factory.mktemp("project")
    save_state(root, state)
    assert load_state(root) == state


def test_no_file_is_no_push(tmp_path):
    """A project that was never pushed has an empty state."""
    assert load_state(tmp_path) == State()


def test_a_state_that_says_the_same_is_not_written(tmp_path):
    """A push that changed nothing leaves the file as it is, for git's sake."""
    save_state(tmp_path, State())
    before = (tmp_path / STATE).stat()
    save_state(tmp_path, State())
    assert (tmp_path / STATE).stat() == before


def test_one_file_is_one_line(tmp_path):
    """A changed file of a dataset changes its own line, digest, size and version: no other."""
    first = dump_state(State().with_pushed(dataset(tmp_path, a=b"1", b=b"1", manifest=False), 1)).splitlines()
    second = dump_state(State().with_pushed(dataset(tmp_path, a=b"22", b=b"1", manifest=False), 2)).splitlines()
    assert len(first) == len(second)
    assert sum(one != two for one, two in zip(first, second, strict=True)) == 4


def test_the_order_of_pushes_does_not_show(tmp_path):
    """Two orders of the same pushes write the same file."""
    one, two = dataset(tmp_path, "ada/one-one"), dataset(tmp_path, "ada/two-two")
    assert dump_state(State().with_pushed(one, 1).with_pushed(two, 1)) == dump_state(
        State().with_pushed(two, 1).with_pushed(one, 1)
    )


def test_a_notebook_and_a_dataset_may_share_a_reference(tmp_path):
    """The two are kept apart."""
    book = notebook(tmp_path)
    state = State().with_pushed(dataset(tmp_path, book.reference), 1).with_notebook(book, 2, ())
    assert state.datasets[book.reference].version == 1
    assert state.notebooks[book.reference].version == 2


GOOD = json.loads(dump_state(State()))
WRONG = {
    "conflict": ("{\n<<<<<<< HEAD\n}\n=======\n{}\n>>>>>>> other\n", r"line 2: a merge was not finished"),
    "no JSON": ("{", "cannot be read as JSON"),
    "no table": ("[]", "no version"),
    "no version": ("{}", "no version"),
    "newer": (json.dumps(GOOD | {"version": 2}), "is of version 2, this kit reads version 1; update"),
    "unknown key": (json.dumps(GOOD | {"dataset": {}}), "unknown key 'dataset'; did you mean 'datasets'"),
    "wrong value": (json.dumps(GOOD | {"datasets": {"a/b": 1}}), "datasets.a/b"),
    "short hash": (json.dumps(GOOD | {"notebooks": {"a/b": {"version": 1, "digest": "x"}}}), "notebooks.a/b"),
    "twice": ('{"version": 1, "version": 1}', "'version' stands twice"),
    "no text": (b"\xff", "is not UTF-8"),
    "deep": ("[" * 100_000, "nests more than 100 levels"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_file_is_told(case, tmp_path):
    """The error names the file and what is wrong; nothing is guessed."""
    text, words = WRONG[case]
    (tmp_path / STATE).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ProjectError, match=words) as told:
        load_state(tmp_path)
    assert STATE in str(told.value)


@given(st.binary() | st.text().map(str.encode))
def test_no_bytes_crash_the_reader(tmp_path_factory, data):
    """Whatever stands in the file, it is a state or a ProjectError."""
    root = tmp_path_factory.mktemp("project")
    (root / STATE).write_bytes(data)
    with pytest.raises(ProjectError):
        load_state(root)


HOLD = """
import sys
from pathlib import Path
from kaggle_kit.remote.plan.state import push_lock
with push_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path, monkeypatch):
    """Another process that holds the lock of `tmp_path`."""
    monkeypatch.setenv("KIT_CACHE_DIR", str(tmp_path / "cache"))
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_two_pushes_at_once(tmp_path, holder):
    """The second is told which process has the first."""
    with pytest.raises(UsageError, match=rf"being pushed by another process \({holder.pid}\)"), push_lock(tmp_path):
        pass


def test_a_killed_push_holds_nothing(tmp_path, holder):
    """The lock ends with its process, however that ends."""
    holder.kill()
    holder.wait()
    with push_lock(tmp_path):
        pass


def test_the_lock_leaves_no_file(tmp_path, monkeypatch):
    """A push leaves nothing of its lock in the project, an interrupted one neither."""
    monkeypatch.setenv("KIT_CACHE_DIR", str(tmp_path / "cache"))
    root = tmp_path / "project"
    root.mkdir()
    with pytest.raises(KeyboardInterrupt), push_lock(root):
        raise KeyboardInterrupt
    assert list(root.iterdir()) == []
    with push_lock(root):
        pass
