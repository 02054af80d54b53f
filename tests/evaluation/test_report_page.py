"""The page of a run: whole in itself, valid, small, the same bytes again, and unmoved by what stands in the rows."""

import base64
import hashlib
import re
from collections import Counter
from html import unescape

import html5lib
import pytest
from evaluation.made_runs import HOSTILE, MESSAGE, dry_run, failed_run, hostile_scores, large_scores
from evaluation.made_scores import blurred, scores_of, truth

from kaggle_kit.evaluation.report_page import compare_page, differing, report_page, visible
from kaggle_kit.evaluation.run import Run, RunContext, read_run, scores_run
from kaggle_kit.evaluation.run_files import Finding

FINDING = Finding("Memory", "Lower it", place="log", line=4, text=MESSAGE)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """One run of each kind that a page is made of."""
    folder = tmp_path_factory.mktemp("runs")
    logs, outcome = truth(300)
    twice = scores_of(blurred(logs, seed=1, by=0.3), outcome, blurred(logs, seed=2, by=0.3))
    log = (failed_run(folder / "failed") / "log.txt").read_text()
    return {
        "evaluation": scores_run(twice, "scores"),
        "hostile": scores_run(hostile_scores(), HOSTILE),
        "dry run": read_run(dry_run(folder / "good"), RunContext()),
        "failed": read_run(folder / "failed", RunContext(log=log, findings=[FINDING])),
        "without findings": read_run(folder / "failed", RunContext(log=log)),
        "empty": Run(name="nothing", kind="dry run", outcome="NOT KNOWN", good=None),
    }


@pytest.fixture(scope="module")
def pages(runs):
    """Their pages, and those of pairs."""
    made = {name: report_page(run) for name, run in runs.items()}
    made["pair"] = compare_page(runs["evaluation"], runs["hostile"])
    made["other pair"] = compare_page(runs["dry run"], runs["failed"])
    made["empty pair"] = compare_page(runs["empty"], runs["empty"])
    return made


NAMES = ("evaluation", "hostile", "dry run", "failed", "without findings", "empty", "pair", "other pair", "empty pair")


def _elements(page):
    tree = html5lib.HTMLParser(strict=True).parse(page)
    return [(re.sub(r"\{.*\}", "", element.tag), element) for element in tree.iter() if isinstance(element.tag, str)]


@pytest.mark.parametrize("name", NAMES)
def test_a_page_is_valid_html(pages, name):
    """A strict parser finds no error, and no id stands twice."""
    found = Counter(element.get("id") for _, element in _elements(pages[name]) if element.get("id"))
    assert all(count == 1 for count in found.values())


@pytest.mark.parametrize("name", NAMES)
def test_a_page_has_no_script_and_asks_for_nothing(pages, name):
    """No script, image or frame, no handler, no address but the empty icon's."""
    for tag, element in _elements(pages[name]):
        assert tag not in {"script", "img", "iframe", "object", "embed", "base", "form"}
        for attribute, value in element.attrib.items():
            assert not str(attribute).startswith("on")
            assert attribute not in {"src", "srcset", "action", "style"}
            assert attribute != "href" or value == "data:,"


