"""Releases that are killed at a step, or at any moment, and pushed again: what has to be there in the end."""

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from forks import KILLED, Ended, Forks
from push_project import (
    COMPETITION,
    ENGINE,
    KERNEL,
    KIT,
    MODEL,
    SETTINGS,
    TOKEN,
    VARIATION,
    World,
    judge,
    make_project,
    rebuild,
    run,
)

from kaggle_kit.loopback.faults import KERNELS, Edit, Fault
from kaggle_kit.loopback.server import LoopbackKaggle, environment
from kaggle_kit.loopback.store import check_mark
from kaggle_kit.retry import REHEARSAL, Patience

PATIENCE = replace(
    REHEARSAL, first_s=0.01, longest_s=0.05, settle_s=0.3, poll_s=0.01, ready_s=30, queue_s=20, score_s=20
)
FIRST = {ENGINE: 1, KIT: 1, MODEL: 1, VARIATION: 1, KERNEL: 1, "submissions": 1}
MADE = ("CreateDataset", "CreateModel", "SaveKernel", "CreateCodeSubmission")
"""Calls after which something is there that kit has not noted yet; also by the longer names that begin so."""


@dataclass(frozen=True)
class Release:
    """What is pushed: `change` is made after a first release, unless it is None; `versions` have to be there then."""

    change: Callable[[World], None] | None = None
    versions: dict[str, int] = field(default_factory=dict)
    told: bool = True
    """Whether Kaggle says the versions of a notebook's inputs."""

    @property
    def wanted(self) -> dict[str, int]:
        """How many of everything there are in the end."""
        return FIRST | self.versions


def change_a_model(world: World) -> None:
    """Another file in the dataset: the notebook's source is the same, and one input is another version."""
    world.change_model()


def change_the_other_model(world: World) -> None:
    """The next version of the Kaggle model: only the notebook's metadata change."""
    world.change_model("published")
    config = world.root / "kit.toml"
    config.write_text(config.read_text().replace(f"{VARIATION}/1", f"{VARIATION}/2"))
    rebuild(world.root, "both")


AGAIN = {KERNEL: 2, "submissions": 2}
RELEASES = {
    "first": Release(),
    "inputs": Release(change_a_model, AGAIN | {MODEL: 2}),
    "inputs untold": Release(change_a_model, AGAIN | {MODEL: 2}, told=False),
    "model": Release(change_the_other_model, AGAIN | {VARIATION: 2}),
}


def _without_versions(reply: dict) -> dict:
    """A notebook's page as of a Kaggle that does not say which versions of its inputs a version has."""
    facts = {**reply["metadata"]}
    for name, parts in (("datasetDataSources", 2), ("modelDataSources", 4)):
        facts[name] = ["/".join(source.split("/")[:parts]) for source in facts[name]]
    return {**reply, "metadata": facts}


