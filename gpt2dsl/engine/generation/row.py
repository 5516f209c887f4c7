"""One text being generated, a token at a time."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2dsl.engine.generation.continuation import Continuation, TokenScore
from gpt2dsl.engine.generation.ending import Reason
from gpt2dsl.engine.generation.request import Request
from gpt2dsl.engine.generation.scores import NoChoiceError, log_softmax, refuse_nan, softmax


class Row:
    """One text.

    Attributes:
        request: what is asked for.
        ids: the prompt's and what follows.
        ended: why it is over; "" where it is not.
        failure: why it never will be complete; None where nothing failed.
        scores: of each token after the prompt, where they were asked for.
        prompt_scores: of each token of the prompt, where they were asked for; the first has none.
    """

    def __init__(self, request: Request) -> None:
        self.request, self.ids = request, list(request.ids)
        self.ended: Reason = ""
        self.failure: Exception | None = None
        self.scores: list[TokenScore] = []
        self.prompt_scores: list[TokenScore | None] = [None] if request.scores_prompt else []

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
        refuse_nan(logits)
        token = self._chosen(logits)
        self.ids.append(token)
        if (best := self.request.generation.logprobs) is not None:
            self.scores.append(self._score(logits, token, best))
        self.ended = self.request.ending.reason(self.ids)
        return token

    def take_safely(self, logits: NDArray[np.float32]) -> None:
        """Choose the next token; what fails is this text's ``failure``, and nobody else's."""
        try:
            self.take(logits)
        except Exception as error:  # noqa: BLE001  # other texts of the batch go on
            self.failure = error

    def score_prompt(self, logits: NDArray[np.float32], start: int) -> None:
        """Score the prompt's tokens that come after some of it.

        Args:
            logits: ``[tokens, vocab]`` after each of some tokens, and of padding.
            start: place of the first of them.
        """
        for scores, token in zip(logits, self.request.ids[start + 1 :], strict=False):
            refuse_nan(scores)
            best = self.request.generation.logprobs or 0
            self.prompt_scores.append(self._score(scores, token, best))

    def finish(self) -> None:
        """End a text that is the prompt alone."""
        self.ended = "length"

    @property
    def is_over(self) -> bool:
        """Whether nothing follows any more."""
        return bool(self.ended or self.failure)

    def check(self) -> None:
        """Raise what has failed, where something has."""
        if self.failure:
            raise self.failure

    def _chosen(self, logits: NDArray[np.float32]) -> int:
        draws, processors = self.request.generation.do_sample, self.request.processors
        if not processors and not draws:
            return _best(logits)
        scores = logits.astype(np.float64)
        for process in processors:
            scores = process(scores, self.ids)
        best = _best(scores)
        if not draws:
            return best
        likely = np.flatnonzero(scores > -np.inf)
        return int(self.request.random.choice(likely, p=softmax(scores[likely])))

    def _score(self, logits: NDArray[np.float32], token: int, count: int) -> TokenScore:
        logs = log_softmax(logits.astype(np.float64))
        least = np.partition(logs, -count)[-count] if count else np.inf
        likely = np.flatnonzero(logs >= least)  # all would take milliseconds to sort
        best = [*likely[np.argsort(-logs[likely], kind="stable")][:count], token]
        return TokenScore(
            self.name(token),
            float(logs[token]),
            {self.name(int(i)): float(logs[i]) for i in best},
        )

    def continuation(self) -> Continuation:
        """What it is so far."""
        return Continuation(
            prompt=self.request.prompt,
            text=self.request.tokenizer.decode(self.said),
            tokens=len(self.generated),
            prompt_tokens=len(self.request.ids),
            ended=self.ended,
            ids=tuple(self.generated),
            scores=tuple(self.scores),
        )

    def name(self, token: int) -> str:
        r"""Return a token's text, or ``bytes:\xe4`` for part of a character: names are unique.

        An id that the tokenizer does not know has no text: it is called ``token_id:310``.
        """
        if token >= len(self.request.tokenizer):
            return f"token_id:{token}"
        held = self.request.tokenizer.bytes_of([token])
        try:
            return held.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in held)


def bytes_named(name: str) -> bytes | None:
    """Return the bytes of a token by its name, as ``Row.name`` gives it; None where it has none."""
    if name.startswith("token_id:"):
        return None
    if re.fullmatch(r"bytes:(\\x[0-9a-f]{2})+", name):
        return bytes.fromhex(name.removeprefix("bytes:").replace("\\x", ""))
    return name.encode()


def _best(scores: NDArray[Any]) -> int:
    """Return the best of scores ``[vocab]``.

    Raises:
        NoChoiceError: none may come.
    """
    best = int(scores.argmax())
    if not scores[best] > -np.inf:  # minus infinity, or no number where a processor made one of it
        raise NoChoiceError("no token can be chosen by its score: all are ruled out [G2-402]")
    return best
