"""What can be said of a row's texts."""

import pytest

from kaggle_kit.evaluation.texts import script_of, text_facts


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("How do I repair the bridge? Naïve café", "Latin"),
        ("Расскажи про сад, please", "Cyrillic"),
        ("请介绍一下花园", "Han"),
        ("このプログラムを説明してください。東京", "Japanese"),
        ("데이터베이스", "Hangul"),
        ("ما هو الجسر؟", "Arabic"),
        ("पुल क्या है", "Devanagari"),
        ("१२३ 123 🙂 ,.!", "none"),
        ("", "none"),
        ("ＡＢＣ", "Latin"),
        ("\ud83d \x00 abc", "Latin"),
        ("αβ ab", "Greek"),
    ],
)
def test_the_script_is_that_of_most_letters(text, script):
    """Digits, signs and emoji are no letters; of two equal scripts the first by name."""
    assert script_of([text]) == script


def test_turns_and_characters_are_counted():
    """The most turns of a field, the characters of all."""
    found = text_facts({"prompt": ("ab", ""), "answer": ("cde",)})
    assert (found.turns, found.characters, found.script) == (2, 5, "Latin")


def test_an_unreadable_row_has_none():
    """No field, no turn."""
    assert text_facts({}).turns == 0
