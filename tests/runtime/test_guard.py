"""A model's tokenizer and chat template behind a guard: the same answers, and an end to those that take too much."""

from __future__ import annotations

import gc
import json
import os
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaggle_kit.errors import KitError, ModelError
from kaggle_kit.runtime import guard as guards
from kaggle_kit.runtime.chat import wrap_in_chat
from kaggle_kit.runtime.guard import Guard, GuardedTokenizer, Limits
from kaggle_kit.runtime.prepare import open_prompt
from kaggle_kit.runtime.tokenizers import load_tokenizer

DEMO = Path(__file__).parents[1] / "demo" / "model"
BODY = json.loads((DEMO / "tokenizer.json").read_text(encoding="utf-8"))
LIMITS = Limits(seconds=4, memory=1 << 30)
PLACE = "{{ messages[0].content }}"


@pytest.fixture(scope="module")
def pair():
    """The demo's tokenizer behind a guard, and in this process."""
    return GuardedTokenizer(DEMO), load_tokenizer(DEMO)


def replace(pattern, content):
    """A rule that rewrites a text."""
    return {"type": "Replace", "pattern": pattern, "content": content}


def doubled(times):
    """Rules that double a text so many times."""
    return {"type": "Sequence", "normalizers": [replace({"String": "x"}, "xx")] * times}


def template(repeats):
    """A post-processor that puts so many special tokens before a text."""
    return {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}] * 1000 + [{"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [0] * repeats, "tokens": ["<s>"] * repeats}},
    }


def made(tmp_path, **changes):
    """A model folder whose tokenizer is the demo's with these changes."""
    (tmp_path / "tokenizer.json").write_text(json.dumps(BODY | changes), encoding="utf-8")
    return tmp_path


def with_chat(tmp_path, source):
    """A model folder with this chat template."""
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": source}), encoding="utf-8")
    return tmp_path


@settings(deadline=None)
@given(texts=st.lists(st.text(alphabet=st.characters(exclude_categories=["Cs"])), max_size=4))
def test_the_tokens_are_those_of_the_library(pair, texts):
    """Ids and offsets of any texts are the same on both sides."""
    guarded, plain = pair
    for one, other in zip(guarded.encode_batch(texts), plain.encode_batch(texts), strict=True):
        assert one.ids == other.ids
        assert one.offsets == other.offsets


def test_words_and_vocabulary_are_those_of_the_library(pair):
    """Special words, spellings, numbers of words, and what lies beyond the embeddings."""
    guarded, plain = pair
    assert guarded.special == plain.special
    assert guarded.pieces([35, 36, 10**6]) == plain.pieces([35, 36, 10**6])
    found = guarded.vocabulary(rows=2046, words=["tie", "not a word"])
    assert (found["tokens"], found["last"], found["beyond"]) == (2048, 2047, 2)
    assert found["numbers"] == {"tie": 462, "not a word": None}
    assert guarded.differences(DEMO / "tokenizer.json") == (0, ())


def test_a_chat_template_gives_the_same(tmp_path):
    """The wrapped prompt is that of the template in this process."""
    model = with_chat(tmp_path, f"<u>{PLACE}</u>")
    assert Guard(model).chat("Which? {a}") == wrap_in_chat("Which? {a}", model) == "<u>Which? {a}</u>"


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"normalizer": doubled(40)}, "took more than"),
        ({"normalizer": doubled(12)}, "makes 409,601 tokens of a text of 100 letters"),
        ({"post_processor": template(1000)}, "took more than|makes 1,000,"),
        ({"post_processor": template(10)}, "makes 10,"),
        ({"normalizer": replace({"Regex": "(x+x+)+y"}, "z")}, "retry-limit"),
        ({"normalizer": {"type": "Precompiled", "precompiled_charsmap": "////////"}}, "crashed|cannot be read"),
        ({"model": BODY["model"] | {"vocab": {"x": 4 * 10**9}, "merges": []}, "added_tokens": []}, "beyond all"),
    ],
    ids=["doubling", "growing", "a million tokens", "10,000 tokens", "pattern", "panic", "ids"],
)
def test_a_tokenizer_that_takes_too_much_is_stopped(tmp_path, changes, what):
    """In bounded time, with the file in the error; this process's memory has no part in it."""
    made(tmp_path, **changes)
    before, start = memory(), time.monotonic()
    with pytest.raises(ModelError, match=rf"(?s)tokenizer\.json.*({what})"):
        GuardedTokenizer(tmp_path, guard=Guard(tmp_path, limits=LIMITS)).encode("x" * 100)
    assert time.monotonic() - start < 30
    assert memory() - before < 200_000_000


