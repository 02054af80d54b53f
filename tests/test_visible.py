"""What no eye sees is replaced, and what a language or an emoji needs is not."""

import sys
import time
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kaggle_kit.visible import LONGEST, one_line, unseen, visible, without_colours

# Signs that Unicode counts among the formats, and that have a glyph all the same.
SEEN_FORMATS = set(map(chr, (*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD)))
# Of Unicode's Default_Ignorable_Code_Point, what no category tells of.
IGNORABLE = set(
    map(chr, (0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, *range(0x180B, 0x1810), 0x3164, *range(0xFE00, 0xFE10), 0xFFA0))
) | {chr(code) for code in range(0xE0000, 0xE1000)}
JOINERS = set("\u200c\u200d\ufe00\ufe01\ufe02\ufe0e\ufe0f\u180b\u180c\u180d\u180e\u180f") | {
    chr(code) for code in (*range(0xE0030, 0xE007B), 0xE007F, *range(0xE0100, 0xE01F0))
}
ODD = "\x1b\x9b\r\n\t\x7f\u202e\u200b\u200c\u200d\ufe0f\u20e3\U000e0067\U000e007f\u0627\u0915👩🏽🏴葛\ud800a1#\\"
texts = st.text(st.one_of(st.sampled_from(ODD), st.characters(categories=["C", "Z", "M"]), st.characters()))


def no_glyph(character: str) -> bool:
    """Whether Unicode's own tables say that nothing of it is seen."""
    code = ord(character)
    formats = unicodedata.category(character) in {"Cc", "Cf", "Cs", "Zl", "Zp"} and character not in SEEN_FORMATS
    return formats or character in IGNORABLE or code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF


def test_the_table_has_all_that_unicode_knows():
    """Each character without a glyph is shown as an escape when it stands alone; newline and tab are not."""
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        if character in "\n\t":
            assert visible(character) == character
        elif no_glyph(character):
            assert visible(character).isascii(), hex(code)


@pytest.mark.parametrize("category", ["L", "M", "N", "P", "S", "Zs"])
def test_every_letter_and_sign_is_left_as_it_is(category):
    """Nothing that has a glyph is replaced."""
    shown = (chr(code) for code in range(sys.maxunicode + 1))
    kept = [one for one in shown if unicodedata.category(one).startswith(category) and not no_glyph(one)]
    assert "".join(kept) == visible("".join(kept))


@example("\u061c\u200d")
@example("1\ufe0f")
@example("👩\u200d\u200d👩")
@example("x\u200d\U000e0041")
@given(texts)
def test_nothing_unseen_is_left(text):
    """What is left without a glyph ends a line or stands after a visible character; a second pass changes nothing."""
    shown = visible(text)
    assert visible(shown) == shown
    for before, character in zip(f"\n{shown}", shown, strict=False):
        if character == "\r":
            continue
        if no_glyph(character) and character not in "\n\t":
            assert character in JOINERS
            assert before not in "\n\t"
            assert not no_glyph(before) or before in JOINERS
    assert "\r" not in shown.replace("\r\n", "")


@given(texts)
def test_ascii_text_is_read_back(text):
    """The escapes are Python's: where a text has no backslash of its own, it can be read back whole."""
    plain = text.replace("\\", "")
    shown = visible(plain).encode("ascii", "backslashreplace").decode("unicode_escape")
    assert shown.encode("utf-16", "surrogatepass") == plain.encode("utf-16", "surrogatepass")


@given(texts)
def test_one_line_is_one_line(text):
    """No text makes a second line, by newline, return or separator."""
    assert len(one_line(text).splitlines()) <= 1
    assert visible(one_line(text)) == one_line(text)


LANGUAGES = {
    "Arabic": "السلام عليكم، كيف الحال؟",
    "Persian, with its half space": "می\u200cخواهم کتاب\u200cها",
    "Hebrew with points": "שָׁלוֹם עֲלֵיכֶם",
    "Hindi, with a joiner": "क्\u200dष क्\u200cष हिन्दी",
    "Bengali": "র\u200d্য বাংলা",
    "Malayalam, at a word's end": "അവന്\u200d പറഞ്ഞു",
    "Sinhala": "ශ්\u200dරී ලංකා",
    "combining marks": "e\u0301 n\u0303 Z\u0335 ệ",
    "Chinese, Japanese, Korean": "好的\u3000カタカナ 한국어",
    "a variant of an ideograph": "葛\U000e0100城市",
    "Mongolian": "ᠮᠣᠩᠭᠣᠯ\u180e ᠠ\u180b",
    "French spaces": "« Où ? »\u202f!\u00a0100\u2009%",
    "a family": "👨\u200d👩\u200d👧\u200d👦",
    "skins and hearts": "🕵🏽\u200d♂\ufe0f ❤\ufe0f\u200d🔥 👍🏿 🏳\ufe0f\u200d🌈 🏴\u200d☠\ufe0f",
    "keycaps and signs": "1\ufe0f⃣ #\ufe0f⃣ ©\ufe0f ™\ufe0f ↔\ufe0f",
    "flags": "🇫🇷 🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    "boxes and bars": "└ ━━╸ │ ⠋ █",
    "lines": "one\ttwo\nthree\r\nfour",
    "a path of Windows": "C:\\new\\x1b",
}


