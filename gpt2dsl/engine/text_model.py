"""Text generation independent of what computes the logits: a network or exported graphs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, overload

from gpt2dsl.backend.turns import TURNS
from gpt2dsl.data.tokenizer import Tokenizer
from gpt2dsl.engine.generation.beams import Beams
from gpt2dsl.engine.generation.continuation import Continuation
from gpt2dsl.engine.generation.decoder import Decoder
from gpt2dsl.engine.generation.prompt import (
    LONG_TEXT,
    Prompt,
    checked_ids,
    refuse,
    refuse_long,
    refuse_unknown_ids,
    require_list,
    shown,
)
from gpt2dsl.engine.generation.request import Request
from gpt2dsl.engine.generation.row import Row
from gpt2dsl.engine.generation.search import search
from gpt2dsl.engine.generation.slots import Slots
from gpt2dsl.engine.generation.text import Pieces
from gpt2dsl.engine.job import BETWEEN
from gpt2dsl.engine.progress import Bar
from gpt2dsl.errors import ArgumentValueError, InputError, counted
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.params import parameter_count
from gpt2dsl.notebook import ShownAsCode
from gpt2dsl.parts import Generation
from gpt2dsl.weights.defaults import Defaults

AT_ONCE = 8
"""Default batch size of generation."""

KEPT_DECODERS = 4
"""Number of idle decoders kept with their compiled graphs and caches; each stream uses one."""


class TextModel(ShownAsCode, ABC):
    """A model that continues texts. It is thread-safe: concurrent calls run one after another.

    A stream takes its turn for each token, so that an idle reader does not block other calls.

    Attributes:
        tokenizer: ``encode(text)`` gives ids, ``decode(ids)`` the text.
        geometry: dimensions of the network.
        at_once: batch size of generation.
        defaults: ``[generation]`` defaults from the files beside the weights.
        adapter: name of the adapter in a server; "" for the base.
    """

    adapter: str = ""

    def __init__(
        self,
        tokenizer: Tokenizer | InputError,
        geometry: GPT2Config,
        at_once: int = AT_ONCE,
        defaults: Defaults | None = None,
    ) -> None:
        self._tokenizer, self.geometry, self.at_once = tokenizer, geometry, at_once
        self.defaults = defaults or Defaults()
        self._decoders: list[tuple[int, Decoder]] = []

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer.

        Raises:
            InputError: the tokenizer is unknown (G2-205).
        """
        if isinstance(self._tokenizer, InputError):
            raise self._tokenizer
        return self._tokenizer

    def __repr__(self) -> str:
        g = self.geometry
        network = f"{counted(g.layers, 'layer')}, {counted(g.heads, 'head')}, {g.hidden} wide"
        size = f"{network}, {counted(g.positions, 'position')}"
        return f"<{type(self).__name__}: {size}, {parameter_count(g):,} parameters>"

    @abstractmethod
    def _new_decoder(self, batch: int) -> Decoder:
        """Return a decoder with ``batch`` rows."""

    @overload
    def generate(self, prompts: str, **generation: Any) -> str: ...

    @overload
    def generate(self, prompts: Sequence[Prompt], **generation: Any) -> list[str]: ...

    def generate(self, prompts: str | Sequence[Prompt], **generation: Any) -> str | list[str]:
        """Continue texts.

        Args:
            prompts: a text, or a list of texts or of token ids. An empty prompt starts from the
                bos or eos token.
            generation: keys of ``[generation]``: max_new_tokens, do_sample, temperature, ...;
                defaults come from the files beside the weights.

        Returns:
            Each prompt with its continuation, ``num_return_sequences`` of each; a string for a
            string.

        Raises:
            TypeError: the prompts are neither a text nor a list.
            SpecError: a key or value of ``generation`` is wrong.
            ValueError: several continuations of a single string are requested.
            InputError: a prompt exceeds the model's positions, or an id exceeds its vocabulary.
        """
        settings = Generation(**generation)
        if isinstance(prompts, str):
            if self.defaults.completed(settings).num_return_sequences > 1:
                raise ArgumentValueError("several continuations come for a list: generate([text])")
            (continuation,) = self.continuations([prompts], settings)
            return continuation.prompt + continuation.text
        return [result.prompt + result.text for result in self.continuations(prompts, settings)]

    def stream(self, prompt: Prompt, **generation: Any) -> Iterator[str]:
        """Continue one text and yield pieces of whole characters as they are generated.

        Args:
            prompt: the text, or its ids; the pieces do not repeat it.
            generation: as for ``generate``; one text, without beams.

        Raises:
            SpecError: a key or value of ``generation`` is wrong.
            ValueError: several texts are requested.
            InputError: the prompt exceeds the model's positions.
        """
        settings = Generation(**generation)
        if settings.num_return_sequences > 1:
            raise ArgumentValueError("a stream is one text; generate gives several of a prompt")
        settings = settings.evolve(num_return_sequences=1, stream=True)
        return self.pieces(self.row(prompt, settings))

    def continuations(
        self,
        prompts: Sequence[Prompt],
        generation: Generation,
        numbers: Sequence[int] | None = None,
    ) -> list[Continuation]:
        """Continue texts as ``generate`` does, and return full results.

        Args:
            prompts: the texts, or the ids of each.
            generation: generation settings.
            numbers: indices of the prompts if these are a subset; equal prompts are sampled
                differently.
        """
        require_list(prompts)
        generation = self.defaults.completed(generation)
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

    def row(
        self,
        prompt: Prompt,
        generation: Generation,
        number: int = 0,
        *,
        stops_in_prompt: bool = True,
        generates: bool = True,
    ) -> Row:
        """Return a text to be generated.

        Args:
            prompt: the prompt, or its ids.
            generation: generation settings.
            number: index that makes equal prompts sample differently.
            stops_in_prompt: whether a stop string may begin in the prompt, as in transformers.
            generates: whether to continue it; else it may fill all of the model's positions.
        """
        settings = self.defaults.completed(generation)
        request = self._request(
            prompt, settings, number, stops_in_prompt=stops_in_prompt, generates=generates
        )
        return Row(request)

    def show(
        self, prompts: Sequence[Prompt], generation: Generation, say: Callable[[str], None]
    ) -> list[Continuation]:
        """Continue texts one after another, and print each with its prompt as it is generated."""
        generation = self.defaults.completed(generation)
        continuations: list[Continuation] = []
        copies = [prompt for prompt in prompts for _ in range(generation.num_return_sequences)]
        for number, prompt in enumerate(copies):
            row = self.row(prompt, generation, number)
            text = row.request.prompt
            say(text if number == 0 else BETWEEN + text)
            for piece in self.pieces(row):
                say(piece)
            continuations.append(row.continuation())
        say("\n")
        return continuations

    def pieces(self, row: Row) -> Iterator[str]:
        """Yield the text of a row as it is generated."""
        pieces, shown = Pieces(self.tokenizer), 0
        with self._lent(1) as decoder:
            slots = Slots(decoder, 1)
            slots.add([row])
            row.check()
            while not row.ended:
                yield pieces.add(row.said[shown:])
                shown = len(row.said)
                slots.step()
                row.check()
        yield pieces.add(row.said[shown:]) + pieces.rest()

    @TURNS
    def _run(self, rows: Sequence[Row]) -> None:
        """Generate until every text is over."""
        waiting, reported = deque(rows), 0
        batch = min(self.at_once, 1 << (len(rows) - 1).bit_length())
        # no bar for a single batch, which is short and often called in loops
        progress = Bar("generating", len(rows)) if len(rows) > batch else nullcontext()
        with self._lent(batch) as decoder, progress as bar:
            slots = Slots(decoder, batch)
            while waiting or slots.busy:
                moved: list[Row] = []
                if waiting and slots.free:
                    moved = [waiting.popleft() for _ in range(min(slots.free, len(waiting)))]
                    slots.add(moved)
                if slots.busy:
                    moved += slots.step()
                for row in moved:
                    row.check()
                ended = len(rows) - len(waiting) - len(slots.busy)
                if bar and ended > reported:
                    bar.step("texts", ended - reported)
                    reported = ended

    @TURNS
    def _searched(
        self, prompts: Sequence[tuple[int, Prompt]], generation: Generation
    ) -> list[Continuation]:
        """Run beam search, on as many prompts at once as fit."""
        groups = [Beams(self._request(prompt, generation, number)) for number, prompt in prompts]
        at_once = max(1, self.at_once // generation.beams)
        for start in range(0, len(groups), at_once):
            batch = groups[start : start + at_once]
            with self._lent(len(batch) * generation.beams) as decoder:
                search(decoder, batch)
        return [result for group in groups for result in group.continuations()]

    def _request(
        self,
        prompt: Prompt,
        generation: Generation,
        number: int,
        *,
        stops_in_prompt: bool = True,
        generates: bool = True,
    ) -> Request:
        self.tokenizer.require(self.geometry.vocab, "data.tokenizer")
        self.defaults.refuse(generation)
        refuse(generation)
        if isinstance(prompt, str):
            ids, text = self._encoded(prompt), prompt
        else:
            ids = checked_ids(prompt, self.geometry.vocab) or self._encoded("")
            text = self.tokenizer.decode(prompt)
        refuse_long(prompt, ids, self.geometry.positions, generation if generates else None)
        refuse_unknown_ids(generation, self.geometry.vocab)
        return Request(
            prompt=text,
            ids=tuple(ids),
            generation=generation,
            tokenizer=self.tokenizer,
            positions=self.geometry.positions,
            number=number,
            ends=self.defaults.ends,
            stops_in_prompt=stops_in_prompt,
            generates=generates,
            adapter=self.adapter,
        )

    def _encoded(self, prompt: str) -> list[int]:
        """Return the ids of a text; an empty one becomes an end-of-text token."""
        positions = self.geometry.positions
        if len(prompt) > max(positions * self.tokenizer.longest, LONG_TEXT):
            message = f"the prompt has {len(prompt)} characters, more than {positions} tokens hold"
            raise InputError("G2-204", shown(prompt), message)
        return self.tokenizer.encode(prompt) or [self._begin]

    @property
    def _begin(self) -> int:
        """Id that replaces an empty prompt."""
        return self.tokenizer.start if self.defaults.begin is None else self.defaults.begin

    @contextmanager
    def _lent(self, batch: int) -> Iterator[Decoder]:
        """Lend a decoder for one exclusive use; keep it afterwards with its compiled graphs."""
        with TURNS:
            decoder = self._kept_decoder(batch) or self._new_decoder(batch)
        is_sound = True
        try:
            yield decoder
        except Exception:
            is_sound = False  # its caches may hold NaN, which masks do not hide
            raise
        finally:
            # Without a turn: an abandoned generator is closed by the garbage collector, in any
            # thread and at any time.
            if is_sound:
                self._decoders.append((batch, decoder))

    def _kept_decoder(self, batch: int) -> Decoder | None:
        """Take out the most recent decoder of a batch size; drop the oldest of all."""
        fitting = [entry for entry in self._decoders if entry[0] == batch]
        for entry in fitting[-1:]:
            self._decoders.remove(entry)
        del self._decoders[: max(0, len(self._decoders) - KEPT_DECODERS + 1)]
        return fitting[-1][1] if fitting else None
