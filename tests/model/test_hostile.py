"""Whatever bytes a checkpoint's files hold, the inspection ends with problems, never with a crash."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from contextlib import suppress

import pytest
from checkpoints import AWQ, DEMO, WEIGHTS, YI_34B, copy_demo, sparse_file, write_file
from forms import MATRIX, packed_demo
from full_precision import full_demo, make_adapter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kaggle_kit.errors import KitError, ModelError
from kaggle_kit.model.fit import fit_model
from kaggle_kit.model.folder import read_folder
from kaggle_kit.model.headers import INDEX, read_header
from kaggle_kit.model.inspect import inspect_model
from kaggle_kit.model.merge import check_adapter
from kaggle_kit.model.speed import even_lengths, read_lengths
from kaggle_kit.runtime.checkpoint import read_checkpoint
from kaggle_kit.runtime.engine_plan import Card, EngineSetup
from kaggle_kit.runtime.manifest import MANIFEST, make_manifest
from kaggle_kit.runtime.manifest import dump_manifest as dump
from kaggle_kit.targets import load_target

RAW = (DEMO / WEIGHTS).read_bytes()
HEADER = int.from_bytes(RAW[:8], "little")
TENSORS = json.loads(RAW[8 : 8 + HEADER])
CONFIG = json.loads((DEMO / "config.json").read_text())
T4 = load_target("kaggle-t4x2")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
PACKING_KEYS = (
    *("config_groups", "ignore", "sym", "format", "dynamic", "desc_act", "lm_head", "extra_config", "quant_method"),
    *("block_name_to_quantize", "packing_format", "data_type", "ignored_layers", "quantization", "producer"),
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
@given(key=st.sampled_from([*CONFIG["quantization_config"], *PACKING_KEYS]), value=JSON)
def test_a_quantisation_with_any_value_is_inspected(tmp_path, key, value):
    """And any key of quantization_config, for each of the methods."""
    for method in ("awq", "gptq", "compressed-tensors", "auto-round", "fp8", "mxfp4", "modelopt"):
        packing = CONFIG["quantization_config"] | {"quant_method": method, key: value}
        _inspect(tmp_path, CONFIG | {"quantization_config": packing})


@pytest.mark.usefixtures("guarded_here")
@_settings
@given(settings_body=st.dictionaries(st.sampled_from(["bos_token", "eos_token", "auto_map"]), JSON), ids=JSON)
def test_tokenizer_settings_with_any_value_are_inspected(tmp_path, settings_body, ids):
    """And tokenizer_config.json."""
    _inspect(tmp_path, CONFIG | {"eos_token_id": ids}, settings_body)


BIG = [0, -1, 1 << 31, 1 << 63, 10**18, 10**99, 1e308, -1e308, float("inf"), float("nan"), "", "\0", "x" * 9999, []]


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=20_000)
@given(data=st.data())
def test_a_mutated_checkpoint_ends_in_findings_or_an_error(tmp_path, data):
    """Anything at any place of its JSON files: inspect, fit and plan say what they find, or raise KitError, in time."""
    folder = _folder(tmp_path)
    files = {name: json.loads((DEMO / name).read_text()) for name in ("config.json", "tokenizer_config.json", MANIFEST)}
    for _ in range(data.draw(st.integers(1, 3))):
        _mutate(files, data)
    for name, body in files.items():
        (folder / name).write_text(json.dumps(body))
    start = time.monotonic()
    with suppress(KitError):
        found = inspect_model(folder, target=T4, longest=512, tokenizer=False)
        json.dumps(found.to_json())
        for problem in found.problems:
            assert problem.what
            assert problem.next_step
            assert len(str(problem)) < 5000
        subject = found.checkpoint()
        fit_model(subject, T4, context=512, rows=1000, lengths=even_lengths(100), hours=9.0).to_json()
    with suppress(KitError):
        checkpoint = read_checkpoint(folder)
        for gpus in ([], [Card(16 << 30, (7, 5))] * 2):
            EngineSetup(version=(0, 25, 1), cards=gpus).plan(checkpoint, 500, mean_tokens=100)
    assert time.monotonic() - start < 10


@_settings
@given(
    part=st.sampled_from(["targets", "weights", "input_activations", "format"]),
    key=st.sampled_from(["num_bits", "type", "strategy", "group_size", "symmetric", "dynamic", None]),
    value=JSON | st.lists(st.text(max_size=8), max_size=3),
)
def test_a_group_with_any_value_is_inspected(tmp_path, part, key, value):
    """And any key of a group of compressed-tensors."""
    for form in ("W4A16", "W8A8", "FP8", "NVFP4"):
        table = json.loads(json.dumps(MATRIX.FORMS[form][0]))
        group = table["config_groups"]["group_0"]
        if key is None or not isinstance(group.get(part), dict):
            group[part] = value
        else:
            group[part][key] = value
        _inspect(tmp_path, CONFIG | {"quantization_config": table})


ROPE = st.fixed_dictionaries(
    {"factor": st.sampled_from([1.0, 2, 4.0, None, "4", -1.0, 1e9])},
    optional={"type": st.sampled_from(["linear", "dynamic", "yarn", "llama3", "mrope", 3])},
)
FORMS = {form: ("quantization_config", *MATRIX.FORMS[form]) for form in MATRIX.FORMS} | {
    "older key": ("compression_config", *MATRIX.FORMS["W4A16"]),
    "mxfp4": ("quantization_config", {"quant_method": "mxfp4"}, None),
    "order": ("quantization_config", MATRIX.FORMS["GPTQ"][0] | {"desc_act": True}, MATRIX.gptq),
    "fp_quant": ("quantization_config", {"quant_method": "fp_quant"}, None),
    "modelopt": ("quantization_config", {"quant_method": "modelopt", "quant_algo": "MXFP8", "ignore": ["proj"]}, None),
    "no word": ("quantization_config", {"quant_method": 4}, None),
    "no method": ("quantization_config", {"bits": 4}, None),
}
HEADED = ["LlamaForSequenceClassification"]
"""Its weights get a head."""
WORDS = {
    "rope_scaling": st.none() | ROPE,
    "rope_parameters": st.none() | ROPE,
    "max_position_embeddings": st.sampled_from([None, 0, 256, 512, 2048, 131_072, 10**12, "2048"]),
    "torch_dtype": st.sampled_from([None, "float16", "bfloat16", "float32", 16]),
    "dtype": st.sampled_from([None, "float16", "bfloat16"]),
    "model_type": st.sampled_from(["llama", "gemma2", "gemma3_text", None, "x" * 200, "lama"]),
    "architectures": st.sampled_from(
        [["OlmoForCausalLM"], HEADED, ["LlamaModel"], [], None, ["a b"], ["FSDPLlamaForCausalLM"], ["Peft"]]
    ),
    "auto_map": st.just({"AutoConfig": "configuration_x.XConfig"}),
    "_attn_implementation": st.sampled_from(["sdpa", "someone/kernel", None]),
    "quantization_config": st.sampled_from(
        [AWQ, AWQ | {"group_size": 64.0}, AWQ | {"version": "gemv"}, AWQ | {"bits": 3}, AWQ | {"group_size": "128"}]
    ),
}


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    words=st.fixed_dictionaries({}, optional=WORDS),
    nested=st.sets(st.sampled_from(sorted(WORDS))),
    name=st.sampled_from(["kaggle-t4x2", "kaggle-l4x4", "offline-h200"]),
    longest=st.sampled_from([100, 511, 512, 2047, 2048, 4096, 8191]),
    form=st.sampled_from([None, *FORMS]),
)
def test_the_inspection_accepts_exactly_what_the_plan_accepts(tmp_path, words, nested, name, longest, form):
    """So nothing that passes on the laptop is refused by the notebook's plan on Kaggle, and the other way round."""
    config = CONFIG | words
    if nested:
        text = {key: config.pop(key) for key in list(config) if key in nested or key not in WORDS}
        config |= {"text_config": text, "quantization_config": text.pop("quantization_config", None) or AWQ}
    folder, target = _folder(tmp_path), load_target(name)
    shutil.copy(DEMO / WEIGHTS, folder)
    tensors = packed_demo(TENSORS, FORMS[form][2]) if form else None
    if form:
        key, table, _ = FORMS[form]
        config.pop("quantization_config", None)
        config |= {key: table} if table else {}
    if words.get("architectures") == HEADED:
        whole = {name: (one["dtype"], one["shape"]) for name, one in TENSORS.items() if name != "__metadata__"}
        tensors = {**(tensors or whole), "score.weight": ("F16", [2, 256])}
    if tensors:
        sparse_file(folder / WEIGHTS, tensors)
    (folder / "config.json").write_text(json.dumps(config))
    shutil.copy(DEMO / MANIFEST, folder)
    found = inspect_model(folder, target=target, longest=longest, tokenizer=False, manifest=False)
    setup = EngineSetup(
        version=target.engine_version,
        cards=[Card(target.gpu_memory_bytes, target.capability)] * target.gpus,
        options=target.engine_options,
    )
    try:
        plan, refusal = setup.plan(read_checkpoint(folder), longest), ""
    except KitError as error:
        plan, refusal = None, str(error)
    errors = [str(problem) for problem in found.errors]
    assert bool(errors) == bool(refusal), (errors, refusal)
    if plan and found.architecture.most_tokens is not None:
        assert plan.options["max_model_len"] <= found.architecture.most_tokens


