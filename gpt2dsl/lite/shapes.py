"""What exported graphs take and give: names, shapes and types, in the order of the graphs.

Letters: B rows of a batch, S tokens of the cache, T tokens of a prompt (padded on the right to S),
H heads, D the width of a head, V the vocabulary, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from gpt2dsl.layout.config import GPT2Config

HIDDEN = -1e9
"""Added to the score of what may not be looked at."""

PREFILL, INCREMENT, WHOLE, CLASSIFY = "prefill", "increment", "whole", "classify"
IDS, VALID, POSITION, LOGITS = "ids", "valid", "position", "logits"


@attrs.frozen
class Port:
    """An input or an output.

    Attributes:
        name: in the graph.
        shape: static.
        dtype: int32 or float32.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"


@attrs.frozen
class Shapes:
    """The sizes that a graph is exported for.

    Attributes:
        geometry: the network.
        batch: B.
        length: S.
    """

    geometry: GPT2Config
    batch: int
    length: int

    @property
    def key(self) -> tuple[int, ...]:
        """Of a layer's keys, ``[B H, D, S]``, as the product with a query wants them.

        Of three axes: Lite's converter takes four for an image, and puts them into another order.
        """
        g = self.geometry
        return (self.batch * g.heads, g.head_width, self.length)

    @property
    def value(self) -> tuple[int, ...]:
        """Of a layer's values, ``[B H, S, D]``."""
        g = self.geometry
        return (self.batch * g.heads, self.length, g.head_width)

    def graphs(self, *, cache: bool) -> tuple[str, ...]:
        """Return the graphs of an export."""
        if self.geometry.labels:
            return (CLASSIFY,)
        return (PREFILL, INCREMENT) if cache else (WHOLE,)

    def inputs(self, graph: str) -> tuple[Port, ...]:
        """What a graph takes.

        prefill, classify: ``ids [B, S]`` and ``valid [B]``, the tokens of each row. whole: ``ids``.
        increment: ``ids [B, 1]``, ``position [B]`` of each, and the caches of the positions before.
        """
        ids = Port(IDS, (self.batch, 1 if graph == INCREMENT else self.length), "int32")
        if graph == WHOLE:
            return (ids,)
        if graph != INCREMENT:
            return (ids, Port(VALID, (self.batch,), "int32"))
        return (ids, Port(POSITION, (self.batch,), "int32"), *self._caches("", self.length))

    def outputs(self, graph: str) -> tuple[Port, ...]:
        """What a graph gives.

        prefill: ``logits [B, V]`` after each row, and the caches. increment: ``logits [B, V]``, and
        the keys and values of the token alone. whole: ``logits [B, S, V]``. classify: ``[B, C]``.
        """
        g = self.geometry
        if graph == WHOLE:
            return (Port(LOGITS, (self.batch, self.length, g.vocab)),)
        logits = Port(LOGITS, (self.batch, g.labels or g.vocab))
        if graph == CLASSIFY:
            return (logits,)
        return (logits, *self._caches("new_", 1 if graph == INCREMENT else self.length))

    def _caches(self, prefix: str, length: int) -> Iterator[Port]:
        found = attrs.evolve(self, length=length)
        for layer in range(self.geometry.layers):
            yield Port(f"{prefix}key_{layer}", found.key)
            yield Port(f"{prefix}value_{layer}", found.value)
