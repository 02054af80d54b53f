"""The whole proof on the GPU machine, in three parts of less than ten minutes each.

    python3 benchmarks/gpu/proof.py 1 --pieces PIECES --out OUT   # the built notebook as it is, and the answers
    python3 benchmarks/gpu/proof.py 2 --out OUT                   # speed: the bare engine, ours, the 2024 starter
    python3 benchmarks/gpu/proof.py 3 --out OUT                   # what could be faster still

PIECES holds the files of the folders p1 to pN that `pack.py` has made here; `.carry/work` must lie in the repository.
The machine keeps /kaggle and /dev/shm between the parts. A part goes on where one of its steps fails, and its exit
code is 1 then.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
ROWS = Path("/kaggle/temp-rows")
MODELS = Path("/dev/shm")
WHOLE = MODELS / "m34"
DEMO = ROOT / "tests" / "demo"


def step(name: str, *command: str | Path, overlay: bool = False) -> bool:
    """Run one program, and say how long it took; whether it went well."""
    around = dict(os.environ)
    if overlay:
        around |= {"PYTHONPATH": "/kaggle/temp/kit/overlay", "VLLM_USE_FLASHINFER_SAMPLER": "0"}
    since = time.monotonic()
    code = subprocess.run([sys.executable, *map(str, command)], env=around, check=False).returncode
    print(f"## {name}: {time.monotonic() - since:.0f} s, exit {code}", flush=True)
    return code == 0


def rows(count: int) -> Path:
    """A folder with so many rows of LMSYS-like lengths, a mean of about 1,000 tokens."""
    folder = ROWS / str(count)
    if not (folder / "test.csv").is_file():
        shape = ["--train-rows", "0", "--mean-chars", "4000", "--seed", "11"]
        step("rows", DEMO / "rows.py", "--rows", str(count), *shape, "--out", folder)
    return folder


def whole_model() -> Path:
    """The 34B-shaped AWQ checkpoint."""
    if not (WHOLE / "manifest.json").is_file():
        step("model", HERE / "model34.py", WHOLE)
    return WHOLE


def notebook(args: argparse.Namespace) -> list[bool]:
    """Part 1."""
    machine, tried = HERE / "machine.py", HERE / "tried.py"
    short = ["--model", DEMO / "model", "--data", DEMO / "data", "--out", args.out / "short"]
    long = ["--model", whole_model(), "--data", rows(300), "--out", args.out / "long"]
    options = ["--data", rows(2000), "--models", MODELS, "--out", args.out]
    return [
        step("lay-out", machine, "lay-out", args.pieces),
        step("the notebook, learned model", machine, "run", "short", *short),
        step("the notebook, 34B", machine, "run", "long", *long),
        step("answers and start", tried, "answers", "start", *options),
    ]


def speed(args: argparse.Namespace) -> list[bool]:
    """Part 2: with what part 1's notebook has installed."""
    options = ["--model", whole_model(), "--data", rows(2000), "--out", args.out / "speed.json"]
    return [step("speed", HERE / "speed.py", *options, overlay=True)]


def faster(args: argparse.Namespace) -> list[bool]:
    """Part 3."""
    options = ["--data", rows(2000), "--models", MODELS, "--out", args.out]
    return [step("forms, order and engines", HERE / "tried.py", "forms", "order", "engines", *options)]


PARTS = {1: notebook, 2: speed, 3: faster}


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("part", type=int, choices=sorted(PARTS))
    parser.add_argument("--pieces", type=Path, help="the folder with the carried pieces (part 1)")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    if args.part == 1 and args.pieces is None:
        parser.error("part 1 needs --pieces")
    args.out.mkdir(parents=True, exist_ok=True)
    return int(not all(PARTS[args.part](args)))


if __name__ == "__main__":
    sys.exit(main())
