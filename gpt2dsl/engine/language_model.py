"""A network with its tokenizer, ready to use: what ``gpt2dsl.load`` gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpt2dsl.data.tokenizer import PUBLISHED, Tokenizer
from gpt2dsl.engine.job import Job
from gpt2dsl.engine.sampling import Sampler
from gpt2dsl.errors import InputError, NotYetError
from gpt2dsl.layout.geometry import Geometry
from gpt2dsl.model import device
from gpt2dsl.model.decoding import Decoder
from gpt2dsl.model.init import filled
from gpt2dsl.model.network import GPT2, Scores, bucket
from gpt2dsl.model.network import Arrays as Values
from gpt2dsl.parts import Generation, Precision
from gpt2dsl.weights import reading
from gpt2dsl.weights.files.stored import Arrays
from gpt2dsl.weights.guess import Hints

AT_ONCE = 8
"""Prompts that are decoded together."""

KEPT_DECODERS = 4
"""Sizes of which compiled graphs and caches are kept."""


@attrs.frozen
class Continuation:
    """A prompt and what was generated after it.

    Attributes:
        prompt: as it was given.
        text: that follows it.
        tokens: how many were generated, an end-of-text token counted.
    """

    prompt: str
    text: str
    tokens: int


class LanguageModel:
    """GPT-2 with its tokenizer.

    Attributes:
        tokenizer: ``encode(text)`` gives ids, ``decode(ids)`` the text.
        geometry: the network's numbers.
    """

    def __init__(self, network: GPT2, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.geometry: Geometry = network.geometry
        self._network = network
        self._scores = Scores(network)
        self._decoders: dict[tuple[int, int], Decoder] = {}

    @classmethod
    def load(
        cls,
        weights: str,
        hints: Hints | None = None,
        *,
        on: str = "cpu",
        seed: int = 0,
        precision: Precision | None = None,
    ) -> LanguageModel:
        """The model of weights of any format.

        Args:
            weights: as in ``reading.read``.
            hints: what their files may not say.
            on: the device.
            seed: of new values, where the hints allow that some are missing.
            precision: number formats; float32 where it is not said.

        Raises:
            InputError: there are no such weights, or they are damaged.
        """
        read = reading.read(weights, hints or Hints(fetch=True))
        if read.geometry.labels:
            message = "it is a classifier; gpt2dsl classify uses it"
            raise InputError("G2-306", weights, message)
        tokenizer = Tokenizer.load(read.tokenizer or PUBLISHED)
        arrays = Arrays(filled(read, seed))
        return cls(network_of(read.geometry, arrays, on, precision), tokenizer)

    def logits(self, ids: ArrayLike) -> NDArray[np.float32]:
        """Scores of every next token.

        Args:
            ids: integers ``[batch, time]``, time at most ``geometry.positions``.

        Returns:
            float32 ``[batch, time, vocab]``.

        Raises:
            ValueError: the shape, the type or an id is not as above.
        """
        array = np.asarray(ids)
        positions, vocab = self.geometry.positions, self.geometry.vocab
        if array.ndim != 2 or array.dtype.kind not in "iu" or not array.size:
            found = f"{array.dtype} {list(array.shape)}"
            raise ValueError(f"expected integers [batch, time], found {found}")
        if array.shape[1] > positions:
            raise ValueError(f"expected at most {positions} tokens, found {array.shape[1]}")
        if array.min() < 0 or array.max() >= vocab:
            found = f"{array.min()} to {array.max()}"
            raise ValueError(f"expected ids from 0 to {vocab - 1}, found {found}")
        return self._scores.logits(array.astype(np.int32))

    def generate(self, prompts: Sequence[str], **generation: Any) -> list[str]:
        """Continue texts.

        Args:
            prompts: the texts; an empty one begins at an end-of-text token.
            generation: the keys of ``[generation]``: max_new_tokens, do_sample, temperature, ...

        Returns:
            Each prompt with its continuation, which ends at an end-of-text token, after
            ``max_new_tokens``, or where the model has no more positions.

        Raises:
            SpecError: a key or value of ``generation`` is wrong.
            InputError: a prompt is longer than the model has positions.
        """
        if isinstance(prompts, str):
            raise TypeError("expected a list of texts, found one text")
        found = self.continuations(prompts, Generation(**generation))
        return [one.prompt + one.text for one in found]

    def continuations(self, prompts: Sequence[str], generation: Generation) -> list[Continuation]:
        """As ``generate``, apart from the prompts."""
        if generation.beams > 1 or generation.stream:
            raise NotYetError("no engine so far for beams and stream [G2-401]")
        encoded = [self._encoded(prompt) for prompt in prompts]
        return [
            one
            for start in range(0, len(prompts), AT_ONCE)
            for one in self._batch(
                prompts[start : start + AT_ONCE],
                encoded[start : start + AT_ONCE],
                generation,
                start,
            )
        ]

    def _encoded(self, prompt: str) -> list[int]:
        ids = self.tokenizer.encode(prompt) or [self.tokenizer.eos]
        limit = self.geometry.positions - 1
        if len(ids) > limit:
            shown = prompt if len(prompt) <= 24 else prompt[:20] + "..."
            message = f"the prompt has {len(ids)} tokens; with one to generate {limit} fit"
            raise InputError("G2-204", repr(shown), message)
        return ids

    def _batch(
        self, prompts: Sequence[str], encoded: list[list[int]], generation: Generation, first: int
    ) -> list[Continuation]:
        """Decode together until every row has ended."""
        longest = max(map(len, encoded))
        length = min(longest + generation.max_new_tokens, self.geometry.positions)
        rows = [list(ids) for ids in encoded]
        limits = [min(len(ids) + generation.max_new_tokens, length) for ids in encoded]
        samplers = [Sampler(generation, first + i) for i in range(len(rows))]
        decoder = self._decoder(len(rows), length)
        logits = decoder.prefill(encoded)
        entries = min(len(self.tokenizer), self.geometry.vocab)
        while True:
            open_rows = 0
            for i, row in enumerate(rows):
                ended = len(row) > len(encoded[i]) and row[-1] == self.tokenizer.eos
                if not ended and len(row) < limits[i]:
                    row.append(samplers[i].next(logits[i, :entries], row))
                    open_rows += len(row) < limits[i] and row[-1] != self.tokenizer.eos
            if not open_rows:
                break
            logits = decoder.step(np.array([row[-1] for row in rows], np.int32))
        return [
            Continuation(prompt, self._text(row[len(ids) :]), len(row) - len(ids))
            for prompt, ids, row in zip(prompts, encoded, rows, strict=True)
        ]

    def _decoder(self, batch: int, length: int) -> Decoder:
        """A decoder of that size, kept with its compiled graphs; of the last few sizes."""
        size = (batch, bucket(length))
        found = self._decoders.pop(size, None) or Decoder(self._network, *size)
        self._decoders[size] = found
        if len(self._decoders) > KEPT_DECODERS:
            self._decoders.pop(next(iter(self._decoders)))
        return found

    def _text(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids[:-1] if ids[-1] == self.tokenizer.eos else ids)


def loaded(job: Job) -> GPT2:
    """The network of a job, with the values of its weights."""
    values = values_of(job)
    return network_of(job.geometry, values, job.parts.runtime.device, job.parts.precision)


def values_of(job: Job) -> Arrays:
    """The values of a job's weights, and new ones for those that they may lack."""
    weights = reading.read(job.weights, job.hints)
    return Arrays(filled(weights, job.parts.train.seed, job.geometry))


def network_of(
    geometry: Geometry, arrays: Values, on: str, precision: Precision | None = None, **more: Any
) -> GPT2:
    """The network with values, on a device.

    Args:
        geometry: its numbers.
        arrays: its values.
        on: the device.
        precision: number formats; float32 where it is not said.
        more: adapters and recomputing, as ``GPT2`` has them.
    """
    device.use(on)
    network = GPT2(geometry, precision=precision or Precision(), **more)
    network.load(arrays)
    return network
