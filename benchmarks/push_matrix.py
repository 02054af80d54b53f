"""Every call of a release in every form in which it can go wrong, and `kit push` twice: what it says, what is there.

    python benchmarks/push_matrix.py                # all, about an hour of one core
    python benchmarks/push_matrix.py --share 1/4    # every fourth, from the first
    python benchmarks/push_matrix.py --only SaveKernel made-

Three releases of the tests' small project against the loopback Kaggle. Each fault strikes once, at the first call of
its route or at the last one. Judged are, for each: the exit code (0 only for a whole release, and always where the same
call asked again is right), the message (what, why, what next), that no success is told of what is not there, that
nothing is there twice, and that the second push finishes. The table goes to `benchmarks/results/push_matrix.md`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

import prepare

sys.path[:0] = [str(prepare.ROOT), str(prepare.ROOT / "tests" / "remote" / "push")]

from forks import Forks  # noqa: E402
from kills import Killing  # noqa: E402
from matrix import Verdict, cases, judge  # noqa: E402

from kaggle_kit.files import write_atomic  # noqa: E402


def measure(share: str, only: list[str]) -> list[Verdict]:
    """The verdicts of one share of all cases, or of those whose names hold one of `only`."""
    first, _, of = share.partition("/")
    with Forks() as forks, tempfile.TemporaryDirectory() as folder:
        killing = Killing(Path(folder), forks)
        killing.begin()
        chosen = [case for case in cases(killing) if not only or any(part in str(case) for part in only)]
        verdicts = []
        for case in chosen[int(first) - 1 :: int(of)]:
            verdicts.append(judge(killing, case))
            if verdicts[-1].problems:
                print(f"{case}: {'; '.join(verdicts[-1].problems)}", flush=True)
        return verdicts


def table(verdicts: list[Verdict]) -> str:
    """A row for each form: how many faults struck, how the first push ended, and how many were handled wrongly."""
    rows = []
    for form in dict.fromkeys(verdict.case.form for verdict in verdicts):
        met = [verdict for verdict in verdicts if verdict.case.form == form and verdict.met]
        ends = Counter(verdict.code for verdict in met)
        wrong = sum(bool(verdict.problems) for verdict in met)
        rows.append(f"| {form} | {len(met)} | {ends[0]} | {len(met) - ends[0]} | {wrong} |")
    return "| form | faults | first push: 0 | told | wrong |\n|---|---|---|---|---|\n" + "\n".join(rows) + "\n"


def main() -> int:
    """The command line; 1 where a fault was handled wrongly."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--share", default="1/1", metavar="N/M")
    parser.add_argument("--only", nargs="*", default=[], metavar="PART", help="of the cases' names")
    args = parser.parse_args()
    verdicts = measure(args.share, args.only)
    met = [verdict for verdict in verdicts if verdict.met]
    wrong = [verdict for verdict in met if verdict.problems]
    text = (
        "`kit push --submit` meets a fault once, then a second push follows. Columns: faults that struck, first pushes "
        f"that\novercame them, and that told of them. {len(met)} faults struck, {len(wrong)} were handled wrongly."
    )
    said = "".join(f"\n- {verdict.case}: {'; '.join(verdict.problems)}\n" for verdict in wrong)
    page = prepare.head("A push that meets a fault", text, runs="one run") + table(verdicts) + said
    write_atomic(prepare.RESULTS / "push_matrix.md", page)
    print(f"{len(met)} faults, {len(wrong)} handled wrongly")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
