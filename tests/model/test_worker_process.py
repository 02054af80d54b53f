"""What the worker said, and how it ended."""

from __future__ import annotations

import json
import os
import resource
import socket
import sys
from pathlib import Path

import pytest

from kaggle_kit.errors import ModelError
from kaggle_kit.model import worker_process
from kaggle_kit.model.worker_process import counts_in, names_in, run_worker, settings_in, take_files, versions_in
from kaggle_kit.runtime import launch as launching

LINGERS = """
import json, os, sys, time
with os.fdopen(int(sys.argv[2]), "w") as events:
    print(json.dumps({told!r}), file=events)
time.sleep(60)
"""


TELLS_WHERE = """
import json, os, resource, sys, time
with os.fdopen(int(sys.argv[2]), "w") as events:
    for _ in range(100):
        if not (core := resource.getrlimit(resource.RLIMIT_CORE)[0]):
            break
        time.sleep(0.1)
    print(json.dumps({"event": "done", "folder": os.getcwd(), "core": core}), file=events)
"""


@pytest.fixture
def cores_allowed():
    """This process may leave a core file of any size, where the machine lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


@pytest.fixture
def whereabouts(tmp_path, monkeypatch):
    """What a worker says of its folder and of its cores, all paths given as relative ones."""
    monkeypatch.chdir(tmp_path)
    Path("scratch").mkdir()
    Path("program.py").write_text(TELLS_WHERE)
    python = Path(os.path.relpath(sys.executable))
    return run_worker(
        python, {"do": "it"}, scratch=Path("scratch"), tell=lambda _event: None, program=Path("program.py")
    )


def test_the_worker_works_in_scratch(whereabouts, tmp_path):
    """What a library drops where it happens to be is not in the folder that a notebook saves."""
    assert Path(whereabouts["folder"]) == tmp_path / "scratch"


@pytest.mark.usefixtures("cores_allowed")
def test_a_crash_leaves_no_core(request):
    """Where cores are allowed, the worker alone may leave none: its memory is the whole model."""
    assert request.getfixturevalue("whereabouts")["core"] == 0


@pytest.fixture
def lingering(tmp_path, monkeypatch):
    """A function: run a program that tells its last word and then does not end."""
    monkeypatch.setattr(worker_process, "_PATIENCE_SECONDS", 0.2)

    def run(**told):
        program = tmp_path / "program.py"
        program.write_text(LINGERS.format(told=told))
        return run_worker(
            Path(sys.executable), {"do": "it"}, scratch=tmp_path, tell=lambda _event: None, program=program
        )

    return run


def test_what_is_done_is_kept(lingering):
    """A worker that takes long to go, after it said that it is done, has done it."""
    assert lingering(event="done", layers=28) == {"layers": 28}


def test_what_failed_is_told(lingering):
    """Its own words come through, however long it takes to go."""
    with pytest.raises(ModelError, match=r"^does not fit$"):
        lingering(event="failed", message="does not fit", foreseen=True)


PYTHON = Path(sys.executable)


@pytest.fixture
def made(tmp_path):
    """A folder that a quantiser filled with a small model, a recipe and a program."""
    folder = tmp_path / "room" / "model"
    folder.mkdir(parents=True)
    for name in ("config.json", "model-00001-of-00002.safetensors", "recipe.yaml", "modeling_x.py", ".hidden.json"):
        (folder / name).write_text(name)
    (tmp_path / "secret.json").write_text("made-up")
    return folder


def test_the_models_files_come_out_alone(made, tmp_path):
    """Weights and settings are moved as they are, readable to all and executable to none; code stays behind."""
    (made / "config.json").chmod(0o6777)
    take_files(made, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "config.json",
        "model-00001-of-00002.safetensors",
    ]
    assert (tmp_path / "out" / "config.json").stat().st_mode & 0o7777 == 0o644
    assert (tmp_path / "out" / "config.json").read_text() == "config.json"


@pytest.mark.parametrize("kind", ["link", "dangling link", "hard link", "pipe", "socket", "folder"])
def test_what_is_no_file_of_its_own_is_refused(made, tmp_path, kind, monkeypatch):
    """Nothing outside is read, written or changed, and the name is in the sentence."""
    place = made / "tokenizer.json"
    match kind:
        case "link":
            place.symlink_to(tmp_path / "secret.json")
        case "dangling link":
            place.symlink_to(tmp_path / "new.json")
        case "hard link":
            place.hardlink_to(tmp_path / "secret.json")
        case "pipe":
            os.mkfifo(place)
        case "socket":
            monkeypatch.chdir(made)  # the system takes a name of 107 bytes at most
            with socket.socket(socket.AF_UNIX) as door:
                door.bind(place.name)
        case _:
            place.mkdir()
    before = (tmp_path / "secret.json").stat().st_mode
    with pytest.raises(ModelError, match=r"tokenizer\.json"):
        take_files(made, tmp_path / "out")
    assert (tmp_path / "secret.json").read_text() == "made-up"
    assert (tmp_path / "secret.json").stat().st_mode == before
    assert not (tmp_path / "new.json").exists()


@pytest.mark.parametrize("kind", ["link", "file", "nothing"])
def test_a_folder_that_is_none_is_refused(made, tmp_path, kind):
    """A link to another folder in the model's place takes nothing from there."""
    place = made.parent / "merged"
    if kind == "link":
        place.symlink_to(tmp_path)
    elif kind == "file":
        place.write_text("x")
    with pytest.raises(ModelError, match="left no folder merged"):
        take_files(place, tmp_path / "out")
    assert (tmp_path / "secret.json").exists()


