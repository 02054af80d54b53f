"""The 4-bit kernels against each other on the GPU machine, by the runtime's own measurement (`kit bench`).

    python3 benchmarks/gpu/kernels.py --model /dev/shm/m12 --data ROWS --out rates.json --minutes 4

It installs the engine from the wheelhouse that `machine.py lay-out` has put in place, as the notebook does. A
checkpoint of 12 layers (`model34.py --layers 12`) has the same matrices and starts sooner.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2])]

from machine import KAGGLE, facts

from kaggle_kit.files import write_atomic
from kaggle_kit.runtime.bench import bench
from kaggle_kit.runtime.engine_plan import EngineSetup
from kaggle_kit.runtime.install import install_engine
from kaggle_kit.runtime.job import Job, Task
from kaggle_kit.runtime.machine import engine_version, find_gpus

BUDGET = 2047


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for option in ("--model", "--data", "--out"):
        parser.add_argument(option, type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each trial, after its engine's start")
    args = parser.parse_args()
    until = time.monotonic() + args.minutes * 60
    told = facts()
    datasets = KAGGLE / "input" / "datasets"
    parts = [datasets / told["wheelhouse"], datasets / f"{told['wheelhouse']}-kit"]
    scratch = KAGGLE / "temp" / "kernels"
    installed = install_engine(parts, scratch=scratch)
    _, body = bench(
        Job(
            task=Task(**told["task"]),
            test=scratch / "bench.csv",
            id_column="id",
            model=args.model,
            journal=scratch / "journal.sqlite",
            token_budget=BUDGET,
            engine_options={},
        ),
        data=args.data,
        rows=2000,
        setup=EngineSetup(
            version=engine_version(parts),
            cards=find_gpus(),
            options=told["engine_options"],
            environment=told["worker_environment"],
        ),
        python=installed.python,
        scratch=scratch,
        environment=installed.environment,
        target="offline-h200",
        seconds=args.seconds,
        deadline=until,
        tell=lambda text: print(text, flush=True),
    )
    write_atomic(args.out, json.dumps(body, indent=1, sort_keys=True) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
