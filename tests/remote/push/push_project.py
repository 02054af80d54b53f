"""A small whole project, a Kaggle on this machine, and `kit` itself between them."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kaggle_kit.cli.main import run as kit
from kaggle_kit.loopback.records import Dataset, Kernel, Submission, Variation
from kaggle_kit.loopback.runs import KernelRun, RunOutcome
from kaggle_kit.loopback.server import LoopbackKaggle
from kaggle_kit.loopback.service import Settings
from kaggle_kit.notebook.build import build
from kaggle_kit.project import load_project
from kaggle_kit.runtime.manifest import dump_manifest, make_manifest
from kaggle_kit.targets import load_target

OWNER, COMPETITION = "ada", "best-answer"
TOKEN = "a-token-that-must-be-seen-nowhere-0815"
SETTINGS = Settings(username=OWNER, token=TOKEN)
KERNEL = "ada/best-answer"
ENGINE, KIT, MODEL = "ada/wheels-t4", "ada/wheels-t4-kit", "ada/small-model"
VARIATION = "ada/small/transformers/awq"
CONFIG = """
owner = "ada"
competition = "best-answer"

[wheelhouses]
kaggle-t4x2 = "ada/wheels-t4"

[models.small]
path = "model"
dataset = "ada/small-model"

[models.published]
path = "published"
kaggle_model = "ada/small/transformers/awq/1"
licence = "Apache 2.0"
"""
ANSWER = """
[notebooks.answer]
source = "notebooks_src/answer.py"
title = "Best answer"
model = "small"
target = "kaggle-t4x2"
session_hours = 0.0003
"""
BOTH = ANSWER.replace("[notebooks.answer]", "[notebooks.both]") + "ensemble = { published = 1 }\n"
SOURCE = Path(__file__).parents[2] / "projects" / "minimal" / "notebooks_src" / "answer.py"


def make_project(root: Path) -> None:
    """Sources, a model twice, the parts of a wheelhouse, and the notebook built."""
    (root / "notebooks_src").mkdir(parents=True)
    text = SOURCE.read_text().replace("time_limit_hours: float = 9.0", "time_limit_hours: float = 0.0003")
    (root / "notebooks_src" / "answer.py").write_text(text)
    (root / "kit.toml").write_text(CONFIG + ANSWER)
    for folder in ("model", "published"):
        (root / folder).mkdir()
        (root / folder / "config.json").write_text("{}\n")
        (root / folder / "model.safetensors").write_bytes(folder.encode() * 40_000)
    for part in ("engine", "kit"):
        make_part(root / "build" / "wheels-kaggle-t4x2" / part, part)
    rebuild(root, "answer")


def make_part(folder: Path, part: str) -> None:
    """A wheelhouse's part as `kit wheels dataset` writes it, with files that are no wheels."""
    (folder / "wheels").mkdir(parents=True)
    slug = "wheels-t4" if part == "engine" else "wheels-t4-kit"
    for name in ("one", "two"):
        (folder / "wheels" / f"{part}_{name}-1.0-py3-none-any.whl").write_bytes(f"{part} {name}".encode() * 3_000)
    made = make_manifest(folder, kind="wheelhouse", name="kaggle-t4x2", extra={"part": part})
    (folder / "manifest.json").write_text(dump_manifest(made))
    body = {"id": f"ada/{slug}", "title": slug.replace("-", " "), "licenses": [{"name": "other"}]}
    (folder / "dataset-metadata.json").write_text(json.dumps(body))


def rebuild(root: Path, name: str) -> None:
    """What `kit build NAME` does, without its gate for the wheelhouse."""
    build(load_project(root), name, target=load_target("kaggle-t4x2"))


def run(given: KernelRun) -> RunOutcome:
    """A notebook's run: it writes a submission, and what it was given."""
    given.say("begin")
    told = {one.reference: [one.version, contents(one.folder)] for one in given.inputs if one.kind != "competition"}
    (given.out / "given.json").write_text(json.dumps(told))
    (given.out / "submission.csv").write_text("id,first,second\n1,0.5,0.5\n")
    return RunOutcome("COMPLETE", log=("end",))


def judge(competition: str, submission: Path) -> float:
    """A score for a right submission."""
    assert competition == COMPETITION
    assert submission.read_text().startswith("id,first,second\n")
    return 0.75


def contents(folder: Path) -> dict[str, str]:
    """Path below a folder → the file's hash. What is not sent is left out."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    known = {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
    left_out = {"dataset-metadata.json", "manifest.json"}
    return {name: hashlib.sha256(data).hexdigest()[:16] for name, data in known.items() if name not in left_out}


@dataclass(frozen=True)
class Told:
    """What a command said, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """All of it, with each run of white space as one space: tables break lines."""
        return " ".join(f"{self.out} {self.err}".split())


