"""What all tests share: nothing of this user's Kaggle or kit settings is seen, and small whole projects."""

import os
import shutil
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from kaggle_kit.notebook import render

# The same examples in every run, however slow the machine: a test that fails now fails again. With
# --hypothesis-profile explore they are others each time.
settings.register_profile("kit", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None)
settings.load_profile("kit")

PROJECTS = Path(__file__).parent / "projects"
FILLED: dict[str, dict[str, Any]] = {}
"""What templates gave so far, by all that goes into them."""


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No variable of kit or Kaggle is set, but for the place of the cache: end-to-end tests use what is there.

    What the user has allowed is not seen either.
    """
    for name in list(os.environ):
        if name.startswith(("KIT_", "KAGGLE_")) and name != "KIT_CACHE_DIR":
            monkeypatch.delenv(name)
    monkeypatch.setenv("KIT_CONFIG_DIR", str(tmp_path_factory.getbasetemp() / f"no-settings-{os.getpid()}"))


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT is KeyboardInterrupt: who starts the tests in the background of a shell may have them ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def minimal(tmp_path: Path) -> Path:
    """A copy of `projects/minimal`: one notebook, a model as a dataset, another as a Kaggle Model."""
    return Path(shutil.copytree(PROJECTS / "minimal", tmp_path / "minimal"))


@pytest.fixture
def filled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A template whose files, cells and values are those of an earlier build gives the same, without a process.

    For tests of what comes after a build. An error is never kept, nor anything of a project whose templates are links.
    """
    fill = render._filled_in

    def filled(source: Any, template: str, project: Path, parameters: Mapping[str, Any], context: Mapping[str, Any]):
        folders = [project / "templates", render.shipped_templates()]
        if any(path.is_symlink() for path in (folders[0], *folders[0].rglob("*"))):
            return fill(source, template, project, parameters, context)
        files = [dict(_paths(folder)) for folder in folders]
        key = repr((source.cells, template, dict(parameters), dict(context), files))
        if key not in FILLED:
            FILLED[key] = fill(source, template, project, parameters, context)
        return FILLED[key]

    monkeypatch.setattr(render, "_filled_in", filled)


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
