"""Decoding a failed run's log: each known failure by its own words, its cause before what follows from it."""

import json
import re
import time
from dataclasses import asdict
from pathlib import Path

import pytest
from failure_cases import GOOD, LOGS, MESSAGES

from kaggle_kit.remote.diagnosis import PLACES, UNKNOWN, decode, decode_message, failures, plain_start, read_log

ROOT = Path(__file__).parents[3]
KNOWN = {failure.id: failure for failure in failures()}
COMMANDS = ["build", "dryrun", "logs", "output", "plan", "push", "quota", "score", "targets"]
WHEELS = ["lock", "fetch", "diff", "verify", "list", "sbom", "prove", "dataset"]
UNBOUNDED = re.compile(r"(?<!\\)[*+]")


def ids(findings):
    """The ids of findings, in their order."""
    return [finding.id for finding in findings]


def as_json(text, *, stream="stderr"):
    """A log as Kaggle stores it: one entry a line, a second apart."""
    lines = text.splitlines(keepends=True)
    return json.dumps([{"stream_name": stream, "time": float(n), "data": line} for n, line in enumerate(lines)])


def test_every_failure_has_a_case():
    """Each entry of failures.toml has an excerpt here, and each excerpt an entry."""
    assert set(KNOWN) == set(LOGS) | set(MESSAGES)


@pytest.mark.parametrize("name", LOGS)
def test_a_log_shows_its_own_failure_and_no_other(name):
    """The excerpt of a failure is decoded as exactly that failure."""
    assert [one for one in ids(decode(LOGS[name])) if one != UNKNOWN] == [name]


@pytest.mark.parametrize("name", LOGS)
def test_kaggles_json_is_read_like_plain_text(name):
    """The same failure, line and words are found in a log of JSON entries."""
    plain, wrapped = decode(LOGS[name]), decode(as_json(LOGS[name]))
    assert [(one.id, one.line, one.text) for one in plain] == [(one.id, one.line, one.text) for one in wrapped]


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_shows_its_own_failure_and_no_other(name):
    """What Kaggle answers to a push, a status or a submission is decoded as exactly that failure."""
    place, text = MESSAGES[name]
    assert ids(decode_message(text, place=place)) == [name]


@pytest.mark.parametrize("name", LOGS)
def test_the_line_that_shows_it_is_given(name):
    """A finding's text is the line of its number in the log."""
    finding = next(one for one in decode(LOGS[name]) if one.id == name)
    assert LOGS[name].split("\n")[finding.line - 1].strip()[:80] in finding.text


def test_what_went_well_shows_nothing():
    """A successful run's log has no findings, as text and as Kaggle's JSON."""
    assert decode(GOOD) == []
    assert decode(as_json(GOOD)) == []


def test_ready_is_no_failure():
    """A dataset that is ready, and an empty reply, say nothing."""
    assert decode_message("READY", place="dataset status") == []
    assert decode_message("", place="save error") == []


def test_the_cause_comes_before_what_follows_from_it():
    """Out of memory, the dead engine and the stopped scoring are one failure: the cause is named first."""
    log = LOGS["engine-failed"] + LOGS["no-kv-cache"] + LOGS["engine-failed"] + LOGS["scoring-stopped"]
    assert ids(decode(log)) == ["no-kv-cache", "engine-failed", "scoring-stopped"]


def test_of_two_causes_the_earlier_is_first():
    """Causes stand in the order in which they happened."""
    log = LOGS["driver-too-old"] + LOGS["no-gpu"]
    assert ids(decode(log)) == ["driver-too-old", "no-gpu"]


def test_kaggles_own_message_comes_first():
    """What the run's status says is beyond doubt; a cause in the log follows."""
    message = "Your notebook tried to allocate more memory than is available. It has restarted."
    findings = decode(LOGS["kernel-died"], failure_message=message)
    assert ids(findings) == ["host-memory", "kernel-died"]
    assert (findings[0].place, findings[0].line) == ("failure message", None)


def test_a_general_message_comes_after_the_cause_in_the_log():
    """ "Notebook Threw Exception" only says that there is a cause."""
    findings = decode(LOGS["input-missing"], failure_message="Notebook Threw Exception")
    assert ids(findings) == ["input-missing", "notebook-threw"]


