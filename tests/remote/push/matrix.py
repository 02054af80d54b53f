"""Each call of a release in each form in which it can go wrong, judged: what a push says, and what is there then."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from forks import Ended
from kills import PATIENCE, RELEASES, Killing, Release, sent_twice
from push_project import TOKEN, World

from kaggle_kit.errors import CredentialsError
from kaggle_kit.loopback.fault_forms import FORMS, MAKES, READS, TRANSFERS, Form, form_fault

QUICK = replace(PATIENCE, read_s=0.3, make_s=0.3, ready_s=8, queue_s=8, score_s=8)
NEXT_STEP = re.compile(
    r"run the (same )?command again|push again|then try again|submit again|run `?kit plan|"
    r"kit (push|submit|logs|status)|check (owner|that|the)|log in again|look at|see (https?|on kaggle)|again later",
    re.IGNORECASE,
)
SUBJECT = re.compile(r"(dataset|model|notebook|submissions?|file|account|limits|output)s? ")
IN_RELEASES = ("first", "inputs", "model")


@dataclass(frozen=True)
class Case:
    """One call of one release, its number from 0, and the form in which it is answered."""

    release: str
    route: str
    number: int
    form: str

    def __str__(self) -> str:
        """For a table and a test's name."""
        return f"{self.release}, {self.route.rpartition('/')[2]} #{self.number + 1}, {self.form}"


def cases(killing: Killing) -> Iterator[Case]:
    """All of them, by what a whole release asks: the first call of each route and the last one of those that read.

    What the first release asks counts in the others only where it makes something.
    """
    met: set[str] = set()
    for name in IN_RELEASES:
        calls = killing.calls(RELEASES[name], QUICK)
        for route in (*READS, *MAKES, *TRANSFERS):
            if not calls[route] or (route in met and route not in MAKES):
                continue
            numbers = {0, calls[route] - 1} if route in READS else {0}
            yield from (
                Case(name, route, number, form.name)
                for form in FORMS.values()
                if route in form.of
                for number in sorted(numbers)
            )
        met |= {route for route, count in calls.items() if count}


@dataclass(frozen=True)
class Verdict:
    """What is wrong with how a fault was handled, one sentence each; `met`: whether the push came to the fault."""

    case: Case
    code: int
    problems: tuple[str, ...]
    met: bool = True


def judge(killing: Killing, case: Case) -> Verdict:
    """A push that meets the fault, and one after it: exit codes, words, what is there, and that nothing is twice."""
    release, fault = RELEASES[case.release], form_fault(case.route, case.form, after=case.number)
    with killing.world(release) as world:
        before = world.counts()
        world.kaggle.faults.add(fault)
        first = killing.push(world, patience=QUICK)
        met = bool(world.kaggle.faults.fired[fault.name])
        problems = list(_of_the_first(first, FORMS[case.form], world, release))
        world.kaggle.faults._faults.clear()
        second = killing.push(world, patience=QUICK)
        problems += _of_the_second(second, world, release, before)
    return Verdict(case, first.code, tuple(problems), met)


def _of_the_first(first: Ended, form: Form, world: World, release: Release) -> Iterator[str]:
    if first.code == 0 and not (world.counts() == release.wanted and world.is_released("both")):
        yield f"success is told while something else is there: {first.text}"
    if first.code and form.passes:
        yield f"a fault that passes ended the push with {first.code}: {first.text}"
    if first.code not in ({0, 1, CredentialsError.exit_code} if form.name == "401" else {0, 1}):
        yield f"the exit code is {first.code}: {first.text}"
    said = first.text.lower()
    if first.code and not (SUBJECT.search(said) and NEXT_STEP.search(said) and form.word.lower() in said):
        yield f"the message does not say what, why ({form.word or 'any'}) and what next: {first.text}"
    if "traceback" in said or TOKEN in first.text:
        yield f"a traceback, or the login: {first.text}"


def _of_the_second(second: Ended, world: World, release: Release, before: dict[str, int]) -> Iterator[str]:
    counts = world.counts()
    if second.code:
        yield f"the second push ended with {second.code}: {second.text}"
    if counts != release.wanted:
        yield f"there is {counts}, not {release.wanted}"
    elif not second.code and not world.is_released("both"):
        yield "what is there is not what is here"
    elif not second.code and (twice := sent_twice(world, counts, before, cuts=1)):
        yield twice
