"""Pack what the proof on an offline GPU machine needs into pieces that can be carried there.

    python benchmarks/gpu/pack.py            # writes .carry/p1 ... .carry/pN and .carry/work

The wheelhouse of offline-h200 in the two parts that Kaggle would get, the notebook built as for a push (with its own
budget, and with one of 2,047 tokens), and the task for `speed.py`. Wheels travel as they are, byte for byte.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

TARGET = "offline-h200"
PIECE_BYTES = 50_000_000
LONG_BUDGET = 2047


def pack(out: Path) -> int:
    """Write the pieces below `out`; returns how many."""
    from kaggle_kit.notebook.build import build
    from kaggle_kit.notebook.source import notebook_task
    from kaggle_kit.project import load_project
    from kaggle_kit.targets import load_target
    from kaggle_kit.wheelhouse.dataset import ready_parts
    from kaggle_kit.wheelhouse.folder import wheelhouse_path
    from kaggle_kit.wheelhouse.prove import proof_problem

    project, target = load_project(ROOT), load_target(TARGET, project=ROOT)
    if problem := proof_problem(ROOT, TARGET):
        raise SystemExit(problem)
    shutil.rmtree(out, ignore_errors=True)
    work = out / "work"
    for name, assignments in (("short", ()), ("long", (f"token_budget={LONG_BUDGET}",))):
        build(project, "lmsys", target=target, assignments=assignments, out=work / name)
    task, _ = notebook_task(project, "lmsys", assignments=[])
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    facts = {
        "task": task.to_json(),
        "commit": commit.stdout.strip(),
        "competition": project.competition,
        "wheelhouse": project.wheelhouses[TARGET],
        "model": project.models["demo"].dataset,
        "engine_options": dict(target.engine_options),
        "worker_environment": dict(target.worker_environment),
    }
    (work / "facts.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
    parts = ready_parts(
        wheelhouse_path(ROOT, TARGET), reference=project.wheelhouses[TARGET], out=ROOT / "build" / f"wheels-{TARGET}"
    )
    with tempfile.NamedTemporaryFile(dir=out, suffix=".tar") as stream:
        with tarfile.open(fileobj=stream, mode="w") as archive:
            for reference, folder in parts.items():
                archive.add(folder, arcname=reference)
        stream.seek(0)
        number = 0
        while piece := stream.read(PIECE_BYTES):
            number += 1
            (out / f"p{number}").mkdir()
            (out / f"p{number}" / f"part{number:02d}").write_bytes(piece)
    return number


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / ".carry")
    count = pack(parser.parse_args().out)
    print(f"{count} pieces of at most {PIECE_BYTES / 1e6:.0f} MB; carry p1 to p{count} one by one, then work")
    return 0


if __name__ == "__main__":
    sys.exit(main())
