"""The built notebook that quantises on Kaggle, with the very packages that it installs there, on this machine.

    python benchmarks/quantize_notebook.py                      # every Python of the lock that is found here
    python benchmarks/quantize_notebook.py --python 3.13

A dry run takes the packages for CPUs, whose torch is another one. Here the notebook is built for kaggle-t4x2, and its
packages (2.9 GB a Python) come from the package index by their hashes, as on Kaggle; what is missing is the GPU, so the
layers are done on the processor. No seal: nothing keeps it from the network. Writes results/quantize_notebook.md.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from prepare import RESULTS, head

from kaggle_kit.files import write_atomic
from kaggle_kit.notebook.build import build
from kaggle_kit.project import load_project
from kaggle_kit.runtime.manifest import MANIFEST, dump_manifest, make_manifest
from kaggle_kit.targets import load_target
from kaggle_kit.wheelhouse.folder import build_kit_wheel
from kaggle_kit.wheelhouse.prove import find_python

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "tests" / "demo"
TARGET = "kaggle-t4x2"
PYTHONS = ("3.12", "3.13")
IMAGE = ("psutil", "uv")
"""What of Kaggle's image the notebook's own Python needs."""
CELLS = """
import json, sys
names = {"__name__": "__main__"}
for cell in json.load(open(sys.argv[1], encoding="utf-8"))["cells"]:
    if cell["cell_type"] == "code":
        exec(compile("".join(cell["source"]), cell["id"], "exec"), names)
"""


def lay_out(root: Path) -> Path:
    """A /kaggle in `root`: the kit's part of a wheelhouse, the trained demo model and its data; the built notebook."""
    for name in ("working", "temp", "input/kit"):
        (root / name).mkdir(parents=True)
    kit = root / "input" / "kit"
    build_kit_wheel(kit)
    write_atomic(kit / MANIFEST, dump_manifest(make_manifest(kit, kind="wheelhouse", name=TARGET)))
    shutil.copytree(DEMO / "full", root / "input" / "full")
    shutil.copytree(DEMO / "data", root / "input" / "data")
    return build(load_project(ROOT), "quantize", target=load_target(TARGET), out=root / "built").notebook


def run(version: str, root: Path) -> tuple[dict[str, Any], float] | None:
    """The record of one run under this Python, and its seconds; None where there is no such Python here."""
    python = find_python(version)
    if python is None:
        return None
    notebook = lay_out(root)
    own = root / "image" / "bin"
    subprocess.run([python, "-m", "venv", root / "image"], check=True)
    subprocess.run([own / "python", "-m", "pip", "install", "--quiet", *IMAGE], check=True)
    environment = os.environ | {"KIT_KAGGLE_ROOT": str(root), "PATH": f"{own}{os.pathsep}{os.environ['PATH']}"}
    since = time.monotonic()
    command = [own / "python", "-c", CELLS, notebook]
    subprocess.run(command, env=environment, cwd=root / "working", check=True)
    seconds = time.monotonic() - since
    return json.loads((root / "working" / "kit-run.json").read_text(encoding="utf-8")), seconds


def compared(made: Path) -> dict[str, Any]:
    """What `kit model compare` says of the model that was made, beside the one that it was made of."""
    command = [Path(sys.executable).with_name("kit"), "model", "compare", DEMO / "full", made]
    command += ["--notebook", "lmsys", "--project", ROOT, "--rows", "300", "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def line(version: str, record: dict[str, Any], seconds: float, found: dict[str, Any]) -> str:
    """A row of the table."""
    make = record["make"]
    install = make["install"]
    versions = make["provenance"]["quantisation"]["versions"]
    kl, loss = found["kl_mean"]["value"], found["log_loss_difference"]["value"]
    return (
        f"| {version} | {install['packages']} by {install['installer']} | {install['wheels']:.0f} + "
        f"{install['archives']:.1f} | {seconds:.0f} | {versions['torch']}, {versions['autoawq']} | "
        f"{kl:.5f} | {loss:+.4f} | {found['rows']} |"
    )


def main() -> int:
    """The command line; 1 where no Python of the lock is here."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--python", choices=PYTHONS, action="append", help="only this one (may be given twice)")
    args = parser.parse_args()
    lines = []
    for version in args.python or PYTHONS:
        with tempfile.TemporaryDirectory() as name:
            done = run(version, Path(name))
            if done is None:
                print(f"no Python {version} here", file=sys.stderr)
                continue
            lines.append(line(version, *done, compared(Path(name) / "working" / "demo-awq")))
    text = (
        "The notebook `quantize`, built for kaggle-t4x2, outside of any seal, with the packages for CUDA and no GPU: "
        "the demo model, 128 rows.\nMean KL and log loss against the model before, by rows that did not calibrate it."
    )
    table = (
        "| Python | packages | wheels + archives, s | whole run, s | torch, autoawq | mean KL | log loss | rows |\n"
        "|---|---|---|---|---|---|---|---|\n"
    )
    title = "The notebook that quantises, with Kaggle's packages"
    page = head(title, text, runs="one run each") + table + "\n".join(lines) + "\n"
    print(page)
    if lines:
        write_atomic(RESULTS / "quantize_notebook.md", page)
    return 0 if lines else 1


if __name__ == "__main__":
    sys.exit(main())