def _mutate(files, data):
    """Put something else at some place of one of the files."""
    body = files[data.draw(st.sampled_from(sorted(files)))]
    while True:
        keys = list(body) if isinstance(body, dict) else list(range(len(body)))
        if not keys:
            return
        key = data.draw(st.sampled_from(keys))
        if isinstance(body[key], dict | list) and data.draw(st.booleans()):
            body = body[key]
            continue
        body[key] = data.draw(st.sampled_from(BIG) | JSON)
        return


@pytest.mark.parametrize("key", ["num_hidden_layers", "vocab_size", "num_attention_heads", "hidden_size", "head_dim"])
def test_a_size_of_billions_costs_nothing(tmp_path, key):
    """num_hidden_layers = 10^9 made a set of as many numbers."""
    for size in (10**9, (1 << 31) - 1, 10**90):
        start = time.monotonic()
        found = _inspect(tmp_path, CONFIG | {key: size})
        assert any(key in problem.what for problem in found.errors)
        assert time.monotonic() - start < 5


def test_a_shape_of_a_million_dimensions_is_refused_at_once(tmp_path):
    """Their product has sixty million bits."""
    start = time.monotonic()
    for shape in ([(1 << 63) - 1] * 1_000_000, [1] * 9, [-1], [1.0], [True], [1 << 63], "64", None):
        write_file(tmp_path / WEIGHTS, {"x": {"dtype": "F16", "shape": shape, "data_offsets": [0, 2]}}, b"\0\0")
        with pytest.raises(ModelError, match="has the shape"):
            read_header(tmp_path / WEIGHTS)
    write_file(tmp_path / WEIGHTS, {"x": {"dtype": "F16", "shape": [1], "data_offsets": [0] * 1_000_000}}, b"\0\0")
    with pytest.raises(ModelError, match=r"the offsets \[0, 0") as caught:
        read_header(tmp_path / WEIGHTS)
    assert len(str(caught.value)) < 1000
    assert time.monotonic() - start < 20


