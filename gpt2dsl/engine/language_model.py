"""A network with its tokenizer, ready to use: what ``gpt2dsl.load`` gives."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpt2dsl.data.tokenizer import Tokenizer
from gpt2dsl.data.weights_tokenizer import of_weights
from gpt2dsl.engine.job import Job
from gpt2dsl.engine.text_model import TextModel
from gpt2dsl.errors import InputError
from gpt2dsl.layout.geometry import Geometry
from gpt2dsl.model import device
from gpt2dsl.model.decoding import Decoder
from gpt2dsl.model.init import filled
from gpt2dsl.model.network import GPT2, Scores
from gpt2dsl.model.network import Arrays as Values
from gpt2dsl.model.shard import WHOLE, Shard
from gpt2dsl.parts import Precision
from gpt2dsl.weights import reading
from gpt2dsl.weights.defaults import Defaults
from gpt2dsl.weights.files.stored import Arrays
from gpt2dsl.weights.guess import Hints


class LanguageModel(TextModel):
    """GPT-2 with its tokenizer.

    Attributes:
        tokenizer: ``encode(text)`` gives ids, ``decode(ids)`` the text.
        geometry: the network's numbers.
    """

    def __init__(
        self,
        network: GPT2,
        tokenizer: Tokenizer | InputError,
        defaults: Defaults | None = None,
    ) -> None:
        super().__init__(tokenizer, network.geometry, defaults=defaults)
        self._network = network
        self._scores = Scores(network)

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
        tokenizer: str = "auto",
    ) -> LanguageModel:
        """The model of weights of any format.

        Args:
            weights: as in ``reading.read``.
            hints: what their files may not say.
            on: the device.
            seed: of new values, where the hints allow that some are missing.
            shard: this rank's part of each layer.
            precision: number formats; float32 where it is not said.
            tokenizer: auto for the one beside the weights, gpt2, or a folder.

        Raises:
            InputError: there are no such weights, or they or their tokenizer are damaged.
        """
        read = reading.read(weights, hints or Hints(fetch=True))
        if read.geometry.labels:
            message = "it is a classifier; gpt2dsl classify uses it"
            raise InputError("G2-306", weights, message)
        words = _tokenizer(read, tokenizer)
        arrays = Arrays(filled(read, seed))
        network = network_of(read.geometry, arrays, on, precision, shard=shard)
        return cls(network, words, read.defaults)

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

    def _new_decoder(self, batch: int) -> Decoder:
        return Decoder(self._network, batch)


def _tokenizer(weights: reading.Weights, name: str) -> Tokenizer | InputError:
    """Load the tokenizer of weights, or return why there is none: with ids none is needed."""
    vocab = weights.geometry.vocab
    if name != "auto":
        tokenizer = Tokenizer.load(name)
        tokenizer.require(vocab, name)
        return tokenizer
    if weights.tokenizer:
        return of_weights(weights.tokenizer, vocab, weights.path)
    try:
        return of_weights(None, vocab, weights.path)
    except InputError as error:
        return error


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
