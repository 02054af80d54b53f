"""Prompts: within the budget, valid text, nothing lost that fits."""

import csv
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kaggle_kit.errors import DataError
from kaggle_kit.runtime.prompts import (
    CUT_MARK,
    PromptBuilder,
    Turn,
    clean,
    cut_turns,
    escape_special,
    parse_template,
    split_budget,
)
from kaggle_kit.runtime.rows import read_rows

FIELDS = ("prompt", "a", "b")
TEMPLATE = parse_template('Say {"x": 1}.\n{prompt}\n\n{a}\n--\n{b}\nAnswer:\n', fields=FIELDS)
SHARES = {"prompt": 1, "a": 2, "b": 2}
WILD = st.text(st.characters(codec=None), max_size=200)  # codec=None: lone surrogates too
CHOSEN = st.text(st.sampled_from("a b\n\t\r\0é你अ́🙂👩🏽‍💻🇫🇷\ud83d\ude42…[]</s>{}"), max_size=200)
TURNS = st.lists(WILD | CHOSEN, max_size=4)
ROWS = st.fixed_dictionaries(dict.fromkeys(FIELDS, TURNS))
FAST = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


class Letters:
    """A tokenizer of one token a character, with one in front."""

    def encode(self, text):
        return [0, *map(ord, text)]

    def encode_batch(self, texts):
        return [
            SimpleNamespace(ids=self.encode(text), offsets=[(0, 0), *((i, i + 1) for i in range(len(text)))])
            for text in texts
        ]


def build_prompt(row, *, template, shares, budget, tokenizer):
    return PromptBuilder(template, shares, budget, tokenizer).build([row])[0]


def frame_of(tokenizer):
    return len(tokenizer.encode(TEMPLATE.fill(dict.fromkeys(FIELDS, ""))))


@given(row=ROWS, extra=st.integers(3, 200))
@FAST
def test_a_prompt_never_exceeds_its_budget(tokenizer, row, extra):
    """Whatever the text and however small the budget above the template, the prompt fits."""
    budget = frame_of(tokenizer) + extra
    prompt = build_prompt(row, template=TEMPLATE, shares=SHARES, budget=budget, tokenizer=tokenizer)
    assert len(prompt.token_ids) <= budget


@given(row=ROWS, extra=st.integers(3, 60))
@FAST
def test_a_prompt_never_exceeds_its_budget_with_one_token_a_letter(row, extra):
    """The same for a tokenizer in which the cut mark and the separator are many tokens."""
    letters = Letters()
    budget = frame_of(letters) + extra
    assert (
        len(build_prompt(row, template=TEMPLATE, shares=SHARES, budget=budget, tokenizer=letters).token_ids) <= budget
    )


class Greedy(Letters):
    """A tokenizer that joins badly: any text between the template's pieces costs 50 tokens more."""

    def encode(self, text):
        ids = super().encode(text)
        return ids + ([1] * 50 if "x" in text.replace('"x"', "") else [])


def test_a_row_that_hardly_fits_is_emptied_rather_than_given_up():
    """Where no part of the text fits, the template alone is the prompt: one row never stops the others."""
    greedy = Greedy()
    row = {name: ["x" * 100] for name in FIELDS}
    budget = frame_of(greedy) + 40
    prompt = build_prompt(row, template=TEMPLATE, shares=SHARES, budget=budget, tokenizer=greedy)
    assert len(prompt.token_ids) <= budget
    assert set(prompt.cut) == set(FIELDS)


@given(row=ROWS, extra=st.integers(3, 60))
@FAST
def test_a_prompt_is_valid_text(tokenizer, row, extra):
    """Neither lone surrogates of the rows nor the cuts leave text that cannot be written as UTF-8."""
    budget = frame_of(tokenizer) + extra
    prompt = build_prompt(row, template=TEMPLATE, shares=SHARES, budget=budget, tokenizer=tokenizer)
    prompt.text(TEMPLATE).encode("utf-8")


@given(row=ROWS, extra=st.integers(3, 200))
@FAST
def test_the_token_ids_are_those_of_the_text(tokenizer, row, extra):
    """The prompt is tokenised whole, as it was in training, and keeps every piece of the template."""
    budget = frame_of(tokenizer) + extra
    prompt = build_prompt(row, template=TEMPLATE, shares=SHARES, budget=budget, tokenizer=tokenizer)
    assert list(prompt.token_ids) == tokenizer.encode(prompt.text(TEMPLATE))
    assert prompt.text(TEMPLATE).startswith(TEMPLATE.pieces[0])
    assert prompt.text(TEMPLATE).endswith(TEMPLATE.pieces[-1])


@given(row=ROWS)
@FAST
def test_a_row_that_fits_is_not_cut(tokenizer, row):
    """With room enough every turn is in the prompt, in its order, and no field is named as cut."""
    prompt = build_prompt(row, template=TEMPLATE, shares=SHARES, budget=100_000, tokenizer=tokenizer)
    assert prompt.cut == ()
    assert prompt.text(TEMPLATE) == TEMPLATE.fill({name: "\n\n".join(map(clean, row[name])) for name in FIELDS})


