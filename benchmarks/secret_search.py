"""The search for secrets: processor seconds for ten megabytes of ordinary texts, and of nothing but near misses.

    python benchmarks/secret_search.py

The table goes to `benchmarks/results/secret_search.md`.
"""

from __future__ import annotations

import os
import random
import string
import sys
import time

import prepare

# From the project's own folder, whatever is installed.
sys.path[:0] = [str(prepare.ROOT)]

from kaggle_kit.files import write_atomic  # noqa: E402
from kaggle_kit.secrets import find_secrets  # noqa: E402

BYTES = 10_000_000
LIMIT_SECONDS = 2
CELLS = prepare.ROOT / "tests" / "secrets" / "cells.txt"


def texts() -> dict[str, str]:
    """A piece of each kind of text."""
    noise = random.Random(10).choices(string.ascii_letters + string.digits + "+/", k=5000)
    return {
        "a log": "INFO 11-24 08:12:31 [metrics.py:417] Avg throughput: 21808.1 tokens/s, GPU KV cache usage: 4.1%\n",
        "numbers": "0.123456,987654,0.5,17,0.333\n",
        "prose": "The quick brown fox jumps over the lazy dog, and nobody minds that at all. ",
        "Base64": "".join(noise),
        "cells of notebooks that come near a secret, and nothing else": CELLS.read_text(encoding="utf-8"),
    }


def main() -> int:
    """Search each text, print and write the table; 1 if an ordinary text takes longer than it may."""
    lines, slow = [], False
    for name, piece in texts().items():
        text = piece * (BYTES // len(piece))
        since = time.process_time()
        find_secrets(text)
        seconds = time.process_time() - since
        slow |= seconds > LIMIT_SECONDS and piece != CELLS.read_text(encoding="utf-8")
        lines.append(f"| {name} | {len(text) / 1e6:.0f} | {seconds:.2f} | {os.getloadavg()[0]:.1f} |")
        print(lines[-1], flush=True)
    text = f"To hold: {LIMIT_SECONDS} s of a processor for ten megabytes of an ordinary text."
    table = "\n".join(["| text | MB | CPU s | load |", "|---|---|---|---|", *lines])
    body = prepare.head("The search for secrets before a push", text, runs="one run") + table
    write_atomic(prepare.RESULTS / "secret_search.md", f"{body}\n")
    return int(slow)


if __name__ == "__main__":
    sys.exit(main())