def test_eight_dimensions_are_read(tmp_path):
    """Convolutions have five."""
    write_file(tmp_path / WEIGHTS, {"x": {"dtype": "F16", "shape": [1] * 8, "data_offsets": [0, 2]}}, b"\0\0")
    assert read_header(tmp_path / WEIGHTS).tensors["x"].numbers == 1


@pytest.mark.parametrize("name", ["x" * 513, "a\nb", "a\x1b]52;", "\u202e"])
def test_a_tensors_name_is_short_and_printable(tmp_path, name):
    """Names are shown, compared and searched by patterns."""
    write_file(tmp_path / WEIGHTS, {name: {"dtype": "F16", "shape": [1], "data_offsets": [0, 2]}}, b"\0\0")
    with pytest.raises(ModelError, match="a name that no checkpoint has"):
        read_header(tmp_path / WEIGHTS)


@pytest.mark.parametrize(
    "header", [b'{"x":' + b"[" * 100_000, b'{"x":{"a":{"b":{"c":1}}}}', b'{"x":' + b"9" * 5000 + b"}"]
)
def test_a_header_of_levels_or_digits_is_refused(tmp_path, header):
    """A header has two levels and no long numbers."""
    write_file(tmp_path / WEIGHTS, header)
    with pytest.raises(ModelError, match="the header"):
        read_header(tmp_path / WEIGHTS)


