"""From a job to rows ready for the engine."""

import json
import shutil
from dataclasses import replace
from math import log

import pytest

from kaggle_kit.errors import AnswerPlaceError, DataError, LabelError, ModelError
from kaggle_kit.model.inspect import inspect_model, write_manifest
from kaggle_kit.runtime.job import Task
from kaggle_kit.runtime.prepare import open_job, open_prompt, prepare

GOOD = '["a river"]'


def test_prepare_gives_each_row_a_prompt_or_a_problem(make_job):
    """Rows that can be read have prompts within the budget; the others say why not; none is lost."""
    job = make_job(
        [
            ["1e5", GOOD, GOOD, GOOD],
            ["a,b", "oops", GOOD, GOOD],
            ['q"q', "[]", "[null]", '[""]'],
            ["", GOOD, '["\\ud83d"]', "[" + ",".join([GOOD[1:-1]] * 500) + "]"],
            ["5", GOOD],
        ]
    )
    prepared = prepare(job)
    assert prepared.prompts.keys() == {"1e5", ""}
    assert {entry.id for entry in prepared.settled} == {"a,b", 'q"q', "5"}
    assert all(entry.problem for entry in prepared.settled)
    assert max(len(prompt.token_ids) for prompt in prepared.prompts.values()) <= job.token_budget
    assert prepared.prompts[""].cut == ("response_b",)


def test_label_ids_are_in_the_order_of_the_labels(make_job, tokenizer):
    """The first score is the first label's, whatever its column is called."""
    prepared = prepare(make_job([]))
    assert tokenizer.pieces(list(prepared.label_ids)) == ["tie", "A", "B"]


@pytest.mark.parametrize(
    ("budget", "words"),
    [(2048, "lower token_budget to 2047"), (10, "a budget of 10 tokens is too small: the template alone takes")],
)
def test_a_budget_that_cannot_be_is_refused_before_the_engine_starts(make_job, model, budget, words):
    """Neither a budget above the model's own length nor one below the template reaches the engine."""
    limit = json.loads((model / "config.json").read_text(encoding="utf-8"))["max_position_embeddings"]
    job = make_job([["1", GOOD, GOOD, GOOD]], token_budget=limit if budget == 2048 else budget)
    with pytest.raises(DataError, match=words.replace("2047", str(limit - 1))):
        open_job(job)


def test_a_budget_beyond_the_models_length_is_taken_if_that_is_allowed(make_job, model, tmp_path):
    """The worker asks the manifest too, not only the plan."""
    copy = shutil.copytree(model, tmp_path / "copy")
    manifest = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))
    manifest["allowed"] = [{"check": "length", "finding": "it is short"}]
    (copy / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    limit = json.loads((model / "config.json").read_text(encoding="utf-8"))["max_position_embeddings"]
    job = replace(make_job([["1", GOOD, GOOD, GOOD]], token_budget=limit), model=copy)
    assert prepare(job, open_job(job)).prompts.keys() == {"1"}


def test_what_was_opened_is_used(make_job):
    """Rows are prepared with the builder and the labels of an open job: the tokenizer is not loaded a second time."""
    job = make_job([["1", GOOD, GOOD, GOOD]])
    opened = open_job(job)
    prepared = prepare(job, opened)
    assert prepared.builder is opened.builder
    assert prepared.label_ids is opened.label_ids


def test_a_label_of_two_tokens_is_refused_before_the_engine_starts(make_job, task):
    """The label check is part of preparing."""
    labels = dict(task.labels) | {"winner_tie": "neither"}
    with pytest.raises(LabelError, match="'neither' is"):
        prepare(make_job([], task=Task(**task.to_json() | {"labels": labels})))


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_cut_file_of_the_model_is_named(make_job, model, tmp_path, name):
    """A model of which one file was cut in the upload is refused, by the file's name."""
    shutil.copytree(model, tmp_path / "model")
    path = tmp_path / "model" / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModelError, match=rf"{name} of the model demo .* was cut or changed"):
        prepare(make_job([], model=tmp_path / "model"))


