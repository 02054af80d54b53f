"""A sandbox for tests, in each seal: an input, a scratch folder, and a folder for what comes out."""

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
from kaggle_kit.sandbox.mounts import Mount, Sandbox, python_mounts
from kaggle_kit.sandbox.output import Limits, Received, Receiver
from kaggle_kit.sandbox.seal import Seal, SealedProcess, choose_seal, driver_command, driver_mount

PYTHON = Path(sys._base_executable)
SECONDS = 60.0


def working_seal(name: str) -> Seal:
    try:
        return choose_seal(name)
    except SandboxError as error:
        pytest.skip(str(error))


class Bench:
    """A sandbox with an input, a scratch folder and a folder for what comes out."""

    def __init__(self, folder: Path) -> None:
        self.input, self.temp, self.out = (folder / name for name in ("input", "temp", "out"))
        for each in (self.input, self.temp, self.out):
            each.mkdir()
        (self.input / "test.csv").write_text("id\n1\n")
        self.environment = {"PATH": "/usr/bin:/bin", "HOME": "/kaggle/temp"}
        self.working_bytes: int | None = 1 << 20
        self.received = Received()

    def sandbox(self) -> Sandbox:
        mounts = (
            Mount(self.input, "/kaggle/input/lmsys"),
            Mount(self.temp, "/kaggle/temp", writable=True),
            driver_mount(),
            *python_mounts(),
        )
        return Sandbox(mounts, self.working_bytes, self.environment, "/kaggle/working")

    @contextmanager
    def start(self, seal: Seal, code: str, *, driver: bool = False) -> Iterator[SealedProcess]:
        command = [str(PYTHON), "-c", textwrap.dedent(code)]
        if not driver:
            with seal.start(self.sandbox(), command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as sealed:
                yield sealed
            return
        with Receiver(self.out, limits=Limits(1 << 30)) as receiver:
            driven = driver_command(PYTHON, command, pipe=receiver.write_end, most_bytes=1 << 30, grace_seconds=3)
            with seal.start(
                self.sandbox(), driven, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, pass_fds=(receiver.write_end,)
            ) as sealed:
                receiver.close_write_end()
                yield sealed
        self.received = receiver.received

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
