"""A network with its tokenizer, ready to use: the result of ``gpt2dsl.load``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpt2dsl.backend import device
from gpt2dsl.data.prepare import TRAIN
from gpt2dsl.data.tokenizer import Tokenizer
from gpt2dsl.data.weights_tokenizer import of_weights
from gpt2dsl.distributed.process_groups import (
    NO_PIPELINE,
    NO_TENSOR_PARALLEL,
    PipelineGroup,
    TensorParallelGroup,
)
from gpt2dsl.engine import adapted
from gpt2dsl.engine.generation.chunked_slots import ChunkedSlots
from gpt2dsl.engine.generation.prefixes import PrefixCache
from gpt2dsl.engine.generation.prompt import Prompt, checked_ids, require_list
from gpt2dsl.engine.job import Job
from gpt2dsl.engine.likelihood import Likelihood, Pair, likelihoods, windows
from gpt2dsl.engine.text_model import TextModel
from gpt2dsl.errors import ArgumentValueError, InputError, RunError, in_words
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.precision import FLOAT32, PrecisionPolicy
from gpt2dsl.model.chunked_prefill import ChunkedPrefill
from gpt2dsl.model.decoding import KVCacheDecoder
from gpt2dsl.model.evaluation import TokenLogits
from gpt2dsl.model.gpt2 import GPT2
from gpt2dsl.model.parameters import Sources
from gpt2dsl.weights import reading
from gpt2dsl.weights.defaults import Defaults
from gpt2dsl.weights.infer_config import Overrides
from gpt2dsl.weights.initial import filled
from gpt2dsl.weights.network_weights import Weights
from gpt2dsl.weights.values import Values


class LanguageModel(TextModel):
    """GPT-2 with its tokenizer. It is thread-safe, see ``TextModel``.

    Attributes:
        tokenizer: ``encode(text)`` gives ids, ``decode(ids)`` the text.
        geometry (GPT2Config): dimensions of the network.
        adapters: models loaded by ``load_adapter``, by name.
    """

    def __init__(
        self,
        network: GPT2,
        tokenizer: Tokenizer | InputError,
        defaults: Defaults | None = None,
    ) -> None:
        super().__init__(tokenizer, network.config, defaults=defaults)
        self._network = network
        with device.turn():
            self._scores = TokenLogits(network)
        self._prefill: ChunkedPrefill | None = None
        self.adapters: dict[str, LanguageModel] = {}
        self._adapted: dict[str, GPT2] = {}
        self._overrides = Overrides(fetch=True)
        self._arguments: Mapping[str, str] = {}

    @classmethod
    def load(
        cls,
        weights: str,
        overrides: Overrides | None = None,
        *,
        on: str = "cpu",
        seed: int = 0,
        precision: PrecisionPolicy = FLOAT32,
        tensor_group: TensorParallelGroup = NO_TENSOR_PARALLEL,
        tokenizer: str = "auto",
        arguments: Mapping[str, str] | None = None,
    ) -> LanguageModel:
        """Load a model from weights of any format.

        Args:
            weights: as in ``reading.read``.
            overrides: properties of the weights that their files may lack.
            on: the device.
            seed: seed of new values, if the overrides allow missing tensors.
            tensor_group: tensor parallel group of this rank.
            precision: mixed precision policy; float32 by default.
            tokenizer: auto for the one beside the weights, gpt2, or a folder.
            arguments: key of a recipe → the caller's argument, which errors name in its place.

        Raises:
            InputError: the weights do not exist, or they or their tokenizer are damaged.
        """
        overrides, words = overrides or Overrides(fetch=True), arguments or {}
        with in_words(words):
            loaded_weights = reading.read(weights, overrides)
            if loaded_weights.geometry.labels:
                message = "it is a classifier; gpt2dsl classify uses it"
                raise InputError("G2-317", weights, message)
            loaded_tokenizer = _tokenizer(loaded_weights, tokenizer, words)
        values = _values(loaded_weights, seed, loaded_weights.geometry)
        network = network_of(
            loaded_weights.geometry, values, on, precision, tensor_group=tensor_group
        )
        model = cls(network, loaded_tokenizer, loaded_weights.defaults)
        model._overrides, model._arguments = overrides, words
        return model

    @classmethod
    def of_job(
        cls, job: Job, tensor_group: TensorParallelGroup = NO_TENSOR_PARALLEL
    ) -> LanguageModel:
        """Load the model of a job.

        Args:
            job: the job.
            tensor_group: tensor parallel group of this rank.

        Raises:
            InputError: as ``load`` does.
        """
        is_own = job.parts.data.tokenizer in ("auto", TRAIN)
        return cls.load(
            job.weights,
            job.overrides,
            on=job.parts.runtime.device,
            seed=job.parts.train.seed,
            precision=job.parts.precision.policy,
            tensor_group=tensor_group,
            tokenizer="auto" if is_own else job.tokenizer,
        )

    def load_adapter(
        self, name: str, weights: str, *, base: str = "", tokenizer: str = "auto"
    ) -> LanguageModel:
        """Load an adapter of these weights; parameters that it does not change are shared.

        Args:
            name: its key in ``adapters``.
            weights: a PEFT folder, a run with ``[lora]``, or a MindFormers checkpoint with LoRA.
            base: name of these weights, for an adapter whose files name no base.
            tokenizer: auto for the one beside it or its base, else this model's; gpt2, or a folder.

        Returns:
            The same model as ``load`` of the adapter.

        Raises:
            InputError: the adapter does not exist, is damaged, or belongs to another base.
            ValueError: the name is empty or taken.
        """
        if not name or name in self.adapters:
            raise ArgumentValueError(f"expected the name of a new adapter, found {name!r}")
        with in_words(self._arguments):
            merged = adapted.read(weights, base, self._overrides)
            loaded_tokenizer = _tokenizer(merged, tokenizer, self._arguments)
        if (
            isinstance(loaded_tokenizer, InputError)
            and merged.geometry.vocab == self.geometry.vocab
        ):
            loaded_tokenizer = self._tokenizer
        network = adapted.network_with(self._network, merged)
        model = LanguageModel(network, loaded_tokenizer, merged.defaults)
        model.adapter = name
        self.adapters[name], self._adapted[name] = model, network
        return model

    def logits(self, ids: ArrayLike) -> NDArray[np.float32]:
        """Return the next-token logits at every position.

        Args:
            ids: integers ``[batch, time]``, time at most ``geometry.positions``.

        Returns:
            float32 ``[batch, time, vocab]``.

        Raises:
            ValueError: the shape, the type or an id is invalid.
        """
        array = np.asarray(ids)
        positions, vocab = self.geometry.positions, self.geometry.vocab
        if array.ndim != 2 or array.dtype.kind not in "iu" or not array.size:
            actual = f"{array.dtype} {list(array.shape)}"
            raise ArgumentValueError(f"expected integers [batch, time], found {actual}")
        if array.shape[1] > positions:
            raise ArgumentValueError(f"expected at most {positions} tokens, found {array.shape[1]}")
        if array.min() < 0 or array.max() >= vocab:
            actual = f"{array.min()} to {array.max()}"
            raise ArgumentValueError(f"expected ids from 0 to {vocab - 1}, found {actual}")
        return self._scores.logits(array.astype(np.int32))

    @overload  # a str is a sequence of str too: the first match counts
    def loglikelihood(  # type: ignore[overload-overlap]
        self, context: str | Sequence[int], continuation: str | Sequence[int]
    ) -> Likelihood: ...

    @overload
    def loglikelihood(
        self, context: Sequence[Prompt], continuation: Sequence[Prompt]
    ) -> list[Likelihood]: ...

    def loglikelihood(self, context: Any, continuation: Any) -> Any:
        """Return log-likelihoods of continuations, as lm-eval's ``LM.loglikelihood`` defines them.

        Trailing spaces of a context move to its continuation, an empty context becomes the token
        that begins a text, and a context that is too long is truncated on the left. Shared prefixes
        of contexts are computed once.

        Args:
            context: a text or its ids, or a list of them.
            continuation: the continuation, or a list of the same length.

        Returns:
            ``(logprob, is_greedy)``: the sum of the log-probabilities of the continuation's tokens
            in nats, and whether each is the most likely one; a list of them for lists.

        Raises:
            TypeError: an argument is neither a text nor a list.
            InputError: a continuation exceeds the model's positions, or an id is invalid.
            ValueError: the lists differ in length, or only one argument is a list.
        """
        if _is_one(context) != _is_one(continuation) and len(context) + len(continuation):
            raise ArgumentValueError("expected a context and a continuation, or a list of each")
        if _is_one(context):
            return self._likelihoods([self._pair(context, continuation)])[0]
        if len(context) != len(continuation):
            counts = f"{len(context)} and {len(continuation)}"
            raise ArgumentValueError(f"expected as many contexts as continuations, found {counts}")
        return self._likelihoods(list(map(self._pair, context, continuation)))

    @overload
    def loglikelihood_rolling(  # type: ignore[overload-overlap]  # as above
        self, text: str | Sequence[int]
    ) -> float: ...

    @overload
    def loglikelihood_rolling(self, text: Sequence[Prompt]) -> list[float]: ...

    def loglikelihood_rolling(self, text: Any) -> Any:
        """Return log-likelihoods of texts, as lm-eval's ``LM.loglikelihood_rolling`` defines them.

        The first token is predicted from the token that begins texts. A text longer than the
        model's positions is cut into windows; each token counts once, with the longest context.

        Args:
            text: a text or its ids, or a list of them.

        Returns:
            The sum of its tokens' log-probabilities in nats, 0 for an empty one; a list for a list.

        Raises:
            TypeError: it is neither a text nor a list.
            InputError: an id is invalid.
        """
        if _is_one(text):
            return self.loglikelihood_rolling([text])[0]
        positions = self.geometry.positions
        cut = [list(windows(self._ids(item), self._begin, positions)) for item in text]
        scores = iter(self._likelihoods([pair for pairs in cut for pair in pairs]))
        return [sum(next(scores).logprob for _ in pairs) for pairs in cut]

    def _pair(self, context: Prompt, continuation: Prompt) -> Pair:
        """Return the ids of a context and its continuation, split as lm-eval does."""
        if isinstance(context, str) and isinstance(continuation, str):
            bare = context.rstrip()
            continuation, context = context[len(bare) :] + continuation, bare
            before = self._ids(context)
            # Tokens may span both: encode the whole text, then cut at the length of the context.
            after = self._ids(context + continuation)[len(before) :]
        else:
            before, after = self._ids(context), self._ids(continuation)
        if len(after) > self.geometry.positions:
            message = f"it has {len(after)} tokens; {self.geometry.positions} fit"
            raise InputError("G2-204", "continuation", message)
        return before or [self._begin], after

    def _ids(self, text: Prompt) -> list[int]:
        """Return the ids of a text, or ids unchanged; none for an empty text."""
        if isinstance(text, str):
            self.tokenizer.require(self.geometry.vocab, "data.tokenizer")
            return self.tokenizer.encode(text)
        return checked_ids(text, self.geometry.vocab)

    @device.turn()
    def _likelihoods(self, pairs: Sequence[Pair]) -> list[Likelihood]:
        if self._prefill is None:
            self._prefill = ChunkedPrefill(self._network)
        try:
            return likelihoods(self._prefill, pairs, self.geometry.positions)
        except RunError:
            self._prefill.clear()  # its cache may hold NaN
            raise

    def chunked_slots(self, batch: int, cache: int) -> ChunkedSlots:
        """Return batch slots of a server, for these weights and their adapters.

        Args:
            batch: number of slots.
            cache: maximum size of the prefix cache in bytes.
        """
        decoder = KVCacheDecoder(self._network, batch, adapted=self._adapted)
        prefill = ChunkedPrefill(self._network, self._adapted)
        return ChunkedSlots(decoder, batch, prefill, PrefixCache(cache), list(self._adapted))

    def _new_decoder(self, batch: int) -> KVCacheDecoder:
        return KVCacheDecoder(self._network, batch)


def _is_one(text: Any) -> bool:
    """Return whether this is a single text or its ids, not a list of them."""
    require_list(text)
    return isinstance(text, str) or (len(text) > 0 and isinstance(text[0], int | np.integer))


def _tokenizer(weights: Weights, name: str, arguments: Mapping[str, str]) -> Tokenizer | InputError:
    """Load the tokenizer of weights, or return an error: prompts of ids need none."""
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
        return error.in_words(arguments)


def loaded(
    job: Job,
    tensor_group: TensorParallelGroup = NO_TENSOR_PARALLEL,
    pipeline_group: PipelineGroup = NO_PIPELINE,
) -> GPT2:
    """Return the network of a job, or this rank's part of it, with its weights loaded."""
    target, precision = job.parts.runtime.device, job.parts.precision.policy
    return network_of(
        job.geometry,
        values_of(job),
        target,
        precision,
        tensor_group=tensor_group,
        pipeline_group=pipeline_group,
    )


