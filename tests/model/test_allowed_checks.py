"""Each finding has the name of its check; a user can allow what is only kit's doubt, and the manifest says so."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest
from checkpoints import AWQ, WEIGHTS, copy_demo, edit_json, edit_tensors, split
from hypothesis import given
from hypothesis import strategies as st

from kaggle_kit.errors import ModelError, UsageError
from kaggle_kit.model import checks, folder, headers, inspect, tokenizer_check
from kaggle_kit.model.fit import fit_model
from kaggle_kit.model.inspect import inspect_model, refuse_unknown_checks, write_manifest
from kaggle_kit.model.quantize_source import sound_source
from kaggle_kit.model.speed import even_lengths
from kaggle_kit.runtime.allowances import CHECKS
from kaggle_kit.runtime.checkpoint import read_checkpoint
from kaggle_kit.runtime.engine_plan import Card, EngineSetup
from kaggle_kit.runtime.manifest import MANIFEST, read_manifest
from kaggle_kit.targets import load_target

pytestmark = pytest.mark.usefixtures("guarded_here")

T4 = load_target("kaggle-t4x2")
LAYER = "model.layers.1."


@pytest.fixture
def model(tmp_path):
    """A copy of the demo model without its manifest."""
    return copy_demo(tmp_path / "model")


def config(folder, **values):
    edit_json(folder / "config.json", **values)


def drop_tensor(folder):
    edit_tensors(folder, lambda tensors: tensors.pop(f"{LAYER}input_layernorm.weight"))


def double_tensor(folder):
    def change(tensors):
        dtype, shape, data = tensors[f"{LAYER}input_layernorm.weight"]
        tensors[f"{LAYER}input_layernorm.weight"] = (dtype, [2 * shape[0]], 2 * data)

    edit_tensors(folder, change)


def unmerged(folder):
    edit_tensors(folder, lambda tensors: tensors.update({"x.lora_A.weight": ("F16", [1], b"\0\0")}))


def lost_from_index(folder):
    split(folder)
    path = folder / "model.safetensors.index.json"
    body = json.loads(path.read_text())
    body["weight_map"].popitem()
    path.write_text(json.dumps(body))


DOUBTS = {
    "layers": lambda folder: config(folder, num_hidden_layers=5),
    "tensors": drop_tensor,
    "shapes": double_tensor,
    "unmerged": unmerged,
    "packing": lambda folder: config(folder, quantization_config=AWQ | {"group_size": 64}),
    "head": lambda folder: config(folder, architectures=["LlamaModel"]),
    "length": lambda folder: config(folder, max_position_embeddings=64),
    "dtype": lambda folder: config(folder, model_type="gemma2"),
    "method": lambda folder: config(folder, quantization_config=AWQ | {"version": "gemv"}),
    "index": lost_from_index,
    "vocabulary": lambda folder: config(folder, vocab_size=2000),
    "special-tokens": lambda folder: edit_json(folder / "tokenizer_config.json", bos_token="<nowhere>"),
    "empty-file": lambda folder: (folder / "notes.txt").touch(),
    "adapter-weights": lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"x" * 9),
}
DANGERS = {
    "pickle": lambda folder: (folder / "x.bin").write_bytes(b"\x80"),
    "code": lambda folder: config(folder, _attn_implementation_internal="someone/kernel"),
    "adapter-config": lambda folder: (folder / "adapter_config.json").write_text("{}"),
    "link": lambda folder: (folder / "x").symlink_to("/etc/hostname"),
    "file-name": lambda folder: (folder / "a\x07").write_text("x"),
    "weights": lambda folder: (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-1]),
    "config": lambda folder: (folder / "config.json").write_text("["),
    "tokenizer": lambda folder: (folder / "tokenizer.json").unlink(),
}


WITH_TOKENIZER = {"vocabulary", "special-tokens", "tokenizer"}


def look(folder, check="", **more):
    """The inspection; the tokenizer, which takes a process, is looked at if `check` is one of its own."""
    asked = {"target": T4, "longest": 512, "manifest": False, "tokenizer": check in WITH_TOKENIZER}
    return inspect_model(folder, **(asked | more))


def test_every_named_check_is_in_the_list():
    """Wherever a finding gets its name, the name is one of the list: `--allow` knows them all."""
    named = set()
    for module in (checks, folder, headers, inspect, tokenizer_check):
        for node in ast.walk(ast.parse(Path(module.__file__).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                values = [key.value for key in node.keywords if key.arg == "check"]
                values += node.args[:1] if ast.unparse(node.func) == "by_check" else []
                named |= {value.value for value in values if isinstance(value, ast.Constant)}
    assert named
    assert named <= set(CHECKS)


@pytest.mark.parametrize("check", [*DOUBTS, *DANGERS])
def test_a_finding_has_the_name_of_its_check(model, check):
    """Every fault is found under its own name, and no finding is without one."""
    (DOUBTS | DANGERS)[check](model)
    found = look(model, check)
    assert check in {problem.check for problem in found.errors}
    assert {problem.check for problem in found.problems} <= set(CHECKS)
    assert {problem["check"] for problem in found.to_json()["problems"]} <= set(CHECKS)


@pytest.mark.parametrize("check", DOUBTS)
def test_an_allowed_finding_is_a_warning_and_stands_in_the_manifest(model, check):
    """No error is left, the manifest is written with check and sentence, and the next inspection reads it there."""
    DOUBTS[check](model)
    errors = look(model, check).errors
    names = {problem.check for problem in errors}
    found = look(model, check, allow=names)
    assert found.errors == ()
    assert {problem.severity for problem in found.problems if problem.allowed} == {"warning"}

    manifest = write_manifest(found)
    recorded = [(entry["check"], entry["finding"]) for entry in manifest.extra["allowed"]]
    assert sorted(recorded) == sorted((problem.check, str(problem)) for problem in errors)
    assert look(model, check, manifest=True).errors == ()
    assert {allowance.check for allowance in look(model).checkpoint().allowed} == names
    assert read_checkpoint(model).allows(check)


@pytest.mark.parametrize("check", DOUBTS)
def test_only_the_named_check_is_allowed(model, check):
    """A second fault is an error as ever, and no manifest is written."""
    DOUBTS[check](model)
    DANGERS["pickle"](model)
    found = look(model, check, allow=set(DOUBTS))
    assert {problem.check for problem in found.errors} == {"pickle"}
    with pytest.raises(ModelError, match="no manifest was written"):
        write_manifest(found)


@pytest.mark.parametrize("check", DANGERS)
def test_what_protects_the_machine_cannot_be_allowed(model, check):
    """Asked by name it is refused with the reason, and a manifest that claims it is not believed."""
    with pytest.raises(UsageError, match=f"'{check}' cannot be allowed: "):
        inspect_model(model, allow=[check])
    DANGERS[check](model)
    claim = {"kind": "model", "name": "x", "version": 1, "files": [], "allowed": [{"check": check, "finding": "x"}]}
    (model / MANIFEST).write_text(json.dumps(claim))
    found = look(model, check)
    assert check in {problem.check for problem in found.errors}
    assert found.recorded == ()


@given(st.text(max_size=200))
def test_an_unknown_check_is_wrong_use(name):
    """The error lists those that there are; a name of the list alone passes."""
    if name in CHECKS:
        return
    with pytest.raises(UsageError, match=r"there is no check .*that can be allowed: .*head"):
        refuse_unknown_checks([name])


def test_a_near_name_is_proposed():
    """`did you mean`, whatever the order."""
    with pytest.raises(UsageError, match="did you mean 'length'"):
        refuse_unknown_checks(["index", "lenght"])


def test_a_new_manifest_forgets_what_is_not_allowed_again(model):
    """What was allowed once is not allowed for good, and what else the manifest says is kept."""
    config(model, max_position_embeddings=64)
    write_manifest(look(model, allow=["length"]), extra={"source": "demo"})
    config(model, max_position_embeddings=2048)
    assert "allowed" not in write_manifest(look(model, allow=[])).extra
    assert read_manifest(model / MANIFEST).extra == {"source": "demo"}


def test_a_check_without_a_finding_is_not_recorded(model):
    """A warning needs no leave either."""
    config(model, torch_dtype="bfloat16", auto_map={"AutoModel": "x.Y"})
    found = look(model, allow=["length", "dtype"])
    assert found.allowed == ()
    assert "allowed" not in write_manifest(found).extra


@pytest.mark.parametrize(
    "claim", [7, "head", {"check": "head"}, ["head"], [{"check": 1, "finding": "x"}], [{}], [None], [{}] * 300]
)
def test_a_record_that_is_none_is_an_error(model, claim):
    """Not a crash, and nothing is allowed by it."""
    config(model, architectures=["LlamaModel"])
    body = {"kind": "model", "name": "x", "version": 1, "files": [], "allowed": claim}
    (model / MANIFEST).write_text(json.dumps(body))
    assert {"head", "manifest"} <= {problem.check for problem in look(model, manifest=True).errors}
    with pytest.raises(ModelError, match="'allowed' is not what kit writes"):
        read_checkpoint(model)


def test_a_method_is_allowed_for_a_card_that_lacks_it(model):
    """AWQ needs sm_75: inspect, fit and the notebook's own plan refuse it on a P100 until it is allowed."""
    old = T4.model_copy(update={"name": "p100", "compute_capability": "6.0"})
    assert [problem.check for problem in look(model, target=old).errors] == ["method"]
    cards = [Card(16 << 30, (6, 0))]
    setup = EngineSetup(version=(0, 32, 0), cards=cards)
    write_manifest(look(model))
    with pytest.raises(UsageError, match="awq, which needs sm_75"):
        setup.plan(read_checkpoint(model), 512)

    write_manifest(look(model, target=old, allow=["method"]))
    plan = setup.plan(read_checkpoint(model), 512)
    assert plan.reasons[0].startswith("allowed method: config.json: says awq, which needs sm_75")
    checkpoint = inspect_model(model, target=old, manifest=False, tokenizer=False).checkpoint()
    assert fit_model(checkpoint, old, context=512, rows=10, lengths=even_lengths(100), hours=9).refusal is None


def test_fit_does_not_refuse_what_is_allowed(model):
    """Neither the card's method nor the length; both are in the result."""
    config(model, model_type="gemma2", max_position_embeddings=64)
    write_manifest(look(model, allow=["dtype", "length", "shapes", "tensors"]))
    checkpoint = look(model).checkpoint()
    fit = fit_model(checkpoint, T4, context=512, rows=10, lengths=even_lengths(100), hours=9)
    assert fit.refusal is None
    assert fit.best is not None
    assert {"dtype", "length"} <= {entry["check"] for entry in fit.to_json()["allowed"]}


def test_a_model_can_be_quantised_though_a_check_doubts_it(tmp_path):
    """What its author allowed is no reason to refuse it."""
    full = tmp_path / "full"
    full.mkdir()
    for path in (Path(__file__).parents[1] / "demo" / "full").iterdir():
        (full / path.name).write_bytes(path.read_bytes())
    config(full, architectures=["LlamaModel"])
    (full / MANIFEST).unlink(missing_ok=True)
    with pytest.raises(ModelError, match="no LM head"):
        sound_source(full)
    write_manifest(inspect_model(full, allow=["head"]))
    assert sound_source(full).recorded[0].check == "head"
