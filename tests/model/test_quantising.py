"""What `kit model quantize` refuses, and what it leaves: all of OUT or nothing.

The program in the other environment stands in for AutoAWQ here: it says the same words and takes no minute. The real
one runs in tests/end_to_end/test_quantize.py.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from checkpoints import AWQ, awq_layer, copy_demo, edit_json, edit_tensors, int8_demo, sparse_file, tensors_of
from full_precision import full_demo, make_adapter, narrowed
from safetensors.numpy import load_file, save_file
from test_calibration import source

from kaggle_kit.errors import DataError, LabelError, ModelError, UsageError
from kaggle_kit.model.calibration import calibrated_on
from kaggle_kit.model.inspect import inspect_model
from kaggle_kit.model.quantize import LLM_COMPRESSOR, W8A8, Order, quantize
from kaggle_kit.runtime.card_memory import split_obstacle
from kaggle_kit.runtime.manifest import MANIFEST, read_manifest, verify_files

pytestmark = pytest.mark.usefixtures("guarded_here")

DEMO = Path(__file__).parents[1] / "demo" / "model"
STAND_IN = """#!{python}
import json, os, shutil, signal, sys, time
request = json.loads(open(sys.argv[3]).read())
events = os.fdopen(int(sys.argv[4]), "w", buffering=1)
def tell(**told): events.write(json.dumps(told) + "\\n")
versions = {{"autoawq": "0.2.9"}}
what = request["do"]
if what == "supported":
    tell(event="done", supported={supported!r}, versions=versions)
