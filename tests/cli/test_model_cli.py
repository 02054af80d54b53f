"""`kit model inspect` and `kit model fit` as a user types them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from kaggle_kit.cli.main import run
from kaggle_kit.cli.model_quantize import split_for_notebook, summary_lines
from kaggle_kit.project import load_project
from kaggle_kit.runtime.manifest import read_manifest

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "tests" / "demo" / "model"
sys.path.insert(0, str(ROOT / "tests" / "model"))

from checkpoints import YI_34B, big_awq  # noqa: E402

pytestmark = pytest.mark.usefixtures("guarded_here")


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    """A copy of the demo model, outside of any project."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(DEMO, tmp_path / "checkpoint"))


def test_a_whole_model_ends_with_0(checkpoint, capsys):
    """Architecture, parts, label tokens, and no error."""
    assert run(["model", "inspect", str(checkpoint), "--labels", "A,B,tie"]) == 0
    out = capsys.readouterr().out
    assert "LlamaForCausalLM: 2.89 million parameters, 4 layers, awq 4 bits in groups of 128" in out
    assert "label tokens: 35, 36, 462" in out
    assert "0 errors and 0 warnings for kaggle-t4x2" in out


def test_a_broken_model_ends_with_1_and_all_its_errors(checkpoint, capsys):
    """Each on a line of its own, with the next step."""
    (checkpoint / "tokenizer.json").unlink()
    (checkpoint / "model.bin").write_bytes(b"\x80")
    assert run(["model", "inspect", str(checkpoint)]) == 1
    out = capsys.readouterr().out
    assert "error: model.bin: is a pickle" in out
    assert "error: tokenizer.json: is missing; save it in the fast form" in out


def test_json_holds_the_same(checkpoint, capsys):
    """Exit code and problems too."""
    (checkpoint / "tokenizer.json").unlink()
    assert run(["model", "inspect", str(checkpoint), "--json"]) == 1
    body = json.loads(capsys.readouterr().out)
    assert body["parameters"] == 2_885_888
    assert {problem["file"] for problem in body["problems"]} == {"tokenizer.json"}
    assert body["manifest"] is None


def test_a_notebook_brings_its_labels_prompt_and_target(capsys):
    """Labels are checked where the notebook's template ends."""
    assert run(["model", "inspect", str(DEMO), "--notebook", "lmsys", "--project", str(ROOT)]) == 0
    assert "label tokens: 35, 36, 462" in capsys.readouterr().out


@pytest.fixture
def asking(tmp_path, checkpoint):
    """A function: inspect the checkpoint, with this chat template, for a notebook with these further names."""
    project = tmp_path / "project"
    for part in ("notebooks_src", "templates"):
        shutil.copytree(ROOT / part, project / part)
    shutil.copy(ROOT / "kit.toml", project)
    (checkpoint / "manifest.json").unlink(missing_ok=True)
    source = project / "notebooks_src" / "lmsys.py"
    original = source.read_text()

    def inspect(template, *names, more=()):
        source.write_text(original.replace('row_format = "turns"', "\n".join(['row_format = "turns"', *names])))
        path = checkpoint / "tokenizer_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": template}))
        return run(["model", "inspect", str(checkpoint), "--notebook", "lmsys", "--project", str(project), *more])

    return inspect


THINKING = (
    "{% for m in messages %}<{{ m.role }}>{{ '<think></think>' if m.role == 'assistant' }}{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{{ '<think></think>' if off is defined and off }}{% endif %}"
)


def test_a_notebooks_labels_are_checked_where_the_model_answers(asking, capsys):
    """The error says what to write; written, there is none. A user who knows better allows it."""
    assert asking(THINKING, "chat = True") == 1
    out = capsys.readouterr().out
    assert "the labels are not where the model answers" in out
    assert "chat_variables = {'off': True}; answer_prefix = '<think></think>'" in out
    assert "[answer-place]" in out
    for name in ("chat_variables = {'off': True}", "answer_prefix = '<think></think>'"):
        assert asking(THINKING, "chat = True", name) == 0
        assert "label tokens: 35, 36, 462 for 'A', 'B', 'tie'" in capsys.readouterr().out
    assert asking(THINKING, "chat = True", 'answer_prefix = ""') == 0
    assert "warning: tokenizer_config.json: with answer_prefix = ''" in capsys.readouterr().out
    assert asking(THINKING, "chat = True", more=["--allow", "answer-place"]) == 0


