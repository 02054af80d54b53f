"""A model's tokenizer and chat template in a process of their own, with bounds on its memory and time.

Both are programs in disguise: a tokenizer's rules may multiply a text without end or try a pattern for years, and
Jinja's sandbox bounds neither time nor memory. On a user's machine they run here, in a process that has nothing of this
one's environment, writes no file, and is killed when it takes too much. In a notebook the session is the bound, and
`runtime.chat` and `runtime.tokenizers` are used as they are.

Each call sends one JSON text and gets one, with 32-bit integers behind it for tokenised texts. What comes back is
measured like any file from outside.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import struct
import subprocess
import sys
import threading
import weakref
from array import array
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from kaggle_kit.child import child_environment
from kaggle_kit.errors import DataError, KitError, ModelError, OutsideError
from kaggle_kit.outside import MEGA, parse_json
from kaggle_kit.runtime.chat import Wrapped
from kaggle_kit.runtime.job import ChatSettings
from kaggle_kit.runtime.tokenizer_settings import TOKENIZER
from kaggle_kit.runtime.tokenizers import most_tokens

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_PROGRAM = "import sys; sys.path += sys.argv[2:]; from kaggle_kit.runtime.guard_program import main; main(sys.argv[1])"
_FRAME = struct.Struct("<IQ")
_MOST_REPLY = 64 * MEGA
_LETTERS_A_SECOND = 20_000
_MOST_THREADS = 8
_ERRORS: Mapping[str, type[KitError]] = {"ModelError": ModelError, "DataError": DataError}
_TRUST = "take the model from a source that you trust"


@dataclass(frozen=True)
class Limits:
    """What one call may take: seconds, and a second more for each 20,000 letters; bytes of address space."""

    seconds: float = 60.0
    memory: int = 3 << 30
    """A tokenizer of 262,000 tokens takes a sixth of it."""


LIMITS = Limits()


@dataclass(frozen=True)
class Encoded:
    """One tokenised text: its ids, and in `places` where the first token begins, where it ends, and so on."""

    numbers: array[int]
    places: array[int]

    @property
    def ids(self) -> list[int]:
        """The token ids, special tokens included."""
        return self.numbers.tolist()

    @property
    def offsets(self) -> list[tuple[int, int]]:
        """For each token its characters; an empty range for a special token."""
        return list(zip(self.places[::2], self.places[1::2], strict=True))


class Guard:
    """The process for the model in the folder `model`. It ends with this object."""

    def __init__(self, model: Path, *, limits: Limits | None = None) -> None:
        """Starting takes a twentieth of a second; nothing of the model is read yet."""
        self._model = model
        self._limits = limits or LIMITS
        self._late = threading.Event()
        self._lock = threading.Lock()
        threads = str(min(_MOST_THREADS, os.cpu_count() or 1))
        # Each thread's own arena would take address space of which nothing is used.
        variables = {"RAYON_NUM_THREADS": threads, "MALLOC_ARENA_MAX": "2", "TOKENIZERS_PARALLELISM": "true"}
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _PROGRAM, str(self._limits.memory), *_import_paths()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=child_environment(variables),
            start_new_session=True,
        )
        self._end = weakref.finalize(self, _end, self._process)

    def close(self) -> None:
        """End the process."""
        self._end()

    def chat(self, template: str) -> str:
        """`runtime.chat.wrap_in_chat`. Raises ModelError, also if the template takes too much."""
        return self.wrap(template).text

    def wrap(self, template: str, settings: ChatSettings | None = None, labels: Sequence[str] = ()) -> Wrapped:
        """`runtime.chat.wrap`. Raises ModelError, also if the template takes too much."""
        body = {
            "model": str(self._model.absolute()),
            "template": template,
            "settings": asdict(settings or ChatSettings()),
            "labels": list(labels),
        }
        about = f"the chat template of {self._model}"
        answer = self.ask("chat", body, about=about, step="set chat = False")[0]
        try:
            return Wrapped.from_json(answer)
        except TypeError as error:
            raise ModelError(f"{about}: its process answers nonsense; {_TRUST}") from error

    def ask(
        self,
        what: str,
        body: Mapping[str, Any],
        *,
        about: str,
        step: str = _TRUST,
        letters: int = 0,
        most_blob: int = 0,
    ) -> tuple[Any, bytes]:
        """Have `what` done with `body`; `about` and `step` are the words of an error. Raises KitError."""
        seconds = self._limits.seconds + letters / _LETTERS_A_SECOND
        request = json.dumps({"do": what, "seconds": seconds, **body}).encode()
        with self._lock:
            # It holds no reference to this object, which else would live on while the timer's thread ends.
            timer = threading.Timer(seconds, _stop, (self._process, self._late))
            timer.daemon = True
            timer.start()
            try:
                reply, blob = self._exchange(request, most_blob)
            except (OSError, EOFError, OutsideError, ValueError) as error:  # ValueError: it was closed
                self._raise_failure(about, step, seconds, error)
            finally:
                timer.cancel()

        if not isinstance(reply, dict):
            return None, blob
        if isinstance(kind := reply.get("error"), str):
            if kind == "MemoryError":
                self._raise_too_much(about, step)
            raise _ERRORS.get(kind, ModelError)(str(reply.get("text")))
        return reply.get("value"), blob

    def _exchange(self, request: bytes, most_blob: int) -> tuple[Any, bytes]:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None  # noqa: S101  both are pipes
        assert stdout is not None  # noqa: S101
        stdin.write(struct.pack("<I", len(request)) + request)
        stdin.flush()
        length, size = _FRAME.unpack(_take(stdout, _FRAME.size))
        if length > _MOST_REPLY or size > most_blob:
            raise EOFError
        return parse_json(_take(stdout, length), "the reply"), _take(stdout, size)

    def _raise_failure(self, about: str, step: str, seconds: float, error: BaseException) -> NoReturn:
        """Raise for a process that is gone or talks nonsense; another call cannot use it either."""
        self._process.kill()
        code = self._process.wait()
        if self._late.is_set() or code == -signal.SIGXCPU:
            raise ModelError(f"{about} took more than {seconds:.0f} s and was stopped; {step}") from None
        if isinstance(error, OutsideError):
            raise ModelError(f"{about}: {error}; {step}") from None
        self._raise_too_much(about, step)

    def _raise_too_much(self, about: str, step: str) -> NoReturn:
        size = self._limits.memory / (1 << 30)
        raise ModelError(
            f"{about} took more than {size:.1f} GiB of memory, or crashed, and was stopped; {step}"
        ) from None


class GuardedTokenizer:
    """`runtime.tokenizers.ModelTokenizer` behind a guard."""

    def __init__(self, model: Path, *, special_tokens: bool = True, guard: Guard | None = None) -> None:
        """Load the `tokenizer.json` of the folder `model`.

        `special_tokens`: whether the tokens that the model expects at the start are added to a text. Raises ModelError.
        """
        self._guard = guard or Guard(model)
        self._about = str(model / TOKENIZER)
        self._ask("open", {"model": str(model.absolute()), "special_tokens": special_tokens})

    @property
    def guard(self) -> Guard:
        """The process in which it is open."""
        return self._guard

    @property
    def of_bytes(self) -> bool:
        """Whether tokenizer.json cuts a text into bytes (GPT-2's way), not by the signs of sentencepiece."""
        return self._ask("of_bytes", {})[0] is True

    @cached_property
    def special(self) -> tuple[str, ...]:
        """The words that steer the model wherever they stand in a text."""
        return tuple(map(str, self._list(self._ask("special", {})[0])))

    def encode_batch(self, texts: Sequence[str]) -> list[Encoded]:
        """Each text tokenised, on several cores, with the special tokens that the model expects at its start."""
        texts = list(texts)
        letters = sum(map(len, texts))
        most = sum(map(most_tokens, texts))
        counts, blob = self._ask("encode", {"texts": texts}, letters=letters, most_blob=3 * 4 * most)
        if len(blob) % 4:
            self._raise_nonsense()

        numbers = array("i", blob)
        encoded, place = [], 0
        for count in self._list(counts):
            if type(count) is not int or not 0 <= count <= len(numbers):
                self._raise_nonsense()
            middle, end = place + count, place + 3 * count
            encoded.append(Encoded(numbers[place:middle], numbers[middle:end]))
            place = end

        if place != len(numbers) or len(encoded) != len(texts):
            self._raise_nonsense()
        return encoded

    def encode(self, text: str) -> list[int]:
        """The token ids of `text`, with the special tokens that the model expects at its start."""
        return self.encode_batch([text])[0].ids

    def pieces(self, token_ids: list[int]) -> list[str]:
        """The vocabulary's own spelling of each token."""
        return list(map(str, self._list(self._ask("pieces", {"ids": list(token_ids)})[0])))

    def vocabulary(self, *, rows: int | None, words: Sequence[str]) -> dict[str, Any]:
        """What tokenizer.json holds: `tokens`, the `last` id, the `numbers` of `words` (None for those it lacks), and
        how many tokens lie `beyond` the embeddings' rows (`beyond_plain` without those marked as special), with the
        `first` of them as [id, word]."""
        answer = self._ask("vocabulary", {"rows": rows, "words": list(words)})[0]
        counts = ("tokens", "last", "beyond", "beyond_plain")
        if not isinstance(answer, dict) or any(type(answer.get(key)) is not int for key in counts):
            self._raise_nonsense()
        numbers, first = answer.get("numbers"), self._list(answer.get("first"))
        if not isinstance(numbers, dict) or any(not isinstance(pair, list) or len(pair) != 2 for pair in first):
            self._raise_nonsense()
        return answer

    def differences(self, other: Path) -> tuple[int, tuple[str, ...]]:
        """How many tokens are not those of the tokenizer file `other`, and the first of them."""
        answer = self._list(self._ask("differences", {"other": str(other.absolute())})[0])
        if len(answer) != 2 or type(answer[0]) is not int:
            self._raise_nonsense()
        return answer[0], tuple(map(str, self._list(answer[1])))

    def _ask(self, what: str, body: Mapping[str, Any], *, letters: int = 0, most_blob: int = 0) -> tuple[Any, bytes]:
        return self._guard.ask(what, body, about=self._about, letters=letters, most_blob=most_blob)

    def _list(self, value: Any) -> list[Any]:
        return value if isinstance(value, list) else self._raise_nonsense()

    def _raise_nonsense(self) -> NoReturn:
        raise ModelError(f"{self._about}: its process answers nonsense; {_TRUST}")


def _import_paths() -> list[str]:
    """Where the child finds kit and the two libraries: nothing else of this process's path."""
    paths = [str(Path(__file__).parents[2])]
    for name in ("tokenizers", "jinja2", "markupsafe"):
        spec = importlib.util.find_spec(name)
        if spec and spec.origin:
            paths.append(str(Path(spec.origin).parents[1]))
    return list(dict.fromkeys(paths))


def _take(stream: Any, size: int) -> bytes:
    """Exactly so many bytes. Raises EOFError."""
    content = bytes(stream.read(size))
    if len(content) < size:
        raise EOFError
    return content


def _stop(process: subprocess.Popen[bytes], late: threading.Event) -> None:
    late.set()
    process.kill()


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):
            if stream:
                stream.close()