@pytest.mark.parametrize("content", [None, b"[]", b"{", b"\xff"])
def test_a_model_without_a_readable_configuration_is_a_model_error(make_job, model, tmp_path, content):
    """config.json that no manifest vouches for and nobody can read is told, not a crash that is tried again."""
    shutil.copytree(model, tmp_path / "model")
    manifest = tmp_path / "model" / "manifest.json"
    body = json.loads(manifest.read_text(encoding="utf-8"))
    body["files"] = [entry for entry in body["files"] if entry["path"] != "config.json"]
    manifest.write_text(json.dumps(body), encoding="utf-8")
    (tmp_path / "model" / "config.json").unlink()
    if content is not None:
        (tmp_path / "model" / "config.json").write_bytes(content)
    with pytest.raises(ModelError, match=r"config\.json cannot be read"):
        prepare(make_job([], model=tmp_path / "model"))


SWAP = {"response_a": "response_b", "winner_model_a": "winner_model_b"}
EMPTY = {"winner_model_a": 0.1, "winner_model_b": 0.1, "winner_tie": 0.8}
IDENTICAL = {"winner_model_a": 0.2, "winner_model_b": 0.2, "winner_tie": 0.6}


def ruled(task, **rules):
    return Task(**task.to_json() | {"swap": SWAP, "rules": rules})


def test_a_row_with_the_same_answer_twice_has_the_rules_distribution(make_job, task):
    """It never sees the engine; its distribution is in the order of the labels, and it says which rule it was."""
    lines = [["1", GOOD, '[" a\\n"]', '["a"]'], ["2", GOOD, '["a"]', '["b"]']]
    prepared = prepare(make_job(lines, task=ruled(task, identical=IDENTICAL)))
    assert list(prepared.prompts) == ["2"]
    (entry,) = prepared.settled
    assert (entry.id, entry.flags, entry.tokens) == ("1", ("rule: identical",), 0)
    assert entry.log_probabilities == pytest.approx((log(0.6), log(0.2), log(0.2)))


def test_a_row_with_no_answer_has_the_empty_rule(make_job, task):
    """Where both answers hold no text, "empty" goes before "identical"."""
    lines = [["1", GOOD, '[""]', '[" "]'], ["2", GOOD, "[]", '["b"]']]
    prepared = prepare(make_job(lines, task=ruled(task, empty=EMPTY, identical=IDENTICAL)))
    assert [entry.flags for entry in prepared.settled] == [("rule: empty",)]
    assert list(prepared.prompts) == ["2"]


def test_without_rules_identical_answers_go_to_the_engine(make_job):
    """A rule stands only where the author wrote it."""
    prepared = prepare(make_job([["1", GOOD, '["a"]', '["a"]']]))
    assert list(prepared.prompts) == ["1"]


def test_a_rows_special_tokens_are_text(make_job, tokenizer):
    """A row that spells out the tokenizer's special tokens gets none of them into its prompt."""
    text = json.dumps([" ".join(tokenizer.special) + "".join(tokenizer.special)])
    assert tokenizer.special
    prepared = prepare(make_job([["1", text, GOOD, GOOD]], token_budget=400))
    ids = {tokenizer._tokenizer.token_to_id(word) for word in tokenizer.special}
    (prompt,) = prepared.prompts.values()
    assert not ids & set(prompt.token_ids[1:])


@pytest.mark.parametrize("workers", [2, 3, 7])
def test_the_workers_shares_cover_every_row_once(make_job, task, workers):
    """Each row, readable, ruled or not, belongs to exactly one worker."""
    lines = [[str(i), GOOD, '["a"]' if i % 4 else "oops", f'["{"a" * (i % 3)}"]'] for i in range(20)]
    found = []
    for number in range(workers):
        job = make_job(lines, task=ruled(task, identical=IDENTICAL), share=(number, workers))
        prepared = prepare(job)
        found += [*prepared.prompts, *(entry.id for entry in prepared.settled)]
    assert sorted(found, key=int) == [str(i) for i in range(20)]


