"""Each command is given hostile texts wherever it takes texts from elsewhere, and none commands the terminal.

A new command needs scenes here. Where the engine or the seal would be started, the scenes are of what comes before it.
"""

from __future__ import annotations

import json
import os
import shutil
import unicodedata
import zipfile
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pytest
from desk import NOTEBOOK, completes, fails
from evaluation.made_runs import dry_run, failed_run, pushed_run
from evaluation.made_scores import blurred, scores_of, truth
from wheelhouse.fake_index import make_wheel

from kaggle_kit.cli.main import kit, run
from kaggle_kit.cli.rehearse import _end
from kaggle_kit.evaluation.scores import Scores, write_scores
from kaggle_kit.loopback.faults import COMPETITIONS, FAULTS, KERNELS, Fault, setting, status
from kaggle_kit.loopback.records import Kernel
from kaggle_kit.loopback.runs import KernelRun, RunOutcome
from kaggle_kit.wheelhouse.lock import Lock, LockedWheel, lock_path, write_lock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from desk import Desk

ROOT = Path(__file__).parents[2]
# The clipboard, a colour by C1, a line of kit's own, a return, direction, no width, tags, a separator.
LINE = "evil\x1b]52;c;eA==\x07\x9b31m\rfake\u202e\u2066\u200f\u061c\u200b\ufeff\xad\U000e0041\u2028\x85\x7f\b"
HOSTILE = f"{LINE}\nFAKE all is well"
# What a file can be called, a byte that is no text among it; and what a column's name in a table may be.
NAME = HOSTILE + os.fsdecode(b"\x9b")
TOML = '"{}"'.format("".join(one if one.isalnum() else f"\\U{ord(one):08x}" for one in HOSTILE))
OUTPUT = KERNELS + "ListKernelSessionOutput"
STATUS = KERNELS + "GetKernelSessionStatus"


def commanding(text: str) -> list[str]:
    """The characters of `text` that a terminal may obey or that nobody sees; by Unicode's categories alone."""
    categories = {"Cc", "Cf", "Cs", "Zl", "Zp"}
    return [one for one in text if one not in "\n\t" and unicodedata.category(one) in categories]


@dataclass
class Stage:
    """Runs commands, and looks at all that they print. `lines` says that a text from elsewhere may have lines."""

    root: Path
    capsys: pytest.CaptureFixture[str]
    fixture: Callable[[str], Any]
    told: str = ""

    def kit(self, *words: str, lines: bool = False) -> str:
        """What `kit WORDS` prints to both streams."""
        self.capsys.readouterr()
        run([*map(str, words)])
        out, err = self.capsys.readouterr()
        assert commanding(out + err) == []
        assert "Traceback" not in err
        if not lines:
            assert [line for line in (out + err).splitlines() if line.startswith("FAKE")] == []
        self.told += out + err
        return out

    def json(self, *words: str) -> Any:
        """What `kit WORDS --json` prints, which is JSON in ASCII."""
        out = self.kit(*words, "--json")
        assert out.isascii()
        return json.loads(out)

    @property
    def desk(self) -> Desk:
        """A project at a Kaggle of this machine; `kit` runs in it."""
        desk = self.fixture("desk")
        os.chdir(desk.root)
        return desk

    def project(self, **replaced: str) -> Path:
        """A copy of the minimal project, in whose kit.toml texts are replaced."""
        folder = Path(shutil.copytree(ROOT / "tests" / "projects" / "minimal", self.root / "project"))
        text = (folder / "kit.toml").read_text()
        for old, new in replaced.items():
            assert old in text
            text = text.replace(old, new)
        (folder / "kit.toml").write_text(text)
        os.chdir(folder)
        return folder