def values_of(job: Job, *, contents: bool = True) -> Values:
    """Return the values of a job's weights, with new ones for missing tensors; read none yet.

    ``contents`` compares checksums, as in ``reading.read``; of several ranks, one need do so.
    """
    weights = reading.read(job.weights, job.overrides, contents=contents)
    return _values(weights, job.parts.train.seed, job.geometry)


def _values(weights: Weights, seed: int, geometry: GPT2Config) -> Values:
    return Values(filled(weights, seed, geometry), weights.location.files[0])


def network_of(
    geometry: GPT2Config,
    sources: Sources,
    on: str,
    precision: PrecisionPolicy = FLOAT32,
    **more: Any,
) -> GPT2:
    """Return a network with loaded weights, on a device; arguments as for ``unloaded``.

    ``sources`` are the values of its parameters.
    """
    network = unloaded(geometry, on, precision, **more)
    network.load(sources)
    return network


def unloaded(
    geometry: GPT2Config, on: str, precision: PrecisionPolicy = FLOAT32, **more: Any
) -> GPT2:
    """Return a network on a device, whose parameters are zero and take no memory yet.

    Args:
        geometry: dimensions of the network.
        on: the device.
        precision: mixed precision policy; float32 by default.
        more: other arguments of ``GPT2``: adapters, recompute, groups.
    """
    with device.turn():
        device.use(on)
        return GPT2(geometry, precision=precision, **more)