def test_an_unknown_failure_shows_the_last_exception():
    """Nothing is guessed: the traceback itself is given, from its heading to the exception."""
    log = "fine\n" + "Traceback (most recent call last):\n  File \"a.py\", line 1\n    x\nKeyError: 'first'\nbetween\n"
    log += 'Traceback (most recent call last):\n  File "b.py", line 2\n    y()\nzoo.Escaped: two lions\nafter\n'
    (finding,) = decode(log)
    assert (finding.id, finding.text, finding.line) == (UNKNOWN, "zoo.Escaped: two lions", 10)
    assert finding.block[0] == "Traceback (most recent call last):"
    assert finding.block[-1] == "zoo.Escaped: two lions"


def test_an_exception_of_a_cell_is_shown_whole():
    """IPython's own form of a traceback is cut at the exception too."""
    log = LOGS["module-missing"].replace("ModuleNotFoundError: No module named 'peft'", "ValueError: odd")
    (finding,) = decode(log + "later words\n")
    assert finding.block[-1] == "ValueError: odd"


def test_an_engines_traceback_is_read_through_its_prefix():
    """vLLM writes its process and time before each line of a traceback."""
    log = LOGS["no-gpu"].replace("Failed to infer device type", "Something else")
    assert decode(log)[0].text.endswith("VLLM_LOGGING_LEVEL=DEBUG`")


def test_the_exception_before_a_consequence_is_shown():
    """Where the notebook only says that scoring stopped, the worker's own exception before it is the answer."""
    worker = "Traceback (most recent call last):\n  File \"w.py\", line 1\n    x\nKeyError: 'first'\n"
    notebook = "RunError    Traceback (most recent call last)\n---> 1 session.score()\n\n" + LOGS["scoring-stopped"]
    findings = decode(worker + notebook)
    assert ids(findings) == [UNKNOWN, "scoring-stopped"]
    assert findings[0].text == "KeyError: 'first'"


def test_no_exception_and_nothing_known_gives_nothing():
    """A log that says nothing of a failure is not explained."""
    assert decode("one\ntwo\n") == []
    assert decode("") == []


def test_code_in_a_traceback_is_no_sign():
    """A traceback that shows the lines of other errors is not taken for them."""
    log = """ValueError                             Traceback (most recent call last)
     27     raise ValueError("No available memory for the cache blocks. Try increasing")
     28     if text == "No kernel name found in notebook":
---> 29 raise ValueError("odd")
           "Bfloat16 is only supported on GPUs with compute capability of at least 8.0."

ValueError: odd
"""
    assert ids(decode(log)) == [UNKNOWN]


def test_colours_are_taken_off():
    """A line in colours reads like any other."""
    log = "\x1b[31mtorch.OutOfMemoryError\x1b[39m: CUDA\x1b[0m out of memory. \x1b]0;title\x07Tried\n"
    (finding,) = decode(log)
    assert finding.text == "torch.OutOfMemoryError: CUDA out of memory. Tried"


def test_a_command_that_does_not_end_hides_nothing():
    """The lines after it are read, and shown."""
    log = "begin \x1b]0;title\nCUDA out of memory\n"
    assert decode(log)[0].text == "CUDA out of memory"
    assert read_log(log).text == log


def test_times_are_told_where_the_log_tells_them():
    """Kaggle's entries and a dry run's lines carry the seconds since the start."""
    assert decode(as_json("a\nb\n" + LOGS["kernel-died"]))[0].seconds == 2.0
    assert decode("     0.23  a\n    31.70  CUDA out of memory\n")[0].seconds == 31.7
    assert decode("3.2s\t1\tfine\n7369.2s\t59\tCUDA out of memory\n")[0].seconds == 7369.2


def test_a_list_that_was_cut_off_is_read():
    """A running log's JSON may end in the middle of an entry."""
    assert ids(decode(as_json("a\n" + LOGS["kernel-died"] + "b\n")[:-9])) == ["kernel-died"]


def test_a_stream_of_entries_is_read():
    """Entries one a line, as the log stream sends them, are a log too."""
    lines = [f"data: {json.dumps(entry)}" for entry in json.loads(as_json(LOGS["kernel-died"]))]
    assert ids(decode("\n".join([*lines, "data: END_OF_LOG"]))) == ["kernel-died"]


def test_entries_of_two_streams_do_not_join():
    """A line without its end is ended where another stream speaks."""
    entries = [("stdout", "loading"), ("stderr", "CUDA out of memory\n")]
    log = json.dumps([{"stream_name": name, "time": 0.5, "data": data} for name, data in entries])
    assert (decode(log)[0].line, decode(log)[0].text) == (2, "CUDA out of memory")


