"""How long a wheelhouse takes to fetch and to install offline, uv against pip, in one run.

    python benchmarks/install.py                 install only, from wheels/local-cpu
    python benchmarks/install.py --fetch         also fetch it once from the index into an empty cache (630 MB)

Every install goes into an empty folder of its own, with no network, by the code that the notebook runs. Writes
benchmarks/results/install.md.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from kaggle_kit.files import remove_aside, write_atomic
from kaggle_kit.runtime.manifest import MANIFEST, read_manifest
from kaggle_kit.wheelhouse.fetch import fetch
from kaggle_kit.wheelhouse.folder import assemble, kit_wheel_name, wheelhouse_path
from kaggle_kit.wheelhouse.lock import lock_path, read_lock
from kaggle_kit.wheelhouse.prove import find_python, no_network

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "install.md"
WAYS = {
    "uv": "uv",
    "pip": "pip, as the kit falls back to it (no .pyc files)",
    "plain": "pip with its defaults",
}
KITS_OWN = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from kaggle_kit.runtime.install import install_engine
done = install_engine(Path(sys.argv[2]), scratch=Path(sys.argv[3]), with_uv=sys.argv[4] == "uv")
print(json.dumps(dict(done.seconds) | {"installer": done.installer}))
"""
PLAIN_PIP = """
import json, subprocess, sys, time
from pathlib import Path
wheels, scratch = Path(sys.argv[2]), Path(sys.argv[3])
since = time.monotonic()
subprocess.run([sys.executable, "-m", "venv", "--without-pip", scratch / "env"], check=True)
subprocess.run([sys.executable, "-m", "pip", "--python", scratch / "env" / "bin" / "python", "install", "--quiet",
                "--no-index", "--no-deps", *sorted(wheels.glob("*.whl"))], check=True)
print(json.dumps({"install": round(time.monotonic() - since, 3), "installer": "plain pip"}))
"""


def machine() -> str:
    """This machine in words: processor, cores, memory, Python."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.machine()}"


def install(folder: Path, program: str, how: str, *, python: Path, base: Path) -> dict[str, float]:
    """Seconds by step of one install, and of the whole process as "total"."""
    before, _ = no_network()
    scratch = Path(tempfile.mkdtemp(dir=base))
    command = [*before, python, "-c", program, folder / kit_wheel_name(), folder, scratch, how]
    since = time.monotonic()
    done = subprocess.run(command, env=clean(), capture_output=True, text=True, check=False)
    total = time.monotonic() - since
    if done.returncode:
        sys.exit(f"the install by {how} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1]) | {"total": total}


def clean() -> dict[str, str]:
    """The environment without any setting of uv, pip or Python."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("UV_", "PIP_", "PYTHON"))}


def fetches(target: str, *, base: Path) -> list[str]:
    """Lines of the table on fetching: from the index into an empty cache, then with all of it in the cache."""
    lock = read_lock(lock_path(ROOT, target))
    lines = []
    for name in ("from the index, empty cache", "warm cache, new folder"):
        since = time.monotonic()
        fetch(lock, cache=base / "cache")
        assemble(lock, cache=base / "cache", out=base / name.split(",")[0])
        seconds = time.monotonic() - since
        lines.append(f"| fetch, {name} | {seconds:.1f} | {lock.size / 1e6 / seconds:,.0f} MB/s |")
    return lines


def main() -> None:
    """Measure, print, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="local-cpu")
    parser.add_argument("--fetch", action="store_true")
    parser.add_argument("--rounds", type=int, default=3, help="installs by each way, in turns; the median counts")
    options = parser.parse_args()
    folder = wheelhouse_path(ROOT, options.target)
    manifest = read_manifest(folder / MANIFEST)
    version = read_lock(lock_path(ROOT, options.target)).python
    python = find_python(version)
    if python is None:
        sys.exit(f"there is no Python {version} here")
    load = os.getloadavg()[0]
    base = Path(tempfile.mkdtemp(prefix="kit-bench-"))
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    try:
        rows = fetches(options.target, base=base) if options.fetch else []
        for _ in range(options.rounds):  # in turns: what else the machine does meets all ways alike
            for way in WAYS:
                program = PLAIN_PIP if way == "plain" else KITS_OWN
                found[way].append(install(folder, program, way, python=python, base=base))
    finally:
        remove_aside(base)
    usual = {way: statistics.median(one["total"] for one in found[way]) for way in WAYS}
    for way, name in WAYS.items():
        rounds = ", ".join(f"{one['total']:.1f}" for one in found[way])
        rows.append(f"| install by {name} | {usual[way]:.1f} | {usual[way] / usual['uv']:.1f}× uv (rounds: {rounds}) |")
    size = sum(entry.size for entry in manifest.files)
    text = "\n".join(
        [
            "# Fetching and installing a wheelhouse",
            "",
            f"`python {' '.join(['benchmarks/install.py', *sys.argv[1:]])}`: {options.target}, Python {version},",
            f"{len(manifest.files)} wheels, {size / 1e6:,.0f} MB. Machine: {machine()};",
            f"load average {load:.1f} at the start, {os.getloadavg()[0]:.1f} at the end.",
            f"Medians, in seconds; one process each, empty folders, {no_network()[1]}.",
            "",
            "| what | seconds | |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )
    if RESULT.is_file():  # what people wrote below the table stays
        _, marker, notes = RESULT.read_text(encoding="utf-8").partition("\n## Notes\n")
        text += marker + notes
    write_atomic(RESULT, text)
    print(text)


if __name__ == "__main__":
    main()
