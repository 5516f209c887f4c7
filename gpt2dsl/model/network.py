"""The network: GPT-2 (Radford et al. 2019), pre-norm blocks over two-dimensional activations.

Parameters have Hugging Face's names. Letters in shapes: b rows of the batch, t tokens of a row,
n heads, d width of a head, h = n d, v the padded vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import mindspore as ms
import mindspore.ops.operations as P
import numpy as np
from mindspore import Parameter, Tensor, nn
from numpy.typing import NDArray

from gpt2dsl.layout.geometry import Geometry
from gpt2dsl.layout.tensors import tensors
from gpt2dsl.model import dropout
from gpt2dsl.model.operators.activation import activation
from gpt2dsl.model.operators.dropout import Dropout
from gpt2dsl.model.operators.head import MASKED, Logits
from gpt2dsl.model.operators.layer_norm import LayerNorm
from gpt2dsl.model.operators.linear import Linear
from gpt2dsl.model.operators.softmax import Softmax

Arrays = Mapping[str, NDArray[np.float32]]
TABLE = "transformer.wte.weight"
POSITIONS = "transformer.wpe.weight"

BUCKET = 64
"""Lengths of what is not trained are rounded up to a multiple of this: few graphs are compiled."""


class Embedding(nn.Cell):
    """Word plus position: the sum of two rows."""

    def __init__(self, geometry: Geometry, weights: dict[str, Parameter]) -> None:
        super().__init__(auto_prefix=False)
        self.hidden = geometry.hidden
        self.words = weights[TABLE]
        self.positions = weights[POSITIONS]
        self.gather = P.Gather()

    def construct(self, ids: Tensor, positions: Tensor) -> Tensor:
        """``[b, t], [b, t] → [b t, h]``."""
        words = self.gather(self.words, ids.reshape((-1,)), 0)  # [b t, h]
        return words + self.gather(self.positions, positions.reshape((-1,)), 0)


class Attention(nn.Cell):
    """Causal self-attention over whole rows."""

    def __init__(self, geometry: Geometry, weights: dict[str, Parameter]) -> None:
        super().__init__(auto_prefix=False)
        self.heads, self.width = geometry.heads, geometry.head_width
        self.hidden = geometry.hidden
        self.scale = 1 / math.sqrt(self.width) if geometry.scale_attention else 1.0
        self.w_qkv, self.b_qkv = weights["attn.c_attn.weight"], weights["attn.c_attn.bias"]
        self.w_out, self.b_out = weights["attn.c_proj.weight"], weights["attn.c_proj.bias"]
        self.linear = Linear()
        self.split = P.Split(-1, 3)
        self.transpose = P.Transpose()
        self.scores = P.BatchMatMul(transpose_b=True)
        self.mix = P.BatchMatMul()
        self.softmax = Softmax()
        self.dropout = Dropout(dropout.keep(geometry.dropout))

    def by_head(self, x: Tensor, batch: int) -> Tensor:
        """``[b t, h] → [b n, t, d]``."""
        x = x.reshape((batch, -1, self.heads, self.width))  # [b, t, n, d]
        return self.transpose(x, (0, 2, 1, 3)).reshape((batch * self.heads, -1, self.width))

    def merged(self, x: Tensor, batch: int) -> Tensor:
        """``[b n, t, d] → [b t, h]``."""
        x = x.reshape((batch, self.heads, -1, self.width))  # [b, n, t, d]
        return self.transpose(x, (0, 2, 1, 3)).reshape((-1, self.hidden))

    def project(self, x: Tensor, batch: int) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, scaled, keys and values: ``[b t, h] → 3 x [b n, t, d]``."""
        q, k, v = self.split(self.linear(x, self.w_qkv, self.b_qkv))  # 3 x [b t, h]
        return self.by_head(q * self.scale, batch), self.by_head(k, batch), self.by_head(v, batch)

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor, batch: int, kept: Tensor | None
    ) -> Tensor:
        """``[b n, t, d], 2 x [b n, s, d], [b n, t, s] → [b t, h]``."""
        p = self.softmax(self.scores(q, k) + mask)  # [b n, t, s]
        if kept is not None:
            p = self.dropout(p, kept)
        context = self.merged(self.mix(p, v), batch)  # [b t, h]
        return self.linear(context, self.w_out, self.b_out)

    def construct(self, x: Tensor, mask: Tensor, batch: int, kept: Tensor | None) -> Tensor:
        """``[b t, h], [b n, t, t] → [b t, h]``."""
        q, k, v = self.project(x, batch)
        return self.attend(q, k, v, mask, batch, kept)