@pytest.fixture
def stage(tmp_path, capsys, monkeypatch, request) -> Stage:
    """An empty folder to work in, with no way to an index or to Kaggle but where a scene makes one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KIT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/simple")
    return Stage(tmp_path, capsys, request.getfixturevalue)


SCENES: dict[tuple[str, ...], list[Callable[[Stage], None]]] = {}


def scene(*commands: str) -> Callable[[Callable[[Stage], None]], Callable[[Stage], None]]:
    """Marks a function as a scene of these commands."""

    def keep(function: Callable[[Stage], None]) -> Callable[[Stage], None]:
        for command in commands:
            SCENES.setdefault(tuple(command.split()), []).append(function)
        return function

    return keep


def leaves(group: click.Group = kit, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command that is no group, as the words that call it."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from leaves(command, (*path, name))
        else:
            yield (*path, name)


def command_of(words: tuple[str, ...]) -> click.Command:
    """The command that these words call."""
    found: click.Command = kit
    for word in words:
        assert isinstance(found, click.Group)
        found = found.commands[word]
    return found


def ended(asked: KernelRun) -> RunOutcome:
    """A run whose log, failure and files are hostile."""
    (asked.out / "submission.csv").write_text(f"{LINE}\n")
    asked.say(HOSTILE)
    asked.say(f"RuntimeError: CUDA error: no kernel image is available for execution on the device {LINE}")
    return RunOutcome("ERROR", HOSTILE)


def pushed(stage: Stage, runner: Callable[[KernelRun], RunOutcome] = ended) -> Desk:
    """A desk from which a notebook was pushed that ran so."""
    desk = stage.desk
    desk.runner = runner
    stage.kit("push", "answer", "--unproved", "--wait")
    return desk


@scene("push", "status", "logs", "output")
def _a_failed_run(stage: Stage) -> None:
    """Its log, its failure, and the causes that are found in it."""
    pushed(stage)
    stage.kit("status", "answer")
    assert stage.json("status", "answer")["failure"] == HOSTILE
    stage.kit("logs", "answer", lines=True)
    stage.kit("logs", "answer", "--follow", lines=True)
    stage.kit("output", "answer")


@scene("logs")
def _a_log_of_entries(stage: Stage) -> None:
    """As Kaggle sends it; halves of characters, too."""
    desk = pushed(stage)
    log = json.dumps([{"stream_name": "stdout", "time": 1, "data": f"{HOSTILE}\ud83d\r\nnext"}])
    desk.kaggle.faults.add(Fault("log", "", OUTPUT, setting(log=log), times=1000))
    stage.kit("logs", "answer", lines=True)


@scene("output", "push")
def _file_names_of_a_run(stage: Stage) -> None:
    """Names as the listing tells them, which may never have been on a disk."""
    desk = pushed(stage)
    files = [{"fileName": name, "url": "http://127.0.0.1:9/x"} for name in (LINE, HOSTILE, f"a/{LINE}")]
    desk.kaggle.faults.add(Fault("names", "", OUTPUT, setting(files=files), times=1000))
    stage.kit("output", "answer")
    stage.kit("push", "answer", "--unproved", "--wait")


@scene("output")
def _files_of_a_run(stage: Stage) -> None:
    """Names on the disk."""

    def leaves_files(asked: KernelRun) -> RunOutcome:
        (asked.out / LINE.replace("\r", "")).write_text("x")
        return fails(asked)

    pushed(stage, leaves_files)
    stage.kit("output", "answer")


@scene("push", "plan", "status", "logs", "output", "submit", "quota", "pull")
def _kaggles_own_words(stage: Stage) -> None:
    """A refusal of every request."""
    desk = pushed(stage)
    desk.kaggle.faults.add(Fault("words", "", "*", status(400, HOSTILE), times=100_000))
    for words in ("push answer --unproved", "plan answer --unproved", "status answer", "logs answer"):
        stage.kit(*words.split())
    for words in ("output answer", "submit answer", "quota", "pull answer"):
        stage.kit(*words.split())


@scene("quota")
def _a_quota(stage: Stage) -> None:
    """When it is renewed."""
    desk = stage.desk
    fault = Fault("renewed", "", KERNELS + "GetAcceleratorQuotaStatistics", setting(quotaRefreshTime=HOSTILE), times=9)
    desk.kaggle.faults.add(fault)
    stage.kit("quota")
    assert stage.json("quota")["renewed"] == HOSTILE


@scene("submit")
def _a_submission(stage: Stage) -> None:
    """Why it failed, and its score."""
    desk = pushed(stage, completes)
    desk.kaggle.faults.add(FAULTS["submission-fails"])
    words = setting(errorDescription=HOSTILE, publicScore=HOSTILE, status="ERROR")
    desk.kaggle.faults.add(Fault("score", "", COMPETITIONS + "GetSubmission", words, times=1000))
    stage.kit("submit", "answer", "--wait", "-m", LINE)


@scene("history", "status", "output", "submit", "report")
def _receipts(stage: Stage) -> None:
    """A receipt that came with a clone."""
    desk = pushed(stage)
    path = desk.root / "receipts" / "answer-v1.json"
    body = json.loads(path.read_text())
    body["run"] |= {"state": HOSTILE, "failure": HOSTILE}
    body |= {"pushed": HOSTILE, "made_by": HOSTILE, "server": HOSTILE, "url": HOSTILE, "target": HOSTILE}
    body["submission"] = {"public_score": HOSTILE, "state": HOSTILE, "ref": HOSTILE, "error": HOSTILE}
    body["checks"] = [{"what": HOSTILE, "asked": HOSTILE, "found": LINE}]
    for name in (body["name"], HOSTILE):
        path.write_text(json.dumps(body | {"name": name}))
        stage.kit("history")
        if name != HOSTILE:  # one that is no file's name makes the receipt none
            assert stage.json("history")[0]["pushed"] == HOSTILE
        for words in ("status answer", "output answer", "submit answer --wait", "report receipts/answer-v1.json"):
            stage.kit(*words.split())
    (desk.root / "receipts" / f"{NAME}.json").write_text("{")
    stage.kit("history")


@scene("status", "logs", "output", "submit", "pull", "plan", "push")
def _the_state(stage: Stage) -> None:
    """kit.state.json with unknown keys and broken marks."""
    desk = pushed(stage)
    state = desk.root / "kit.state.json"
    body = json.loads(state.read_text())
    for text in (json.dumps(body | {HOSTILE: HOSTILE}), f'{{"{LINE}', f"<<<<<<< {LINE}\n=======\n>>>>>>> {LINE}\n"):
        state.write_text(text)
        for words in ("status answer", "logs answer", "output answer", "submit answer", "pull answer"):
            stage.kit(*words.split())
        stage.kit("plan", "answer", "--unproved")
        stage.kit("push", "answer", "--unproved")


def edited(desk: Desk, edit: Callable[[dict[str, Any]], None]) -> None:
    """A newest version at Kaggle, whose notebook is edited so."""
    kernel = desk.kaggle._store.get(Kernel, NOTEBOOK)
    body = json.loads(kernel.versions[-1].text)
    edit(body)
    last = replace(kernel.versions[-1], number=len(kernel.versions) + 1, text=json.dumps(body))
    desk.kaggle._store.put(NOTEBOOK, replace(kernel, versions=(*kernel.versions, last)))


@scene("pull", "plan", "push")
def _edits_in_the_browser(stage: Stage) -> None:
    """Text of a cell as a patch and as a conflict, a new cell's name, parameters, metadata."""
    desk = pushed(stage)

    def edit(body: dict[str, Any]) -> None:
        cells = body["cells"]
        own = next(cell for cell in cells if cell["metadata"].get("name") == "title")
        own["source"] = f"# Best answer\n\n{HOSTILE}"
        parameters = next(cell for cell in cells if "parameters" in cell["metadata"].get("tags", []))
        parameters["source"] = "".join(parameters["source"]).replace('"hello"', ascii(HOSTILE))
        new = {
            "id": LINE,
            "cell_type": "code",
            "metadata": {"name": HOSTILE, "tags": [LINE]},
            "source": f"x = 1  # {LINE}",
        }
        cells.append(new | {"outputs": [], "execution_count": None})
        body["metadata"][HOSTILE] = HOSTILE

    edited(desk, edit)
    out = stage.kit("pull", "answer")
    assert "+FAKE all is well" in stage.told
    assert "\\x1b]52" in out
    stage.kit("plan", "answer", "--unproved")
    stage.kit("push", "answer", "--unproved")
    stage.kit("pull", "answer", "--apply", "--clean-only")
    source = desk.root / "notebooks_src" / "answer.py"
    source.write_text(source.read_text().replace("Which one is it?", "Which?"))
    stage.kit("pull", "answer")


