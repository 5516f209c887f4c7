"""A network with its tokenizer, ready to use: what ``gpt2dsl.load`` gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpt2dsl.backend import device
from gpt2dsl.data.prepare import TRAIN
from gpt2dsl.data.tokenizer import Tokenizer
from gpt2dsl.data.weights_tokenizer import of_weights
from gpt2dsl.distributed.process_groups import NO_TENSOR_PARALLEL, TensorParallelGroup
from gpt2dsl.engine import adapted
from gpt2dsl.engine.generation.chunked_slots import ChunkedSlots
from gpt2dsl.engine.generation.prefixes import PrefixCache
from gpt2dsl.engine.job import Job
from gpt2dsl.engine.likelihood import Likelihood, Pair, likelihoods, windows
from gpt2dsl.engine.text_model import Prompt, TextModel
from gpt2dsl.errors import InputError, RunError
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.precision import FLOAT32, PrecisionPolicy
from gpt2dsl.model.chunked_prefill import ChunkedPrefill
from gpt2dsl.model.decoding import Decoder
from gpt2dsl.model.gpt2 import GPT2, TokenLogits
from gpt2dsl.model.gpt2 import Arrays as Values
from gpt2dsl.weights import reading
from gpt2dsl.weights.defaults import Defaults
from gpt2dsl.weights.files.lazy_tensor import Arrays
from gpt2dsl.weights.infer_config import Overrides
from gpt2dsl.weights.initial import filled


class LanguageModel(TextModel):
    """GPT-2 with its tokenizer. Threads may share it: see ``TextModel``.

    Attributes:
        tokenizer: ``encode(text)`` gives ids, ``decode(ids)`` the text.
        geometry (Geometry): the network's numbers.
        adapters: the models that ``load_adapter`` gave, by name.
    """

    def __init__(
        self,
        network: GPT2,
        tokenizer: Tokenizer | InputError,
        defaults: Defaults | None = None,
    ) -> None:
        super().__init__(tokenizer, network.geometry, defaults=defaults)
        self._network = network
        with device.turn():
            self._scores = TokenLogits(network)
        self._prefill: ChunkedPrefill | None = None
        self.adapters: dict[str, LanguageModel] = {}
        self._adapted: dict[str, GPT2] = {}

    @classmethod
    def load(
        cls,
        weights: str,
        hints: Overrides | None = None,
        *,
        on: str = "cpu",
        seed: int = 0,
        precision: PrecisionPolicy = FLOAT32,
        shard: TensorParallelGroup = NO_TENSOR_PARALLEL,
        tokenizer: str = "auto",
    ) -> LanguageModel:
        """Return the model of weights of any format.

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
        read = reading.read(weights, hints or Overrides(fetch=True))
        if read.geometry.labels:
            message = "it is a classifier; gpt2dsl classify uses it"
            raise InputError("G2-306", weights, message)
        words = _tokenizer(read, tokenizer)
        arrays = Arrays(filled(read, seed))
        network = network_of(read.geometry, arrays, on, precision, shard=shard)
        return cls(network, words, read.defaults)

    @classmethod
    def of_job(cls, job: Job, shard: TensorParallelGroup = NO_TENSOR_PARALLEL) -> LanguageModel:
        """Return the model that a job is about.

        Args:
            job: it.
            shard: this rank's part of each layer.

        Raises:
            InputError: as ``load`` does.
        """
        is_own = job.parts.data.tokenizer in ("auto", TRAIN)
        return cls.load(
            job.weights,
            job.hints,
            on=job.parts.runtime.device,
            seed=job.parts.train.seed,
            precision=job.parts.precision.policy,
            shard=shard,
            tokenizer="auto" if is_own else job.tokenizer,
        )

    def load_adapter(
        self, name: str, weights: str, *, base: str = "", tokenizer: str = "auto"
    ) -> LanguageModel:
        """Load an adapter of these weights, which shares the parameters that it leaves as they are.

        Args:
            name: under which it is among ``adapters``.
            weights: a folder of PEFT's, a run with ``[lora]``, or a MindFormers checkpoint with
                LoRA.
            base: these weights' name, for an adapter whose files name no base.
            tokenizer: auto for the one beside it or its base, else this model's; gpt2, or a folder.

        Returns:
            What ``load`` of the adapter gives.

        Raises:
            InputError: there is no such adapter, it is damaged, or its base is another one.
            ValueError: the name is empty or taken.
        """
        if not name or name in self.adapters:
            raise ValueError(f"expected the name of a new adapter, found {name!r}")
        read = adapted.read(weights, base)
        words = _tokenizer(read, tokenizer)
        if isinstance(words, InputError) and read.geometry.vocab == self.geometry.vocab:
            words = self._tokenizer
        network = adapted.network_with(self._network, read)
        model = LanguageModel(network, words, read.defaults)
        model.adapter = name
        self.adapters[name], self._adapted[name] = model, network
        return model

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

    @overload  # a text is a sequence of texts too: the first that fits counts
    def loglikelihood(  # type: ignore[overload-overlap]
        self, context: str | Sequence[int], continuation: str | Sequence[int]
    ) -> Likelihood: ...

    @overload
    def loglikelihood(
        self, context: Sequence[Prompt], continuation: Sequence[Prompt]
    ) -> list[Likelihood]: ...

    def loglikelihood(self, context: Any, continuation: Any) -> Any:
        """Return how likely texts are after others, as lm-eval's ``LM.loglikelihood`` defines it.

        Spaces at the end of a context count to what follows it, an empty context is the token that
        begins a text, and of one that is too long the beginning is cut off. What contexts begin
        with alike is computed once.

        Args:
            context: a text or its ids, or a list of them.
            continuation: what follows it, or a list as long.

        Returns:
            ``(logprob, is_greedy)``: the sum of the log-probabilities of the continuation's tokens
            in nats, and whether each of them is the likeliest; a list of them for lists.

        Raises:
            InputError: a continuation has more tokens than the model takes, or an id is none.
            ValueError: the lists differ in length, or one is a list and the other is none.
        """
        if _is_one(context) != _is_one(continuation) and len(context) + len(continuation):
            raise ValueError("expected a context and a continuation, or a list of each")
        if _is_one(context):
            return self._likelihoods([self._pair(context, continuation)])[0]
        if len(context) != len(continuation):
            found = f"{len(context)} and {len(continuation)}"
            raise ValueError(f"expected as many contexts as continuations, found {found}")
        return self._likelihoods(list(map(self._pair, context, continuation)))

    @overload
    def loglikelihood_rolling(  # type: ignore[overload-overlap]  # as above
        self, text: str | Sequence[int]
    ) -> float: ...

    @overload
    def loglikelihood_rolling(self, text: Sequence[Prompt]) -> list[float]: ...

    def loglikelihood_rolling(self, text: Any) -> Any:
        """Return how likely whole texts are, as lm-eval's ``LM.loglikelihood_rolling`` defines it.

        A text begins after the token that begins texts. One that is longer than the model's
        positions is cut into windows; each token counts once, after as many as fit.

        Args:
            text: it or its ids, or a list of them.

        Returns:
            The sum of its tokens' log-probabilities in nats, 0 for an empty one; a list for a list.

        Raises:
            InputError: an id is none.
        """
        if _is_one(text):
            return self.loglikelihood_rolling([text])[0]
        positions = self.geometry.positions
        cut = [list(windows(self._ids(one), self._begin, positions)) for one in text]
        found = iter(self._likelihoods([pair for pairs in cut for pair in pairs]))
        return [sum(next(found).logprob for _ in pairs) for pairs in cut]

    def _pair(self, context: Prompt, continuation: Prompt) -> Pair:
        """Return the ids of a context and of what follows it, as lm-eval splits both."""
        if isinstance(context, str) and isinstance(continuation, str):
            bare = context.rstrip()
            continuation, context = context[len(bare) :] + continuation, bare
            before = self._ids(context)
            # Tokens may span both: the whole text is encoded, and cut where the context ends.
            after = self._ids(context + continuation)[len(before) :]
        else:
            before, after = self._ids(context), self._ids(continuation)
        if len(after) > self.geometry.positions:
            message = f"it has {len(after)} tokens; {self.geometry.positions} fit"
            raise InputError("G2-204", "continuation", message)
        return before or [self._begin], after

    def _ids(self, text: Prompt) -> list[int]:
        """Return the ids of a text, or ids as they are; none of an empty one."""
        if isinstance(text, str):
            self.tokenizer.require(self.geometry.vocab, "data.tokenizer")
            return self.tokenizer.encode(text)
        return self._checked(text)

    @device.turn()
    def _likelihoods(self, pairs: Sequence[Pair]) -> list[Likelihood]:
        if self._prefill is None:
            self._prefill = ChunkedPrefill(self._network)
        try:
            return likelihoods(self._prefill, pairs, self.geometry.positions)
        except RunError:
            self._prefill.clear()  # of what is no number
            raise

    def chunked_slots(self, batch: int, cache: int) -> ChunkedSlots:
        """Places of a server's texts, these weights' and those of its adapters.

        Args:
            batch: texts at once.
            cache: bytes that are kept of prompts.
        """
        decoder = Decoder(self._network, batch, adapted=self._adapted)
        prefill = ChunkedPrefill(self._network, self._adapted)
        return ChunkedSlots(decoder, batch, prefill, PrefixCache(cache), list(self._adapted))

    def _new_decoder(self, batch: int) -> Decoder:
        return Decoder(self._network, batch)


