"""What a second push costs: bytes sent and seconds, for a 5 GB model and a wheelhouse of 200 wheels.

    python benchmarks/push.py
    python benchmarks/push.py --gigabytes 0.5    # quicker

`kit push`, in a process of its own, against the loopback Kaggle in this one, which keeps hashes and sizes only. The
model is a sparse file: reading it costs no disk, so these are the limits of processor and loopback, not of a line to
Kaggle. The table goes to `benchmarks/results/push.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from prepare import RESULTS, ROOT, head

from kaggle_kit.files import write_atomic
from kaggle_kit.loopback.runs import RunOutcome
from kaggle_kit.loopback.server import LoopbackKaggle
from kaggle_kit.loopback.service import Settings
from kaggle_kit.notebook.build import build
from kaggle_kit.project import load_project
from kaggle_kit.remote.plan.hashes import hash_files, open_cache
from kaggle_kit.runtime.manifest import dump_manifest, make_manifest
from kaggle_kit.targets import load_target

TARGET, NAME = "kaggle-t4x2", "answer"
WHEELS, WHEEL_BYTES, KIT_BYTES = 200, 1_000_000, 250_000
SEED = 11


@dataclass(frozen=True)
class Pushed:
    """One push: bytes of all uploads, seconds of the whole command."""

    sent: int
    seconds: float


def make_part(folder: Path, part: str, wheels: dict[str, bytes]) -> None:
    """A wheelhouse's part as `kit wheels dataset` writes it: the kit's wheel at the top, the others in a folder."""
    slug, below = ("wheels-t4", folder / "wheels") if part == "engine" else ("wheels-t4-kit", folder)
    below.mkdir(parents=True, exist_ok=True)
    for name, content in wheels.items():
        (below / f"{name}-1.0-py3-none-any.whl").write_bytes(content)
    manifest = folder / "manifest.json"
    manifest.unlink(missing_ok=True)
    (folder / "dataset-metadata.json").unlink(missing_ok=True)
    write_atomic(manifest, dump_manifest(make_manifest(folder, kind="wheelhouse", name=TARGET, extra={"part": part})))
    body = {"id": f"ada/{slug}", "title": slug.replace("-", " "), "licenses": [{"name": "other"}]}
    (folder / "dataset-metadata.json").write_text(json.dumps(body))


def make_project(root: Path, *, model_bytes: int) -> None:
    """The tests' smallest project with a model of this size, a wheelhouse, and its notebook built."""
    shutil.copytree(ROOT / "tests" / "projects" / "minimal", root)
    (root / "model").mkdir()
    (root / "model" / "config.json").write_text("{}\n")
    with (root / "model" / "model.safetensors").open("wb") as stream:
        stream.truncate(model_bytes)
    dice = random.Random(SEED)
    parts = root / "build" / f"wheels-{TARGET}"
    make_part(parts / "engine", "engine", {f"package_{n:03}": dice.randbytes(WHEEL_BYTES) for n in range(WHEELS)})
    make_part(parts / "kit", "kit", {"kaggle_kit": dice.randbytes(KIT_BYTES)})
    build(load_project(root), NAME, target=load_target(TARGET))


def push(root: Path, kaggle: LoopbackKaggle, environment: dict[str, str]) -> Pushed:
    """`kit push`, which must succeed."""
    kaggle.traffic.reset()
    command = [sys.executable, "-m", "kaggle_kit.cli.main", "push", NAME, "--unproved", "--project", str(root)]
    since = time.perf_counter()
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - since
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return Pushed(kaggle.traffic.uploaded, seconds)


def hashing(model: Path, place: Path) -> tuple[float, float]:
    """Seconds to hash a file that is not known, and again."""
    found = []
    for _ in range(2):
        since = time.perf_counter()
        cache = open_cache(place)
        hash_files({model.name: model}, cache=cache)
        cache.save()
        found.append(time.perf_counter() - since)
    return found[0], found[1]


