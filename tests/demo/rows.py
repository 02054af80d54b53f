"""Rows shaped like the LMSYS competition's, with a preference that their text really carries.

    python tests/demo/rows.py --rows 300 --seed 1 --out tests/demo/data

Every answer is a mixture of plain sentences, of helpful and concrete ones (`GOOD`) and of refusing and
vague ones (`BAD`). Its tone is (good - bad) / (good + bad), counted over all its turns: 0 where it has
neither, and -1 where it has no text at all. With d = tone(A) - tone(B), from -2 to 2,

    P(A), P(B), P(tie) = (1 - NOISE) softmax(SLOPE d, -SLOPE d, TIE) + NOISE / 3

and the winner is drawn from these. `probabilities` gives them for any row, from its text alone, so the
best log loss that a reader of the rows can reach is known.

The same seed gives the same bytes on every machine; a row does not depend on how many others are made.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

SLOPE = 2.4
TIE = 1.7
NOISE = 0.02
FIELDS = ("prompt", "response_a", "response_b")
WINNERS = ("winner_model_a", "winner_model_b", "winner_tie")
TRAIN_COLUMNS = ("id", "model_a", "model_b", *FIELDS, *WINNERS)
TEST_COLUMNS = ("id", *FIELDS)
MODELS = ("aster-7b", "birch-13b", "cedar-34b", "dune-70b", "elm-chat", "fjord-mini")
LONG_CELL_CHARS = 30_000
# Keeps every cell below 131,072 characters, the most that Python's csv module reads unless told otherwise.
MOST_SENTENCES = 2_000
# How often each kind of nasty row comes: every row whose number leaves the remainder of the pair.
KINDS = {
    "null_turn": (20, 3),
    "empty_list": (40, 7),
    "empty_string": (40, 27),
    "no_prompt": (50, 11),
    "lone_surrogate": (25, 5),
    "newlines_and_quotes": (10, 8),
    "unequal_turns": (30, 14),
    "identical": (60, 22),
    "very_long": (100, 37),
}

GOOD = {
    "en": (
        "Here is a worked example",
        "Step by step, it goes like this",
        "To be exact, the answer is",
        "You can check this yourself with",
        "Follow these concrete instructions for",
        "I tested precisely this with",
        "This solution works because of",
        "A complete recipe starts with",
    ),
    "zh": ("下面是一个完整的例子", "具体步骤如下", "准确的答案是"),
    "ru": ("Вот подробный пример", "Точный ответ таков", "Пошаговая инструкция"),
    "ar": ("إليك مثالا كاملا", "الجواب الدقيق هو", "اتبع هذه الخطوات"),
    "hi": ("यहाँ पूरा उदाहरण है", "सटीक उत्तर यह है", "इन चरणों का पालन करें"),
}
BAD = {
    "en": (
        "Sorry, I cannot help with",
        "As a language model I have no view on",
        "It depends on so many factors, perhaps on",
        "I am unsure what anybody could say about",
        "Please consult some professional about",
        "There exist various opinions regarding",
        "I must refuse any request about",
        "Maybe somebody else knows something about",
    ),
    "zh": ("抱歉我无法帮助", "这要看情况", "我不太清楚"),
    "ru": ("Извините, я не могу помочь", "Всё зависит от обстоятельств", "Я ничего не знаю"),
    "ar": ("عذرا لا أستطيع المساعدة", "الأمر يعتمد على الظروف", "لست متأكدا"),
    "hi": ("क्षमा करें मैं मदद नहीं कर सकता", "यह परिस्थिति पर निर्भर है", "मुझे नहीं पता"),
}
PLAIN = {
    "en": (
        "The {n} and the {m} were mentioned in {k}",
        "People often put the {n} beside the {m}",
        "A {n} weighs about {k} grams",
        "In the north the {n} is older than the {m}",
        "Most of the {n} came from the {m} by train",
        "Nobody painted the {n} before {k}",
        "Between the {n} and the {m} lies a road (see https://example.org/{k})",
        "The {m} opens at nine and the {n} closes late",
        "Its colour reminds the {n} of a {m}",
        "They counted {k} of them near the {n}",
    ),
    "zh": ("{n}和{m}都在{k}年出现过", "很多人喜欢{n}", "{n}在{m}的旁边", "那里一共有{k}个{n}"),
    "ru": ("{n} и {m} упоминались в {k} году", "Рядом стоит {n}", "Там было {k} штук", "Потом появился {m}"),
    "ar": ("ذكر {n} و {m} في سنة {k}", "يوجد {n} بجانب {m}", "كان هناك {k} قطعة", "ثم ظهر {m}"),
    "hi": ("{n} और {m} का उल्लेख {k} में था", "{n} के पास {m} है", "वहाँ {k} चीज़ें थीं", "फिर {m} आया"),
}
ASK = {
    "en": (
        "How do I repair the {n}?",
        "What is the difference between a {n} and a {m}?",
        "Write {k} words about the {n}.",
        "Why does my {m} need a {n}?",
        "Tell me about the {n}",
    ),
    "zh": ("请介绍一下{n}", "{n}和{m}有什么区别?"),
    "ru": ("Расскажи про {n}", "Чем {n} отличается от {m}?"),
    "ar": ("ما هو {n}؟", "ما الفرق بين {n} و {m}؟"),
    "hi": ("{n} क्या है?", "{n} और {m} में क्या अंतर है?"),
}
NOUNS = {
    "en": (
        *("bridge", "garden", "kettle", "engine", "violin", "harbour", "library"),
        *("lantern", "market", "river", "compiler", "database", "poem", "recipe"),
        *("triangle", "planet", "window", "camera", "forest", "clock"),
    ),
    "zh": ("花园", "桥", "图书馆", "河流", "相机", "时钟", "行星", "诗"),
    "ru": ("сад", "мост", "чайник", "двигатель", "рынок", "фонарь", "лес", "поезд"),
    "ar": ("الجسر", "السوق", "النهر", "الكتاب", "القمر", "المحرك", "الغابة", "الساعة"),
    "hi": ("पुल", "बाग", "बाज़ार", "नदी", "किताब", "चाँद", "इंजन", "घड़ी"),
}
FULL_STOP = {"en": ". ", "zh": "。", "ru": ". ", "ar": ". ", "hi": "। "}
EMOJI = ("🙂", "🚀", "👩🏽‍💻", "🎉", "🇫🇷")
_GOOD_PHRASES = tuple(phrase for phrases in GOOD.values() for phrase in phrases)
_BAD_PHRASES = tuple(phrase for phrases in BAD.values() for phrase in phrases)


@dataclass(frozen=True)
class Conversation:
    """One row before it becomes CSV: each field is a list of turns, a turn of None is a JSON null."""

    prompt: list[str | None]
    response_a: list[str | None]
    response_b: list[str | None]


def tone(turns: Iterable[str | None]) -> float:
    """How helpful an answer sounds, from -1 to 1: see the module's text."""
    text = "\n".join(turn or "" for turn in turns)
    if not text.strip():
        return -1.0
    good = sum(text.count(phrase) for phrase in _GOOD_PHRASES)
    bad = sum(text.count(phrase) for phrase in _BAD_PHRASES)
    return (good - bad) / (good + bad) if good + bad else 0.0


