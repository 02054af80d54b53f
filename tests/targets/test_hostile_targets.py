"""Targets and rates of a cloned project: sizes that nothing has are refused before anything is counted up to them."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kaggle_kit.errors import DataError, KitError, ProjectError
from kaggle_kit.model.fit import named_shape
from kaggle_kit.model.memory import card_room, layouts
from kaggle_kit.runtime.combine import read_calibration_file
from kaggle_kit.targets import load_target
from kaggle_kit.targets.rates import load_rates, rates_path

OWN = {
    "summary": "a machine",
    "python": "3.12",
    "glibc": "2.39",
    "engine": "vllm==0.32.0",
    "session_seconds": 60,
    "working_bytes": 1000,
    "gpus": 2,
    "gpu_memory_bytes": 16_000_000_000,
    "compute_capability": "7.5",
}
VALUES = st.sampled_from([0, -1, 10**9, 1 << 62, 1e308, True, "", "x", "9" * 5000, "٣.٤", "\x1b", [], [[]], "2.99999"])
RATES = json.loads(rates_path("offline-h200").read_text())


def own(tmp_path, text):
    """A project whose target `own` is this text."""
    (tmp_path / "targets").mkdir(exist_ok=True)
    (tmp_path / "targets" / "own.toml").write_text(text)
    return load_target("own", project=tmp_path)


def toml(body):
    """A table of plain values as TOML."""
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in body.items())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("gpus", 10**9),
        ("gpu_memory_bytes", 10**30),
        ("memory_bytes", 1 << 61),
        ("scratch_bytes", 1 << 61),
        ("working_bytes", 1 << 61),
        ("cores", 10**9),
        ("session_seconds", 10**12),
        ("compute_capability", "9" * 5000),
        ("cuda", "9" * 5000),
        ("driver", "1" + ".1" * 100),
        ("glibc", "2.999999999"),
        ("python", "3.999999999"),
    ],
)
def test_a_size_that_no_machine_has_is_refused(tmp_path, key, value):
    """A billion cards were a billion layouts."""
    with pytest.raises(ProjectError, match=key) as caught:
        own(tmp_path, toml(OWN | {key: value}))
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("text", ["x = " + "[" * 100_000, "x" + ".x" * 100_000 + " = 1", "x = " + "9" * 5000])
def test_a_target_that_is_no_table_is_refused(tmp_path, text):
    """Nesting, a key of many parts, a number of 5,000 digits."""
    start = time.monotonic()
    with pytest.raises(ProjectError, match=r"own\.toml"):
        own(tmp_path, text)
    assert time.monotonic() - start < 10


def test_an_engine_of_many_digits_has_no_version(tmp_path):
    """The numbers of a version are short."""
    assert own(tmp_path, toml(OWN | {"engine": "vllm==" + "9" * 5000})).engine_version == (999_999_999, 0, 0)


@pytest.mark.parametrize("key", ["gpu_memory_utilization", "max_num_batched_tokens", "max_num_seqs"])
@pytest.mark.parametrize("value", [0, -1, 1e308, 10**18, "many", True])
def test_an_engine_option_that_is_no_size_is_refused(tmp_path, key, value):
    """An option of the target is a number within bounds, or an error that names it."""
    target = own(tmp_path, toml(OWN) + f"[engine_options]\n{key} = {json.dumps(value)}\n")
    with pytest.raises(KitError, match=key):
        layouts(named_shape("qwen3-4b"), target, context=512, mean_tokens=100.0)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(changes=st.dictionaries(st.sampled_from([*OWN, "cuda", "driver", "cores", "freeze"]), VALUES, max_size=3))
def test_any_target_is_read_or_refused(tmp_path, changes):
    """Anything may stand at any key."""
    with suppress(KitError):
        target = own(tmp_path, toml(OWN | changes))
        card_room(target)
        layouts(named_shape("qwen3-4b"), target, context=512, mean_tokens=100.0)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    key=st.sampled_from([*RATES, *RATES["model"]]),
    value=VALUES | st.sampled_from([10**400, float("inf"), float("nan"), None, {}]),
)
def test_any_rates_are_read_or_refused(tmp_path, key, value):
    """Rates and counts that no float could hold are refused where they are read."""
    body = RATES | ({key: value} if key in RATES else {"model": RATES["model"] | {key: value}})
    (tmp_path / "rates").mkdir(exist_ok=True)
    (tmp_path / "rates" / "offline-h200.json").write_text(json.dumps(body))
    with suppress(KitError):
        found = load_rates("offline-h200", project=tmp_path)
        assert found.flops("machete") is None or found.flops("machete") < 1e300


@pytest.mark.parametrize("kind", ["large", "nested", "bytes"])
def test_rates_that_are_no_file_of_rates_are_refused(tmp_path, kind):
    """With the path and the next step."""
    (tmp_path / "rates").mkdir()
    path = tmp_path / "rates" / "offline-h200.json"
    path.write_bytes({"large": b"", "nested": b"[" * 100_000, "bytes": b"\xff"}[kind])
    if kind == "large":
        os.truncate(path, 1 << 42)
    with pytest.raises(DataError, match=r"offline-h200\.json.*kit bench"):
        load_rates("offline-h200", project=tmp_path)


@pytest.mark.parametrize(
    "one",
    [
        {"temperature": 1e-308},
        {"temperature": 1e308},
        {"temperature": 10**99},
        {"temperature": 1, "bias": {"a": 1e308}},
    ],
)
def test_a_calibration_that_makes_no_numbers_is_refused(tmp_path, one):
    """Divided by 1e-308, log-probabilities are infinite, and their difference is no number."""
    (tmp_path / "calibration.json").write_text(json.dumps({"bins": [one]}))
    with pytest.raises(KitError, match=r"calibration\.json"):
        read_calibration_file(tmp_path / "calibration.json", columns=["a", "b"])
