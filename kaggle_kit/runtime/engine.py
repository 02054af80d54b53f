"""What every engine gives, for each prompt the log-probabilities of the labels, and the feed of its prompts."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from kaggle_kit.errors import RunError, UsageError
from kaggle_kit.runtime.record import LEAST_MASS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence


LOW_MASS = "low-mass"
"""The flag of a row in which the model would rather say something else than a label: its mass is below one half."""

_OUT_OF_MEMORY = ("out of memory", "outofmemory", "cannot allocate memory", "no available memory for the cache")
_DEAD = ("enginedeaderror", "asyncenginedeaderror", "engine core initialization failed", "enginecore encountered")


class EngineMemoryError(RunError):
    """The engine ran out of memory over a batch: a smaller batch may pass."""


class EngineDiedError(RunError):
    """The engine's process is gone: no batch will pass until the worker is started again."""


@dataclass(frozen=True)
class LabelScores:
    """One row's answer.

    `log_probabilities`: one for each label, renormalised over the labels (nats). `mass`: the probability that the
    model gives to all labels together before that; None if the engine does not give it. `flags`: what the report
    should know of the row (`LOW_MASS`).
    """

    log_probabilities: tuple[float, ...]
    mass: float | None
    flags: tuple[str, ...] = ()


class Engine(Protocol):
    """A model, loaded and ready."""

    name: str
    """The engine, its version, and the way in which it reads the labels: for the log and the report."""

    def stream(self, chunks: Iterable[Sequence[Sequence[int]]]) -> Iterator[list[LabelScores]]:
        """Score chunks of token-id prompts, each prompt within the length that the engine was started for.

        Yields one list a chunk, in the chunks' order, with one answer a prompt. The next chunk may be taken from
        `chunks` before the last one's answers are there, so that no batch runs half empty at a chunk's end. After an
        error the chunks taken and not answered have to be given again; the engine itself can go on.

        Raises EngineMemoryError if a smaller batch may pass, EngineDiedError if only a new engine helps, and
        RunError if a prompt is too long or an answer is not whole.
        """


def score_all(engine: Engine, prompts: Sequence[Sequence[int]]) -> list[LabelScores]:
    """The answers to `prompts` as one chunk; raises what `Engine.stream` does."""
    [scores] = engine.stream([prompts])
    return scores


def renormalise(raw: Sequence[float], *, with_mass: bool) -> LabelScores:
    """Label log-probabilities as the engine gives them, made to sum to 1 over the labels.

    Raises RunError if one is not a finite number: a label without a probability is never guessed.
    """
    if not all(math.isfinite(value) for value in raw):
        raise RunError(f"the engine gave the label log-probabilities {list(raw)}: not all are finite")
    total = _log_total(raw)
    scores = tuple(value - total for value in raw)
    if not with_mass:
        return LabelScores(scores, None)
    mass = min(math.exp(total), 1.0)
    return LabelScores(scores, mass, (LOW_MASS,) if mass < LEAST_MASS else ())


def _log_total(values: Sequence[float]) -> float:
    """The logarithm of the sum of their exponentials."""
    top = max(values)
    return top + math.log(sum(math.exp(value - top) for value in values))


def class_scores(logits: Sequence[float], classes: Sequence[int]) -> LabelScores:
    """The answer of a classification head: its `logits`, one a class, at the `classes` that are labels.

    The mass is the softmax's over these classes. Raises RunError if a logit is missing or not a finite number.
    """
    if max(classes) >= len(logits):
        raise RunError(f"the engine gave {len(logits)} logits, and the label's class is number {max(classes)}")
    if not all(math.isfinite(value) for value in logits):
        raise RunError(f"the engine gave the logits {list(logits[:20])}: not all are finite")
    total = _log_total(logits)
    return renormalise([logits[number] - total for number in classes], with_mass=True)


def check_labels(label_ids: Sequence[int]) -> None:
    """Raise UsageError if `label_ids` are not two or more distinct tokens (or classes)."""
    if len(label_ids) < 2 or len(set(label_ids)) < len(label_ids) or min(label_ids) < 0:
        raise UsageError(f"label_ids = {list(label_ids)}: an engine needs two or more distinct tokens")