def test_packed_layers_of_nothing_are_a_problem(tmp_path):
    """A layer without inputs has no groups."""
    packing = {"quant_method": "gptq", "bits": 4, "group_size": -1, "sym": True, "desc_act": False}
    folder = _folder(tmp_path)
    (folder / "config.json").write_text(json.dumps(CONFIG | {"quantization_config": packing}))
    layer = "model.layers.0.self_attn.q_proj"
    sparse_file(folder / WEIGHTS, {f"{layer}.qweight": ("I32", [0, 1 << 62]), f"{layer}.scales": ("F16", [1, 1])})
    assert any("hold nothing" in problem.what for problem in inspect_model(folder, tokenizer=False).errors)


@pytest.mark.usefixtures("guarded_here")
@pytest.mark.parametrize("name", ["config.json", WEIGHTS, INDEX, "tokenizer.json", "tokenizer_config.json", MANIFEST])
@pytest.mark.parametrize("kind", ["pipe", "device", "large", "nested", "folder", "out"])
def test_a_file_that_is_none_ends_in_an_error(tmp_path, name, kind):
    """No pipe is waited for and no device is read; a file of terabytes is left alone."""
    folder = _folder(tmp_path)
    path = folder / name
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind in ("device", "out"):
        path.symlink_to("/dev/zero" if kind == "device" else tmp_path / "elsewhere")
        (tmp_path / "elsewhere").write_text("{}")
    elif kind == "large":
        path.touch()
        os.truncate(path, 1 << 43)
    elif kind == "folder":
        path.mkdir()
    else:
        path.write_text("[" * 200_000)
    start = time.monotonic()
    found = inspect_model(folder, target=T4)
    assert found.errors or (name in (MANIFEST, INDEX, "tokenizer_config.json") and kind == "folder")
    assert time.monotonic() - start < 20


def test_a_folder_of_levels_is_refused(tmp_path):
    """A walk that calls itself ends before Python's limit does."""
    place = tmp_path / "model"
    for _ in range(60):
        place = place / "a"
    place.mkdir(parents=True)
    with pytest.raises(ModelError, match="levels deep"):
        read_folder(tmp_path / "model")


def test_a_folder_of_many_files_is_refused(tmp_path, monkeypatch):
    """The number of files is bounded."""
    monkeypatch.setattr("kaggle_kit.model.folder.MOST_FILES", 10)
    for number in range(12):
        (tmp_path / f"{number}.txt").write_text("x")
    with pytest.raises(ModelError, match="more than 10 files"):
        read_folder(tmp_path)


@pytest.mark.parametrize("name", [b"a\x1b[2J.txt", b"a\nb.txt", b"\xff\xfe.txt", "a\u202eb.txt".encode()])
def test_a_file_name_that_cannot_be_shown_is_a_problem(tmp_path, name):
    """It is told by its escapes, and is not sent."""
    folder = _folder(tmp_path)
    with open(os.fsencode(folder) + b"/" + name, "w") as stream:  # noqa: PTH123  a path of bytes
        stream.write("x")
    found = inspect_model(folder, tokenizer=False)
    [problem] = found.errors
    assert problem.file.isascii()
    assert problem.file.isprintable()
    json.dumps(found.to_json()).encode()


def test_an_index_of_many_files_tells_the_first(tmp_path):
    """A hundred thousand files that are not there are not a hundred thousand findings."""
    folder = _folder(tmp_path)
    (folder / INDEX).write_text(json.dumps({"weight_map": {f"t{n}": f"f{n}.safetensors" for n in range(100_000)}}))
    problems = inspect_model(folder, tokenizer=False).problems
    assert len(problems) < 200
    assert any("lists 100,000 files that are missing" in problem.what for problem in problems)