class Killing:
    """A folder for releases that are killed and pushed again, by forks of one process."""

    def __init__(self, folder: Path, forks: Forks) -> None:
        self.folder = folder
        self._forks = forks
        self._count = 0

    def begin(self) -> None:
        """Make the project, and its first release, from which the others start."""
        project = self.folder / "begun" / "first" / "project"
        make_project(project)
        for name in ("home", "tmp", "data"):
            (project.parent / name).mkdir()
        (project.parent / "data" / "test.csv").write_text("id\n1\n")
        with self._world(project.parent) as world:
            world.use("both")
        after = _copied(project.parent, self.folder / "begun" / "after")
        with self._world(after) as world:
            ended = self.push(world)
            assert ended.code == 0, ended.text

    @contextmanager
    def world(self, release: Release) -> Iterator[World]:
        """A world just before a release; it is gone afterwards."""
        self._count += 1
        begun = self.folder / "begun" / ("after" if release.change else "first")
        case = _copied(begun, self.folder / f"case-{self._count}")
        try:
            with self._world(case) as world:
                if release.change:
                    release.change(world)
                if not release.told:
                    edit = Edit(_without_versions)
                    world.kaggle.faults.add(Fault("untold", "inputs", KERNELS + "GetKernel", edit, times=10_000))
                yield world
        finally:
            shutil.rmtree(case)

    @contextmanager
    def _world(self, case: Path) -> Iterator[World]:
        kaggle = LoopbackKaggle(case / "kaggle", runner=run, judge=judge, settings=SETTINGS)
        with kaggle:
            kaggle.add_competition(COMPETITION, case / "data")
            led = environment(kaggle.port, case / "home", case / "tmp", token=TOKEN)
            yield World(case / "project", kaggle, led | {"KIT_CACHE_DIR": str(case / "cache")}, lambda: ("", ""))
            assert kaggle.mistakes == ()

    def push(self, world: World, *, patience: Patience = PATIENCE, **kill: str | float) -> Ended:
        """One `kit push both --submit` in a fork, killed or not."""
        words = ("push", "both", "--submit", "--unproved", "--project", str(world.root))
        return self._forks.run(words, world.environment, patience, world.root.parent, **kill)  # type: ignore[arg-type]

    def calls(self, release: Release, patience: Patience) -> Counter[str]:
        """How often a release asks each route when all goes well."""
        with self.world(release) as world:
            ended = self.push(world, patience=patience)
            assert ended.code == 0, ended.text
            return Counter(world.kaggle.traffic.requests)

    def steps(self, release: Release) -> tuple[str, ...]:
        """All that a release comes by when nobody kills it."""
        with self.world(release) as world:
            ended = self.push(world)
            assert ended.code == 0, ended.text
            assert (world.counts(), world.is_released("both")) == (release.wanted, True)
            return ended.steps

    def verdict(self, release: Release, *kills: str | float) -> tuple[int, str]:
        """Kill a release, once or several times in a row, and push again.

        Each of `kills` is a step or a moment in seconds. How many it came to, and what is wrong in the end, "" where
        nothing.
        """
        with self.world(release) as world:
            before, killed, problems = world.counts(), 0, []
            for kill in kills:
                ended = self.push(world, **{"kill_at" if isinstance(kill, str) else "kill_after": kill})
                killed += ended.code == KILLED
                if ended.code not in {0, KILLED}:
                    problems.append(f"the killed push ended with {ended.code}: {ended.text}")
            last = self.push(world)
            counts = world.counts()
            if last.code:
                problems.append(f"the next push ended with {last.code}: {last.text}")
            if counts != release.wanted:
                problems.append(f"there is {counts}, not {release.wanted}")
            if not problems:
                problems.append("" if world.is_released("both") else "what is there is not what is here")
                problems.append(sent_twice(world, counts, before, cuts=len(kills)))
            return killed, "; ".join(filter(None, problems))


def _copied(begun: Path, case: Path) -> Path:
    """A copy of a world, in which the Kaggle's folder is one that a server of this user has made."""
    shutil.copytree(begun, case, ignore=shutil.ignore_patterns("kaggle"))
    (case / "kaggle").mkdir(mode=0o700)
    if (begun / "kaggle").is_dir():
        check_mark(case / "kaggle")
        shutil.copytree(begun / "kaggle", case / "kaggle", ignore=shutil.ignore_patterns("mark"), dirs_exist_ok=True)
    return case


def sent_twice(world: World, counts: dict[str, int], before: dict[str, int], *, cuts: int) -> str:
    """Whether more was sent than the new versions hold; of three files under way at a kill or a cut a part may be."""
    new = {ref: counts[ref] - before.get(ref, 0) for ref in counts if ref not in {KERNEL, "submissions"}}
    size = sum(world.size(ref) * count for ref, count in new.items())
    sent, slack = world.kaggle.traffic.uploaded, 3 * cuts * max((world.size(ref) for ref in new), default=0)
    return "" if size <= sent <= size + slack else f"{sent} bytes were sent for {size}"


def is_boundary(step: str) -> bool:
    """Whether something is different for the next push before and after a step: not so after a mere answer."""
    route = step.split()[2] if step.startswith("reply") else ""
    return step.startswith("note ") or route.startswith((*MADE, "StartBlobUpload", "upload"))
