"""The command line: help, exit codes, and no traceback whatever a user does."""

import errno
import subprocess
import sys
from pathlib import Path

import click
import pytest

from kaggle_kit import __version__
from kaggle_kit.cli import main
from kaggle_kit.cli.main import kit, run
from kaggle_kit.errors import KitError, UsageError

HEAVY = {"torch", "vllm", "transformers", "pandas", "numpy", "kaggle"}
SLOW = {"pydantic", "jupytext", "nbformat", "jinja2", "rich", "requests", "pyflakes", "psutil", "tokenizers", "uv"}


def commands(group: click.Group = kit, path: tuple[str, ...] = ()):
    """Every command and group below `group`, as the words that call it."""
    yield path
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name)


ALL = list(commands())


@pytest.fixture
def raising(monkeypatch):
    """A function: make `kit targets` raise this error."""

    def put(error: BaseException) -> None:
        def fail(**_: object) -> None:
            raise error

        monkeypatch.setattr(kit.commands["targets"], "callback", fail)

    return put


def test_help_in_a_fresh_process():
    """The installed command shows its help."""
    program = Path(sys.executable).with_name("kit")
    done = subprocess.run([program, "--help"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Usage: kit [OPTIONS] COMMAND")
    assert done.stderr == ""


def test_help_imports_nothing_slow():
    """Help loads no library but click: that is what keeps it fast."""
    code = "import sys; from kaggle_kit.cli.main import run; run(['--help']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stderr.split()}
    assert loaded & (HEAVY | SLOW) == set()


def test_a_build_imports_nothing_heavy(minimal):
    """A build needs no engine and no table library."""
    code = "import sys; from kaggle_kit.cli.main import run; run(['build']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], cwd=minimal, capture_output=True, text=True, check=True)
    assert {name.split(".")[0] for name in done.stderr.split()} & HEAVY == set()


@pytest.mark.parametrize("words", ALL, ids=" ".join)
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_every_command_has_help(words, option, capsys):
    """Each command explains itself, by both names of the option."""
    assert run([*words, option]) == 0
    assert capsys.readouterr().out.startswith(f"Usage: {' '.join(['kit', *words])}")


@pytest.mark.parametrize("words", [words for words in ALL if words], ids=" ".join)
def test_every_command_shows_an_example(words, capsys):
    """Each command's help has an example that calls it."""
    run([*words, "--help"])
    assert f"  {' '.join(['kit', *words])}" in capsys.readouterr().out.split("Example", 1)[1]


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_every_option_is_explained(words):
    """No option is without a sentence."""
    command: click.Command = kit
    for word in words:
        command = command.commands[word]
    options = [each for each in command.params if isinstance(each, click.Option)]
    assert [each.name for each in options if not each.help] == []


def test_the_version(capsys):
    """The version is the package's."""
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"kit, version {__version__}"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["bild"], "No such command 'bild'"),
        (["build", "--traget", "x"], "No such option '--traget'"),
        (["build", "--target"], "requires an argument"),
        (["dryrun"], "Missing argument 'NAME'"),
        (["dryrun", "x", "--rows", "0"], "--rows"),
        (["dryrun", "x", "--rows", "many"], "'many' is not a valid integer"),
        (["dryrun", "x", "--limit", "0"], "--limit"),
        (["dryrun", "x", "--seal", "wax"], "'wax' is not one of"),
        (["dryrun", "x", "--mounts", "old"], "'old' is not one of"),
    ],
)
def test_wrong_use(words, message, capsys):
    """Wrong words on the command line are told on standard error, with exit code 2."""
    assert run(words) == 2
    found = capsys.readouterr()
    assert message in found.err
    assert found.out == ""


def test_no_command(capsys):
    """`kit` alone shows its help, as wrong use."""
    assert run([]) == 2
    assert "Commands:" in capsys.readouterr().err


@pytest.mark.parametrize(("error", "code"), [(KitError("it failed"), 1), (UsageError("it failed"), 2)])
def test_a_foreseen_error(raising, capsys, error, code):
    """A foreseen error is its message alone, and its own exit code."""
    raising(error)
    assert run(["targets"]) == code
    assert capsys.readouterr().err == "error: it failed\n"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()])
def test_an_interruption(raising, capsys, error):
    """Ctrl-C ends with code 130 and one line."""
    raising(error)
    assert run(["targets"]) == main.INTERRUPTED == 130
    assert capsys.readouterr().err.splitlines()[-1].startswith("interrupted")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST])
def test_what_the_system_refuses(raising, capsys, number):
    """A full disk, missing rights, or a file where a folder should be, is named with its place."""
    raising(OSError(number, "Refused", "/some/place"))
    assert run(["targets"]) == 1
    assert capsys.readouterr().err == "error: /some/place: Refused\n"


def test_a_fault_of_kit_is_not_hidden(raising):
    """What nobody foresaw keeps its traceback."""
    raising(OSError(errno.EBADF, "Bad file descriptor"))
    with pytest.raises(OSError, match="Bad file descriptor"):
        run(["targets"])


def test_a_reader_that_went_away():
    """`kit … | head` ends without a traceback."""
    command = f"{sys.executable} -c 'from kaggle_kit.cli.main import main; main()' targets | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