def measure(folder: Path, *, model_bytes: int) -> tuple[list[str], bool]:
    """The table's lines, and whether an unchanged push sent nothing."""
    root = folder / "project"
    make_project(root, model_bytes=model_bytes)
    time.sleep(2.5)  # a file that was just written is never remembered: it may change within its clock's tick
    lines = []

    def note(what: str, sent: int, seconds: float, note: str) -> None:
        lines.append(f"| {what} | {sent:,} | {seconds:.3g} | {note} |")
        print(lines[-1], flush=True)

    model = root / "model" / "model.safetensors"
    first, again = hashing(model, folder / "hashes.json")
    note("hash the model", 0, first, f"{model_bytes / first / 1e6:,.0f} MB/s")
    note("hash it again", 0, again, "known by its size and time")
    for name in ("home", "tmp", "data", "cache"):
        (folder / name).mkdir()
    kaggle = LoopbackKaggle(
        folder / "kaggle",
        runner=lambda _: RunOutcome("COMPLETE"),
        judge=lambda *_: 0.0,
        settings=Settings(username="ada"),
        keep_bytes=False,
    )
    with kaggle:
        kaggle.add_competition("best-answer", folder / "data")
        environment = kaggle.environment(folder / "home", folder / "tmp") | {"KIT_CACHE_DIR": str(folder / "cache")}
        whole = push(root, kaggle, environment)
        rate = json.loads((folder / "cache" / "upload-rate.json").read_text())["bytes_a_second"]
        note(
            "first push",
            whole.sent,
            whole.seconds,
            f"with the hashing; the model's upload alone: {rate / 1e6:,.0f} MB/s",
        )
        same = push(root, kaggle, environment)
        note("second push, nothing changed", same.sent, same.seconds, "no version made")
        parts, dice = root / "build" / f"wheels-{TARGET}", random.Random(SEED + 1)
        make_part(parts / "kit", "kit", {"kaggle_kit": dice.randbytes(KIT_BYTES)})
        own = push(root, kaggle, environment)
        wheels = WHEELS * WHEEL_BYTES
        note("the kit's own wheel changed", own.sent, own.seconds, f"in one dataset: {wheels + own.sent:,} bytes")
        make_part(parts / "engine", "engine", {"package_100": dice.randbytes(WHEEL_BYTES)})
        one = push(root, kaggle, environment)
        note(f"one of {WHEELS} wheels changed (1 MB)", one.sent, one.seconds, "a dataset's version is whole")
        if kaggle.mistakes:
            raise kaggle.mistakes[0]
    return lines, same.sent == 0


def main() -> int:
    """The command line; 1 where an unchanged push sent something."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=5.0, help="of the model")
    args = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        lines, kept = measure(Path(name), model_bytes=round(args.gigabytes * 1e9))
    text = (
        "`kit push` in a process of its own against the loopback Kaggle, which hashes what comes and keeps no bytes.\n"
        f"A sparse model file of {args.gigabytes:g} GB, {WHEELS} wheels of {WHEEL_BYTES / 1e6:g} MB, and the kit's own "
        f"wheel of {KIT_BYTES / 1e6:g} MB. Client and server share\nthe machine (load {load:.1f} before, "
        f"{os.getloadavg()[0]:.1f} after), and no line to Kaggle is in these seconds. To hold: an unchanged push\n"
        f"sends 0 bytes.\n\n"
        f"A version of a dataset holds all its files, so one changed wheel sends its whole part. That is why the "
        f"wheelhouse is two\ndatasets: the kit's own wheel changes with every line of the runtime, the engine's with "
        f"the lock only."
    )
    table = "| what | bytes sent | s | |\n|---|---|---|---|\n"
    page = head("What a push sends", text, runs="one run") + table + "\n".join(lines) + "\n"
    write_atomic(RESULTS / "push.md", page)
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
