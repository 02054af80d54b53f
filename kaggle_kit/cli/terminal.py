"""The one way out: every text that a command writes passes here, and none of it commands the terminal.

`show` writes the command's answer to standard output, `say` a line for the person who waits to standard error. Each
argument is one line; a newline in it came with a text from elsewhere and is shown as an escape, so that no title and no
file name makes a line of its own. `show_text` is for a text that is many lines: a log, a patch. What the stream's
encoding does not have is written as an escape too.

`guarded` puts the same rule over whatever else is written while a command runs: warnings, tracebacks, click's messages,
a library's prints. Programs that kit starts write into pipes and files, `kit` itself excepted.
"""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO, cast

from kaggle_kit.visible import one_line, visible, without_colours

if TYPE_CHECKING:
    from collections.abc import Iterator


def show(*lines: object) -> None:
    """Write lines of the command's answer; an empty one where none is given."""
    _write(sys.stdout, "".join(f"{one_line(str(line))}\n" for line in lines or ("",)))


def say(*lines: object) -> None:
    """Write lines for the person who waits, beside the command's answer."""
    _write(sys.stderr, "".join(f"{one_line(str(line))}\n" for line in lines or ("",)))


def say_error(error: object) -> None:
    """Write why a command ends. Further lines of its text are set in: none of them can pass for one of kit's own."""
    first, *more = str(error).split("\n")
    say(f"error: {first}", *(f"  {line}" if line else "" for line in more))


def show_log(text: str) -> None:
    """Write a run's log: without colours, and with a new line where a progress bar returned to begin its line again."""
    show_text(without_colours(text).replace("\r\n", "\n").replace("\r", "\n"))


def show_text(text: str) -> None:
    """Write a text of many lines, ended by a newline. CRLF stays as it is: a patch must, and it hides nothing."""
    _write(sys.stdout, visible(text if text.endswith("\n") else f"{text}\n"))


def show_json(value: Any, *, indent: int = 2, sort_keys: bool = False) -> None:
    """Write a value as JSON, in ASCII alone: no character needs to be seen, and a reader gets each back."""
    text = json.dumps(value, indent=indent, sort_keys=sort_keys, ensure_ascii=True)
    # The one control character that JSON leaves as it is. It can only stand in a string.
    _write(sys.stdout, text.replace("\x7f", "\\u007f") + "\n")


@contextmanager
def guarded() -> Iterator[None]:
    """Standard output and standard error let nothing unseen pass, whoever writes; they are as before at the end."""
    before = sys.stdout, sys.stderr
    wrapped = guard()
    try:
        yield
    finally:
        if wrapped:
            sys.stdout, sys.stderr = before


def guard() -> bool:
    """The same from now on, to the last traceback. Returns whether one of the two was not guarded before."""
    bare = [name for name in ("stdout", "stderr") if not isinstance(getattr(sys, name), Guard | type(None))]
    for name in bare:
        setattr(sys, name, Guard(getattr(sys, name)))
    return bool(bare)


class Encodable:
    """A stream that writes as an escape what its encoding does not have: it never fails for a character."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write `text`; returns its length."""
        self.stream.write(_encodable(text, self.stream))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write texts, one after the other."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class Guard(Encodable):
    """A stream through which no unseen character passes. There is no way round it by way of bytes."""

    def write(self, text: str) -> int:
        """Write `text` made visible; returns its length."""
        super().write(visible(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        if name == "buffer":
            raise AttributeError(name)
        return super().__getattr__(name)


def innermost(stream: Any) -> TextIO:
    """The stream below guards and the proxies of a live display: for styles, which are kit's own commands."""
    while True:
        inner = stream.stream if isinstance(stream, Encodable) else getattr(stream, "rich_proxied_file", None)
        if inner is None:
            return cast("TextIO", stream)
        stream = inner


def _encodable(text: str, stream: TextIO) -> str:
    encoding = getattr(stream, "encoding", None)
    return text.encode(encoding, "backslashreplace").decode(encoding) if encoding and not text.isascii() else text


def _write(stream: TextIO | None, text: str) -> None:
    if stream is not None:
        stream.write(_encodable(text, stream))
        stream.flush()