@pytest.mark.parametrize("mapped", [None, [], {"a": 1}, {"a": None}, {"a": {}}, "x"])
def test_an_index_that_maps_no_names_to_files_is_none(tmp_path, mapped):
    """Whatever stands in its place."""
    folder = _folder(tmp_path)
    (folder / INDEX).write_text(json.dumps({"weight_map": mapped}))
    assert any("is not an index" in problem.what for problem in inspect_model(folder, tokenizer=False).errors)


def test_layers_that_are_not_alike_are_compared_in_time(tmp_path):
    """An unknown architecture whose layers share no part: the difference of each to the usual one is not listed."""
    config = YI_34B | {"architectures": ["OtherForCausalLM"], "model_type": "other", "num_hidden_layers": 2000}
    del config["quantization_config"]
    names = {f"model.layers.0.part{n}": ("F16", [1]) for n in range(40_000)}
    names |= {f"model.layers.{n}.own{n}": ("F16", [1]) for n in range(1, 2000)}
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    sparse_file(folder / WEIGHTS, names)
    start = time.monotonic()
    found = inspect_model(folder, tokenizer=False)
    assert any("uneven layers" in problem.what for problem in found.problems)
    assert time.monotonic() - start < 20


def test_patterns_of_layers_are_compared_in_time(tmp_path):
    """Thousands of patterns by thousands of layers are refused, full names are not."""
    names = [f"model.layers.{n}.mlp.up_proj" for n in range(9000)]
    config = YI_34B | {"num_hidden_layers": 9000, "quantization_config": AWQ | {"modules_to_not_convert": names}}
    folder = tmp_path / "model"
    folder.mkdir()
    sparse_file(folder / WEIGHTS, {f"{name}.weight": ("F16", [1]) for name in names})
    (folder / "config.json").write_text(json.dumps(config))
    start = time.monotonic()
    assert not any("patterns of layers" in problem.what for problem in inspect_model(folder, tokenizer=False).problems)
    patterns = [f"no-such-layer-{n}" for n in range(9000)]
    config["quantization_config"] = AWQ | {"modules_to_not_convert": patterns}
    (folder / "config.json").write_text(json.dumps(config))
    assert any("9,000 patterns of layers" in one.what for one in inspect_model(folder, tokenizer=False).errors)
    assert time.monotonic() - start < 20


def test_a_configuration_that_names_code_is_an_error(tmp_path):
    """_attn_implementation_internal is found before transformers 4.51.3 would run the kernel that it names."""
    found = _inspect(tmp_path, CONFIG | {"_attn_implementation_internal": "someone/kernel"})
    assert any("_attn_implementation_internal" in problem.what for problem in found.errors)


def test_an_adapters_settings_beside_a_model_are_an_error(tmp_path):
    """By adapter_config.json transformers loads the model that it names, from the hub."""
    folder = _folder(tmp_path)
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "someone/model"}))
    found = {problem.file: problem.what for problem in inspect_model(folder, tokenizer=False).errors}
    assert "load the model that it names" in found["adapter_config.json"]


@pytest.mark.parametrize(
    ("config", "what"),
    [
        ({"megatron_config": {}, "megatron_core": "evil"}, "megatron_config"),
        ({"auto_mapping": {"parent_library": "evil", "base_model_class": "X"}}, "auto_mapping"),
        ({"auto_mapping": "evil"}, "auto_mapping"),
        ({"layer_replication": [[0, 10**9]]}, "layer_replication"),
        ({"corda_config": {"cache_file": "/tmp/x.pt"}}, "corda_config"),
        ({"r": 10**9}, "rank r"),
        ({"r": "8"}, "rank r"),
        ({"r": True}, "rank r"),
        ({"peft_type": ["LORA"]}, "kind"),
        ({"target_modules": [5, None, {}]}, "names the target 5"),
    ],
)
def test_an_adapter_that_names_code_or_work_is_refused(tmp_path, config, what):
    """peft imports a module that megatron_core names, and builds the layers that layer_replication lists."""
    base = full_demo(tmp_path / "base")
    with pytest.raises(ModelError, match=what):
        check_adapter(make_adapter(tmp_path / "adapter", base, **config), inspect_model(base, tokenizer=False))