@scene("pull")
def _a_broken_notebook(stage: Stage) -> None:
    """No cells, cells that are none, a text that is no JSON."""
    desk = pushed(stage)
    edited(
        desk, lambda body: body.update(cells=[{"cell_type": HOSTILE, "metadata": {"name": HOSTILE}, "source": HOSTILE}])
    )
    stage.kit("pull", "answer")
    edited(desk, lambda body: body.update(cells=HOSTILE))
    stage.kit("pull", "answer")


@scene("plan", "push")
def _a_models_files(stage: Stage) -> None:
    """Names of files that are to be sent."""
    desk = stage.desk
    (desk.root / "model" / LINE).write_text("x")
    (desk.root / "model" / NAME).write_text("x")
    stage.kit("plan", "answer", "--unproved")
    stage.json("plan", "answer", "--unproved")
    stage.kit("push", "answer", "--unproved")


@scene("plan", "push", "pull")
def _a_builds_files(stage: Stage) -> None:
    """A build that came with a clone."""
    desk = pushed(stage)
    build = desk.root / "build" / "answer"
    for name, key in (("manifest.json", "name"), ("kernel-metadata.json", "title"), ("kernel-metadata.json", "id")):
        path = build / name
        before = path.read_text()
        for body in (json.loads(before) | {key: HOSTILE, LINE: LINE}, {HOSTILE: HOSTILE}):
            path.write_text(json.dumps(body))
            for words in ("plan answer --unproved", "push answer --unproved", "pull answer"):
                stage.kit(*words.split())
        path.write_text(before)