@pytest.mark.parametrize(
    "secret",
    [
        "hf_AbCdEfGhIjKlMnOpQrStUvWxYz0123",
        "KGAT_0123456789abcdef0123456789abcdef",
        "Authorization: Bearer abc123def456ghi789",
        '"key": "0123456789abcdef0123456789abcdef"',
        "https://ada:hunter2hunter2@example.org/x",
    ],
)
def test_secrets_are_masked(secret):
    """No key, token or password of the log reaches a finding, in the line or in the block."""
    value = re.split(r"[ :\"/@]+", secret.removesuffix("@example.org/x").strip('"'))[-1]
    log = f"Traceback (most recent call last):\n  x = {secret}\nOddError: with {secret} inside\n"
    findings = decode(log) + decode(f"CUDA out of memory, {secret}\n")
    assert len(findings) == 2
    assert value not in json.dumps([asdict(finding) for finding in findings])
    assert "***" in findings[0].text


def test_a_long_line_is_cut_about_its_sign():
    """Of a line of a megabyte the part about the sign is shown."""
    (finding,) = decode("x" * 500_000 + " No space left on device " + "y" * 500_000)
    assert "No space left on device" in finding.text
    assert len(finding.text) < 450


@pytest.mark.parametrize("make", [str, as_json], ids=["text", "json"])
def test_megabytes_are_decoded_in_a_moment(make):
    """A log of 8 MB is decoded in under two seconds, also on a slow machine."""
    line = "INFO 11-24 08:12:31 [metrics.py:417] Avg prompt throughput: 21808.1 tokens/s, GPU KV cache usage: 4.1%\n"
    log = make(line * (8_000_000 // len(line)) + LOGS["no-kv-cache"])
    since = time.process_time()
    assert ids(decode(log)) == ["no-kv-cache"]
    assert time.process_time() - since < 2


@pytest.mark.parametrize("name", [name for name in KNOWN if "log" in KNOWN[name].where])
def test_no_log_makes_a_sign_slow(name):
    """What a sign begins with, half a megabyte of it, takes no sign more than a moment."""
    for sign in KNOWN[name].signs:
        since = time.process_time()
        decode((plain_start(sign.pattern) or "a ") * (500_000 // (len(plain_start(sign.pattern)) or 2)))
        assert time.process_time() - since < 2


@pytest.mark.parametrize("text", ["[" * 300_000, "\x1b]" * 200_000, "Traceback (most recent call last)\n" * 20_000])
def test_odd_logs_take_no_time(text):
    """Logs made of openings alone are read in a moment too."""
    since = time.process_time()
    decode(text)
    assert time.process_time() - since < 2


@pytest.mark.parametrize("name", KNOWN)
def test_an_entry_is_whole(name):
    """A failure has known places, its source, a cause of one sentence, and a next step of one sentence."""
    failure = KNOWN[name]
    assert failure.signs
    assert failure.where <= set(PLACES)
    assert failure.source
    assert re.fullmatch(r"2026-\d\d-\d\d", failure.date)
    for sentence in (failure.cause, failure.next_step):
        assert sentence.endswith(".")
        assert not re.search(r"\. [A-Z]", sentence)


@pytest.mark.parametrize("name", KNOWN)
def test_next_steps_name_commands_that_exist(name):
    """Every `kit …` in a next step is a command of kit."""
    for command, rest in re.findall(r"`kit (\w+)(?: (\w+))?", KNOWN[name].next_step):
        assert command in (*COMMANDS, "wheels")
        assert command != "wheels" or rest in WHEELS


@pytest.mark.parametrize("name", KNOWN)
def test_signs_are_safe(name):
    """A sign for logs begins with plain text, and repeats nothing without a bound but digits."""
    failure = KNOWN[name]
    for sign in failure.signs:
        assert "log" not in failure.where or len(plain_start(sign.pattern)) >= 4
        assert not UNBOUNDED.search(re.sub(r"\[[^\]]*\]", "", sign.pattern).replace(r"\d+", ""))
        assert max((int(bound) for bound in re.findall(r",(\d+)\}", sign.pattern)), default=0) <= 200
        assert not re.search(r"\)[*+{]", sign.pattern)
