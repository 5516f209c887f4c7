"""Beam search with the semantics of transformers 4.57.6."""

from __future__ import annotations

import attrs
import numpy as np
from numpy.typing import NDArray

from gpt2dsl.engine.generation.continuation import Continuation
from gpt2dsl.engine.generation.ending import Reason
from gpt2dsl.engine.generation.request import Request
from gpt2dsl.engine.generation.scores import Scores, log_softmax, refuse_nan

NEVER = -1e9
"""The score of beams without one: initial duplicates of the prompt, and beams that have ended."""


@attrs.frozen
class Beam:
    """A running or finished hypothesis.

    Attributes:
        ids: ids of the prompt and the continuation.
        score: the sum of log-probabilities; for a finished beam, normalised by its length.
        source: index of the beam of the previous step that it continues.
        ended: the reason why it is over; "" while it runs.
    """

    ids: list[int]
    score: float
    source: int = 0
    ended: Reason = ""


class Beams:
    """The beams of one prompt.

    Attributes:
        request: the prompt and its generation settings.
        running: the best running beams, best first.
        finished: the best finished beams, best first.
        is_over: whether the search is over.
    """

    def __init__(self, request: Request) -> None:
        self.request = request
        self._generation = request.generation
        # All beams begin with the same prompt: only the first counts, or all would be identical.
        scores = [0.0, *[NEVER] * (request.generation.beams - 1)]
        self.running = [Beam(list(request.ids), score) for score in scores]
        self.finished: list[Beam] = []
        self._can_improve = True
        self.is_over = False

    def take(self, logits: NDArray[np.float32]) -> list[int]:
        """Advance by a token with logits ``[beams, vocab]``; return each new beam's source beam."""
        refuse_nan(logits)
        candidates = self._candidates(logits)
        count = self._generation.beams
        self._finish([beam for beam in candidates[:count] if beam.ended])
        alive = [
            attrs.evolve(beam, score=beam.score + NEVER) if beam.ended else beam
            for beam in candidates
        ]
        self.running = sorted(alive, key=lambda beam: -beam.score)[:count]
        self._can_improve = self._can_improve and self._improvement_is_likely()
        stops = self._is_full and self._generation.early_stopping is True
        self.is_over = (
            not self._can_improve or stops or all(candidate.ended for candidate in candidates)
        )
        return [beam.source for beam in self.running]

    def _candidates(self, logits: NDArray[np.float32]) -> list[Beam]:
        """Return the best or sampled continuations of all beams, enough even if many end here."""
        scores = log_softmax(logits.astype(np.float64))
        for row, beam in zip(scores, self.running, strict=True):
            processed: Scores = row
            for process in self.request.processors:
                processed = process(processed, beam.ids)
            row[:] = processed + beam.score
        vocab = scores.shape[1]
        chosen = self._chosen(scores.reshape(-1))
        texts = [[*self.running[at // vocab].ids, int(at % vocab)] for at in chosen]
        return [
            Beam(
                ids,
                float(scores.reshape(-1)[at]),
                int(at // vocab),
                self.request.ending.reason(ids),
            )
            for at, ids in zip(chosen, texts, strict=True)
        ]

    def _chosen(self, scores: Scores) -> NDArray[np.int64]:
        """Return flat indices of candidates, best first; sampling draws without replacement."""
        count = max(2, 1 + len(self.request.ending.ids)) * self._generation.beams
        if self._generation.do_sample:
            # Gumbel top-k: the largest noisy scores are draws without replacement, in order.
            scores = scores + self.request.random.gumbel(size=scores.shape)
        count = min(count, len(scores))
        best = np.argpartition(-scores, count - 1)[:count]
        return best[np.argsort(-scores[best], kind="stable")]

    def _finish(self, ended: list[Beam]) -> None:
        """Keep the best finished beams."""
        if not self._can_improve or (self._is_full and self._generation.early_stopping is True):
            return
        scored = [
            attrs.evolve(beam, score=beam.score / self._divisor(len(beam.ids))) for beam in ended
        ]
        merged = sorted([*self.finished, *scored], key=lambda beam: -beam.score)
        self.finished = merged[: self._generation.beams]

    @property
    def _is_full(self) -> bool:
        return len(self.finished) == self._generation.beams

    def _improvement_is_likely(self) -> bool:
        """Return whether the best running beam may still beat the worst finished one."""
        if not self._is_full:
            return True
        g = self._generation
        far = g.early_stopping == "never" and g.length_penalty > 0
        length = self.request.ending.longest if far else len(self.running[0].ids)
        return self.running[0].score / self._divisor(length) > self.finished[-1].score

    def _divisor(self, length: int) -> float:
        """Return the length normalisation of a text of ``length`` tokens, prompt included."""
        return float((length - len(self.request.ids)) ** self._generation.length_penalty)

    def continuations(self) -> list[Continuation]:
        """Return the best finished texts."""
        count = self._generation.num_return_sequences
        return [self._continuation(beam) for beam in self.finished[:count]]

    def _continuation(self, beam: Beam) -> Continuation:
        ids = beam.ids[len(self.request.ids) :]
        return Continuation(
            prompt=self.request.prompt,
            text=self.request.tokenizer.decode(ids[:-1] if beam.ended == "eos" else ids),
            tokens=len(ids),
            prompt_tokens=len(self.request.ids),
            ended=beam.ended,
            ids=tuple(ids),
            score=beam.score,
        )