@scene(
    "build", "plan", "push", "dryrun", "rehearse", "score", "eval", "bench", "pull", "model quantize", "model compare"
)
def _strings_of_kit_toml(stage: Stage) -> None:
    """Each string of the project, one after the other."""
    for number, old in enumerate(('"ada"', '"best-answer"', '"model"', '"notebooks_src/answer.py"', '"Best answer"')):
        folder = stage.project(**{old: TOML})
        for words in (
            *("build", "plan", "push answer", "dryrun answer", "rehearse answer", "bench answer", "pull answer"),
            *(
                "score x.csv -o y.csv",
                "eval answer -o x.parquet",
                "model quantize model out",
                "model compare model out",
            ),
        ):
            stage.kit(*words.split())
        os.chdir(stage.root)
        folder.rename(stage.root / f"done-{number}")


@scene("build", "dryrun", "rehearse")
def _a_source(stage: Stage) -> None:
    """Its text, its cells' names, its parameters, its template."""
    folder = stage.project()
    source = folder / "notebooks_src" / "answer.py"
    before = source.read_text()
    texts = (f'# %% name="{LINE}"\nx = 1\n', f'# %% name="a"\n{LINE} = 1\n', before.replace("hello", LINE), f"{LINE}")
    for text in texts:
        source.write_text(text)
        for words in ("build", "dryrun answer", "rehearse answer"):
            stage.kit(*words.split())
    source.write_text(before)
    stage.kit("build", "-p", f"{LINE}={LINE}")
    stage.kit("dryrun", "answer", "-p", f"token_budget={LINE}")
    stage.kit("rehearse", "answer", "--fault", LINE)
    next((folder / "templates").iterdir()).write_text(f"{{{{ {LINE} }}}}")
    stage.kit("build", "--unproved")


@dataclass
class Odd:
    """The report of a dry run, whose notebook chose its texts."""

    complete: bool = False

    def lines(self) -> list[str]:
        return [HOSTILE, f"note  {HOSTILE}"]

    def to_json(self) -> dict[str, Any]:
        return {"outcome": HOSTILE}


@scene("dryrun")
def _a_dry_runs_words(stage: Stage) -> None:
    """What papermill tells of the notebook, and its report; the engine is not started for them."""

    def dry_run(*_: object, listener: Any, out: Path, placed: Callable[[Path], None], **__: object) -> Odd:
        placed(out)
        listener.say(HOSTILE)
        for line in (HOSTILE, f"Executing Cell [/x] {HOSTILE}", f"\x1b[31m{LINE}"):
            listener.line(line)
        return Odd()

    stage.fixture("monkeypatch").setattr("kaggle_kit.sandbox.dryrun.dry_run", dry_run)
    stage.project()
    stage.kit("dryrun", "answer")
    assert stage.json("dryrun", "answer")["outcome"] == HOSTILE