class MLP(nn.Cell):
    """Two linears with an activation between them."""

    def __init__(self, geometry: Geometry, weights: dict[str, Parameter]) -> None:
        super().__init__(auto_prefix=False)
        self.w_in, self.b_in = weights["mlp.c_fc.weight"], weights["mlp.c_fc.bias"]
        self.w_out, self.b_out = weights["mlp.c_proj.weight"], weights["mlp.c_proj.bias"]
        self.linear = Linear()
        self.activation = activation(geometry.activation)

    def construct(self, x: Tensor) -> Tensor:
        """``[b t, h] → [b t, h]``."""
        inner = self.activation(self.linear(x, self.w_in, self.b_in))  # [b t, inner]
        return self.linear(inner, self.w_out, self.b_out)


class Block(nn.Cell):
    """Norm, attention, residual; norm, MLP, residual."""

    def __init__(self, geometry: Geometry, weights: dict[str, Parameter]) -> None:
        super().__init__(auto_prefix=False)
        self.g1, self.b1 = weights["ln_1.weight"], weights["ln_1.bias"]
        self.g2, self.b2 = weights["ln_2.weight"], weights["ln_2.bias"]
        self.norm = LayerNorm(geometry.epsilon)
        self.attention = Attention(geometry, weights)
        self.mlp = MLP(geometry, weights)
        self.dropout = Dropout(dropout.keep(geometry.dropout))

    def construct(self, x: Tensor, mask: Tensor, batch: int, kept: tuple[Tensor, ...]) -> Tensor:
        """``[b t, h] → [b t, h]``; ``kept``: nothing, or the block's three dropout masks."""
        normal = self.norm(x, self.g1, self.b1)
        if kept:
            x = x + self.dropout(self.attention(normal, mask, batch, kept[0]), kept[1])
            return x + self.dropout(self.mlp(self.norm(x, self.g2, self.b2)), kept[2])
        x = x + self.attention(normal, mask, batch, None)
        return x + self.mlp(self.norm(x, self.g2, self.b2))


