"""`kit` in forks of one process that has it loaded: cheap to start, and killed for good wherever a test says.

As a program this is that process: it takes one request a line on standard input, and answers each with one line.
"""

import importlib
import json
import os
import pkgutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Self

KILLED = 137
LOADED = ("kaggle_kit.cli", "kaggle_kit.remote", "kaggle_kit.notebook", "kaggle_kit.wheelhouse", "kaggle_kit.project")
"""Packages that a push imports; what they import in functions comes with the SDK's services below."""
SDK = ("kagglesdk", "requests", "certifi", "pydantic", "jupytext", "nbformat", "jinja2", "packaging.tags")


@dataclass(frozen=True)
class Ended:
    """How one command ended: its exit code, all that it said, and the steps that it came by."""

    code: int
    text: str
    steps: tuple[str, ...]


class Forks:
    """The process, to be asked from here. Use it as a context manager."""

    def __enter__(self) -> Self:
        """Start it."""
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        root = Path(__file__).parents[3]
        self._process = subprocess.Popen([sys.executable, __file__], cwd=root, **pipes)  # type: ignore[call-overload]
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def run(
        self,
        words: Iterable[str],
        environment: dict[str, str],
        patience: object,
        folder: Path,
        *,
        kill_at: str = "",
        kill_after: float = 0.0,
    ) -> Ended:
        """`kit WORDS` in a fork: killed when it comes to the step `kill_at`, or after so many seconds.

        `patience` is what it has with a Kaggle of this machine; `folder` takes what it says.
        """
        request = {
            "words": list(words),
            "environment": environment,
            "patience": asdict(patience),  # type: ignore[call-overload]
            "folder": str(folder),
            "kill_at": kill_at,
            "kill_after": kill_after,
        }
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        said = (folder / "said.txt").read_text(errors="replace")
        return Ended(answer["code"], " ".join(said.split()), tuple(answer["steps"]))


class Steps:
    """The steps of one command: each reply and each note, by name and how often it came. The fork ends at one."""

    def __init__(self, file: Path, kill_at: str) -> None:
        self._stream = file.open("w")
        self._kill_at = kill_at
        self._seen: Counter[str] = Counter()
        self._lock = threading.Lock()

    def take(self, name: str) -> None:
        """Note a step; at the one that was asked for the process is gone, as if by a power cut."""
        with self._lock:
            self._seen[name] += 1
            step = f"{name} #{self._seen[name]}"
            self._stream.write(f"{step}\n")
            if step == self._kill_at:
                self._stream.flush()
                os._exit(KILLED)

    def end(self) -> None:
        """Keep what was noted."""
        self._stream.flush()


@contextmanager
def watched(steps: Steps):
    """Replies and notes become steps: every call's, every upload's, every file's that takes its place."""
    from requests.adapters import HTTPAdapter

    from kaggle_kit.remote.client.upload_records import Sessions

    def after(method: Callable, name: Callable[..., str], *, before: bool) -> Callable:
        def wrapped(self, *given, **named):
            if before:
                steps.take(f"before {name(self, *given)}")
            result = method(self, *given, **named)
            steps.take(name(self, *given))
            return result

        return wrapped

    def reply(_adapter, request):
        path = request.url.partition("?")[0]
        return f"reply {request.method} {'upload' if '/upload/' in path else path.rpartition('/')[2]}"

    HTTPAdapter.send = after(HTTPAdapter.send, reply, before=False)
    Path.replace = after(Path.replace, lambda _path, target: f"note {Path(target).name}", before=True)
    Sessions.keep = after(Sessions.keep, lambda *_: "note upload begun", before=True)
    Sessions.forget = after(Sessions.forget, lambda *_: "note upload used", before=True)
    yield
    steps.end()


def fork(request: dict) -> int:
    """One command in a fork; its exit code, KILLED where it was killed."""
    child = os.fork()
    if child:
        if request["kill_after"]:
            _kill_after(child, request["kill_after"])
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else KILLED

    code = 1
    try:
        folder = Path(request["folder"])
        said = os.open(folder / "said.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(said, 1)
        os.dup2(said, 2)
        os.environ.clear()
        os.environ.update(request["environment"])
        from kaggle_kit.cli.main import run
        from kaggle_kit.remote.client import client
        from kaggle_kit.retry import Patience

        client.REHEARSAL = Patience(**request["patience"])
        with watched(Steps(folder / "steps.txt", request["kill_at"])):
            code = run(request["words"])
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _kill_after(child: int, seconds: float) -> None:
    """Kill a fork at a moment of its life, if it still lives then."""
    ends = time.monotonic() + seconds
    while (left := ends - time.monotonic()) > 0:
        time.sleep(min(left, 0.005))
    os.kill(child, 9)  # a fork that has ended waits to be asked for: its number is nobody else's


def fill_in_here() -> None:
    """Have templates filled in by this process: builds are what is pushed, and not what is tested."""
    from kaggle_kit.notebook import render, template_child

    def run(command, *, input, **_):  # noqa: A002
        return subprocess.CompletedProcess(command, 0, json.dumps(template_child.answer(json.loads(input))).encode())

    render.subprocess = SimpleNamespace(run=run, TimeoutExpired=subprocess.TimeoutExpired)


def main() -> None:
    """Load kit, then take requests until there are no more."""
    for name in LOADED:
        package = importlib.import_module(name)
        for found in pkgutil.walk_packages(package.__path__, f"{name}."):
            if not found.name.endswith("__main__"):
                importlib.import_module(found.name)
    for name in SDK:
        importlib.import_module(name)
    import kagglesdk

    for found in pkgutil.walk_packages(kagglesdk.__path__, "kagglesdk."):
        if found.name.endswith(("_service", "_enums", "_types", "_client")):
            importlib.import_module(found.name)

    fill_in_here()
    for line in sys.stdin:
        request = json.loads(line)
        steps = Path(request["folder"], "steps.txt")
        steps.unlink(missing_ok=True)
        code = fork(request)
        listed = steps.read_text().splitlines() if steps.is_file() else []
        print(json.dumps({"code": code, "steps": listed}), flush=True)


if __name__ == "__main__":
    main()