@pytest.fixture
def chat_model(model, tmp_path):
    """The demo model with a chat template that begins with its own first token."""
    copy = shutil.copytree(model, tmp_path / "chat")
    path = copy / "tokenizer_config.json"
    body = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    body["chat_template"] = "<user>{{ messages[0]['content'] }}</user>\n<answer>\n"
    path.write_text(json.dumps(body), encoding="utf-8")
    return copy


def chat_task(task, **changes):
    return Task(**task.to_json() | {"chat": True} | changes)


def write_chat(folder, template):
    """Give a model another chat template."""
    path = folder / "tokenizer_config.json"
    body = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(body | {"chat_template": template}), encoding="utf-8")


ANSWERING = (
    "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' %}BETWEEN{% endif %}"
    "{{ m.content }}</{{ m.role }}>"
    "{% endfor %}{% if add_generation_prompt %}<assistant>{% if think is defined and not think %}BETWEEN{% endif %}"
    "{% endif %}"
)


@pytest.mark.parametrize("guarded", [True, False])
def test_labels_where_the_model_does_not_answer_are_refused(task, chat_model, guarded):
    """The error says what would help, each tried: a variable, a prefix, to say that it is meant so."""
    write_chat(chat_model, ANSWERING.replace("BETWEEN", "<think></think>"))
    with pytest.raises(AnswerPlaceError) as caught:
        open_prompt(chat_task(task), chat_model, guarded=guarded)
    steps = ("chat_variables = {'think': False}", "answer_prefix = '<think></think>'", 'answer_prefix = ""')
    assert [step for step in steps if step not in caught.value.step] == []
    for change in ({"chat_variables": {"think": False}}, {"answer_prefix": "<think></think>"}):
        notes = []
        template, *_ = open_prompt(chat_task(task, **change), chat_model, guarded=guarded, note=notes.append)
        assert template.pieces[-1].endswith("<assistant><think></think>")
        assert notes == []


def test_a_prefix_that_is_said_stands_and_is_noted(task, chat_model):
    """Whoever knows that the model was trained so is not kept from it."""
    write_chat(chat_model, ANSWERING.replace("BETWEEN", "="))
    notes = []
    template, *_ = open_prompt(chat_task(task, answer_prefix=""), chat_model, note=notes.append)
    assert template.pieces[-1].endswith("<assistant>")
    assert "with answer_prefix = ''" in notes[0]
    assert "label mass" in notes[0]


def test_a_place_that_the_manifest_allows_is_noted(task, chat_model):
    """A user who knew better when the model was inspected is not asked again."""
    write_chat(chat_model, ANSWERING.replace("BETWEEN", "="))
    path = chat_model / "manifest.json"
    body = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(body | {"allowed": [{"check": "answer-place", "finding": "="}]}), encoding="utf-8")
    notes = []
    open_prompt(chat_task(task), chat_model, note=notes.append)
    assert "allowed by the model's manifest" in notes[0]


def test_a_place_that_cannot_be_known_is_noted(task, chat_model):
    """Unless the source says where the model answers."""
    notes = []
    open_prompt(chat_task(task), chat_model, note=notes.append)
    assert "it was not checked that the model answers where the prompt ends" in notes[0]
    open_prompt(chat_task(task, answer_prefix=""), chat_model, note=notes.append)
    assert len(notes) == 1


def test_an_answers_prefix_ends_any_prompt(task, model):
    """Without a chat template too; no row's length takes it away."""
    template, *_ = open_prompt(Task(**task.to_json() | {"answer_prefix": "Answer:\n"}), model)
    assert template.pieces[-1].endswith("\nAnswer:\n")