def check_lengths(prompts: Sequence[Sequence[int]], *, longest: int) -> None:
    """Raise RunError if a prompt is empty or longer than `longest` tokens.

    vLLM answers one such prompt by refusing the whole batch; here none reaches it.
    """
    for place, prompt in enumerate(prompts):
        if not 0 < len(prompt) <= longest:
            raise RunError(
                f"prompt {place} of the batch has {len(prompt)} tokens; the engine was started for 1 to {longest}: "
                f"cut it before scoring"
            )


def check_answer(answered: Sequence[int], prompt: Sequence[int]) -> None:
    """Raise RunError if the `answered` prompt is not the one that was sent."""
    if list(answered) != list(prompt):
        raise RunError("the engine answered another prompt than the one that it was asked")


def engine_error(error: BaseException, *, doing: str) -> RunError | None:
    """The clear error for what an engine raised while `doing` something; None if it is not a known one.

    It looks at class names and texts along the chain of causes, so that no engine need be imported: torch raises
    OutOfMemoryError, or RuntimeError with "out of memory" in its text; vLLM raises EngineDeadError.
    """
    chain = [f"{type(link).__name__}: {link}" for link in _causes(error)]
    memory = _first_with(_OUT_OF_MEMORY, chain)
    if memory is None and any(isinstance(link, MemoryError) for link in _causes(error)):
        memory = _first_line(chain[0])
    if memory is not None:
        return EngineMemoryError(f"the engine ran out of memory while {doing} ({memory}); a smaller batch may pass")

    if death := _first_with(_DEAD, chain):
        return EngineDiedError(
            f"the engine's process died while {doing} ({death}); the log above says why; "
            f"start the worker again: it goes on from the journal"
        )
    return None


def _first_with(signs: Sequence[str], texts: Sequence[str]) -> str | None:
    """The first line of the first text that holds one of the `signs`."""
    return next((_first_line(text) for text in texts if any(sign in text.lower() for sign in signs)), None)


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0][:200]


@dataclass
class _Chunk:
    answers: list[LabelScores | None]
    left: int


class Feed:
    """Knows which prompts are with the engine, and which chunk each answer completes."""

    def __init__(self, chunks: Iterable[Sequence[Sequence[int]]], *, longest: int) -> None:
        """Nothing is taken from `chunks` yet. A prompt has at most `longest` tokens."""
        self._source = iter(chunks)
        self._ended = False
        self._longest = longest
        self._open: deque[_Chunk] = deque()
        self._sent: dict[str, tuple[_Chunk, int, list[int]]] = {}
        self._tokens = 0

    @property
    def waiting(self) -> int:
        """How many prompts are with the engine."""
        return len(self._sent)

    def fill(self, tokens: int, add: Callable[[list[int]], str]) -> bool:
        """Hand chunks to the engine until it has `tokens` tokens to do; False when everything is answered.

        `add` gives the engine one prompt, and returns the request's id. Raises RunError for a prompt that the engine
        was not started for; none of its chunk has been handed over then.
        """
        while not self._ended and self._tokens < tokens:
            chunk = next(self._source, None)
            if chunk is None:
                self._ended = True
                break
            check_lengths(chunk, longest=self._longest)
            opened = _Chunk([None] * len(chunk), len(chunk))
            self._open.append(opened)
            for place, prompt in enumerate(chunk):
                ids = list(prompt)
                self._sent[add(ids)] = (opened, place, ids)
                self._tokens += len(ids)
        return bool(self._open)

    def answer(self, output: Any, scores: LabelScores) -> None:
        """File the engine's finished `output`, which says `scores`.

        Raises RunError for an answer to a prompt that was not sent: one that an earlier failure left behind.
        """
        opened, place, ids = self._sent.pop(output.request_id, (None, 0, []))
        if opened is None:
            raise RunError(f"the engine answered the request {output.request_id}, which was not asked")
        check_answer(output.prompt_token_ids, ids)
        opened.answers[place] = scores
        opened.left -= 1
        self._tokens -= len(ids)

    def answered(self) -> list[LabelScores] | None:
        """The answers of the oldest chunk when they are all there, else None."""
        if not self._open or self._open[0].left:
            return None
        return [scores for scores in self._open.popleft().answers if scores is not None]
