"""The pages of `kit report` and `kit compare` in a real browser: as wide as its window, silent, asking for nothing.

Needs Chromium (Debian: apt install chromium). Where the variable KIT_BROWSER is "needed", as in .ci/run, its absence
fails these tests; elsewhere it skips them.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass

import pytest
from evaluation.made_runs import HOSTILE, MESSAGE, dry_run, failed_run, hostile_scores, pushed_run
from evaluation.made_scores import blurred, scores_of, truth

from kaggle_kit.evaluation.report_page import compare_page, report_page
from kaggle_kit.evaluation.run import RunContext, read_run, scores_run
from kaggle_kit.evaluation.run_files import Finding, Push

NEEDED = os.environ.get("KIT_BROWSER") == "needed"
PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WIDE = """
() => [...document.querySelectorAll('body *')]
    .filter(one => one.getBoundingClientRect().right > document.documentElement.clientWidth + 0.5)
    .map(one => one.tagName + ': ' + one.textContent.slice(0, 60))
"""
COLOURS = "() => [getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
PAGES = ("evaluation", "hostile", "dry run", "failed", "pushed run", "pair", "hostile pair")


@dataclass(frozen=True)
class Seen:
    """A page as a browser shows it; `wide` names what is wider than the window."""

    asked: list[str]
    said: list[str]
    wide: list[str]
    scrolls: bool
    title: str
    colours: list[str]


@pytest.fixture(scope="module")
def browser():
    """Chromium without a window."""
    if PROGRAM is None:
        if NEEDED:
            pytest.fail("KIT_BROWSER says that a browser is needed, and there is none")
        pytest.skip("no Chromium here: apt install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        started = play.chromium.launch(executable_path=PROGRAM)
        yield started
        started.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A file for each page: each kind of run, two pairs, and rows that try to leave their place."""
    folder = tmp_path_factory.mktemp("pages")
    logs, outcome = truth(400)
    passes = [blurred(logs, seed=seed, by=0.4) for seed in (1, 2)]
    evaluation = scores_run(scores_of(passes[0], outcome, passes[1], prompt=["word " * 300] * 400), "scores")
    hostile = scores_run(hostile_scores(), HOSTILE)
    failed = failed_run(folder / "failed", line="x" * 2000 + HOSTILE)
    pushed = pushed_run(folder)
    finding = Finding(MESSAGE, "y" * 300, place="log", line=4)
    runs = {
        "evaluation": evaluation,
        "hostile": hostile,
        "dry run": read_run(dry_run(folder / "good"), RunContext()),
        "failed": read_run(failed, RunContext(log=(failed / "log.txt").read_text(), findings=[finding])),
        "pushed run": read_run(pushed, RunContext(push=Push(name="lmsys", version=3, made_by="a" * 40))),
    }
    made = {name: report_page(run) for name, run in runs.items()}
    made["pair"] = compare_page(evaluation, runs["dry run"])
    made["hostile pair"] = compare_page(hostile, runs["failed"])
    paths = {name: folder / f"{name.replace(' ', '-')}.html" for name in made}
    for name, path in paths.items():
        path.write_text(made[name], encoding="utf-8")
    return paths


def _look(browser, path, *, width, scheme):
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(path.as_uri())
    for one in page.query_selector_all("summary"):
        one.click()
    found = Seen(
        asked=asked,
        said=said,
        wide=page.evaluate(WIDE),
        scrolls=page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"),
        title=page.title(),
        colours=page.evaluate(COLOURS),
    )
    context.close()
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_its_window_and_is_silent(browser, pages, name, width, scheme):
    """With everything unfolded nothing is wider than the window, nothing is said, nothing but the page is asked for."""
    seen = _look(browser, pages[name], width=width, scheme=scheme)
    assert (seen.wide, seen.scrolls) == ([], False)
    assert seen.said == []
    assert seen.asked == [pages[name].as_uri()]
    assert seen.title != "taken"


def _light(colour):
    parts = [int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]
    return sum(parts) / 3


@pytest.mark.parametrize(("scheme", "dark"), [("light", False), ("dark", True)])
def test_a_page_takes_the_readers_colours(browser, pages, scheme, dark):
    """Dark letters on light paper, or the other way round."""
    paper, ink = (_light(one) for one in _look(browser, pages["evaluation"], width=360, scheme=scheme).colours)
    assert (paper < ink) is dark
    assert abs(paper - ink) > 150


def test_the_policy_forbids_what_a_page_could_ask_for(browser, pages, tmp_path):
    """Were an image or a script to get into a page, the browser would load neither."""
    path = tmp_path / "planted.html"
    planted = "<img src='https://x.example/i.png'><script>document.title = 'taken'</script></main>"
    path.write_text(pages["evaluation"].read_text(encoding="utf-8").replace("</main>", planted), encoding="utf-8")
    seen = _look(browser, path, width=360, scheme="light")
    assert seen.title != "taken"
    assert len(seen.said) == 2
    assert all("Content Security Policy" in message for message in seen.said)


@pytest.mark.skipif(not NEEDED, reason="only where a browser is needed")
def test_a_needed_browser_is_there():
    """Where it is needed none of these tests is skipped."""
    assert PROGRAM is not None
