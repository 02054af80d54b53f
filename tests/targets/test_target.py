"""Targets: shipped ones, a project's own, and wrong ones; and freezes: what `pip freeze` writes, read."""

import pytest

from kaggle_kit.errors import ProjectError, UsageError
from kaggle_kit.targets import load_target, parse_freeze, read_freeze, target_names

OWN = """
summary = "a machine of my own"
python = "3.12"
glibc = "2.39"
engine = "vllm==0.32.0"
session_seconds = 60
working_bytes = 1000
"""


@pytest.fixture
def own(tmp_path):
    """A project folder with the target `own`."""
    (tmp_path / "targets").mkdir()
    (tmp_path / "targets" / "own.toml").write_text(OWN)
    return tmp_path


@pytest.mark.parametrize("name", target_names())
def test_every_shipped_target_loads(name):
    """Each shipped target is named by its file and has a session's time and a working folder's size."""
    target = load_target(name)
    assert target.name == name
    assert target.session_seconds > 0
    assert target.working_bytes > 0


def test_the_local_target_has_no_gpu():
    """`local-cpu` asks Kaggle for no accelerator."""
    target = load_target("local-cpu")
    assert (target.gpus, target.accelerator) == (0, None)


def test_a_project_adds_its_own(own):
    """A project's targets stand beside the shipped ones."""
    assert {"own", "local-cpu"} <= set(target_names(project=own))
    assert load_target("own", project=own).summary == "a machine of my own"


def test_a_projects_own_comes_first(own):
    """A project's target of a shipped name takes its place."""
    (own / "targets" / "own.toml").rename(own / "targets" / "local-cpu.toml")
    assert load_target("local-cpu", project=own).summary == "a machine of my own"


def test_an_unknown_target():
    """A misspelt target gets a suggestion and the list."""
    with pytest.raises(UsageError, match=r"'localcpu'; did you mean 'local-cpu'\?; known: .*kaggle-t4x2"):
        load_target("localcpu")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gpu = 1", r"own\.toml: unknown key 'gpu'; did you mean 'gpus'\?"),
        ('name = "other"', r"own\.toml: unknown key 'name'"),
        ("gpus = -1", r"own\.toml: gpus = -1"),
        ("gpus = ", r"own\.toml is not valid TOML"),
        ("engine_options.x = [1]", r"engine_options\.x = \[1\]: a text, a number"),
        ('worker_environment.LD_PRELOAD = "x.so"', r"own\.toml: .*worker_environment\.LD_PRELOAD"),
        ('worker_environment.PYTHONSTARTUP = "x.py"', r"worker_environment\.PYTHONSTARTUP"),
        ('worker_environment.https_proxy = "127.0.0.1"', r"worker_environment\.https_proxy"),
        ('worker_environment.VLLM_PLUGINS = "evil"', r"worker_environment\.VLLM_PLUGINS"),
        ('worker_environment.VLLM_LOGGING_LEVEL = "../x"', r"worker_environment\.VLLM_LOGGING_LEVEL"),
    ],
)
def test_a_wrong_target(own, text, message):
    """The error names the file and the key."""
    path = own / "targets" / "own.toml"
    path.write_text(OWN + text)
    with pytest.raises(ProjectError, match=message):
        load_target("own", project=own)


def test_a_missing_key(own):
    """A target that says nothing of its Python is refused."""
    path = own / "targets" / "own.toml"
    path.write_text(OWN.replace('python = "3.12"', ""))
    with pytest.raises(ProjectError, match="the key 'python' is missing"):
        load_target("own", project=own)


def test_a_target_that_is_no_text(own):
    """Bytes that are no UTF-8 are an error of the file."""
    (own / "targets" / "own.toml").write_bytes(b"\xff")
    with pytest.raises(ProjectError, match="not valid TOML"):
        load_target("own", project=own)


MACHINE = (
    *("pythons", "glibc", "driver", "cuda", "gpus", "gpu_memory_bytes", "compute_capability", "cores"),
    *("memory_bytes", "scratch_bytes", "session_seconds", "working_bytes", "mounts", "freeze", "engine", "accelerator"),
)


@pytest.mark.parametrize("name", [name for name in target_names() if name != "local-cpu"])
@pytest.mark.parametrize("key", MACHINE)
def test_every_value_has_a_source(name, key):
    """Whatever a shipped target states of its machine and image says when, where and how surely it was seen."""
    target = load_target(name)
    if getattr(target, key) in (None, (), {}):
        assert key not in target.facts
    else:
        assert target.facts[key].source