def memory():
    """This process's memory in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize(
    "source",
    [
        "{{ 'x' * 10000000000 }}",
        "{% set ns = namespace(x='x') %}{% for i in range(34) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}",
        "{% for a in range(9999) %}{% for b in range(9999) %}{{ range(9999) | sum }}{% endfor %}{% endfor %}",
        "{% for a in range(99999) %}{% for b in range(99999) %}letters{% endfor %}{% endfor %}",
        "{{ 'x'.center(10000000000) }}",
        "{{ '%9999999999d' % 1 }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% if 1 %}" * 5000,
        "{{ " + "(" * 20_000 + "1" + ")" * 20_000 + " }}",
    ],
    ids=["times", "doubling", "loop", "output", "center", "format", "recursion", "nesting", "brackets"],
)
def test_a_chat_template_that_takes_too_much_is_stopped(tmp_path, source):
    """10^10 letters, loops without end, calls without end: a sentence that names the model, in bounded time."""
    before, start = memory(), time.monotonic()
    with pytest.raises(
        ModelError, match=r"the chat template of .*(took more than|makes more than|fails).*chat = False"
    ):
        Guard(with_chat(tmp_path, PLACE + source), limits=Limits(seconds=1, memory=1 << 30)).chat("x")
    assert time.monotonic() - start < 30
    assert memory() - before < 200_000_000


def test_the_bound_on_letters_holds_without_a_guard(tmp_path):
    """A notebook's session bounds the time; what comes out is bounded there too."""
    source = PLACE + "{% for a in range(9999) %}{% for b in range(9999) %}letters{% endfor %}{% endfor %}"
    with pytest.raises(ModelError, match="makes more than 1,000,000 letters"):
        wrap_in_chat("x", with_chat(tmp_path, source))


@pytest.mark.parametrize("kind", ["pipe", "device", "large", "nested", "folder", "missing"])
def test_a_tokenizer_file_that_is_none_is_refused(tmp_path, kind):
    """Neither side waits for a pipe, reads a device to its end, or a file of terabytes."""
    path = tmp_path / "tokenizer.json"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "large":
        path.touch()
        os.truncate(path, 1 << 40)
    elif kind == "nested":
        path.write_text("[" * 1_000_000)
    elif kind == "folder":
        path.mkdir()
    for load in (load_tokenizer, GuardedTokenizer):
        with pytest.raises(ModelError, match=r"tokenizer\.json"):
            load(tmp_path)


def test_the_process_has_limits_and_nothing_of_this_environment(tmp_path, monkeypatch):
    """No variable beyond the list, no file larger than 0 bytes, no core dump, a bound on memory and time."""
    monkeypatch.setenv("KAGGLE_API_TOKEN", "made-up")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/made-up")
    guard = Guard(with_chat(tmp_path, PLACE), limits=LIMITS)
    assert guard.chat("x") == "x"
    proc = Path("/proc") / str(guard._process.pid)
    assert b"made-up" not in (proc / "environ").read_bytes()
    limits = {line[:26].strip(): line[26:].split()[0] for line in (proc / "limits").read_text().splitlines()}
    assert limits["Max address space"] == str(1 << 30)
    assert limits["Max file size"] == limits["Max core file size"] == "0"
    assert int(limits["Max cpu time"]) < 60