def _is_one(text: Any) -> bool:
    """Return whether this is one text or its ids, and no list of them."""
    return isinstance(text, str) or (len(text) > 0 and isinstance(text[0], int | np.integer))


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


def loaded(job: Job, shard: TensorParallelGroup = NO_TENSOR_PARALLEL) -> GPT2:
    """Return the network of a job, or a rank's part of it, with the values of its weights."""
    on, precision = job.parts.runtime.device, job.parts.precision.policy
    return network_of(job.geometry, values_of(job), on, precision, shard=shard)


def values_of(job: Job) -> Arrays:
    """Return the values of a job's weights, and new ones for those that they may lack."""
    weights = reading.read(job.weights, job.hints)
    return Arrays(filled(weights, job.parts.train.seed, job.geometry))


def network_of(
    geometry: GPT2Config, arrays: Values, on: str, precision: PrecisionPolicy = FLOAT32, **more: Any
) -> GPT2:
    """Return the network with values, on a device.

    Args:
        geometry: its numbers.
        arrays: its values.
        on: the device.
        precision: number formats; float32 where it is not said.
        more: adapters, recomputing and the rank's part, as ``GPT2`` has them.
    """
    with device.turn():
        device.use(on)
        network = GPT2(geometry, precision=precision, **more)
        network.load(arrays)
    return network
