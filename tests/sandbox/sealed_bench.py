"""A sealed room for tests, in each seal: an input, a scratch folder, and a folder for what comes out."""

import json
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kaggle_kit.errors import SandboxError
from kaggle_kit.sandbox.base_python import python_mounts
from kaggle_kit.sandbox.seal import Mount, Room, Seal, Sealed, choose_seal, driver_command, driver_mount
from kaggle_kit.sandbox.take_out import Bounds, Inlet, Taken

PYTHON = Path(sys._base_executable)
SECONDS = 60.0


def working_seal(name: str) -> Seal:
    try:
        return choose_seal(name)
    except SandboxError as error:
        pytest.skip(str(error))


class Bench:
    """A room with an input, a scratch folder and a folder for what comes out."""

    def __init__(self, folder: Path) -> None:
        self.input, self.temp, self.out = (folder / name for name in ("input", "temp", "out"))
        for each in (self.input, self.temp, self.out):
            each.mkdir()
        (self.input / "test.csv").write_text("id\n1\n")
        self.environment = {"PATH": "/usr/bin:/bin", "HOME": "/kaggle/temp"}
        self.working_bytes: int | None = 1 << 20
        self.taken = Taken()

    def room(self) -> Room:
        mounts = (
            Mount(self.input, "/kaggle/input/lmsys"),
            Mount(self.temp, "/kaggle/temp", writable=True),
            driver_mount(),
            *python_mounts(),
        )
        return Room(mounts, self.working_bytes, self.environment, "/kaggle/working")

    @contextmanager
    def start(self, seal: Seal, code: str, *, driver: bool = False) -> Iterator[Sealed]:
        command = [str(PYTHON), "-c", textwrap.dedent(code)]
        if not driver:
            with seal.start(self.room(), command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as sealed:
                yield sealed
            return
        with Inlet(self.out, bounds=Bounds(1 << 30)) as inlet:
            driven = driver_command(PYTHON, command, outlet=inlet.outlet, most_bytes=1 << 30, grace_seconds=3)
            with seal.start(
                self.room(), driven, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, pass_fds=(inlet.outlet,)
            ) as sealed:
                inlet.close_outlet()
                yield sealed
        self.taken = inlet.taken

    def run(self, seal: Seal, code: str, *, driver: bool = False) -> tuple[int, str]:
        with self.start(seal, code, driver=driver) as sealed:
            said, _ = sealed.process.communicate(timeout=SECONDS)
            return sealed.process.returncode, said.decode()

    def ask(self, seal: Seal, expression: str) -> object:
        code, said = self.run(seal, f"import json, os, socket\nprint(json.dumps({expression}))")
        assert code == 0, said
        return json.loads(said)


def wait_for(path: Path) -> None:
    end = time.monotonic() + SECONDS
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.02)
