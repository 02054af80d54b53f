"""A desk: a small project, a Kaggle on this machine that knows its datasets, and `kit` between them."""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kaggle_kit.cli.main import run as kit
from kaggle_kit.loopback.records import Kernel, Submission
from kaggle_kit.loopback.runs import KernelRun, RunOutcome
from kaggle_kit.loopback.server import LoopbackKaggle

NOTEBOOK = "ada/best-answer"
TOKEN = "a-token-that-must-be-seen-nowhere-4711"
LEAKED = "hf_AbCdEfGhIjKlMnOpQrStUvWxYz012345"
SUBMISSION = "id,first,second\n1,0.5,0.5\n"


def completes(asked: KernelRun) -> RunOutcome:
    """A run that leaves a submission."""
    asked.say("begin")
    (asked.out / "submission.csv").write_text(SUBMISSION)
    return RunOutcome("COMPLETE", log=("end",))


def fails(asked: KernelRun) -> RunOutcome:
    """A run that ends on a machine for which its engine has no code."""
    (asked.out / "submission.csv").write_text(SUBMISSION)
    asked.say("RuntimeError: CUDA error: no kernel image is available for execution on the device")
    return RunOutcome("ERROR", "Notebook Threw Exception")


def goes_on(asked: KernelRun) -> RunOutcome:
    """A run that ends with the server only."""
    asked.cancelled.wait()
    return RunOutcome("COMPLETE")


def leaks(asked: KernelRun) -> RunOutcome:
    """A run that prints a token."""
    asked.say(f"logging in with {LEAKED}")
    return completes(asked)


class Slow:
    """A run that says its second line when the test lets it."""

    def __init__(self) -> None:
        self.go_on = threading.Event()

    def __call__(self, asked: KernelRun) -> RunOutcome:
        asked.say("first line")
        self.go_on.wait(20)
        asked.say("second line")
        return completes(asked)


@dataclass(frozen=True)
class Told:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The value on standard output, which must hold nothing else."""
        return json.loads(self.out)


@dataclass
class Desk:
    """`runner` is what the next run does."""

    root: Path
    kaggle: LoopbackKaggle
    read: Callable[[], Any]
    runner: Callable[[KernelRun], RunOutcome] = field(default=completes)

    def kit(self, *words: str) -> Told:
        """Run `kit WORDS` for this project."""
        return self.kit_alone(*words, "--project", str(self.root))

    def kit_alone(self, *words: str) -> Told:
        """Run `kit WORDS`. No traceback, and never the token."""
        self.read()
        code = kit(list(words))
        told = Told(code, *self.read())
        assert "Traceback" not in told.out + told.err
        assert TOKEN not in told.out + told.err
        return told

    def push(self, *words: str) -> Told:
        """`kit push answer`, with the wheelhouse as Kaggle has it."""
        return self.kit("push", "answer", "--unproved", *words)

    @property
    def submissions(self) -> int:
        """How many there are at Kaggle."""
        return len(self.kaggle._store.all(Submission))

    def edit_in_browser(self, old: str, new: str) -> None:
        """A new version of the notebook on Kaggle, in which a text is another."""
        kernel = self.kaggle._store.get(Kernel, NOTEBOOK)
        last = kernel.versions[-1]
        quoted = [json.dumps(text)[1:-1] for text in (old, new)]
        assert last.text.count(quoted[0]) == 1, last.text
        edited = replace(last, number=last.number + 1, text=last.text.replace(*quoted))
        self.kaggle._store.put(NOTEBOOK, replace(kernel, versions=(*kernel.versions, edited)))