elif {ends!r} == what + " killed":
    print("the last words", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
elif {ends!r} == what + " failed":
    tell(event="failed", message="ValueError: too bad")
elif {ends!r} == what + " waits":
    tell(event="layer", done=0, total=4)
    time.sleep(60)
elif what == "merge":
    shutil.copytree(request["source"], request["out"])
    if request["unties"]:
        from safetensors.numpy import load_file, save_file
        path = request["out"] + "/model.safetensors"
        tensors = load_file(path)
        save_file(tensors | {{"lm_head.weight": tensors["model.embed_tokens.weight"].copy()}}, path)
    tell(event="done", layers=28, versions=versions)
else:
    os.stat(request["tokenizer"])
    os.makedirs(request["out"])
    shutil.copyfile({demo!r} + "/model.safetensors", request["out"] + "/model.safetensors")
    packing = json.loads(open({demo!r} + "/config.json").read())["quantization_config"]
    tell(event="layer", done=4, total=4)
    tell(event="done", quantization_config=packing, blocks=1, block_tokens=9, threads=2, versions=versions)
"""


@pytest.fixture
def other_python(tmp_path):
    """A function: the stand-in, which supports some model types and ends in some way."""

    def make(*, supported=("llama", "qwen2"), ends="", result=DEMO):
        path = tmp_path / "python"
        words = {"python": sys.executable, "supported": list(supported), "ends": ends, "demo": str(result)}
        path.write_text(STAND_IN.format(**words))
        path.chmod(0o755)
        return path

    return make


@pytest.fixture
def order(tmp_path):
    """A function: the demo in fp16 to be quantised, unless something else is given."""

    def make(**given):
        model = given.pop("source", None) or full_demo(tmp_path / "full")
        calibration = source(**given.pop("calibration", {}))
        return Order(source=model, out=tmp_path / "made" / "awq", calibration=calibration, **given)

    (tmp_path / "made").mkdir()
    return make


def run(order, python, tell=lambda _event: None):
    """Quantise, and say what lies where the output should be."""
    return quantize(order, python=python, tell=tell)


def packed_as_awq(folder, group):
    """The model in `folder` with its layers of the shapes that AutoAWQ gives them, all zeros."""
    shapes = {}
    for name, (dtype, shape, _) in tensors_of(folder / "model.safetensors").items():
        layer, _, ending = name.rpartition(".")
        packed = ending == "weight" and layer.endswith("_proj")
        shapes |= awq_layer(layer, shape[1], shape[0], group=group) if packed else {name: (dtype, shape)}
    sparse_file(folder / "model.safetensors", shapes)
    edit_json(folder / "config.json", quantization_config=AWQ | {"group_size": group})
    return folder


def left(order):
    """What is in the folder of the output, hidden files too."""
    return sorted(path.name for path in order.out.parent.iterdir())


def test_the_output_is_whole(order, other_python):
    """Every file that the manifest lists is there, tokenizer included, and the origin is told."""
    asked = order()
    run(asked, other_python())
    manifest = read_manifest(asked.out / MANIFEST)
    verify_files(asked.out, manifest)
    assert {"tokenizer.json", "config.json", "model.safetensors"} <= {entry.path for entry in manifest.files}
    assert manifest.extra["source"]["name"] == "full"
    assert manifest.extra["quantisation"]["calibration"]["rows"] == 16
    assert len(calibrated_on(manifest)) == 16
    assert left(asked) == ["awq"]


def test_relative_paths_are_the_callers(order, other_python, tmp_path, monkeypatch):
    """The program works in a folder of its own, and still finds what was named from where kit was called."""
    asked = order()
    monkeypatch.chdir(tmp_path)
    asked = replace(asked, source=Path("full"), out=Path("made/awq"))
    run(asked, other_python())
    assert left(asked) == ["awq"]


def test_the_config_is_the_sources_own(order, other_python):
    """Keys that the old transformers does not know stand in the output's config.json too."""
    asked = order()
    edit_json(asked.source / "config.json", something_new=[1])
    run(asked, other_python())
    config = json.loads((asked.out / "config.json").read_text())
    assert config["something_new"] == [1]
    assert config["quantization_config"]["quant_method"] == "awq"


def test_the_merged_model_is_kept_where_asked(order, other_python, tmp_path):
    """With an adapter the merged model, whole, can be kept to be compared with."""
    asked = order(merged=tmp_path / "made" / "merged", source=full_demo(tmp_path / "base"))
    asked = Order(**{**vars(asked), "adapter": make_adapter(tmp_path / "adapter", asked.source)})
    made = run(asked, other_python())
    manifest = read_manifest(asked.merged / MANIFEST)
    verify_files(asked.merged, manifest)
    assert manifest.extra["adapter"]["sha256"] == made.provenance["adapter"]["sha256"]
    assert left(asked) == ["awq", "merged"]


def test_a_head_that_was_trained_is_not_tied_again(order, other_python, tmp_path):
    """An adapter changes the head of a base whose head is its embeddings: merged and quantised models have two."""
    head = {"base_model.model.lm_head.weight": np.zeros((2048, 256), np.float16)}
    base = full_demo(tmp_path / "base")
    adapter = make_adapter(tmp_path / "adapter", base, change=lambda tensors: tensors.update(head))
    packed = Path(shutil.copytree(DEMO, tmp_path / "packed"))
    tensors = load_file(packed / "model.safetensors")
    embeddings = tensors["model.embed_tokens.weight"]
    save_file(tensors | {"lm_head.weight": embeddings.copy()}, packed / "model.safetensors")

    asked = replace(order(merged=tmp_path / "made" / "merged", source=base), adapter=adapter)
    notes = []
    run(asked, other_python(result=packed), notes.append)
    for folder in (asked.merged, asked.out):
        assert json.loads((folder / "config.json").read_text())["tie_word_embeddings"] is False
        assert inspect_model(folder, tokenizer=False).problems == ()
    assert any("they are two in the merged model" in str(note) for note in notes)


def test_an_unsupported_architecture_names_what_works(order, other_python):
    """The list is the library's own."""
    asked = order()
    with pytest.raises(ModelError, match=r"'llama', which autoawq cannot.*It can: gemma, opt.*llm-compressor"):
        run(asked, other_python(supported=("gemma", "opt")))
    assert left(asked) == []


def test_an_adapter_of_another_base_is_refused(order, other_python, tmp_path):
    """Before anything is computed."""
    base = full_demo(tmp_path / "base")

    def deepen(tensors):
        name = next(iter(tensors))
        tensors[name.replace("layers.0", "layers.7")] = tensors.pop(name)

    asked = order(source=base, adapter=make_adapter(tmp_path / "adapter", base, change=deepen))
    with pytest.raises(ModelError, match="does not fit the base"):
        run(asked, other_python())
    assert left(asked) == []


def test_a_missing_tokenizer_is_refused(order, other_python):
    """A model without its tokenizer cannot build prompts."""
    asked = order()
    (asked.source / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"tokenizer\.json: is missing"):
        run(asked, other_python())


def test_a_quantised_model_is_refused(order, other_python, tmp_path):
    """What is AWQ already is not quantised again."""
    with pytest.raises(ModelError, match=r"quantised already \(awq\)"):
        run(order(source=copy_demo(tmp_path / "packed")), other_python())


def test_a_head_of_classes_is_refused(order, other_python):
    """The quantisers load an LM head alone, and would leave this one out without a word."""
    asked = order()
    edit_json(asked.source / "config.json", architectures=["LlamaForSequenceClassification"], num_labels=3)
    edit_tensors(asked.source, lambda tensors: tensors.update({"score.weight": ("F16", [3, 256], bytes(1536))}))
    with pytest.raises(ModelError, match="answers with a head of classes"):
        run(asked, other_python())


def test_a_broken_model_is_refused(order, other_python):
    """A cut file of weights is seen before anything is computed."""
    asked = order()
    weights = asked.source / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelError, match="cut off"):
        run(asked, other_python())