@scene("rehearse")
def _a_rehearsals_end(stage: Stage) -> None:
    """The receipt that it tells of."""
    body = {"notebook": HOSTILE, "version": HOSTILE, "submission": {"public_score": HOSTILE}}
    (stage.root / "receipts").mkdir()
    (stage.root / "receipts" / "answer-v1.json").write_text(json.dumps(body))
    fixture = stage.fixture("monkeypatch")
    fixture.setattr(kit.commands["rehearse"], "callback", lambda **_: _end(stage.root, "answer", 0, online=False))
    stage.kit("rehearse", "answer")


@scene("build")
def _a_projects_folder(stage: Stage) -> None:
    """A clone into a folder of such a name."""
    folder = stage.project()
    odd = folder.rename(stage.root / NAME.replace("/", ""))
    os.chdir(odd)
    stage.kit("build", "--unproved")


TARGET = f"""
summary = {TOML}
python = "3.11"
glibc = "2.35"
engine = "engine==1.0"
session_seconds = 60
working_bytes = 1000000
engine_options = {{ max_model_len = 5, {TOML} = {TOML} }}
worker_environment = {{ X = {TOML} }}
mounts = [{TOML}]

[facts.summary]
date = "2026-11-24"
source = {TOML}
confidence = "measured"
"""


@scene("targets", "build", "model fit", "model inspect", "dryrun", "rehearse", "eval")
def _a_target(stage: Stage) -> None:
    """A target of the project: as it is, key by key, and one whose name is hostile."""
    folder = stage.project()
    (folder / "targets").mkdir()
    place = folder / "targets" / "odd.toml"
    for text in (
        TARGET,
        TARGET + f"{TOML} = 1\n",
        *(f"{key} = {TOML}\n" for key in ("python", "glibc", "engine")),
        LINE,
    ):
        place.write_text(text)
        stage.kit("targets")
        stage.kit("targets", "odd")
        stage.kit("targets", "odd", "--json")
        stage.kit("model", "fit", "yi-34b", "--target", "odd")
        stage.kit("model", "inspect", "model", "--target", "odd")
        for words in ("build --unproved", "dryrun answer", "rehearse answer", "eval answer -o x.parquet"):
            stage.kit(*words.split(), "--target", "odd")
    place.rename(place.with_name(f"{NAME}.toml"))
    stage.kit("targets")
    stage.kit("targets", NAME)


