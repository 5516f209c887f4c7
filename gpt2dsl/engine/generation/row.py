"""A text being generated, one token at a time."""

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
    """A text of a batch.

    Attributes:
        request: the prompt and its generation settings.
        ids: ids of the prompt and the continuation.
        ended: why the text is over; "" if it is not.
        failure: the error that ended it early; None without one.
        scores: log-probabilities of each generated token, if requested.
        prompt_scores: log-probabilities of each prompt token, if requested; None for the first.
    """

    def __init__(self, request: Request) -> None:
        self.request, self.ids = request, list(request.ids)
        self.ended: Reason = ""
        self.failure: Exception | None = None
        self.scores: list[TokenScore] = []
        self.prompt_scores: list[TokenScore | None] = [None] if request.scores_prompt else []

    @property
    def generated(self) -> list[int]:
        """Ids after the prompt."""
        return self.ids[len(self.request.ids) :]

    @property
    def said(self) -> list[int]:
        """Ids after the prompt, without an end-of-text token."""
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
        """Choose the next token; store an error as ``failure`` so that other texts go on."""
        try:
            self.take(logits)
        except Exception as error:  # noqa: BLE001  # other texts of the batch go on
            self.failure = error

    def score_prompt(self, logits: NDArray[np.float32], start: int) -> None:
        """Score the prompt tokens that follow a chunk's tokens.

        Args:
            logits: ``[tokens, vocab]`` after each token of the chunk, padding included.
            start: position of the chunk's first token.
        """
        for scores, token in zip(logits, self.request.ids[start + 1 :], strict=False):
            refuse_nan(scores)
            best = self.request.generation.logprobs or 0
            self.prompt_scores.append(self._score(scores, token, best))

    def finish(self) -> None:
        """Mark a request that only scores its prompt as finished."""
        self.ended = "length"

    @property
    def is_over(self) -> bool:
        """True if the text has ended or failed."""
        return bool(self.ended or self.failure)

    def check(self) -> None:
        """Raise the row's failure, if any."""
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
        likely = np.flatnonzero(logs >= least)  # sorting the whole vocabulary takes milliseconds
        best = [*likely[np.argsort(-logs[likely], kind="stable")][:count], token]
        return TokenScore(
            self.name(token),
            float(logs[token]),
            {self.name(int(i)): float(logs[i]) for i in best},
        )

    def continuation(self) -> Continuation:
        """Return the text so far."""
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

        An id unknown to the tokenizer has no text: it is named ``token_id:310``.
        """
        if token >= len(self.request.tokenizer):
            return f"token_id:{token}"
        content = self.request.tokenizer.bytes_of([token])
        try:
            return content.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in content)


def bytes_named(name: str) -> bytes | None:
    """Return the bytes of a token by its name from ``Row.name``; None for an unknown id."""
    if name.startswith("token_id:"):
        return None
    if re.fullmatch(r"bytes:(\\x[0-9a-f]{2})+", name):
        return bytes.fromhex(name.removeprefix("bytes:").replace("\\x", ""))
    return name.encode()


def _best(scores: NDArray[Any]) -> int:
    """Return the id with the highest score of ``[vocab]``.

    Raises:
        NoChoiceError: all tokens are ruled out.
    """
    best = int(scores.argmax())
    if not scores[best] > -np.inf:  # minus infinity, or NaN from a processor
        raise NoChoiceError("G2-402", "no token can be chosen by its score: all are ruled out")
    return best