def test_every_committed_row_is_within_a_small_budget(tokenizer, data):
    """All 300 demo rows become prompts of at most 96 tokens, each with its template's end."""
    fields = ("prompt", "response_a", "response_b")
    template = parse_template("{prompt}\n{response_a}\n{response_b}\nBest:\n", fields=fields)
    rows = list(read_rows(data / "test.csv", id_column="id", fields=fields, row_format="turns"))
    prompts = [
        build_prompt(row.turns, template=template, shares=dict.fromkeys(fields, 1), budget=96, tokenizer=tokenizer)
        for row in rows
    ]
    assert len(prompts) == 300
    assert max(len(prompt.token_ids) for prompt in prompts) <= 96
    assert all(prompt.text(template).endswith("\nBest:\n") for prompt in prompts)


def test_a_cut_prompt_uses_most_of_its_budget(tokenizer):
    """A long row is not cut by much more than it must be: at least nine tenths of the budget are used."""
    row = {name: ["the garden and the kettle " * 200] for name in FIELDS}
    prompt = build_prompt(row, template=TEMPLATE, shares=SHARES, budget=400, tokenizer=tokenizer)
    assert len(prompt.token_ids) >= 360


def test_a_huge_field_costs_only_itself(tokenizer):
    """Beside a field of 600,000 letters the short fields stay whole, and it alone is named as cut."""
    row = {"prompt": ["Why?"], "a": ["river " * 100_000], "b": ["Because of the river."]}
    prompt = build_prompt(row, template=TEMPLATE, shares=SHARES, budget=200, tokenizer=tokenizer)
    assert prompt.cut == ("a",)
    assert "Why?" in prompt.text(TEMPLATE)
    assert "Because of the river." in prompt.text(TEMPLATE)


@pytest.mark.parametrize("scale", [1e-9, 1, 1e9])
def test_only_the_ratio_of_shares_counts(tokenizer, scale):
    """Shares of 20 and 40 cut as shares of 0.2 and 0.4 do."""
    row = {name: [f"{name} river kettle " * 300] for name in FIELDS}
    shares = {name: share * scale for name, share in SHARES.items()}
    prompts = [
        build_prompt(row, template=TEMPLATE, shares=s, budget=310, tokenizer=tokenizer) for s in (SHARES, shares)
    ]
    assert abs(len(prompts[0].token_ids) - len(prompts[1].token_ids)) <= 3
    assert prompts[0].cut == prompts[1].cut == FIELDS


def test_a_budget_below_the_template_is_an_error_that_says_how_much_is_needed(tokenizer):
    """A template that fills the budget alone is named, with a budget that would do."""
    row = {name: ["text " * 50] for name in FIELDS}
    frame = frame_of(tokenizer)
    with pytest.raises(DataError, match=f"template alone takes {frame}; raise token_budget to {frame + 64}"):
        build_prompt(row, template=TEMPLATE, shares=SHARES, budget=10, tokenizer=tokenizer)


def test_braces_that_are_no_field_are_text():
    """JSON, format fields of other names, and doubled braces stand in a template as they are."""
    template = parse_template('{{a}} {"k": {other}} {} {0} {b!r} {b}.', fields=("a", "b"))
    assert template.fill({"a": "1", "b": "2"}) == '{1} {"k": {other}} {} {0} {b!r} 2.'


def test_a_value_that_looks_like_a_field_is_not_filled_again():
    """A row that says {b} in its text does not receive the other field there."""
    template = parse_template("{a}|{b}|", fields=("a", "b"))
    assert template.fill({"a": "{b}", "b": "{a}"}) == "{b}|{a}|"


@pytest.mark.parametrize(("text", "times"), [("no place", 0), ("{a} and {a}.", 2)])
def test_a_field_needs_exactly_one_place(text, times):
    """A field that the template forgets, or names twice, is an error."""
    with pytest.raises(DataError, match=f"{times} places {{a}}"):
        parse_template(text, fields=("a",))


def test_a_surrogate_pair_in_two_halves_becomes_its_character():
    """Two halves that meet are one emoji; a half alone is the replacement character."""
    assert clean("\ud83d\ude42") == "🙂"
    assert clean("a\ud83db\ude42") == "a\ufffdb\ufffd"


LENGTHS = st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 5000), min_size=1)


@given(lengths=LENGTHS, room=st.integers(-5, 10_000), data=st.data())
@settings(max_examples=400)
def test_a_split_never_exceeds_the_room(lengths, room, data):
    """The tokens of all fields together are at most the room, and none is negative."""
    shares = {name: data.draw(st.floats(1e-6, 1e6)) for name in lengths}
    allowed = split_budget(room, lengths=lengths, shares=shares)
    assert allowed.keys() == lengths.keys()
    assert sum(allowed.values()) <= max(room, 0)
    assert min(allowed.values()) >= 0


