"""Inputs and outputs of exported graphs: names, shapes and types, in order.

Letters: B batch size, S length of the cache, T length of a prompt (padded on the right to S), H
heads, D head width, V vocabulary size, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from gpt2dsl.layout.config import GPT2Config

HIDDEN = -1e9
"""Bias of masked attention scores."""

PREFILL, INCREMENT, WHOLE, CLASSIFY = "prefill", "increment", "whole", "classify"
IDS, VALID, POSITION, LOGITS = "ids", "valid", "position", "logits"


@attrs.frozen
class Port:
    """An input or an output of a graph, int32 or float32."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"


@attrs.frozen
class Shapes:
    """The static shapes of exported graphs: batch size B and length S of the cache."""

    geometry: GPT2Config
    batch: int
    length: int

    @property
    def key(self) -> tuple[int, ...]:
        """Shape of a layer's keys, ``[B H, D, S]``, ready for the product with a query.

        Three axes: Lite's converter treats four as an image, and transposes them.
        """
        g = self.geometry
        return (self.batch * g.heads, g.head_width, self.length)

    @property
    def value(self) -> tuple[int, ...]:
        """Shape of a layer's values, ``[B H, S, D]``."""
        g = self.geometry
        return (self.batch * g.heads, self.length, g.head_width)

    def graphs(self, *, cache: bool) -> tuple[str, ...]:
        """Return the names of an export's graphs."""
        if self.geometry.labels:
            return (CLASSIFY,)
        return (PREFILL, INCREMENT) if cache else (WHOLE,)

    def inputs(self, graph: str) -> tuple[Port, ...]:
        """Return the inputs of a graph.

        prefill, classify: ``ids [B, S]`` and ``valid [B]``, the length of each row. whole: ``ids``.
        increment: ``ids [B, 1]``, their ``position [B]``, and the KV cache of earlier positions.
        """
        ids = Port(IDS, (self.batch, 1 if graph == INCREMENT else self.length), "int32")
        if graph == WHOLE:
            return (ids,)
        if graph != INCREMENT:
            return (ids, Port(VALID, (self.batch,), "int32"))
        return (ids, Port(POSITION, (self.batch,), "int32"), *self._caches("", self.length))

    def outputs(self, graph: str) -> tuple[Port, ...]:
        """Return the outputs of a graph.

        prefill: ``logits [B, V]`` after each row, and the KV cache. increment: ``logits [B, V]``,
        and the new token's keys and values. whole: ``logits [B, S, V]``. classify: ``[B, C]``.
        """
        g = self.geometry
        if graph == WHOLE:
            return (Port(LOGITS, (self.batch, self.length, g.vocab)),)
        logits = Port(LOGITS, (self.batch, g.labels or g.vocab))
        if graph == CLASSIFY:
            return (logits,)
        return (logits, *self._caches("new_", 1 if graph == INCREMENT else self.length))

    def _caches(self, prefix: str, length: int) -> Iterator[Port]:
        shapes = attrs.evolve(self, length=length)
        for layer in range(self.geometry.layers):
            yield Port(f"{prefix}key_{layer}", shapes.key)
            yield Port(f"{prefix}value_{layer}", shapes.value)