@scene("model inspect", "model fit", "model quantize", "model compare")
def _a_checkpoint(stage: Stage) -> None:
    """Its config.json, its tokenizer, its manifest, its files' names."""
    folder = Path(shutil.copytree(ROOT / "tests" / "demo" / "model", stage.root / "checkpoint"))
    (folder / NAME).write_text("x")
    (folder / f"{LINE}.bin").write_bytes(b"\x80")
    config = json.loads((folder / "config.json").read_text())
    manifest = json.loads((folder / "manifest.json").read_text())
    bodies = [config | {key: HOSTILE} for key in ("torch_dtype", "model_type", "hidden_size", HOSTILE)]
    bodies += [config | {"architectures": [HOSTILE]}, config | {"quantization_config": {"quant_method": HOSTILE}}]
    for body in bodies:
        (folder / "config.json").write_text(json.dumps(body))
        (folder / "manifest.json").write_text(json.dumps(manifest | {"name": HOSTILE, LINE: LINE}))
        (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": HOSTILE, LINE: HOSTILE}))
        stage.kit("model", "inspect", folder, "--labels", f"A,{LINE}")
        stage.json("model", "inspect", folder)
        stage.kit("model", "inspect", folder, "--write", "--name", LINE)
        stage.kit("model", "fit", folder)
    project = stage.project()
    (project / "train.csv").write_text(f"id,question,{LINE.replace(chr(13), '')}\n1,{LINE},x\n")
    for words in ("quantize", "compare"):
        stage.kit("model", words, folder, stage.root / NAME, "--data", "train.csv")
        stage.kit("model", words, stage.root / NAME, folder, "--data", project / NAME)


@scene("model fit")
def _lengths(stage: Stage) -> None:
    """A table of lengths, a model's name."""
    for text in (f"{LINE},5\n", json.dumps({HOSTILE: 1})):
        (stage.root / "lengths.csv").write_text(text)
        stage.kit("model", "fit", "yi-34b", "--histogram", "lengths.csv")
    stage.kit("model", "fit", LINE)


def hostile_scores(path: Path) -> None:
    """A scores file whose columns, names, ids and slices are hostile."""
    logs, outcome = truth(600)
    scores = scores_of(
        blurred(logs, seed=1, by=0.4),
        outcome,
        blurred(logs, seed=2, by=0.4),
        model=HOSTILE,
        id=[f"{HOSTILE}{number}" for number in range(600)],
        **{name: [HOSTILE] * 600 for name in ("script", "flags", "problem", "prompt")},
    )
    lines = scores.lines.rename({"logp_win_a": f"logp_{HOSTILE}"})
    outcomes = [HOSTILE if one == "win_a" else one for one in lines["outcome"].to_list()]
    lines = lines.with_columns(type(lines["outcome"])("outcome", outcomes))
    facts = json.loads(json.dumps(scores.facts).replace('"win_a"', json.dumps(HOSTILE)))
    write_scores(path, Scores(lines, facts | {"notebook": HOSTILE, "target": HOSTILE}))


@scene("eval", "calibrate", "ensemble", "report", "compare")
def _scores(stage: Stage) -> None:
    """What a scores file of somebody else says."""
    odd = Path(f"{NAME}.parquet")
    hostile_scores(Path("a.parquet"))
    hostile_scores(odd)
    stage.kit("eval", "a.parquet", "--against", odd)
    stage.json("eval", "a.parquet", "--against", odd)
    stage.kit("calibrate", "a.parquet", "-o", "calibration.json")
    stage.json("calibrate", "a.parquet", "-o", f"{NAME}.json")
    stage.kit("ensemble", "a.parquet", odd, lines=True)
    stage.json("ensemble", "a.parquet", odd)
    for words in (("report", "a.parquet"), ("report", odd), ("compare", "a.parquet", odd)):
        stage.kit(*words)
    for text in (
        '{"bins": [{"temperature": ',
        json.dumps({"bins": [{"temperature": 1, "bias": {HOSTILE: 1}}], LINE: 1}),
    ):
        Path("c.json").write_text(text + LINE if text.endswith(" ") else text)
        for command in ("eval", "report"):
            stage.kit(command, "a.parquet", "--calibration", "c.json")


@scene("report", "compare")
def _a_runs_folder(stage: Stage) -> None:
    """What a run left: report.json, kit-run.json, its log, its submission."""
    folder = failed_run(stage.root / "runs" / LINE, line=LINE)
    report = json.loads((folder / "report.json").read_text()) | {
        "outcome": HOSTILE,
        "notes": [HOSTILE],
        "target": HOSTILE,
    }
    (folder / "report.json").write_text(json.dumps(report))
    record = json.loads((folder / "kit-run.json").read_text())
    stage.kit("report", folder)
    odd = {"plan": {HOSTILE: [HOSTILE]}, "engine": HOSTILE, "target": HOSTILE, "stages": {HOSTILE: 1.0}}
    odd |= {"failed": {"stage": HOSTILE, "error": HOSTILE}, "installer": {"name": HOSTILE, "seconds": {HOSTILE: 1.0}}}
    odd |= {"rows": record["rows"] | {"unreadable": 1, "unreadable_rows": {HOSTILE: HOSTILE}}}
    (folder / "kit-run.json").write_text(json.dumps(record | odd))
    stage.kit("report", folder)
    (folder / "submission.csv").write_text(f"id,{LINE}\n{LINE},x\n")
    other = dry_run(stage.root / "runs" / NAME)
    stage.kit("compare", folder, other)
    for named in (pushed_run(stage.root, state="ERROR", failure=HOSTILE), stage.root / "receipts" / "lmsys-v3.json"):
        stage.kit("report", named)


@scene("score", "eval", "model compare", "model quantize")
def _tables(stage: Stage) -> None:
    """Their names, and what they hold."""
    folder = stage.project()
    table = folder / f"{NAME}.csv"
    table.write_text(f"{LINE}\n{LINE}\n")
    stage.kit("score", NAME, "-o", "out.csv")
    stage.kit("score", table, "-o", NAME)
    stage.kit("score", table, "-o", "out.csv", "--notebook", LINE)
    stage.kit("eval", "answer", "-o", NAME, "--data", table)
    stage.kit("eval", "answer", "-o", "x.parquet", "--data", table, "--model", LINE)
    stage.kit("model", "compare", "model", LINE, "--data", table)
    stage.kit("model", "quantize", LINE, "out", "--data", table)


@scene("bench", "dryrun", "rehearse", "plan", "push", "pull", "status", "logs", "output", "submit", "history", "build")
def _a_notebooks_name(stage: Stage) -> None:
    """One that a project has, and one that it has not."""
    stage.project(**{"notebooks.answer": f"notebooks.{TOML}"})
    for command in ("bench", "dryrun", "rehearse", "plan", "push", "pull", "status", "logs", "output", "submit"):
        stage.kit(command, "answer")
        stage.kit(command, HOSTILE)
    stage.kit("history", "answer")
    stage.kit("build", "answer")


def locked(stage: Stage) -> Path:
    """A project with a target, its lock, and its wheelhouse, made without an index."""
    folder = stage.project(**{"local-cpu": "tiny"})
    (folder / "targets").mkdir()
    keys = ("summary", "python", "glibc", "engine", "session_seconds", "working_bytes")
    lines = [line for line in TARGET.splitlines() if line.startswith(keys)]
    (folder / "targets" / "tiny.toml").write_text("\n".join(lines))
    file = "engine-1.0-py3-none-any.whl"
    (folder / "wheels" / "tiny").mkdir(parents=True)
    wheel = folder / "wheels" / "tiny" / file
    wheel.write_bytes(make_wheel(file))
    with zipfile.ZipFile(wheel) as archive:
        members = {one: archive.read(one).decode() for one in archive.namelist()}
    members["engine-1.0.dist-info/METADATA"] += f"License: {LINE.replace(chr(13), '')}\nSummary: {LINE}\n"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
        archive.writestr(LINE, "x")
    data = wheel.read_bytes()
    wheel = LockedWheel(name="engine", version="1.0", file=file, sha256=sha256(data).hexdigest(), size=len(data))
    lock = Lock(target="tiny", pythons=("3.11",), machine="x86_64", glibc="2.35", engine="engine==1.0", wheels=(wheel,))
    write_lock(lock_path(folder, "tiny"), lock)
    return folder


WHEELS = ("fetch", "verify", "list", "sbom", "prove --no-install", "dataset --out parts --unproved")


@scene(*(f"wheels {words.split()[0]}" for words in WHEELS), "wheels diff")
def _wheels(stage: Stage) -> None:
    """A wheel's licence and members, a manifest, files beside it."""
    folder = locked(stage)
    (folder / "wheels" / "tiny" / NAME).write_text("x")
    (folder / "wheels" / "tiny" / f"{LINE}.whl").write_text("x")
    for manifest in (None, json.dumps({"format": 1, "name": HOSTILE, "files": [{"path": HOSTILE}], LINE: LINE}), LINE):
        if manifest:
            (folder / "wheels" / "tiny" / "manifest.json").write_text(manifest)
        for words in WHEELS:
            stage.kit("wheels", *words.split(), "--target", "tiny")
    assert "evil" in json.dumps(stage.json("wheels", "list", "--target", "tiny"))
    assert "evil" in json.dumps(json.loads(stage.kit("wheels", "sbom", "--target", "tiny")))
    stage.json("wheels", "prove", "--no-install", "--target", "tiny")
    freeze = folder / f"{NAME}.txt"
    for text in (f"# python 3.13\nengine=={LINE}\n", f"{LINE}\n", f"engine @ {LINE}\nengine==2.0+{LINE}\n"):
        freeze.write_text(text)
        stage.kit("wheels", "diff", "tiny", freeze)
        stage.kit("wheels", "diff", "tiny", freeze, "--json")


@scene(*(f"wheels {words.split()[0]}" for words in WHEELS), "wheels diff")
def _locks(stage: Stage) -> None:
    """Each string of a lock."""
    folder = locked(stage)
    place = folder / "wheels" / "pylock.tiny.toml"
    before = place.read_text()
    texts = [
        before.replace(old, TOML) for old in ('"engine==1.0"', '"3.11"', '"engine"', '"1.0"', '"isolated"', '"2.35"')
    ]
    texts += [before.replace('"tiny/engine-1.0-py3-none-any.whl"', TOML), f"{before}\n{LINE}", before + f"{TOML} = 1\n"]
    (folder / "old.toml").write_text(before)
    for text in texts:
        place.write_text(text)
        for words in WHEELS:
            stage.kit("wheels", *words.split(), "--target", "tiny")
        stage.kit("wheels", "diff", "old.toml", "tiny")
        stage.kit("wheels", "diff", "tiny", "old.toml", "--json")


@scene("allow", "build", "dryrun")
def _folders_outside(stage: Stage) -> None:
    """Folders that kit.toml asks for, before and after they are allowed."""
    folder = stage.project(
        **{'owner = "ada"': f'outside = [{TOML}, "/evil"]\nowner = "ada"', '"notebooks_src/answer.py"': '"/evil/x.py"'}
    )
    stage.kit("allow")
    stage.kit("allow", HOSTILE)
    stage.kit("allow", folder / HOSTILE)
    stage.kit("build", "answer", "--unproved")
    stage.kit("dryrun", "answer")


@scene("wheels lock")
def _an_engine(stage: Stage) -> None:
    """A requirement that is none, and what an index says of it."""
    locked(stage)
    for words in (("--engine", LINE), ("--exclude-newer", LINE)):
        stage.kit("wheels", "lock", "--target", "tiny", *words)


def test_every_command_has_its_scenes():
    """A new command is walked like all the others."""
    assert set(SCENES) == set(leaves())


ALL = sorted({function.__name__: function for functions in SCENES.values() for function in functions}.items())


@pytest.mark.parametrize("play", [function for _, function in ALL], ids=[name for name, _ in ALL])
@pytest.mark.usefixtures("guarded_here")
def test_no_text_from_elsewhere_commands_the_terminal(stage, play):
    """It is printed, for this test is of what is printed, and every unseen character of it is an escape."""
    play(stage)
    assert "evil" in stage.told
    assert "\\x1b" in stage.told or "\\u001b" in stage.told


@pytest.mark.parametrize("words", list(leaves()), ids=" ".join)
def test_any_command_with_hostile_words(stage, words):
    """Whatever it takes: each word that it needs, and each option with a value, is hostile."""
    stage.project()
    command = command_of(words)
    needed = [HOSTILE for each in command.params if isinstance(each, click.Argument)]
    options = [each for each in command.params if isinstance(each, click.Option) and not each.is_flag]
    always = [word for each in options if each.required for word in (each.opts[0], HOSTILE)]
    stage.kit(*words, *needed, *always)
    for option in options:
        stage.kit(*words, *needed, *always, option.opts[0], NAME)


@pytest.mark.parametrize("words", list(leaves()), ids=" ".join)
def test_any_command_with_a_hostile_project(stage, words):
    """A kit.toml with a key that no project has, and one that is no TOML."""
    folder = stage.project()
    command = command_of(words)
    needed = ["answer" for each in command.params if isinstance(each, click.Argument)]
    options = [each for each in command.params if isinstance(each, click.Option) and each.required]
    always = [word for each in options for word in (each.opts[0], "x")]
    before = (folder / "kit.toml").read_text()
    for text in (f"{TOML} = {TOML}\n{before}", f"{before}\n{LINE}", f"{before}\n[models.{TOML}]\n"):
        (folder / "kit.toml").write_text(text)
        stage.kit(*words, *needed, *always)
