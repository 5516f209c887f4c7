"""One text being generated, a token at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gpt2dsl.engine.generation.continuation import Continuation, TokenScore
from gpt2dsl.engine.generation.ending import Reason
from gpt2dsl.engine.generation.processors import log_softmax, softmax
from gpt2dsl.engine.generation.request import Request


class Row:
    """One text.

    Attributes:
        request: what is asked for.
        ids: the prompt's and what follows.
        ended: why it is over; "" where it is not.
    """

    def __init__(self, request: Request) -> None:
        self.request, self.ids = request, list(request.ids)
        self.ended: Reason = ""
        self._scores: list[TokenScore] = []

    @property
    def generated(self) -> list[int]:
        """The ids after the prompt."""
        return self.ids[len(self.request.ids) :]

    @property
    def said(self) -> list[int]:
        """The ids after the prompt that are text: without the end-of-text token."""
        ids = self.generated
        return ids[:-1] if self.ended == "eos" else ids

    def take(self, logits: NDArray[np.float32]) -> int:
        """Choose the next token from its logits ``[vocab]``."""
        token = self._chosen(logits)
        self.ids.append(token)
        if (best := self.request.generation.logprobs) is not None:
            self._scores.append(self._score(logits, token, best))
        self.ended = self.request.ending.reason(self.ids)
        return token

    def _chosen(self, logits: NDArray[np.float32]) -> int:
        draws, processors = self.request.generation.do_sample, self.request.processors
        if not processors and not draws:
            return int(logits.argmax())
        scores = logits.astype(np.float64)
        for process in processors:
            scores = process(scores, self.ids)
        if not draws:
            return int(scores.argmax())
        likely = np.flatnonzero(scores > -np.inf)
        return int(self.request.random.choice(likely, p=softmax(scores[likely])))

    def _score(self, logits: NDArray[np.float32], token: int, count: int) -> TokenScore:
        found = log_softmax(logits.astype(np.float64))
        best = np.argsort(-found, kind="stable")[:count]
        return TokenScore(
            self._text([token]),
            float(found[token]),
            {self._text([one]): float(found[one]) for one in best},
        )

    def continuation(self) -> Continuation:
        """What it is so far."""
        return Continuation(
            prompt=self.request.prompt,
            text=self._text(self.said),
            tokens=len(self.generated),
            prompt_tokens=len(self.request.ids),
            ended=self.ended,
            ids=tuple(self.generated),
            scores=tuple(self._scores),
        )

    def _text(self, ids: Sequence[int]) -> str:
        return self.request.tokenizer.decode(ids)