@pytest.mark.parametrize("text", LANGUAGES.values(), ids=LANGUAGES)
def test_legitimate_text_is_left_as_it_is(text):
    """Letter by letter."""
    assert visible(text) == text
    assert unseen(text) == ()


HIDDEN = {
    "clipboard": ("\x1b]52;c;eA==\x07", r"\x1b]52;c;eA==\x07"),
    "title": ("\x1b]0;x\x1b\\", "\\x1b]0;x\\x1b\\"),
    "C1": ("\x9b2J\x9d0;x\x9c", r"\x9b2J\x9d0;x\x9c"),
    "a return": ("rm -rf ~\rprint(1)", r"rm -rf ~\rprint(1)"),
    "two returns before a newline": ("a\r\r\nb", "a\\r\r\nb"),
    "backspaces": ("a\b\b\x7fb", r"a\x08\x08\x7fb"),
    "direction": ("a\u202eb\u2066c\u2069\u200e\u200f\u061c", r"a\u202eb\u2066c\u2069\u200e\u200f\u061c"),
    "no width": ("a\u200b\u2060\ufeff\u00adb", r"a\u200b\u2060\ufeff\xadb"),
    "fillers": ("a\u3164\u115f\uffa0", r"a\u3164\u115f\uffa0"),
    "separators": ("a\u2028b\u2029c\x85d\x0be", r"a\u2028b\u2029c\x85d\x0be"),
    "tags": ("a\U000e0041\U000e007f", r"a\U000e0041\U000e007f"),
    "a flag that is none": ("🏴\U000e0072\U000e006d\U000e007f", r"🏴\U000e0072\U000e006d\U000e007f"),
    "joiners in code": ("pass\u200dword", r"pass\u200dword"),
    "selectors that carry bytes": ("😀\ufe0f\ufe01\U000e0101", "😀\ufe0f\\ufe01\\U000e0101"),
    "half a character": ("\ud83d", r"\ud83d"),
    "a byte of a file name": (b"\x9b".decode("utf-8", "surrogateescape"), r"\udc9b"),
    "noncharacters": ("\ufdd0\ufffe\U0010ffff", r"\ufdd0\ufffe\U0010ffff"),
}


@pytest.mark.parametrize(("text", "shown"), HIDDEN.values(), ids=HIDDEN)
def test_what_hides_is_shown(text, shown):
    """As Python would write it."""
    assert visible(text) == shown


def test_what_was_found_is_told_once():
    """In the order in which it comes."""
    assert unseen("a\u202eb\r\u202e\r\n") == ("\\u202e", "\\r")


def test_a_long_text_is_cut_where_a_line_is_expected():
    """To as many characters as a page shows, and it says so."""
    assert one_line("x" * LONGEST) == "x" * LONGEST
    assert one_line("x" * (LONGEST + 1)) == f"{'x' * LONGEST} […]"


def test_colours_go_and_what_is_cut_off_stays():
    """A command that is not ended on its line takes no text with it."""
    assert without_colours("\x1b[1;31mred\x1b[0m \x1b]8;;https://x.example/\x07here\x1b]8;;\x07") == "red here"
    assert without_colours("a \x1b]0;b\nc \x1b[31") == "a \x1b]0;b\nc \x1b[31"


def test_time_grows_with_the_length_alone():
    """A text made to be slow is not: ten times as long takes about ten times as long."""

    def seconds(count: int) -> float:
        text = "👩\u200d" * count + "\x1b]" * count + "ا\u200d" * count
        since = time.perf_counter()
        without_colours(visible(text))
        without_colours(text)
        return time.perf_counter() - since

    assert seconds(200_000) < 40 * max(seconds(20_000), 0.01)