def test_chat_wraps_the_authors_template(task, chat_model):
    """The template stands where a user's words do; fields stay fields, and labels follow the start of the answer."""
    plain, *_ = open_prompt(task, chat_model)
    wrapped, tokenizer, label_ids = open_prompt(Task(**task.to_json() | {"chat": True}), chat_model)
    assert wrapped.fields == plain.fields
    assert wrapped.pieces[0].startswith("<user>[P]")
    assert wrapped.pieces[-1].endswith("[Preferred]</user>\n<answer>")
    assert len(set(label_ids)) == 3
    assert len(tokenizer.encode("")) == 0


@pytest.fixture
def headed_model(model, tmp_path):
    """The demo model as one that answers with a head of classes."""
    copy = shutil.copytree(model, tmp_path / "headed")
    path = copy / "config.json"
    body = json.loads(path.read_text(encoding="utf-8"))
    classes = {"0": "tie", "1": "LABEL_A", "2": "LABEL_B"}
    path.write_text(json.dumps(body | {"architectures": ["LlamaForSequenceClassification"], "id2label": classes}))
    manifest = copy / "manifest.json"
    write_manifest(inspect_model(copy, manifest=False, tokenizer=False, allow=["tensors"]), name="demo")
    assert manifest.is_file()
    return copy


def test_the_labels_of_a_head_are_its_classes(task, headed_model):
    """In the order of the labels, by name or by number, with or without a chat template."""
    labels = dict(zip(task.labels, ("tie", "LABEL_A", "2"), strict=True))
    *_, classes = open_prompt(Task(**task.to_json() | {"labels": labels}), headed_model)
    assert classes == (0, 1, 2)
    with pytest.raises(LabelError, match="'A' is not a class of the model's head"):
        open_prompt(task, headed_model)


def test_a_prompt_for_a_head_may_end_with_a_field(task, make_job, headed_model, model):
    """No label joins with a row's last word there; such rows are cut to the budget as any others are."""
    labels = dict(zip(task.labels, "012", strict=True))
    open_end = Task(**task.to_json() | {"labels": labels, "template": "{prompt}|{response_a}|{response_b}"})
    rows = [["1", GOOD, GOOD, GOOD], ["2", GOOD, GOOD, json.dumps(["a river " * 300])]]
    prepared = prepare(make_job(rows, task=open_end, model=headed_model))
    assert prepared.label_ids == (0, 1, 2)
    assert [len(prompt.token_ids) <= 100 for prompt in prepared.prompts.values()] == [True, True]
    assert prepared.prompts["2"].cut == ("response_b",)
    with pytest.raises(DataError, match="end it with words of its own"):
        open_prompt(open_end, model)


def test_a_budget_for_a_head_is_all_that_the_model_reads(make_job, headed_model, task):
    """It needs no token for an answer."""
    limit = json.loads((headed_model / "config.json").read_text(encoding="utf-8"))["max_position_embeddings"]
    labels = dict(zip(task.labels, "012", strict=True))
    headed = {"task": Task(**task.to_json() | {"labels": labels}), "model": headed_model}
    open_job(make_job([["1", GOOD, GOOD, GOOD]], token_budget=limit, **headed))
    with pytest.raises(DataError, match=f"the model takes {limit} tokens; lower token_budget to {limit} or less"):
        open_job(make_job([["1", GOOD, GOOD, GOOD]], token_budget=limit + 1, **headed))


def test_a_chat_template_says_nothing_of_where_a_head_looks(task, chat_model):
    """It looks at the last token, which no assistant's turn decides."""
    write_chat(chat_model, ANSWERING.replace("BETWEEN", "="))
    path = chat_model / "config.json"
    body = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(body | {"architectures": ["LlamaForSequenceClassification"], "num_labels": 3}))
    notes = []
    labels = dict(zip(task.labels, "012", strict=True))
    _, _, classes = open_prompt(chat_task(task, labels=labels), chat_model, note=notes.append)
    assert (classes, notes) == ((0, 1, 2), [])