def preference(a_turns: Iterable[str | None], b_turns: Iterable[str | None]) -> tuple[float, float, float]:
    """The probabilities of A, B and tie by which a row's winner is drawn."""
    lead = SLOPE * (tone(a_turns) - tone(b_turns))
    weights = (math.exp(lead), math.exp(-lead), math.exp(TIE))
    total = sum(weights)
    a, b, tie = ((1 - NOISE) * weight / total + NOISE / 3 for weight in weights)
    return a, b, tie


def probabilities(row: Mapping[str, str]) -> tuple[float, float, float]:
    """The probabilities of A, B and tie of a CSV row (of test.csv or train.csv)."""
    return preference(json.loads(row["response_a"]), json.loads(row["response_b"]))


def log_loss(predictions: Sequence[Sequence[float]], winners: Sequence[int]) -> float:
    """Mean of -log of the probability given to what happened, in nats; `winners` are 0, 1 or 2."""
    return -sum(math.log(p[w]) for p, w in zip(predictions, winners, strict=True)) / len(winners)


def kinds_of(number: int) -> frozenset[str]:
    """The nasty kinds that the row with this number has."""
    return frozenset(kind for kind, (every, rest) in KINDS.items() if number % every == rest)


def _fill(rng: random.Random, pattern: str, language: str) -> str:
    """A pattern with two nouns and a number in its places."""
    n, m = rng.sample(NOUNS[language], 2)
    return pattern.format(n=n, m=m, k=rng.randint(3, 1999))


