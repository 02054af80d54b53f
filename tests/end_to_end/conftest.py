"""Whole projects, run as a user runs them: by the command `kit`, in the real sandbox, with the real engine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from memory import SCRATCH, has_room, new_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
KIT = Path(sys.executable).with_name("kit")
DEMO = ROOT / "tests" / "demo"


LONGEST = (
    *("readme", "quantize", "failures", "recovery", "quantize_notebook", "conformance", "quantize_int8"),
    *("rehearse_online", "rehearse", "score", "bench_notebook", "eval", "main_job"),
)
"""The files that take longest, the longest first: processes that run side by side then end together."""


def pytest_collection_modifyitems(items):
    """Everything in this folder is marked end_to_end, and comes first: side by side, the short tests fill the end."""
    here = Path(__file__).parent

    def place(item):
        if here not in item.path.parents:
            return len(LONGEST) + 1
        name = item.path.stem.removeprefix("test_")
        return LONGEST.index(name) if name in LONGEST else len(LONGEST)

    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.end_to_end)
    items.sort(key=place)


SCRATCH_BYTES = 14 << 30
"""Bytes of memory that must be free before sealed runs write there: three at once take three each, an engine two."""


@pytest.fixture(scope="session", autouse=True)
def scratch() -> Iterator[None]:
    """What a sealed run writes and nobody keeps, an installed engine above all, lies in memory if that has room.

    On a disk this takes more time than the run itself.
    """
    if not has_room(SCRATCH_BYTES):
        yield
        return
    folder = new_folder("kit-scratch")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(SCRATCH, str(folder))
        yield
    shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class Run:
    """What a command left: its exit code, what it printed, and the report where it made one."""

    code: int
    out: str
    err: str
    results: Path

    @property
    def report(self) -> dict[str, Any]:
        return json.loads((self.results / "report.json").read_text())

    @property
    def notebook(self) -> dict[str, Any]:
        return json.loads((self.results / "executed.ipynb").read_text())

    def printed(self, cell_name: str) -> str:
        """What the cell printed in the executed notebook."""
        cell = next(cell for cell in self.notebook["cells"] if cell["metadata"].get("name") == cell_name)
        return "".join("".join(out.get("text", "")) for out in cell["outputs"])


@dataclass(frozen=True)
class Workshop:
    """A project of the test's own, which starts as a copy of the reference project."""

    folder: Path

    @property
    def results(self) -> Path:
        return self.folder / "runs" / "lmsys"

    @property
    def source(self) -> Path:
        return self.folder / "notebooks_src" / "lmsys.py"

    def edit(self, relative: str, old: str, new: str) -> None:
        """Replace a text that must be there."""
        path = self.folder / relative
        text = path.read_text()
        assert old in text, f"{old!r} is not in {path}"
        path.write_text(text.replace(old, new))

    def add_cell(self, name: str, code: str) -> None:
        """An author's cell after the others: it runs before the engine is installed."""
        self.source.write_text(self.source.read_text() + f'\n# %% name="{name}"\n{code}\n')

    def command(self, *arguments: str) -> list[str]:
        return [str(KIT), *arguments, "--project", str(self.folder)]

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command("dryrun", "lmsys", *arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )

    def kit(self, *arguments: str) -> Run:
        done = subprocess.run(self.command(*arguments), capture_output=True, text=True, check=False)
        return Run(done.returncode, done.stdout, done.stderr, self.results)

    def dryrun(self, *arguments: str) -> Run:
        return self.kit("dryrun", "lmsys", *arguments)


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    """A copy of the reference project: its kit.toml, source, lock, model and data."""
    folder = tmp_path / "project"
    for name in ("kit.toml", "notebooks_src/lmsys.py", "wheels/pylock.local-cpu.toml"):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target)
    for name in ("model", "data"):
        shutil.copytree(DEMO / name, folder / "tests" / "demo" / name)
    return Workshop(folder)


@pytest.fixture
def why_not() -> Callable[[str], str | None]:
    """A function: why a seal does not work here, None if it does."""
    from kaggle_kit.errors import SandboxError
    from kaggle_kit.sandbox.seal import choose_seal

    def why_not(name: str) -> str | None:
        try:
            choose_seal(name)
        except SandboxError as error:
            return str(error)
        return None

    return why_not


@pytest.fixture(params=["bwrap", "unshare"])
def seal(request: pytest.FixtureRequest, why_not: Callable[[str], str | None]) -> str:
    """Each real seal that works here; skipped with the reason where one does not."""
    if reason := why_not(request.param):
        pytest.skip(reason)
    return request.param