def test_two_pythons():
    """Kaggle's images of Python 3.12 and 3.13 are one target, and `python` is the first."""
    target = load_target("kaggle-t4x2")
    assert (target.pythons, target.python) == (("3.12", "3.13"), "3.12")


def test_a_single_python_is_a_list_of_one(own):
    """A target's file may say `python` alone."""
    assert load_target("own", project=own).pythons == ("3.12",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('pythons = ["3.13"]', "say `python` or `pythons`, not both"),
        ('facts.glibe = {date = 2026-01-01, source = "x", confidence = "read"}', "no value of 'glibe'.*'glibc'"),
        ('facts.glibc = {date = 2026-01-01, source = "x", confidence = "sure"}', r"facts\.glibc\.confidence"),
        ('facts.glibc = {date = "soon", source = "x", confidence = "read"}', r"facts\.glibc\.date"),
        ('mode = "beside"', "mode = 'beside'"),
        ('freeze = {"3.11" = "x.txt"}', r"freeze is of Python 3\.11, and `pythons` does not list it"),
        ('freeze = {"3.12" = "x.txt"}', r"x\.txt cannot be read"),
        ('compute_capability = "sm_75"', "compute_capability = 'sm_75'"),
    ],
)
def test_a_wrong_fact(own, text, message):
    """The error names the file and what is wrong with the image's description."""
    path = own / "targets" / "own.toml"
    path.write_text(OWN + text)
    with pytest.raises(ProjectError, match=message):
        load_target("own", project=own)


def test_a_freeze_of_ones_own(own):
    """A project's target reads the freeze beside it."""
    (own / "targets" / "own.txt").write_text("# python 3.12\nNumPy==2.4.6\n")
    with (own / "targets" / "own.toml").open("a") as file:
        file.write('freeze = {"3.12" = "own.txt"}')
    assert load_target("own", project=own).installed == {"3.12": {"numpy": "2.4.6"}}


def test_a_freeze_of_another_python(own):
    """A freeze that names another Python than the target does is refused."""
    (own / "targets" / "own.txt").write_text("# python 3.13\nnumpy==2.4.6\n")
    with (own / "targets" / "own.toml").open("a") as file:
        file.write('freeze = {"3.12" = "own.txt"}')
    with pytest.raises(ProjectError, match=r"a freeze of Python 3\.13, and the target calls it 3\.12's"):
        load_target("own", project=own)


def test_the_offline_machine_has_torch():
    """What is known of the H200's image holds the torch that vLLM is laid over."""
    assert load_target("offline-h200").installed["3.12"]["torch"] == "2.11.0+cu130"


def test_versions_are_numbers(own, edit):
    """Cards and engine are compared as numbers; what is not pinned is before everything."""
    assert load_target("kaggle-t4x2").capability == (7, 5)
    assert load_target("local-cpu").capability is None
    assert load_target("own", project=own).engine_version == (0, 32, 0)
    edit(own / "targets" / "own.toml", 'engine = "vllm"', 'engine = "vllm==0.32.0"')
    assert load_target("own", project=own).engine_version == (0, 0, 0)


FREEZE = """
# python 3.13
NumPy==2.4.6
torch==2.11.0+cu128
ruamel.yaml==0.18 ; python_version > "3.8"
pandas[excel]==2.3.3
-e git+https://example.test/x.git#egg=x
local @ file:///tmp/local.whl
"""


def test_a_freezes_names_and_versions():
    """Names are canonical, versions whole; lines without a version are passed over."""
    assert parse_freeze(FREEZE).packages == {
        "numpy": "2.4.6",
        "torch": "2.11.0+cu128",
        "ruamel-yaml": "0.18",
        "pandas": "2.3.3",
    }


def test_a_freezes_python():
    """A comment names the Python; without one nobody knows."""
    assert parse_freeze(FREEZE).python == "3.13"
    assert parse_freeze("numpy==2.4.6").python is None


@pytest.mark.parametrize("text", ["", "numpy>=2\n", "Package Version\n------- -------\nnumpy 2.4.6\n"])
def test_nothing_in_a_freeze(text):
    """A file without a single pin is refused with the command that writes one."""
    with pytest.raises(ProjectError, match=r"names no package.*pip freeze"):
        parse_freeze(text)


def test_a_version_of_a_freeze_that_is_none():
    """A version that is none is an error with its line."""
    with pytest.raises(ProjectError, match=r"line 2: .*'two'"):
        parse_freeze("a==1\nb==two\n")


def test_a_missing_freeze(tmp_path):
    """A missing file is an error that names it."""
    with pytest.raises(ProjectError, match=r"gone\.txt cannot be read"):
        read_freeze(tmp_path / "gone.txt")
