"""Chunks of prompts on their way through an engine that answers prompt by prompt."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import RunError
from kaggle_kit.runtime.engine import LabelScores, check_answer, check_lengths

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


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
        self._asked: dict[str, tuple[_Chunk, int, list[int]]] = {}
        self._tokens = 0

    @property
    def asked(self) -> int:
        """How many prompts are with the engine."""
        return len(self._asked)

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
                self._asked[add(ids)] = (opened, place, ids)
                self._tokens += len(ids)
        return bool(self._open)

    def answer(self, output: Any, scores: LabelScores) -> None:
        """File the engine's finished `output`, which says `scores`.

        Raises RunError for an answer to something else than was asked: one that an earlier failure left behind.
        """
        opened, place, ids = self._asked.pop(output.request_id, (None, 0, []))
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
