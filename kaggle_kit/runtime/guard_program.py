"""What runs behind a guard (`runtime.guard`): a model's tokenizer and chat template, within limits of its own process.

Requests come on standard input, a length (4 bytes) and a JSON text each; replies go to standard output, two lengths (4
and 8 bytes), a JSON text, and integers of 32 bits. It ends with its input.
"""

from __future__ import annotations

import json
import os
import resource
import struct
import sys
from array import array
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import KitError, ModelError
from kaggle_kit.runtime.chat import wrap
from kaggle_kit.runtime.job import ChatSettings
from kaggle_kit.runtime.tokenizer_settings import TOKENIZER, read_settings
from kaggle_kit.runtime.tokenizers import ModelTokenizer, open_tokenizer, rust_errors

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

_CPU_SHARE = 8
"""Seconds of all cores together for one of a request: the parent counts the time, this ends a process without one."""
_FIRST = 3
_MOST_FILES = 64
_MOST_PIECE = 200


def main(memory: str) -> None:
    """Answer requests until the input ends; `memory`: bytes of address space."""
    for kind, most in (
        (resource.RLIMIT_AS, int(memory)),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, _MOST_FILES),
    ):
        resource.setrlimit(kind, (most, most))
    requests, replies = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    work = _Work()
    while len(head := requests.read(4)) == 4:
        request = json.loads(requests.read(struct.unpack("<I", head)[0]))
        _limit_time(float(request["seconds"]))
        value, blob = _answer(work, request)
        _send(replies, value, blob)


def _limit_time(seconds: float) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime + _CPU_SHARE * seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def _answer(work: _Work, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    try:
        doing: Callable[[dict[str, Any]], Any] = getattr(work, f"do_{request['do']}")
        value = doing(request)
    except KitError as error:
        return {"error": type(error).__name__, "text": str(error)}, b""
    except MemoryError:
        return {"error": "MemoryError"}, b""
    blob = work.blob.tobytes()
    work.blob = array("i")
    return {"value": value}, blob


def _send(replies: BinaryIO, value: dict[str, Any], blob: bytes) -> None:
    text = json.dumps(value).encode()
    replies.write(struct.pack("<IQ", len(text), len(blob)) + text)
    replies.write(blob)
    replies.flush()


class _Work:
    """What a request may ask for, each as `do_NAME`."""

    def __init__(self) -> None:
        self.blob = array("i")
        self._opened: tuple[Any, ModelTokenizer] | None = None

    def do_chat(self, request: dict[str, Any]) -> dict[str, Any]:
        settings = ChatSettings(**request["settings"])
        return wrap(request["template"], Path(request["model"]), settings, request["labels"]).to_json()

    def do_open(self, request: dict[str, Any]) -> None:
        model = Path(request["model"])
        plain, settings = open_tokenizer(model / TOKENIZER), read_settings(model)
        self._opened = plain, ModelTokenizer(plain, special_tokens=request["special_tokens"], settings=settings)

    @property
    def _tokenizer(self) -> ModelTokenizer:
        if self._opened is None:
            raise ModelError("no tokenizer is open")
        return self._opened[1]

    def do_special(self, _: dict[str, Any]) -> list[str]:
        return list(self._tokenizer.special)

    def do_of_bytes(self, _: dict[str, Any]) -> bool:
        return self._tokenizer.of_bytes

    def do_encode(self, request: dict[str, Any]) -> list[int]:
        """The number of tokens of each text; in the blob the ids of each, then where each token begins and ends."""
        encoded = self._tokenizer.encode_batch(request["texts"])
        counts = []
        for text in encoded:
            offsets = text.offsets
            try:
                self.blob.extend(text.ids)
                self.blob.extend(chain.from_iterable(offsets))
            except OverflowError as error:
                raise ModelError(f"{TOKENIZER} has token ids beyond all embeddings") from error
            counts.append(len(offsets))
        return counts

    def do_pieces(self, request: dict[str, Any]) -> list[str]:
        return [piece[:_MOST_PIECE] for piece in self._tokenizer.pieces(request["ids"])]

    def do_vocabulary(self, request: dict[str, Any]) -> dict[str, Any]:
        vocabulary = self._vocabulary()
        rows = request["rows"]
        beyond = sorted((number, word) for word, number in vocabulary.items() if rows is not None and number >= rows)
        return {
            "tokens": len(vocabulary),
            "last": max(vocabulary.values(), default=-1),
            "beyond": len(beyond),
            "beyond_plain": len({word for _, word in beyond}.difference(self._tokenizer.called_special)),
            "first": [[number, word[:_MOST_PIECE]] for number, word in beyond[:_FIRST]],
            "numbers": {word: vocabulary.get(word) for word in request["words"]},
        }

    def do_differences(self, request: dict[str, Any]) -> tuple[int, list[str]]:
        path = Path(request["other"])
        own = self._vocabulary()
        with rust_errors(str(path)):
            other: dict[str, int] = open_tokenizer(path).get_vocab(with_added_tokens=True)
        differing = sorted(word for word in own.keys() | other.keys() if own.get(word) != other.get(word))
        return len(differing), [word[:_MOST_PIECE] for word in differing[:_FIRST]]

    def _vocabulary(self) -> dict[str, int]:
        """What tokenizer.json itself holds."""
        if self._opened is None:
            return {}
        tokenizer, opened = self._opened
        with rust_errors(TOKENIZER):
            words: dict[str, int] = tokenizer.get_vocab(with_added_tokens=True)
        return {word: number for word, number in words.items() if word not in opened.from_settings}
