"""kill -9 of `kit push` at every boundary between a reply and its note, and at random moments: what the next one does.

    python benchmarks/push_kills.py                       # every boundary and 200 moments, about ten minutes
    python benchmarks/push_kills.py --moments 20 --boundaries 20

Four releases of the tests' small project against the loopback Kaggle: the first one; another version of one input; the
same where Kaggle does not say which versions a notebook has; another version of a Kaggle model. The boundaries are what
a whole push comes by: each reply to a call that makes something, each upload and its beginning, each file that takes
its place. A third of the kills at random come two or three in a row. To hold: the push after the kill ends with 0,
all that is there is what is here, and there is one of everything. The table goes to `benchmarks/results/push_kills.md`.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import prepare

sys.path[:0] = [str(prepare.ROOT), str(prepare.ROOT / "tests" / "remote" / "push")]

from forks import Forks  # noqa: E402
from kills import MADE, RELEASES, Killing, is_boundary  # noqa: E402

from kaggle_kit.files import write_atomic  # noqa: E402

SEED = 17


def kind_of(step: str) -> str:
    """Where a boundary is, for the table."""
    if step.startswith("note upload"):
        return "upload noted, begun or used"
    if step.startswith("note"):
        return "a file in its place"
    return "reply to a call that makes something" if step.split()[2].startswith(MADE) else "reply to an upload"


def boundaries(killing: Killing, most: int) -> tuple[Counter[tuple[str, str]], list[str]]:
    """Kills at the boundaries of each release, `most` of each: how many by release and kind; what went wrong."""
    done: Counter[tuple[str, str]] = Counter()
    problems = []
    for name, release in RELEASES.items():
        steps = [step for step in killing.steps(release) if is_boundary(step)]
        for step in random.Random(SEED).sample(steps, min(most, len(steps))):
            killed, problem = killing.verdict(release, step)
            done[name, kind_of(step)] += killed
            problems += [f"{name}, {step}: {problem}"] if problem else []
    return done, problems


def moments(killing: Killing, count: int) -> tuple[Counter[tuple[str, str]], list[str]]:
    """Kills at random moments, spread over the releases: as `boundaries`."""
    dice, done, problems = random.Random(SEED), Counter[tuple[str, str]](), []
    longest = {}
    for name, release in RELEASES.items():
        begun = time.monotonic()
        killing.steps(release)
        longest[name] = time.monotonic() - begun
    while done.total() < count:
        name = dice.choice(list(RELEASES))
        kills = [dice.uniform(0.02, longest[name]) for _ in range(dice.choice((1, 1, 1, 1, 2, 3)))]
        killed, problem = killing.verdict(RELEASES[name], *kills)
        done[name, "a random moment"] += killed
        problems += [f"{name}, after {kills} s: {problem}"] if problem else []
    return done, problems


def main() -> int:
    """The command line; 1 where a release did not end right."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--moments", type=int, default=200, help="kills at random moments")
    parser.add_argument("--boundaries", type=int, default=1000, help="of each release, at most")
    args = parser.parse_args()
    with Forks() as forks, tempfile.TemporaryDirectory() as folder:
        killing = Killing(Path(folder), forks)
        killing.begin()
        at, wrong = boundaries(killing, args.boundaries)
        by_chance, wrong_by_chance = moments(killing, args.moments)
    done, problems = at + by_chance, wrong + wrong_by_chance
    kinds = sorted({kind for _, kind in done})
    rows = [f"| {kind} | " + " | ".join(str(done[name, kind]) for name in RELEASES) + " |" for kind in kinds]
    table = f"| killed at | {' | '.join(RELEASES)} |\n|---|{'---|' * len(RELEASES)}\n" + "\n".join(rows) + "\n"
    text = (
        "`kit push --submit` in a process that is killed, then once more; loopback Kaggle, a small project with\nthree "
        "datasets, a Kaggle model, a notebook and a submission. Columns: the release that was killed.\n"
        f"{done.total()} kills: {len(problems)} releases did not end right with the next push, or had anything twice."
    )
    page = prepare.head("A push that is killed", text, runs="one run") + table + "".join(f"\n- {p}\n" for p in problems)
    write_atomic(prepare.RESULTS / "push_kills.md", page)
    print("\n".join(problems) or f"{done.total()} kills, each release whole and once")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
