"""What all tests share: nothing of this user's Kaggle or kit settings is seen, and small whole projects."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import CodeType, SimpleNamespace
from typing import Any

import jinja2
import pytest
from hypothesis import settings
from memory import SCRATCH, has_room, new_folder

from kaggle_kit.errors import ModelError
from kaggle_kit.notebook import render, template_child
from kaggle_kit.runtime import guard, guard_program

# The same examples in every run, however slow the machine: a test that fails now fails again. With
# --hypothesis-profile explore they are others each time.
settings.register_profile("kit", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None)
settings.load_profile("kit")

# jsonschema builds grammars of web addresses when it is imported, which takes two seconds of every process: the one
# test that checks by them has a process of its own.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]

PROJECTS = Path(__file__).parent / "projects"
NEEDED = 4 << 30
"""Bytes of memory that must be free before tests write there; they leave far less."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--in-memory`: the thousands of small files that tests write are never on a disk."""
    parser.addoption("--in-memory", action="store_true", help="write into memory, if it has room")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Choose where tests write; the processes that run side by side write below it."""
    if config.option.in_memory and not config.option.basetemp and has_room(NEEDED):
        config.option.basetemp = str(new_folder("kit-tests"))
        config.add_cleanup(lambda: shutil.rmtree(config.option.basetemp, ignore_errors=True))


class _Briefly:
    """asyncio, in which nothing sleeps longer than a hundredth of a second."""

    def __getattr__(self, name: str) -> object:
        return getattr(asyncio, name)

    @staticmethod
    async def sleep(seconds: float) -> None:
        await asyncio.sleep(min(seconds, 0.01))


@pytest.fixture(scope="session", autouse=True)
def _servers_end_at_once() -> Iterator[None]:
    """uvicorn looks every tenth of a second whether it shall end, and then sleeps one more: here a tenth of that."""
    import uvicorn.server

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uvicorn.server, "asyncio", _Briefly())
        yield


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No variable of kit or Kaggle is set, but for the places of the cache and of what dry runs write.

    What the user has allowed is not seen either.
    """
    for name in list(os.environ):
        if name.startswith(("KIT_", "KAGGLE_")) and name not in ("KIT_CACHE_DIR", SCRATCH):
            monkeypatch.delenv(name)
    monkeypatch.setenv("KIT_CONFIG_DIR", str(tmp_path_factory.getbasetemp() / f"no-settings-{os.getpid()}"))


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT is KeyboardInterrupt: who starts the tests in the background of a shell may have them ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def disk() -> Iterator[Path]:
    """A new folder that is never in memory: seals have a /dev/shm of their own."""
    with tempfile.TemporaryDirectory(prefix="kit-tests-") as folder:
        yield Path(folder)


@pytest.fixture
def minimal(tmp_path: Path) -> Path:
    """A copy of `projects/minimal`: one notebook, a model as a dataset, another as a Kaggle Model."""
    return Path(shutil.copytree(PROJECTS / "minimal", tmp_path / "minimal"))


_COMPILE = jinja2.Environment.compile
_COMPILED: dict[tuple, CodeType] = {}


def _compile_once(environment: jinja2.Environment, source: str, *names: str | None) -> CodeType:
    if not names:  # not one of kit's templates, which all have names and the same settings
        return _COMPILE(environment, source)
    key = (source, *names)
    if key not in _COMPILED:
        _COMPILED[key] = _COMPILE(environment, source, *names)
    return _COMPILED[key]


@pytest.fixture
def filled_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Templates are filled in by this process: what comes after a build is tested without a Python for each build.

    The same templates are filled in again and again: each is compiled once.
    """

    def run(command: list[str], *, input: bytes, **_: object) -> subprocess.CompletedProcess[bytes]:  # noqa: A002
        return subprocess.CompletedProcess(command, 0, json.dumps(template_child.answer(json.loads(input))).encode())

    monkeypatch.setattr(jinja2.Environment, "compile", _compile_once)
    monkeypatch.setattr(render, "subprocess", SimpleNamespace(run=run, TimeoutExpired=subprocess.TimeoutExpired))


class _GuardHere(guard.Guard):
    """A guard that works in this process."""

    def __init__(self, model: Path, *, limits: guard.Limits | None = None) -> None:
        self._model, self._limits, self._work = model, limits, guard_program._Work()

    def close(self) -> None:
        """There is no process to end."""

    def ask(self, what: str, body: Mapping[str, Any], **_: object) -> tuple[Any, bytes]:
        reply, blob = guard_program._answer(self._work, json.loads(json.dumps({"do": what, **body})))
        if kind := reply.get("error"):
            raise guard._ERRORS.get(kind, ModelError)(reply["text"])
        return json.loads(json.dumps(reply["value"])), blob


@pytest.fixture
def guarded_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokenizers and chat templates are read in this process: what comes after is tested without a Python for each.

    That they are read in one of their own, and what bounds it, is in runtime/test_guard.py.
    """
    for module in ("runtime.guard", "runtime.prepare", "model.inspect"):
        monkeypatch.setattr(f"kaggle_kit.{module}.Guard", _GuardHere)


def _paths(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.rglob("*")):
        yield path.relative_to(folder).as_posix(), path.read_bytes() if path.is_file() else b""


@pytest.fixture
def listing() -> object:
    """A function: every path below a folder, and what its file holds."""
    return lambda folder: dict(_paths(folder))


@pytest.fixture
def edit() -> object:
    """A function: replace a text in a file, once, or add it at the end where no old text is given."""

    def edit(path: Path, new: str, old: str | None = None) -> None:
        text = path.read_text(encoding="utf-8")
        if old is None:
            path.write_text(f"{text}\n{new}\n", encoding="utf-8")
            return
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {path}"
        path.write_text(text.replace(old, new), encoding="utf-8")

    return edit