class GPT2(nn.Cell):
    """Ids to hidden states; ``Logits`` or ``HeadLoss`` take it from there.

    The word table has ``geometry.padded_vocab`` rows, the padded ones zero.
    """

    def __init__(self, geometry: Geometry) -> None:
        super().__init__(auto_prefix=False)
        self.geometry = geometry
        self.heads = geometry.heads
        self.by_name = _parameters(geometry)
        self.embedding = Embedding(geometry, self.by_name)
        self.dropout = Dropout(dropout.keep(geometry.dropout))
        self.blocks = nn.CellList(
            [Block(geometry, _of_layer(self.by_name, i)) for i in range(geometry.layers)],
            auto_prefix=False,
        )
        self.g = self.by_name["transformer.ln_f.weight"]
        self.b = self.by_name["transformer.ln_f.bias"]
        self.norm = LayerNorm(geometry.epsilon)
        self.logits_of = Logits(geometry.vocab, geometry.padded_vocab)
        self.tile = P.Tile()

    def causal(self, batch: int, time: int) -> Tensor:
        """What is added to the scores: ``[b n, t, t]``, 0 where a token may look.

        It is laid out whole once a step: adding it so is three times as fast as a broadcast.
        """
        order = ms.ops.arange(time)
        later = (order.reshape((1, time, 1)) < order.reshape((1, 1, time))).astype(ms.float32)
        return self.tile(later * MASKED, (batch * self.heads, 1, 1))

    def construct(self, ids: Tensor, *kept: Tensor) -> Tensor:
        """``[b, t] → [b t, h]``. ``kept``: the masks of ``dropout.masks``, or nothing."""
        batch, time = ids.shape
        positions = self.tile(ms.ops.arange(time).astype(ms.int32), (batch,))  # [b t]
        x = self.embedding(ids, positions)
        if kept:
            x = self.dropout(x, kept[0])
        mask = self.causal(batch, time)
        for i, block in enumerate(self.blocks):
            x = block(x, mask, batch, kept[1 + 3 * i : 4 + 3 * i])
        return self.norm(x, self.g, self.b)

    def load(self, arrays: Arrays) -> None:
        """Take over the values of files.

        Args:
            arrays: name → array, of all tensors of ``layout.tensors`` and no others.

        Raises:
            ValueError: a tensor is missing, is not one of the network, or has another shape.
        """
        expected = {tensor.name: tensor.shape for tensor in tensors(self.geometry)}
        found = {name: tuple(array.shape) for name, array in arrays.items()}
        if expected != found:
            wrong = sorted(set(expected.items()) ^ set(found.items()))
            raise ValueError(f"tensors that are missing, unknown or of another shape: {wrong[:6]}")
        for name, parameter in self.by_name.items():
            array = np.asarray(arrays[name], dtype=np.float32)
            if name == TABLE:
                padding = self.geometry.padded_vocab - self.geometry.vocab
                array = np.pad(array, ((0, padding), (0, 0)))
            parameter.set_data(Tensor(np.ascontiguousarray(array)))

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """The values, in the shapes that files have."""
        found = {name: parameter.asnumpy() for name, parameter in self.by_name.items()}
        found[TABLE] = found[TABLE][: self.geometry.vocab]
        return found


class Scores(nn.Cell):
    """Ids to logits, for every token."""

    def __init__(self, network: GPT2) -> None:
        super().__init__(auto_prefix=False)
        self.network = network
        self.table = network.by_name[TABLE]

    def construct(self, ids: Tensor) -> Tensor:
        """``[b, t] → [b t, v]``."""
        return self.network.logits_of(self.network(ids), self.table)

    def logits(self, ids: NDArray[np.int32]) -> NDArray[np.float32]:
        """``[b, t] → [b, t, vocab]``.

        Rows are padded on the right to a bucket of lengths, each of which is compiled once; no
        token sees what comes after it.
        """
        batch, time = ids.shape
        geometry = self.network.geometry
        padded = np.zeros((batch, min(bucket(time), geometry.positions)), np.int32)
        padded[:, :time] = ids
        found: NDArray[np.float32] = self(Tensor(padded)).asnumpy()
        return found.reshape((*padded.shape, -1))[:, :time, : geometry.vocab]


def bucket(length: int) -> int:
    """The length that is compiled for: the next multiple of ``BUCKET``."""
    return -(-length // BUCKET) * BUCKET


def _parameters(geometry: Geometry) -> dict[str, Parameter]:
    """Every parameter of the network, zero, by Hugging Face's name."""
    found = {}
    for tensor in tensors(geometry):
        shape = tensor.shape
        if tensor.name == TABLE:
            shape = (geometry.padded_vocab, geometry.hidden)
        found[tensor.name] = Parameter(Tensor(np.zeros(shape, np.float32)), name=tensor.name)
    return found


def _of_layer(weights: dict[str, Parameter], layer: int) -> dict[str, Parameter]:
    """The parameters of one block, by their names within it."""
    prefix = f"transformer.h.{layer}."
    return {
        name.removeprefix(prefix): weight
        for name, weight in weights.items()
        if name.startswith(prefix)
    }