def test_a_prompt_of_tokens_without_a_row_is_an_error(asking, checkpoint, capsys):
    """A token that only the settings know is beyond the embeddings: harmless, unless the prompt holds it."""
    path = checkpoint / "tokenizer_config.json"
    path.write_text(
        json.dumps(json.loads(path.read_text()) | {"added_tokens_decoder": {"2048": {"content": "<|go|>"}}})
    )
    plain = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    plain += "{% if add_generation_prompt %}<assistant>{% endif %}"
    assert asking(plain, "chat = True") == 0
    assert asking("<|go|>" + plain, "chat = True") == 1
    assert "the notebook's prompt holds them: '<|go|>'" in capsys.readouterr().out


def test_a_chat_template_that_fails_is_one_problem_of_many(asking, checkpoint, capsys):
    """The other findings are told beside it."""
    (checkpoint / "extra.bin").write_bytes(b"x")
    assert asking("{{ nope.x }}", "chat = True") == 1
    out = capsys.readouterr().out
    assert "the chat template of" in out
    assert "is a pickle" in out


def test_the_spaces_of_labels_count(checkpoint, capsys):
    """ " A" is not "A"; an empty one is wrong use."""
    assert run(["model", "inspect", str(checkpoint), "--labels", " A, B"]) in {0, 1}
    assert "' A'" in capsys.readouterr().out
    assert run(["model", "inspect", str(checkpoint), "--labels", "A,,B"]) == 2
    assert "has an empty label" in capsys.readouterr().err


def test_labels_that_are_several_tokens_end_with_1(checkpoint, capsys):
    """With their pieces."""
    assert run(["model", "inspect", str(checkpoint), "--labels", "A,undecided"]) == 1
    assert "the label 'undecided' is" in capsys.readouterr().out


def test_a_check_that_the_user_knows_better_is_allowed(checkpoint, capsys):
    """The error has its check's name, the last line says how to allow it, and then the manifest is written with it."""
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps(config | {"architectures": ["LlamaModel"]}))
    command = ["model", "inspect", str(checkpoint), "--write"]
    assert run(command) == 1
    out = capsys.readouterr().out
    assert "or one with a trained head (...ForSequenceClassification) [head]" in out
    assert "If you know better: --allow head\n" in out

    assert run([*command, "--allow", "head", "--allow", "dtype"]) == 0
    out = capsys.readouterr().out
    assert "allowed: config.json: cannot be used: LlamaModel has no LM head" in out
    assert "0 errors and 1 warnings, 1 of them allowed for kaggle-t4x2" in out
    assert [entry["check"] for entry in read_manifest(checkpoint / "manifest.json").extra["allowed"]] == ["head"]

    assert run(["model", "inspect", str(checkpoint), "--json"]) == 0
    problems = json.loads(capsys.readouterr().out)["problems"]
    assert [(one["check"], one["severity"]) for one in problems if one["allowed"]] == [("head", "warning")]
    assert run(["model", "fit", str(checkpoint)]) == 0
    assert "allowed head: config.json: cannot be used" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "words"), [("haed", "did you mean 'head'?"), ("pickle", "cannot be allowed: it prot")]
)
def test_a_check_that_cannot_be_allowed_is_wrong_use(checkpoint, capsys, name, words):
    """Exit 2, with the list of those that can, before anything is read."""
    assert run(["model", "inspect", str(checkpoint / "nowhere"), "--allow", name]) == 2
    err = capsys.readouterr().err
    assert words in err
    assert "those that can be allowed: adapter-weights, " in err


def test_labels_and_notebook_exclude_each_other(checkpoint, capsys):
    """A notebook has labels already."""
    assert run(["model", "inspect", str(checkpoint), "--labels", "A,B", "--notebook", "x"]) == 2
    assert "give --labels or --notebook, not both" in capsys.readouterr().err