@given(lengths=LENGTHS, room=st.integers(0, 10_000), data=st.data())
@settings(max_examples=400)
def test_a_split_gives_unused_shares_on(lengths, room, data):
    """No room is left unused while a field could use it, but for the rounding of one token a field."""
    shares = {name: data.draw(st.floats(1e-6, 1e6)) for name in lengths}
    allowed = split_budget(room, lengths=lengths, shares=shares)
    used = sum(min(allowed[name], lengths[name]) for name in lengths)
    assert used >= min(room, sum(lengths.values())) - len(lengths)


def test_a_short_field_leaves_its_rest_to_the_others_by_their_shares():
    """Of 100 tokens, a field of 10 with a share of half leaves 90, which two equal others halve."""
    allowed = split_budget(100, lengths={"a": 10, "b": 500, "c": 500}, shares={"a": 2, "b": 1, "c": 1})
    assert allowed == {"a": 10, "b": 45, "c": 45}


def turns_of(tokenizer, texts):
    """Turns with their tokens' characters, as the builder measures them."""
    encoded = tokenizer.encode_batch(texts)
    return [
        Turn(text, [span for span in one.offsets if span[1] > span[0]])
        for text, one in zip(texts, encoded, strict=True)
    ]


def test_the_last_turns_are_kept_first(tokenizer):
    """Of a long conversation the end remains whole, and a mark stands for what is gone."""
    texts = [f"turn number {i} about the river" for i in range(20)]
    kept = cut_turns(turns_of(tokenizer, texts), limit=40, mark=3, separator=1)
    assert kept[-1] == texts[-1]
    assert texts[0] not in kept
    assert any(CUT_MARK.strip() in turn for turn in kept)


def test_a_turn_is_cut_in_its_middle(tokenizer):
    """One turn that is too long keeps its beginning and its end, around the mark."""
    (text,) = cut_turns(turns_of(tokenizer, ["BEGIN " + "river " * 500 + "END"]), limit=60, mark=3, separator=1)
    assert text.startswith("BEGIN")
    assert text.endswith("END")
    assert text.count(CUT_MARK) == 1


@given(texts=st.lists(CHOSEN, max_size=5), limit=st.integers(0, 50))
@FAST
def test_any_turns_can_be_cut_to_any_limit(tokenizer, texts, limit):
    """Cutting never fails, and never makes the text longer than it was but for the mark."""
    texts = [clean(text) for text in texts]
    kept = cut_turns(turns_of(tokenizer, texts), limit=limit, mark=3, separator=1)
    assert sum(map(len, kept)) <= sum(map(len, texts)) + len(CUT_MARK)


@given(row=ROWS, extra=st.integers(20, 200))
@FAST
def test_a_prompt_can_be_cut_again_from_what_was_kept(tokenizer, row, extra):
    """What a prompt kept makes the same prompt again, and a smaller budget is kept from there too."""
    builder = PromptBuilder(TEMPLATE, SHARES, frame_of(tokenizer) + extra, tokenizer)
    (prompt,) = builder.build([row])
    (again,) = builder.build([prompt.kept])
    assert (again.token_ids, again.cut) == (prompt.token_ids, ())
    smaller = builder.with_budget(frame_of(tokenizer) + extra // 2)
    assert len(smaller.build([prompt.kept])[0].token_ids) <= smaller.budget


def test_many_rows_give_the_same_prompts_as_each_alone(tokenizer, data):
    """Batches of rows, cut and whole, give the prompts that one row at a time gives."""
    rows = read_rows(data / "test.csv", id_column="id", fields=("prompt",), row_format="turns")
    template = parse_template("{prompt}\nBest:\n", fields=("prompt",))
    turns = [row.turns for row in rows if row.problem is None]
    together = PromptBuilder(template, {"prompt": 1}, 40, tokenizer).build(turns)
    alone = [
        build_prompt(each, template=template, shares={"prompt": 1}, budget=40, tokenizer=tokenizer) for each in turns
    ]
    assert together == alone
    assert any(prompt.cut for prompt in together)


def test_a_row_cannot_speak_special_tokens(tokenizer):
    """A special token written out in a row is tokenised as text."""
    special = tokenizer.special
    assert "</s>" in special
    ids = tokenizer.encode(escape_special("a</s>b", special))
    assert set(ids[1:]).isdisjoint(tokenizer.encode("</s>")[1:])
    assert escape_special("plain", special) == "plain"


def test_special_characters_of_csv_reach_the_prompt(tokenizer, tmp_path):
    """Quotes, commas, newlines and tabs of a cell stand in the prompt as the row has them."""
    path = tmp_path / "t.csv"
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([["id", "a"], ["1", 'x,"y"\n\tz']])
    row = next(read_rows(path, id_column="id", fields=("a",), row_format="text"))
    template = parse_template("{a}:", fields=("a",))
    prompt = build_prompt(row.turns, template=template, shares={"a": 1}, budget=50, tokenizer=tokenizer)
    assert prompt.text(template) == 'x,"y"\n\tz:'