def _styled(rng: random.Random, *, good: bool, language: str) -> str:
    phrase = rng.choice((GOOD if good else BAD)[language])
    space = "" if language == "zh" else " "
    return f"{phrase}{space}{rng.choice(NOUNS[language])}"


def _turn_text(rng: random.Random, sentences: Sequence[str], language: str) -> str:
    parts = []
    for sentence in sentences:
        emoji = f" {rng.choice(EMOJI)}" if rng.random() < 0.04 else ""
        parts.append(sentence + emoji + FULL_STOP[language])
    return "".join(parts).strip()


def _answer(rng: random.Random, *, language: str, turns: int, sentences: float) -> list[str | None]:
    """An answer whose styled sentences, about half of all, mostly agree: good, bad, or mixed."""
    level = rng.choices((0.95, 0.5, 0.05), weights=(42, 16, 42))[0]
    share = 0.5 if level != 0.5 or rng.random() < 0.5 else 0.0
    count = min(MOST_SENTENCES, max(turns, 2, round(sentences * rng.lognormvariate(-0.08, 0.4))))
    styled = {rng.randrange(count)} if share else set()
    styled |= {i for i in range(count) if rng.random() < share}
    body = [
        _styled(rng, good=rng.random() < level, language=language)
        if i in styled
        else _fill(rng, rng.choice(PLAIN[language]), language)
        for i in range(count)
    ]
    ends = [round(count * (turn + 1) / turns) for turn in range(turns)]
    starts = [0, *ends[:-1]]
    return [_turn_text(rng, body[a:b], language) for a, b in zip(starts, ends, strict=True)]


def make_conversation(rng: random.Random, *, kinds: frozenset[str], mean_chars: float) -> Conversation:
    """One conversation of the given nasty kinds; `mean_chars` counts its prompt and both answers."""
    language = rng.choices(tuple(GOOD), weights=(64, 9, 9, 9, 9))[0]
    turns = rng.choices((1, 2, 3, 4), weights=(60, 20, 12, 8))[0]
    if kinds & {"null_turn", "unequal_turns"}:
        turns = max(turns, 2)
    # Over all scripts a sentence has 34 characters, and a prompt 60.
    sentences = max(2.0, (mean_chars - 60) / 2 / 34)
    if "very_long" in kinds:
        sentences = max(sentences, LONG_CELL_CHARS / 35)
        language = "en"
    prompt: list[str | None] = [
        _fill(rng, rng.choice(ASK[language]), language) + rng.choices(("", " 🤔"), weights=(19, 1))[0]
        for _ in range(turns)
    ]
    answers = [_answer(rng, language=language, turns=turns, sentences=sentences) for _ in range(2)]
    return _make_nasty(rng, Conversation(prompt, *answers), kinds=kinds)