def test_writing_makes_a_manifest(checkpoint, capsys):
    """Named by the folder, or as asked; sizes of an old one do not count."""
    (checkpoint / "manifest.json").unlink()
    assert run(["model", "inspect", str(checkpoint), "--write"]) == 0
    assert "manifest.json written: checkpoint, 5 files" in capsys.readouterr().out
    (checkpoint / "more.json").write_text("{}")
    assert run(["model", "inspect", str(checkpoint)]) == 1
    assert run(["model", "inspect", str(checkpoint), "--write", "--name", "mine"]) == 0
    assert read_manifest(checkpoint / "manifest.json").name == "mine"
    assert run(["model", "inspect", str(checkpoint)]) == 0


def test_writing_names_the_model_as_kit_toml_does(minimal, capsys):
    """The table whose path it is: push refuses another name."""
    text = (minimal / "kit.toml").read_text()
    folder = minimal / next(line.split('"')[1] for line in text.splitlines() if line.startswith("path"))
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(DEMO, folder)
    (folder / "manifest.json").unlink()
    table = text.split("[models.")[1].split("]")[0]
    assert run(["model", "inspect", str(folder), "--write", "--project", str(minimal)]) == 0
    assert f"manifest.json written: {table}, " in capsys.readouterr().out


def test_nothing_is_written_of_a_broken_model(checkpoint, capsys):
    """The old manifest stays."""
    before = (checkpoint / "manifest.json").read_bytes()
    (checkpoint / "tokenizer.json").unlink()
    assert run(["model", "inspect", str(checkpoint), "--write"]) == 1
    assert "manifest.json was not written" in capsys.readouterr().out
    assert (checkpoint / "manifest.json").read_bytes() == before


def test_a_path_that_is_none_ends_with_1(tmp_path, capsys):
    """One sentence."""
    assert run(["model", "inspect", str(tmp_path / "nowhere")]) == 1
    assert "is not a folder: name the folder" in capsys.readouterr().err


def test_fit_asks_before_downloading(capsys):
    """A model by name: layouts, verdict, the rate's source, and all sizes."""
    assert run(["model", "fit", "yi-34b", "--target", "kaggle-t4x2", "--tokens", "600"]) == 0
    out = capsys.readouterr().out
    assert "tensor parallel 2: 25,000 rows take" in out
    assert "assumed: 30% of NVIDIA's 65 TFLOP/s" in out
    for name in ("qwen3-4b", "llama-3-8b", "qwen2-72b"):
        assert name in out


def test_fit_says_that_a_named_model_counts_as_padded(capsys):
    """A family's sizes are not those of each checkpoint: four cards share the model that kit would make."""
    assert run(["model", "fit", "qwen2-72b", "--target", "kaggle-l4x4", "--tokens", "600"]) == 0
    out = capsys.readouterr().out
    assert "qwen2-72b, 4-bit AWQ, MLPs padded to 29,696 on kaggle-l4x4" in out
    assert "tensor parallel 4: 25,000 rows take" in out
    assert "cannot be shared" not in out


def test_fit_says_what_padding_a_folder_would_do(tmp_path, capsys):
    """A folder is weighed as it is, and the way out is named with its price."""
    folder = big_awq(tmp_path / "yi", YI_34B | {"intermediate_size": 20_608})
    assert run(["model", "fit", str(folder), "--target", "kaggle-t4x2", "--tokens", "600"]) == 0
    out = capsys.readouterr().out
    assert "tensor parallel 2: the MLP's 20608 inputs in quantised groups of 128 cannot be shared evenly" in out
    assert "with zeros up to 20,736 (0.6 % more) it would fit, with 10." in out
    assert "kit model quantize --split 2 adds them" in out
    assert "It does not fit (tensor parallel 2 would, padded)" in out


def test_fit_of_a_folder_reads_real_rows(capsys):
    """The notebook's own prompt over its data."""
    arguments = ["--notebook", "lmsys", "--data", str(DEMO.parent / "data"), "--project", str(ROOT)]
    assert run(["model", "fit", str(DEMO), *arguments]) == 0
    out = capsys.readouterr().out
    assert "test.csv: 300 rows" in out
    assert "data parallel 2: 300 rows take" in out