def test_groups_must_fill_the_inputs(order, other_python):
    """A layer whose inputs no group size of the option fills is named, with a size that does."""
    asked = order(group_size=96)
    with pytest.raises(ModelError, match=r"groups of 96 do not fill; take --group-size 64"):
        run(asked, other_python())


def test_no_calibration_row_is_refused(order, other_python, tmp_path):
    """A table without a row for the model."""
    table = tmp_path / "train.csv"
    table.write_text("id,prompt,response_a,response_b\n")
    with pytest.raises(DataError, match="nothing to calibrate on"):
        run(order(calibration={"table": table}), other_python())


def test_an_output_that_is_there_is_kept(order, other_python):
    """Even an empty folder."""
    asked = order()
    asked.out.mkdir()
    with pytest.raises(UsageError, match="is there already"):
        run(asked, other_python())


def test_a_merged_folder_needs_an_adapter(order, other_python, tmp_path):
    """Without one nothing is merged."""
    with pytest.raises(UsageError, match="only with an adapter"):
        run(order(merged=tmp_path / "merged"), other_python())


def test_a_failure_tells_the_librarys_words(order, other_python):
    """And leaves nothing."""
    asked = order()
    with pytest.raises(ModelError, match="the quantiser failed: ValueError: too bad"):
        run(asked, other_python(ends="quantize failed"))
    assert left(asked) == []


def test_a_killed_program_is_an_error(order, other_python):
    """A program that the system killed for memory says nothing: its end and its last words are told."""
    asked = order()
    with pytest.raises(ModelError, match=r"(?s)ended with -9.*the last words"):
        run(asked, other_python(ends="quantize killed"))
    assert left(asked) == []


def test_an_interrupt_leaves_nothing(order, other_python):
    """Neither half of a model nor the program that makes it."""
    asked = order()

    def interrupt(event):
        if event["event"] == "layer":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(asked, other_python(ends="quantize waits"), interrupt)
    assert left(asked) == []


def test_what_a_killed_call_left_is_removed(order, other_python):
    """The folder of a call that could not clean up is made anew."""
    asked = order()
    old = asked.out.with_name(".awq.being-made")
    (old / "model").mkdir(parents=True)
    (old / "model" / "model.safetensors").write_bytes(b"half")
    run(asked, other_python())
    assert left(asked) == ["awq"]