DEEP: dict = {}
for _ in range(300):
    DEEP = {"a": DEEP}


@pytest.mark.parametrize(
    "found", [None, [], "x", 1, DEEP, {"a": "x" * (1 << 21)}, {"a": [[[[[[[[[[[[[[1]]]]]]]]]]]]]]}]
)
def test_settings_are_flat_and_small(found):
    """Anything but an object of some depth and size is refused with a sentence."""
    with pytest.raises(ModelError, match="quantization_config"):
        settings_in({"quantization_config": found}, "quantization_config")


@pytest.mark.parametrize("found", [None, 1, "x", {"a": 1}, [1], [["a"]], [None]])
def test_lists_and_versions_are_texts(found):
    """So are names; counts are whole numbers."""
    with pytest.raises(ModelError):
        names_in({"supported": found}, "supported")
    if found:
        with pytest.raises(ModelError):
            versions_in({"versions": found})
        with pytest.raises(ModelError):
            counts_in({"blocks": {} if found == 1 else found}, "blocks")
    assert counts_in({"blocks": 3, "x": "y"}, "blocks", "threads") == {"blocks": 3}
    assert settings_in({"q": {"bits": 4, "groups": [{"a": 1}]}}, "q") == {"bits": 4, "groups": [{"a": 1}]}


SAYS = {
    "a line without an end": 'while True: os.write(1, b"x" * (1 << 20))',
    "a stage without a name": 'print(\'{"event": "stage"}\', flush=True); time.sleep(60)',
    "layers that are texts": 'print(json.dumps({"event": "layer", "done": "1", "total": 2}))',
    "layers below zero": 'print(json.dumps({"event": "layer", "done": -1, "total": 2}), flush=True); time.sleep(9)',
    "a failure that is an object": 'print(json.dumps({"event": "failed", "message": {}}), flush=True); time.sleep(60)',
    "no event at all": 'print("[" * 200_000 + "\\n[1]\\n12\\n{}")',
    "stages without an end": 'while True: print(json.dumps({"event": "stage", "name": "x"}))',
}


@pytest.mark.parametrize("case", SAYS)
def test_what_no_quantiser_says_ends_it(tmp_path, monkeypatch, case):
    """Each is a ModelError, soon, and the process is gone."""
    monkeypatch.setattr("kaggle_kit.model.worker_process._MOST_EVENTS", 1000)
    program = tmp_path / "program.py"
    program.write_text(f"import json, os, sys, time\n{SAYS[case]}\n")
    with pytest.raises(ModelError, match="the quantiser failed"):
        run_worker(PYTHON, {"do": "it"}, scratch=tmp_path, tell=lambda _: None, program=program)


def test_its_words_fill_no_disk(tmp_path, monkeypatch):
    """What it prints without end is a log of bounded size."""
    monkeypatch.setattr(launching, "_MOST_LOG", 1 << 20)
    program = tmp_path / "program.py"
    program.write_text('import os\nfor _ in range(200): os.write(2, b"z" * (1 << 16) + b"\\n")\nprint("the end")\n')
    with pytest.raises(ModelError, match="the quantiser failed"):
        run_worker(PYTHON, {"do": "it"}, scratch=tmp_path, tell=lambda _: None, program=program)
    assert (tmp_path / "it.log").stat().st_size < 2 << 20


def test_it_gets_no_login(tmp_path, monkeypatch):
    """Of this shell's variables it has those on the list."""
    names = ("KAGGLE_API_TOKEN", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "AWS_SECRET_ACCESS_KEY", "LD_PRELOAD_X")
    for name in names:
        monkeypatch.setenv(name, "made-up")
    program = tmp_path / "program.py"
    program.write_text('import json, os\nprint(json.dumps({"event": "done", "seen": dict(os.environ)}))\n')
    found = run_worker(PYTHON, {"do": "it"}, scratch=tmp_path, tell=lambda _: None, program=program)
    assert not set(names) & set(found["seen"])
    assert json.loads((tmp_path / "it.json").read_text()) == {"do": "it"}
