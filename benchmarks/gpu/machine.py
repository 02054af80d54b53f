"""On the GPU machine: lay out /kaggle from the carried pieces, and run the built notebook as it is, with papermill.

    python3 benchmarks/gpu/machine.py lay-out PIECES     # once, after the last piece has come
    python3 benchmarks/gpu/machine.py run NAME --model FOLDER --data FOLDER --out FOLDER

It needs the machine's own Python with torch, and the standard library. papermill and ipykernel, which Kaggle's image
has and this machine has not, are installed from the wheelhouse that is to be proved. NAME is `short` or `long`, one of
the two builds of `pack.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
WORK = ROOT / ".carry" / "work"
KAGGLE = Path("/kaggle")


def facts() -> dict[str, Any]:
    """What `pack.py` wrote of the project."""
    found: dict[str, Any] = json.loads((WORK / "facts.json").read_text(encoding="utf-8"))
    return found


class _Joined:
    """The pieces as one stream."""

    def __init__(self, paths: list[Path]) -> None:
        self._streams = [path.open("rb") for path in paths]

    def read(self, size: int = -1) -> bytes:
        while self._streams:
            if piece := self._streams[0].read(size):
                return piece
            self._streams.pop(0).close()
        return b""


def lay_out(pieces: Path) -> None:
    """The wheelhouse's parts below /kaggle/input/datasets, and papermill and ipykernel for the machine's Python."""
    datasets = KAGGLE / "input" / "datasets"
    datasets.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=_Joined(sorted(pieces.glob("part*"))), mode="r|") as archive:  # type: ignore[call-overload]
        archive.extractall(datasets, filter="data")
    wheels = datasets / facts()["wheelhouse"] / "wheels"
    command = ["uv", "pip", "install", "-q", "--python", sys.executable, "--no-index", "--find-links", str(wheels)]
    if not os.access(Path(sys.executable).parent, os.W_OK):
        raise SystemExit("the machine's Python cannot be added to")
    subprocess.run([*command, "papermill", "ipykernel"], check=True)


def run(name: str, *, model: Path, data: Path, out: Path) -> int:
    """Execute the build `name` in /kaggle with `model` and `data` attached; its files and times come to `out`."""
    told = facts()
    places = {
        KAGGLE / "input" / "datasets" / told["model"]: model,
        KAGGLE / "input" / "competitions" / told["competition"]: data,
    }
    for place, folder in places.items():
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        place.symlink_to(folder.resolve())
    for folder in (KAGGLE / "working", KAGGLE / "temp"):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    out.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "papermill", str(WORK / name / "lmsys.ipynb"), str(out / "executed.ipynb")]
    command += ["--kernel", "python3", "--cwd", str(KAGGLE / "working"), "--log-output", "--no-progress-bar"]
    since = time.monotonic()
    with (
        (out / "log.txt").open("w", encoding="utf-8") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as started,
    ):
        for line in started.stdout or ():
            log.write(f"{time.monotonic() - since:9.2f}  {line}")
            log.flush()
            if not line.startswith(("Executing", "Ending")):
                print(f"{time.monotonic() - since:7.1f}  {line}", end="", flush=True)
    for path in KAGGLE.joinpath("working").glob("*"):
        if path.is_file():
            shutil.copy(path, out / path.name)
    for path in (out / "log.txt", out / "executed.ipynb"):
        if path.is_file():
            text = path.read_text(encoding="utf-8").replace(f"{WORK}/", "BUILD/").replace(f"{out}/", "OUT/")
            path.write_text(text, encoding="utf-8")
    seconds = time.monotonic() - since
    print(json.dumps({"build": name, "exit_code": started.returncode, "seconds": round(seconds, 1)}), flush=True)
    return started.returncode


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("lay-out").add_argument("pieces", type=Path)
    runs = commands.add_parser("run")
    runs.add_argument("name", choices=("short", "long"))
    for option in ("--model", "--data", "--out"):
        runs.add_argument(option, type=Path, required=True)
    args = parser.parse_args()
    if args.command == "lay-out":
        lay_out(args.pieces)
        return 0
    return run(args.name, model=args.model, data=args.data, out=args.out)


if __name__ == "__main__":
    sys.exit(main())