def test_two_calls_do_not_make_the_same_folder(order, other_python):
    """The second one is told, and the first one's work stays."""
    asked = order()
    other = asked.out.with_name(".awq.being-made")
    other.mkdir()
    descriptor = os.open(other, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        (other / "theirs").touch()
        with pytest.raises(UsageError, match="another call of kit"):
            run(asked, other_python())
        assert (other / "theirs").exists()
    finally:
        os.close(descriptor)


def test_the_same_order_tells_the_same(order, other_python):
    """Provenance has no time and no path of the machine in it."""
    asked = order()
    first = run(asked, other_python()).provenance
    asked.out.rename(asked.out.with_name("first"))
    assert run(asked, other_python()).provenance == first
    assert str(asked.source.parent) not in json.dumps(first)


def test_the_mlps_are_padded_for_the_cards_that_share_them(order, other_python, tmp_path):
    """After quantising: config.json, the weights and the manifest say the padded size, and the model is sound."""
    asked = order(group_size=64, split=2, source=narrowed(tmp_path / "base", 448))
    awq = narrowed(tmp_path / "result", 448)
    packed = packed_as_awq(awq, 64)
    run(asked, other_python(result=packed))
    config = json.loads((asked.out / "config.json").read_text())
    assert config["intermediate_size"] == 512
    tensors = tensors_of(asked.out / "model.safetensors")
    assert tensors["model.layers.0.mlp.down_proj.qweight"][1] == [512, 32]
    manifest = read_manifest(asked.out / MANIFEST)
    verify_files(asked.out, manifest)
    told = {"intermediate_size": 512, "unpadded_intermediate_size": 448, "split": 2}
    assert manifest.extra["quantisation"]["padding"] == told
    assert split_obstacle(inspect_model(asked.out).checkpoint(), 2) is None


def test_what_cannot_be_split_is_refused_before_anything_is_computed(order, other_python):
    """Heads are not padded."""
    asked = order(split=3)
    with pytest.raises(ModelError, match="cannot be split over 3 cards: 4 attention heads"):
        run(asked, other_python())
    assert left(asked) == []


@pytest.fixture
def int8_order(order):
    """A function: the same in w8a8."""
    return lambda **given: order(method=LLM_COMPRESSOR, scheme=W8A8, **given)


@pytest.fixture
def int8_python(other_python, tmp_path):
    """The stand-in for llm-compressor, which makes the demo of int8."""
    return other_python(supported=("LlamaForCausalLM",), result=int8_demo(tmp_path / "int8"))


def test_the_origin_of_int8_claims_no_calibration(int8_order, int8_python):
    """The scheme is told, rows and seed had no part in it, and so no row of a table was seen."""
    asked = int8_order()
    run(asked, int8_python)
    manifest = read_manifest(asked.out / MANIFEST)
    told = manifest.extra["quantisation"]
    assert (told["scheme"], told["options"]["w_bit"], told["calibration"], told["seed"]) == ("w8a8", 8, None, None)
    assert calibrated_on(manifest) == frozenset()
    assert calibrated_on(read_manifest(DEMO / MANIFEST)) is None


def test_int8_of_another_task_is_refused(int8_order, int8_python):
    """Labels that are no tokens of the model are found without a prompt, too."""
    asked = int8_order()
    task = replace(asked.calibration.task, labels=asked.calibration.task.labels | {"winner_tie": "undecided"})
    with pytest.raises(LabelError, match="undecided"):
        run(replace(asked, calibration=replace(asked.calibration, task=task)), int8_python)


def test_autoawq_does_no_int8(order):
    """The method that does is named."""
    with pytest.raises(UsageError, match="autoawq does not do w8a8; take --method llm-compressor"):
        order(scheme=W8A8)


def test_int8_has_no_groups(int8_order):
    """A group size is refused, not passed over."""
    with pytest.raises(UsageError, match="one scale an output and no groups"):
        int8_order(group_size=64)


def test_int8_must_fill_the_kernels_steps(int8_order, int8_python):
    """vLLM's kernels take layers in steps of 16."""
    asked = int8_order()
    edit_json(asked.source / "config.json", intermediate_size=520)

    def widen(tensors):
        for name, (dtype, shape, _) in list(tensors.items()):
            if ".mlp." in name:
                wide = [520 if length == 512 else length for length in shape]
                tensors[name] = (dtype, wide, bytes(2 * wide[0] * wide[1]))

    edit_tensors(asked.source, widen)
    with pytest.raises(ModelError, match=r"520 inputs.*multiples of 16: take --scheme w4a16"):
        run(asked, int8_python)


def test_an_architecture_that_transformers_lacks_is_refused_in_int8(int8_order, other_python):
    """There is no other method to send to."""
    with pytest.raises(ModelError, match="'LlamaForCausalLM', which llm-compressor cannot quantise: transformers"):
        run(int8_order(), other_python(supported=("OtherForCausalLM",)))