@dataclass
class World:
    """A project in `root`, a Kaggle, and what `kit` says there. `environment` leads a process to that Kaggle."""

    root: Path
    kaggle: LoopbackKaggle
    environment: dict[str, str]
    read: Callable[[], tuple[str, str]]

    def kit(self, *words: str) -> Told:
        """Run `kit WORDS` in this process. No exception leaves it, and nothing that it says holds the token."""
        self.read()
        code = kit([*words, "--project", str(self.root)])
        told = Told(code, *self.read())
        assert "Traceback" not in told.text
        assert TOKEN not in told.text
        return told

    def push(self, name: str = "answer", *words: str) -> Told:
        """`kit push NAME --submit`."""
        return self.kit("push", name, "--submit", "--unproved", *words)

    def use(self, name: str) -> None:
        """Make `name` the project's notebook, and build it: two of one title are refused."""
        (self.root / "kit.toml").write_text(CONFIG + {"answer": ANSWER, "both": BOTH}[name])
        rebuild(self.root, name)

    def process(self, *words: str) -> "subprocess.Popen[str]":
        """`kit WORDS` in a process of its own, which can reach this Kaggle and nothing else."""
        command = [sys.executable, "-m", "kaggle_kit.cli.main", *words, "--project", str(self.root)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, env=self.environment, cwd=Path(__file__).parents[3], **pipes)

    @property
    def store(self):
        """The Kaggle's memory."""
        return self.kaggle._store

    def versions(self, reference: str) -> int:
        """How many versions a dataset, variation or notebook has."""
        kinds = (Dataset, Variation, Kernel)
        found = next((one for kind in kinds if (one := self.store.get(kind, reference))), None)
        return len(found.versions) if found else 0

    def counts(self) -> dict[str, int]:
        """How many versions each thing on Kaggle has, and how many submissions there are."""
        refs = [one.ref for kind in (Dataset, Variation, Kernel) for one in self.store.all(kind)]
        return {ref: self.versions(ref) for ref in refs} | {"submissions": len(self.store.all(Submission))}

    def given(self) -> dict[str, list]:
        """What the newest version's run was given: reference → version, files."""
        number = self.versions(KERNEL)
        return json.loads((self.kaggle._service.runs.out(KERNEL, number) / "given.json").read_text())

    def wanted(self, name: str = "answer") -> dict[str, dict[str, str]]:
        """What it should be given: reference → files."""
        parts = self.root / "build" / "wheels-kaggle-t4x2"
        found = {ENGINE: parts / "engine", KIT: parts / "kit", MODEL: self.root / "model"}
        if name == "both":
            found[VARIATION] = self.root / "published"
        return {reference: contents(folder) for reference, folder in found.items()}

    def size(self, reference: str) -> int:
        """Bytes of a dataset's or variation's newest version."""
        kind = Dataset if reference.count("/") == 1 else Variation
        return sum(file.size for file in self.store.get(kind, reference).versions[-1].files)

    def is_released(self, name: str = "answer") -> bool:
        """Whether the newest of everything is what is here, the run used exactly that, and it has its score."""
        given, wanted = self.given(), self.wanted(name)
        files = {reference: found for reference, (_, found) in given.items()}
        newest = all(version == self.versions(reference) for reference, (version, _) in given.items())
        text = self.store.get(Kernel, KERNEL).versions[-1].text
        source = json.loads(text) == json.loads((self.root / "build" / name / f"{name}.ipynb").read_text())
        kernel = self.store.get(Kernel, KERNEL).versions[-1]
        safe = not kernel.internet and kernel.machine_shape == "NvidiaTeslaT4"
        sources = COMPETITION in [one.ref for one in kernel.sources if one.kind == "competition"]
        receipt = self.receipt(name)
        scored = receipt["submission"].get("public_score") == 0.75
        good = all(check["agrees"] for check in receipt["checks"]) and receipt["run"]["state"] == "COMPLETE"
        log = (self.root / "runs" / f"{name}-v{kernel.number}" / "log.txt").read_text()
        return files == wanted and newest and source and safe and sources and scored and good and "begin" in log

    def receipt(self, name: str = "answer") -> dict:
        """The newest version's receipt."""
        return json.loads((self.root / "receipts" / f"{name}-v{self.versions(KERNEL)}.json").read_text())

    def change_model(self, folder: str = "model") -> None:
        """One file of a model becomes another, of another size."""
        (self.root / folder / "model.safetensors").write_bytes(b"changed" * 50_000)