def test_an_adapter_as_peft_writes_it_is_taken(tmp_path):
    """auto_mapping of transformers' own classes and empty settings are in real files."""
    base = full_demo(tmp_path / "base")
    told = {
        "auto_mapping": {"base_model_class": "LlamaForCausalLM", "parent_library": "transformers.models.llama"},
        **dict.fromkeys(["megatron_config", "layer_replication", "corda_config", "eva_config", "revision"]),
        "megatron_core": "megatron.core",
        "loftq_config": {},
    }
    adapter = make_adapter(tmp_path / "adapter", base, **told)
    assert check_adapter(adapter, inspect_model(base, tokenizer=False), tokenizer=False).layers == 28


@pytest.mark.parametrize(
    "text",
    [
        '{"10": 1e999}',
        '{"10": NaN}',
        '{"10": [1]}',
        f'{{"{10**50}": 1}}',
        f'{{"10": {10**50}}}',
        "[" * 100_000,
        "{" * 100_000,
        "tokens,rows\n" + "9" * 200_000 + ",1",
        '"' + "x" * 200_000,
        "1,2\n3,\0",
    ],
)
def test_a_table_of_lengths_that_is_none_is_refused(tmp_path, text):
    """Infinities, numbers beyond all rows, fields over the csv module's limit."""
    (tmp_path / "x").write_text(text)
    with pytest.raises(KitError, match="x"):
        read_lengths(tmp_path / "x")


def test_a_hostile_checkpoint_takes_little_memory(tmp_path):
    """All at once, in a process of its own: at most 400 MB of address space more than a sound one needs."""
    folder = _folder(tmp_path)
    (folder / "config.json").write_text(json.dumps(CONFIG | {"num_hidden_layers": 10**9, "vocab_size": 10**9}))
    (folder / INDEX).write_bytes(b"[" + b"{}," * 20_000_000 + b"{}]")
    (folder / "tokenizer_config.json").write_bytes(b'{"a":' + b"[[]," * 4_000_000)
    write_file(folder / WEIGHTS, {"x": {"dtype": "F16", "shape": [2] * 1_000_000, "data_offsets": [0, 2]}}, b"\0\0")
    code = "import sys; from pathlib import Path; from kaggle_kit.model.inspect import inspect_model; "
    code += "print(len(inspect_model(Path(sys.argv[1]), tokenizer=False).errors))"
    most = 1_200_000_000
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (most, most)),
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 3


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_a_manifest_that_lists_a_pipe_or_a_device_is_not_whole(tmp_path, kind):
    """Their size is 0, and hashing them would never end."""
    from kaggle_kit.runtime.manifest import read_manifest, verify_files

    (tmp_path / "x").write_bytes(b"")
    (tmp_path / MANIFEST).write_text(dump(make_manifest(tmp_path, kind="model", name="m")))
    (tmp_path / "x").unlink()
    os.mkfifo(tmp_path / "x") if kind == "pipe" else (tmp_path / "x").symlink_to("/dev/zero")
    with pytest.raises(ModelError, match=r"x of the model m .* is not a regular file"):
        verify_files(tmp_path, read_manifest(tmp_path / MANIFEST))


def _folder(tmp_path):
    folder = tmp_path / "model"
    return folder if folder.exists() else copy_demo(folder)


def _inspect(tmp_path, config, tokenizer_settings=None):
    folder = tmp_path / "model"
    if not folder.exists():
        copy_demo(folder)
    (folder / "config.json").write_text(json.dumps(config))
    if tokenizer_settings is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_settings))
    found = inspect_model(folder, target=T4, longest=512, tokenizer=tokenizer_settings is not None)
    for problem in found.problems:
        assert problem.what
        assert problem.next_step
    json.dumps(found.to_json())
    return found
