"""Whatever bytes a checkpoint's files hold, the inspection ends with problems, never with a crash."""

from __future__ import annotations

import json
from contextlib import suppress

from checkpoints import DEMO, WEIGHTS, copy_demo
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kaggle_kit.errors import ModelError
from kaggle_kit.model.headers import read_header
from kaggle_kit.model.inspect import inspect_model
from kaggle_kit.targets import load_target

RAW = (DEMO / WEIGHTS).read_bytes()
HEADER = int.from_bytes(RAW[:8], "little")
CONFIG = json.loads((DEMO / "config.json").read_text())
T4 = load_target("kaggle-t4x2")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
# The folder is written anew by every example.
_settings = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@_settings
@given(changes=st.lists(st.tuples(st.integers(0, HEADER + 7), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_header_with_changed_bytes_is_read_or_refused(tmp_path, changes):
    """Any byte of length and header may be any other."""
    raw = bytearray(RAW)
    for place, value in changes:
        raw[place] = value
    path = tmp_path / WEIGHTS
    path.write_bytes(raw)
    with suppress(ModelError):
        read_header(path)


@_settings
@given(key=st.sampled_from([*CONFIG, "auto_map", "text_config", "sliding_window", "rope_parameters"]), value=JSON)
def test_a_configuration_with_any_value_is_inspected(tmp_path, key, value):
    """Any key of config.json may hold anything."""
    _inspect(tmp_path, CONFIG | {key: value})


@_settings
@given(key=st.sampled_from([*CONFIG["quantization_config"], "config_groups", "ignore", "sym"]), value=JSON)
def test_a_quantisation_with_any_value_is_inspected(tmp_path, key, value):
    """And any key of quantization_config, for each of the methods."""
    for method in ("awq", "gptq", "compressed-tensors"):
        packing = CONFIG["quantization_config"] | {"quant_method": method, key: value}
        _inspect(tmp_path, CONFIG | {"quantization_config": packing})


@_settings
@given(settings_body=st.dictionaries(st.sampled_from(["bos_token", "eos_token", "auto_map"]), JSON), ids=JSON)
def test_tokenizer_settings_with_any_value_are_inspected(tmp_path, settings_body, ids):
    """And tokenizer_config.json."""
    _inspect(tmp_path, CONFIG | {"eos_token_id": ids}, settings_body)


def _inspect(tmp_path, config, tokenizer_settings=None):
    folder = tmp_path / "model"
    if not folder.exists():
        copy_demo(folder)
    (folder / "config.json").write_text(json.dumps(config))
    if tokenizer_settings is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_settings))
    found = inspect_model(folder, target=T4, longest=512)
    for problem in found.problems:
        assert problem.what
        assert problem.next_step
    json.dumps(found.to_json())
