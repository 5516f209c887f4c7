"""Beam search, as transformers 4.57.6 has it."""

from __future__ import annotations

import attrs
import numpy as np
from numpy.typing import NDArray

from gpt2dsl.engine.generation.continuation import Continuation
from gpt2dsl.engine.generation.ending import Reason
from gpt2dsl.engine.generation.request import Request
from gpt2dsl.engine.generation.scores import Scores, log_softmax, refuse_nan

NEVER = -1e9
"""The score of what has none: beams before they differ, and beams that have ended."""


@attrs.frozen
class Beam:
    """A text on the way, or one that is over.

    Attributes:
        ids: the prompt's and what follows.
        score: the sum of log-probabilities; of one that is over, divided for its length.
        source: the beam of the step before that it continues.
        ended: why it is over.
    """

    ids: list[int]
    score: float
    source: int = 0
    ended: Reason = ""


class Beams:
    """The beams of one prompt.

    Attributes:
        request: what is asked for.
        running: the best on the way, the best first.
        finished: the best that are over, the best first.
        is_over: whether the search is.
    """

    def __init__(self, request: Request) -> None:
        self.request = request
        self._generation = request.generation
        # All begin with the same prompt: only the first counts, or all would say the same.
        scores = [0.0, *[NEVER] * (request.generation.beams - 1)]
        self.running = [Beam(list(request.ids), score) for score in scores]
        self.finished: list[Beam] = []
        self._can_improve = True
        self.is_over = False

    def take(self, logits: NDArray[np.float32]) -> list[int]:
        """Go on by a token, from ``[beams, vocab]``; gives the beam that each continues."""
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
        self.is_over = not self._can_improve or stops or all(one.ended for one in candidates)
        return [beam.source for beam in self.running]

    def _candidates(self, logits: NDArray[np.float32]) -> list[Beam]:
        """The best continuations of all beams, or drawn ones: enough even if many are over."""
        scores = log_softmax(logits.astype(np.float64))
        for row, beam in zip(scores, self.running, strict=True):
            found: Scores = row
            for process in self.request.processors:
                found = process(found, beam.ids)
            row[:] = found + beam.score
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
        """Places of candidates, the best first; drawn without replacement where sampling is on."""
        count = max(2, 1 + len(self.request.ending.ids)) * self._generation.beams
        if self._generation.do_sample:
            # The largest sums with Gumbel noise are draws without replacement, in their order.
            scores = scores + self.request.random.gumbel(size=scores.shape)
        count = min(count, len(scores))
        best = np.argpartition(-scores, count - 1)[:count]
        return best[np.argsort(-scores[best], kind="stable")]

    def _finish(self, ended: list[Beam]) -> None:
        """Keep the best of those that are over."""
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
        """Whether the best running beam may still become better than the worst that is over."""
        if not self._is_full:
            return True
        g = self._generation
        far = g.early_stopping == "never" and g.length_penalty > 0
        length = self.request.ending.longest if far else len(self.running[0].ids)
        return self.running[0].score / self._divisor(length) > self.finished[-1].score

    def _divisor(self, length: int) -> float:
        """For a text of so many tokens, the prompt's included."""
        return float((length - len(self.request.ids)) ** self._generation.length_penalty)

    def continuations(self) -> list[Continuation]:
        """Return the best texts."""
        count = self._generation.num_return_sequences
        return [self._continuation(one) for one in self.finished[:count]]

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