def _make_nasty(rng: random.Random, plain: Conversation, *, kinds: frozenset[str]) -> Conversation:
    """The conversation with its nasty kinds put in; some text always remains."""
    changed = {name: list(getattr(plain, name)) for name in FIELDS}
    side = rng.choice(FIELDS[1:])
    if "lone_surrogate" in kinds:
        changed[side][0] = "\ud83d " + changed[side][0]
        changed["prompt"][0] += " \ude42"
    if "newlines_and_quotes" in kinds:
        changed[side][0] = 'He said: "yes, \'no\'",\n\n\tthen:\r\n```\na = "b\\n",\n```\n' + changed[side][0]
        changed["prompt"][0] = '"Quoted",\n' + changed["prompt"][0]
    if "unequal_turns" in kinds:
        changed[side].pop()
    if "null_turn" in kinds:
        name = rng.choice(FIELDS)
        changed[name][rng.randrange(len(changed[name]))] = None
    if "no_prompt" in kinds:
        changed["prompt"] = [rng.choice(("", None))]
    if "empty_list" in kinds:
        changed[side] = []
    if "empty_string" in kinds:
        changed[side] = [""] * len(changed[side])
    if "identical" in kinds:
        changed["response_b"] = list(changed["response_a"])
    return replace(plain, **changed)


def _cell(turns: list[str | None], *, ascii_only: bool) -> str:
    """Turns as the competition writes them: no spaces between items, slashes escaped."""
    return json.dumps(turns, ensure_ascii=ascii_only, separators=(",", ":")).replace("/", "\\/")


def make_row(number: int, *, seed: int, split: str, mean_chars: float = 700) -> dict[str, Any]:
    """The row with this number of a split, with all columns of train.csv."""
    rng = random.Random(f"{seed}/{split}/{number}")
    kinds = kinds_of(number)
    conversation = make_conversation(rng, kinds=kinds, mean_chars=mean_chars)
    # A lone surrogate has no UTF-8 form: such rows can only be written with JSON's escapes.
    ascii_only = "lone_surrogate" in kinds or rng.random() < 0.4
    model_a, model_b = rng.sample(MODELS, 2)
    chances = preference(conversation.response_a, conversation.response_b)
    winner = rng.choices(range(3), weights=chances)[0]
    cells = {name: _cell(getattr(conversation, name), ascii_only=ascii_only) for name in FIELDS}
    flags = {name: int(i == winner) for i, name in enumerate(WINNERS)}
    names = {"id": _row_id(number, seed=seed, split=split), "model_a": model_a, "model_b": model_b}
    return names | cells | flags


def _row_id(number: int, *, seed: int, split: str) -> int:
    """An id that no other row of the two splits has: an odd factor permutes the numbers below 2**32."""
    place = 2 * number + (split == "test")
    return ((place + 7919 * seed) * 2_654_435_761 + 12_345) % 2**32


def _write(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_files(out: Path, *, rows: int, train_rows: int, seed: int, mean_chars: float = 700) -> None:
    """Write train.csv, test.csv, sample_submission.csv and solution.csv (of the test rows) into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    made = (make_row(i, seed=seed, split="train", mean_chars=mean_chars) for i in range(train_rows))
    _write(out / "train.csv", TRAIN_COLUMNS, made)
    test = [make_row(i, seed=seed, split="test", mean_chars=mean_chars) for i in range(rows)]
    _write(out / "test.csv", TEST_COLUMNS, test)
    _write(out / "solution.csv", ("id", *WINNERS), test)
    third = dict.fromkeys(WINNERS, 1 / 3)
    _write(out / "sample_submission.csv", ("id", *WINNERS), ({"id": row["id"]} | third for row in test))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Write LMSYS-shaped demo rows.")
    parser.add_argument("--rows", type=int, required=True, help="rows of test.csv")
    parser.add_argument("--train-rows", type=int, help="rows of train.csv (as many as --rows)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mean-chars", type=float, default=700, help="of a row; about 4 make a token")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    train_rows = args.rows if args.train_rows is None else args.train_rows
    write_files(args.out, rows=args.rows, train_rows=train_rows, seed=args.seed, mean_chars=args.mean_chars)


if __name__ == "__main__":
    main()