def test_the_process_ends_with_its_object():
    """No process stays behind, and none is left to be waited for."""
    tokenizer = GuardedTokenizer(DEMO)
    process = tokenizer._guard._process
    assert process.poll() is None
    del tokenizer
    gc.collect()
    assert process.poll() is not None


def test_a_timer_that_ends_late_keeps_no_process(monkeypatch):
    """A thread lives on a moment after its timer was cancelled: the object that set it does not."""
    monkeypatch.setattr(threading.Timer, "cancel", lambda _: None)
    tokenizer = GuardedTokenizer(DEMO)
    process = tokenizer._guard._process
    del tokenizer
    gc.collect()
    assert process.poll() is not None


def test_a_call_after_the_end_is_an_error_of_the_model():
    """A process that was stopped answers no further call."""
    guard = Guard(DEMO)
    tokenizer = GuardedTokenizer(DEMO, guard=guard)
    guard.close()
    with pytest.raises(ModelError, match=r"tokenizer\.json took more than .* or crashed"):
        tokenizer.encode("x")


@pytest.mark.parametrize(
    "reply",
    [b"", b"\xff" * 12, b"\x01\0\0\0" + bytes(8) + b"x", b"\x02\0\0\0" + b"\xff" * 8 + b"{}", bytes(12)],
    ids=["nothing", "too long", "no JSON", "too many numbers", "empty"],
)
def test_what_the_process_answers_is_not_believed(tmp_path, monkeypatch, reply):
    """A process that a tokenizer has taken over can answer anything: it is measured, and an error comes out."""
    program = f"import os, sys; sys.stdin.buffer.read(5); os.write(1, {reply!r})"
    monkeypatch.setattr(guards, "_PROGRAM", program)
    with pytest.raises(ModelError, match=r"tokenizer\.json"):
        GuardedTokenizer(tmp_path)


@pytest.mark.parametrize("value", [None, 5, [1], [-1, 1], ["x"], [10**9], [True]])
def test_counts_that_cannot_be_are_refused(pair, monkeypatch, value):
    """The numbers of tokens must be those of the integers that came."""
    guarded, _ = pair
    monkeypatch.setattr(guarded._guard, "ask", lambda *_, **__: (value, b"\0" * 24))
    with pytest.raises(ModelError, match="nonsense"):
        guarded.encode_batch(["x", "y"])


def test_a_job_of_the_kit_is_guarded_and_a_workers_is_not(make_job):
    """`open_prompt` guards unless it is told that this process is a notebook's worker."""
    job = make_job([])
    kinds = [type(open_prompt(job.task, job.model, guarded=guarded)[1]).__name__ for guarded in (True, False)]
    assert kinds == ["GuardedTokenizer", "ModelTokenizer"]
    assert isinstance(open_prompt(job.task, job.model)[1], GuardedTokenizer)


def test_special_words_that_take_each_other_apart_are_refused():
    """Each inserts a space, which the next one matches: the text would grow with the number of words."""
    from kaggle_kit.runtime.prompts import escape_special

    words = ["aa", *("a" + " " * n + "a" for n in range(1, 1000))]
    with pytest.raises(KitError, match="take each other apart"):
        escape_special("aa" * 1000, words)
    assert escape_special("<s> and <s>", ["<s>"]) == "< s> and < s>"


def test_too_many_special_words_are_refused(tmp_path):
    """Each is looked for in each row."""
    token = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added = [token | {"id": 2048 + n, "content": f"<|{n}|>"} for n in range(20_000)]
    tokenizer = GuardedTokenizer(made(tmp_path, added_tokens=[*BODY["added_tokens"], *added]))
    with pytest.raises(ModelError, match="special tokens, and no model has so many"):
        assert tokenizer.special
