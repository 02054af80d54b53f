r"""What no eye sees in a text, and what stands in its place: one table for the terminal and for pages.

Unseen are control characters (C0 but for newline and tab, DEL, C1), a carriage return that no newline follows, what
turns the direction of writing, what has no width or no glyph (zero width space, soft hyphen, fillers, tags), the
separators of lines and paragraphs, lone surrogates and noncharacters. They begin a terminal's commands, write over what
stands there already, or show a reader another text than the machine reads. A terminal shows each as an escape, as
Python would write it (`\x1b`, `\u202e`); a page shows U+FFFD.

A joiner, a variation selector and a tag are kept where a script or an emoji needs them, one after one visible
character: ZWNJ and ZWJ in Arabic, Indic and kindred scripts, emoji sequences, keycaps, the three flags made of tags,
variants of an ideograph or of a Mongolian letter. Spaces of any width, letters that look like others, heaps of
combining marks and the direction of Hebrew and Arabic letters themselves are left as they are.
"""

import re
from collections.abc import Callable

LONGEST = 16_000
"""Characters of a text that are shown where one line, or one field of a page, is expected."""

_RANGES = (
    *((0x00, 0x08), (0x0B, 0x1F), (0x7F, 0x9F), (0xAD, 0xAD), (0x34F, 0x34F), (0x61C, 0x61C), (0x115F, 0x1160)),
    *((0x17B4, 0x17B5), (0x180B, 0x180F), (0x200B, 0x200F), (0x2028, 0x202E), (0x2060, 0x206F), (0x3164, 0x3164)),
    *((0xD800, 0xDFFF), (0xFDD0, 0xFDEF), (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF), (0xFFA0, 0xFFA0), (0xFFF0, 0xFFFB)),
    *((0x13430, 0x1343F), (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF)),
    # Each plane ends with two noncharacters.
    *((plane << 16 | 0xFFFE, plane << 16 | 0xFFFF) for plane in range(17)),
)
_UNSEEN = "[" + "".join(f"{chr(first)}-{chr(last)}" for first, last in _RANGES) + "]"
# Scripts whose letters join, or whose marks are joined; without what of these blocks is unseen itself.
_JOINING = (
    "[\u0600-\u061b\u061d-\u08ff\u0900-\u0dff\u1000-\u109f\u1780-\u17b3\u17b6-\u17ff\u1820-\u18aa\u1a20-\u1aaf"
    "\u1b00-\u1bff\ua880-\ua8ff\ua980-\ua9df\uaa60-\uaa7f\uabc0-\uabff\U00011000-\U0001187f]"
)
_EMOJI = (
    "[\u00a9\u00ae\u203c\u2049\u2122\u2139\u2194-\u21aa\u231a-\u23ff\u24c2\u25aa-\u25fe\u2600-\u27bf\u2934\u2935"
    "\u2b05-\u2b55\u3030\u303d\u3297\u3299\U0001f000-\U0001faff]"
)
_IDEOGRAPH = "[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0002fa1f\U00030000-\U000323af]"
_FLAGS = "|".join("".join(chr(0xE0000 + ord(letter)) for letter in flag) for flag in ("gbeng", "gbsct", "gbwls"))
_KEPT = "|".join(
    (
        "\r\n",
        f"\U0001f3f4(?:{_FLAGS})\U000e007f",
        f"{_EMOJI}[\ufe0e\ufe0f\U0001f3fb-\U0001f3ff]?(?:\u200d{_EMOJI}[\ufe0f\U0001f3fb-\U0001f3ff]?)*",
        "[0-9#*]\ufe0f\u20e3",
        f"{_JOINING}[\u200c\u200d]",
        f"{_IDEOGRAPH}[\ufe00-\ufe02\U000e0100-\U000e01ef]",
        "[\u1820-\u18aa][\u180b-\u180f]",
    )
)
_ANY = re.compile(_UNSEEN)
_IN_PLACE = re.compile(f"(?P<kept>{_KEPT})|{_UNSEEN}")
# Colours and other whole commands of a terminal, each ended on its own line: a cut one takes no text with it.
_COMMANDS = re.compile("\x1b(?:\\[[0-?]*[ -/]*[@-~]|\\][^\x07\x1b\n]*(?:\x07|\x1b\\\\)|[@-Z\\\\^_])")
_SHORT = {"\n": "\\n", "\r": "\\r"}


def escaped(character: str) -> str:
    r"""A character as Python would write it in a text: `\r`, `\x1b`, `\u202e`, `\U000e0001`."""
    code = ord(character)
    if code > 0xFFFF:
        return f"\\U{code:08x}"
    return _SHORT.get(character) or (f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}")


def visible(text: str, *, instead: Callable[[str], str] = escaped) -> str:
    """`text` with each unseen character replaced by what `instead` gives for it.

    Newlines, tabs and CRLF stay. What comes out has nothing more to replace.
    """
    if _ANY.search(text) is None:
        return text
    return _IN_PLACE.sub(lambda match: match[0] if match["kept"] else instead(match[0]), text)


def one_line(text: str) -> str:
    r"""`text` where one line is expected: visible, its newlines shown as `\n`, and cut to LONGEST characters."""
    cut = text if len(text) <= LONGEST else f"{text[:LONGEST]} […]"
    return visible(cut.replace("\r\n", "\\r\\n").replace("\n", "\\n"))


def unseen(text: str) -> tuple[str, ...]:
    """The escapes of the unseen characters of `text`, each once, in the order in which they come."""
    escapes: dict[str, None] = {}
    visible(text, instead=lambda character: escapes.setdefault(escaped(character)) or "")
    return tuple(escapes)


def without_colours(text: str) -> str:
    """`text` without whole commands to a terminal, such as colours; what is cut off stays, and is unseen."""
    return _COMMANDS.sub("", text)