def test_fit_reads_a_histogram(tmp_path, capsys):
    """Rows are those of the file."""
    (tmp_path / "lengths.csv").write_text("400,10000\n900,15000\n")
    assert run(["model", "fit", "llama-3-8b", "--histogram", str(tmp_path / "lengths.csv"), "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert (body["rows"], body["lengths"]["mean"], body["best"]) == (25_000, 700.0, "data parallel 2")
    assert len(body["sizes"]) == 12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["yi-35b"], "did you mean 'yi-34b'"),
        (["yi-34b", "--context", "5000"], "--context 4095 is the most"),
        (["yi-34b", "--tokens", "5", "--histogram", "x"], "give one of --tokens, --histogram and --data"),
        (["yi-34b", "--data", "x"], "--data needs --notebook NAME"),
        (["yi-34b", "--target", "kaggle-t4"], "did you mean 'kaggle-t4x2'"),
        (["yi-34b", "--kernel", "machete"], "the kernel machete cannot be used: Machete runs on sm_90"),
        (["yi-34b:16", "--kernel", "marlin"], "--kernel is for models of 4 bits on a target with cards"),
    ],
)
def test_wrong_use_of_fit_ends_with_2(arguments, message, capsys):
    """With what was meant."""
    assert run(["model", "fit", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_nothing_heavy_is_imported():
    """Both commands stay without torch, transformers and numpy."""
    code = (
        "import sys; from kaggle_kit.cli.model import model; "
        "model(['fit', 'yi-34b', '--json'], standalone_mode=False); "
        f"model(['inspect', {str(DEMO)!r}, '--json'], standalone_mode=False); "
        "print(sorted({'torch', 'transformers', 'safetensors', 'vllm', 'numpy'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--scheme", "w8a8"], "autoawq does not do w8a8; take --method llm-compressor"),
        (["--scheme", "w8a8", "--method", "llm-compressor", "--group-size", "64"], "leave --group-size away"),
        (["--scheme", "w8a8", "--method", "llm-compressor", "--seed", "1"], "w8a8 draws no rows"),
    ],
)
def test_what_no_quantiser_does_ends_with_2(options, message, tmp_path, capsys):
    """Before an environment is made or a model is read."""
    command = ["model", "quantize", str(tmp_path), str(tmp_path / "out"), "--project", str(ROOT)]
    assert run([*command, *options]) == 2
    assert message in capsys.readouterr().err


def test_int8_models_are_called_so(tmp_path, monkeypatch, capsys):
    """Bits and activations, in the line of the architecture."""
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "model"))
    monkeypatch.chdir(tmp_path)
    from checkpoints import int8_demo

    assert run(["model", "inspect", str(int8_demo(tmp_path / "int8"))]) == 0
    assert "compressed-tensors 8 bits with int8 activations" in capsys.readouterr().out


@pytest.mark.parametrize(("inner", "cards"), [(20_608, 2), (20_480, 1), (None, 1)])
def test_quantize_pads_for_the_notebooks_target(tmp_path, inner, cards):
    """34B takes both T4s: their MLPs must divide. What is wrong with a config.json is for the whole model's check."""
    (tmp_path / "config.json").write_text(json.dumps(YI_34B | {"intermediate_size": inner}) if inner else "[]")
    calibration = SimpleNamespace(budget=2047)
    order = SimpleNamespace(source=tmp_path, groups=128, calibration=calibration)
    assert split_for_notebook(load_project(ROOT), "lmsys", order) == cards


def test_what_was_padded_is_told():
    """Both sizes and the cards."""
    padding = {"intermediate_size": 29_696, "unpadded_intermediate_size": 29_568, "split": 4}
    packed = {"method": "autoawq", "options": {"q_group_size": 128, "w_bit": 4}, "calibration": None}
    lines = summary_lines(DEMO, {"quantisation": packed | {"padding": padding}, "adapter": None}, None, 1.0)
    assert "  its MLPs padded with zeros, 29,568 to 29,696, so that 4 cards can share them" in lines
