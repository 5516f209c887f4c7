"""A network with its tokenizer, ready to use: what ``gpt2dsl.load`` gives."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpt2dsl.data.tokenizer import PUBLISHED, Tokenizer
from gpt2dsl.engine.generation.beams import Beams
from gpt2dsl.engine.generation.continuation import Continuation
from gpt2dsl.engine.generation.request import Request
from gpt2dsl.engine.generation.row import Row
from gpt2dsl.engine.generation.search import search
from gpt2dsl.engine.generation.slots import Slots
from gpt2dsl.engine.generation.text import Pieces
from gpt2dsl.engine.job import Job
from gpt2dsl.errors import Fault, InputError, SpecError
from gpt2dsl.layout.geometry import Geometry
from gpt2dsl.model import device
from gpt2dsl.model.decoding import Decoder
from gpt2dsl.model.init import filled
from gpt2dsl.model.network import GPT2, Scores
from gpt2dsl.model.network import Arrays as Values
from gpt2dsl.model.shard import WHOLE, Shard
from gpt2dsl.parts import Generation, Precision
from gpt2dsl.weights import reading
from gpt2dsl.weights.files.stored import Arrays
from gpt2dsl.weights.guess import Hints

AT_ONCE = 8
"""Texts that are generated together."""


LONG_TEXT = 100_000
"""Characters up to which the tokens of a prompt that is too long are counted, to be told."""

KEPT_DECODERS = 4
"""Batch sizes of which compiled graphs and caches are kept."""


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
        self._decoders: dict[int, Decoder] = {}

    @classmethod
    def load(
        cls,
        weights: str,
        hints: Hints | None = None,
        *,
        on: str = "cpu",
        seed: int = 0,
        precision: Precision | None = None,
        shard: Shard = WHOLE,
    ) -> LanguageModel:
        """The model of weights of any format.

        Args:
            weights: as in ``reading.read``.
            hints: what their files may not say.
            on: the device.
            seed: of new values, where the hints allow that some are missing.
            shard: this rank's part of each layer.
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
        return cls(network_of(read.geometry, arrays, on, precision, shard=shard), tokenizer)

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
            Each prompt with its continuation, ``num_return_sequences`` of each.

        Raises:
            SpecError: a key or value of ``generation`` is wrong.
            InputError: a prompt is longer than the model has positions.
        """
        if isinstance(prompts, str):
            raise TypeError("expected a list of texts, found one text")
        found = self.continuations(prompts, Generation(**generation))
        return [one.prompt + one.text for one in found]

    def stream(self, prompt: str, **generation: Any) -> Iterator[str]:
        """Continue one text; gives its pieces as they come, whole characters only.

        Args:
            prompt: the text; the pieces do not repeat it.
            generation: as for ``generate``; one text, without beams.

        Raises:
            SpecError: a key or value of ``generation`` is wrong.
            ValueError: several texts are asked for.
            InputError: the prompt is longer than the model has positions.
        """
        asked = Generation(**generation).evolve(stream=True)
        if asked.num_return_sequences > 1:
            raise ValueError("a stream is one text; generate gives several of a prompt")
        return self.pieces(self.row(prompt, asked))

    def continuations(
        self, prompts: Sequence[str], generation: Generation, numbers: Sequence[int] | None = None
    ) -> list[Continuation]:
        """As ``generate``, with what is known of each text.

        Args:
            prompts: the texts.
            generation: how.
            numbers: of the prompts among all, where these are some; they tell equal ones apart.
        """
        numbered = list(zip(numbers or range(len(prompts)), prompts, strict=True))
        if generation.beams > 1:
            return self._searched(numbered, generation)
        copies = generation.num_return_sequences
        rows = [
            self.row(prompt, generation, number * copies + copy)
            for number, prompt in numbered
            for copy in range(copies)
        ]
        self._run(rows)
        return [row.continuation() for row in rows]

    def row(self, prompt: str, generation: Generation, number: int = 0) -> Row:
        """A text to be generated; ``number`` tells equal prompts apart."""
        return Row(self._request(prompt, generation, number))

    def slots(self, batch: int) -> Slots:
        """Places for so many texts at once, of their own."""
        return Slots(self._new_decoder(batch), batch)

    def pieces(self, row: Row) -> Iterator[str]:
        """The text of a row as it comes."""
        pieces, shown = Pieces(self.tokenizer), 0
        with self._lent(1) as decoder:
            slots = Slots(decoder, 1)
            slots.add([row])
            while not row.ended:
                yield pieces.add(row.said[shown:])
                shown = len(row.said)
                slots.step()
        yield pieces.add(row.said[shown:]) + pieces.rest()

    def _run(self, rows: Sequence[Row]) -> None:
        """Generate until every text is over."""
        waiting = deque(rows)
        batch = min(AT_ONCE, 1 << (len(rows) - 1).bit_length())
        with self._lent(batch) as decoder:
            slots = Slots(decoder, batch)
            while waiting or slots.busy:
                if waiting and slots.free:
                    slots.add([waiting.popleft() for _ in range(min(slots.free, len(waiting)))])
                if slots.busy:
                    slots.step()

    def _searched(
        self, prompts: Sequence[tuple[int, str]], generation: Generation
    ) -> list[Continuation]:
        """Beam search; as many prompts at once as there is room for."""
        groups = [Beams(self._request(one, generation, number)) for number, one in prompts]
        at_once = max(1, AT_ONCE // generation.beams)
        for start in range(0, len(groups), at_once):
            some = groups[start : start + at_once]
            with self._lent(len(some) * generation.beams) as decoder:
                search(decoder, some)
        return [one for group in groups for one in group.continuations()]

    @property
    def _entries(self) -> int:
        """Ids that both the tokenizer and the network know."""
        return min(len(self.tokenizer), self.geometry.vocab)

    def _request(self, prompt: str, generation: Generation, number: int) -> Request:
        if not isinstance(prompt, str):
            raise TypeError(f"expected a text, found {type(prompt).__name__} {prompt!r:.40}")
        refuse(generation)
        return Request(
            prompt=prompt,
            ids=tuple(self._encoded(prompt, generation)),
            generation=generation,
            tokenizer=self.tokenizer,
            positions=self.geometry.positions,
            number=number,
        )

    def _encoded(self, prompt: str, generation: Generation) -> list[int]:
        positions = self.geometry.positions
        if len(prompt) > max(positions * self.tokenizer.longest, LONG_TEXT):
            message = f"the prompt has {len(prompt)} characters, more than {positions} tokens hold"
            raise InputError("G2-204", repr(prompt[:20] + "..."), message)
        ids = self.tokenizer.encode(prompt) or [self.tokenizer.eos]
        limit = min(positions, generation.limit(len(ids))) - 1
        if len(ids) > limit:
            shown = prompt if len(prompt) <= 24 else prompt[:20] + "..."
            message = f"the prompt has {len(ids)} tokens; with one to generate {limit} fit"
            if limit + 1 < positions:
                message += f" into generation.max_length = {generation.max_length}"
            raise InputError("G2-204", repr(shown), message)
        if any(i >= self._entries for i in generation.eos):
            message = f"{max(generation.eos)} is no id: there are {self._entries}"
            raise InputError("G2-204", "generation.eos", message)
        return ids

    def _new_decoder(self, batch: int) -> Decoder:
        return Decoder(self._network, batch, self._entries)

    @contextmanager
    def _lent(self, batch: int) -> Iterator[Decoder]:
        """A decoder for one use at a time, kept after it with its compiled graphs."""
        found = self._decoders.pop(batch, None) or self._new_decoder(batch)
        try:
            yield found
        finally:
            self._decoders[batch] = found
            if len(self._decoders) > KEPT_DECODERS:
                self._decoders.pop(next(iter(self._decoders)))


def refuse(generation: Generation) -> None:
    """Refuses values that do not go together.

    Raises:
        SpecError: with every fault.
    """
    found = [
        Fault("G2-107", generation.why(key), f"generation.{key}", why)
        for key, why in generation.contradictions()
    ]
    if found:
        raise SpecError(found)


def loaded(job: Job, shard: Shard = WHOLE) -> GPT2:
    """The network of a job, or a rank's part of it, with the values of its weights."""
    on, precision = job.parts.runtime.device, job.parts.precision
    return network_of(job.geometry, values_of(job), on, precision, shard=shard)


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
        more: adapters, recomputing and the rank's part, as ``GPT2`` has them.
    """
    device.use(on)
    network = GPT2(geometry, precision=precision or Precision(), **more)
    network.load(arrays)
    return network