@pytest.mark.parametrize("name", NAMES)
def test_a_page_forbids_everything_but_its_own_style(pages, name):
    """The policy's hash is that of the style sheet as it stands in the page."""
    style = re.search(r"<style>(.*?)</style>", pages[name], re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = re.search(r'Security-Policy" content="([^"]*)"', pages[name])[1]
    assert policy.startswith("default-src 'none'; ")
    assert f"style-src 'sha256-{digest}'" in policy
    assert "url(" not in style
    assert "@import" not in style


def test_hostile_rows_stay_text(pages):
    """What rows hold is shown as it is, what no HTML may hold as a replacement character; templates in it stay text."""
    page = pages["hostile"]
    seen = "".join(html5lib.HTMLParser(strict=True).parse(page).itertext())
    assert seen.count(f"{visible(HOSTILE)} of ") == 20
    assert "{{ 7 * 7 }}" in seen
    assert "<script" not in page
    assert page.count("</style>") == 1


def test_a_prompt_keeps_its_first_newline(pages):
    """HTML drops a newline right after <pre>; one of the page's own stands there."""
    assert '<pre dir="auto">\n\n' in pages["hostile"]


def test_the_same_run_gives_the_same_bytes(runs, pages):
    """No clock, no chance."""
    assert report_page(runs["evaluation"]) == pages["evaluation"]
    assert compare_page(runs["evaluation"], runs["hostile"]) == pages["pair"]


def test_a_page_of_25000_rows_is_under_2_mb():
    """Also where each of the worst rows has a prompt of 60,000 characters that HTML makes longer."""
    scores = large_scores()
    page = report_page(scores_run(scores, "large"))
    assert "54,000 characters are not shown" in page
    assert len(page.encode()) < 2_000_000


def test_an_evaluation_shows_all_that_is_known(pages):
    """Outcome, each kind's metrics, reliability, lengths with the budget, mass, slices, worst rows, hashes."""
    page = unescape(pages["evaluation"])
    for part in ("Log loss 0.", "both orders less plain", "Reliability (both orders)", "win_tie", "budget 1,024"):
        assert part in page
    for part in ("Rows by label mass", "By prompt tokens", "By script", "Worst rows", "SHA-256 of the task"):
        assert part in page


def test_a_dry_run_shows_time_throughput_and_checks(pages):
    """Stages with the worker's in place of the notebook's own, the rate, the submission's checks, the parameters."""
    page = pages["dry run"]
    for part in ("engine start", "Prompt tokens per second", "each row sums to 1", "from 0", "token_budget", "512"):
        assert part in page
    assert ">score<" not in page


def test_a_failure_comes_with_its_cause_and_the_line(pages):
    """The decoded cause, what to do, and the marked line of the log."""
    page = unescape(pages["failed"])
    assert page.index("FAILED in the cell") < page.index("Memory") < page.index("Lower it")
    assert re.search(rf">\s+4\s.*{re.escape(MESSAGE)}", page)


def test_without_a_known_cause_the_log_ends_the_answer(pages):
    """The last lines stand open."""
    page = pages["without findings"]
    assert "Nothing in the log tells why" in page
    assert "<details open>" in page


def test_what_differs_is_what_is_not_the_same(runs):
    """A value that one run does not say is a dash."""
    one = Run(name="a", kind="dry run", outcome="", good=None, settings={"x": "1", "y": "2"})
    other = Run(name="b", kind="dry run", outcome="", good=None, settings={"x": "1", "y": "3", "z": "4"})
    assert differing(one, other) == [("y", "2", "3"), ("z", "–", "4")]
    assert differing(runs["evaluation"], runs["evaluation"]) == []


def test_runs_of_one_name_are_told_apart(runs):
    """Two runs with the same name are the first and the second."""
    page = compare_page(runs["evaluation"], runs["evaluation"])
    assert "scores (first)" in page
    assert "scores (second)" in page


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x00b\x9f\ud800\ufdd0", "a\ufffdb\ufffd\ufffd\ufffd"),
        ("\U0001ffff", "\ufffd"),
        ("a\r\nb\rc\n\t", "a\nb\ufffdc\n\t"),
        ("a\u202eb\u200bc\U000e0041\u2028", "a\ufffdb\ufffdc\ufffd\ufffd"),
        ("می\u200cخواهم 👩\u200d🔬", "می\u200cخواهم 👩\u200d🔬"),
        (7, 7),
    ],
)
def test_what_no_page_may_hold_is_replaced(text, shown):
    """What no eye sees becomes U+FFFD; newlines and tabs stay, and so does what a script or an emoji needs."""
    assert visible(text) == shown
