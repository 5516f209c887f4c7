"""Activations that a block saves for its backward pass, by name."""

from __future__ import annotations

from mindspore import Tensor, nn

Tensors = tuple[Tensor, ...]

COUNTS = {"none": 13, "selective": 12, "full": 0}
"""Number of activations saved per block, by recompute mode (Chen et al. 2016). ``selective``
recomputes only the attention probabilities, the last of them (Korthikanti et al. 2022)."""


class SavedActivations(nn.Cell):
    """The order of a block's saved activations; the only place that knows it.

    Each method takes all that a block has saved, or an empty tuple where it recomputes, and returns
    its part of them, which is empty then.
    """

    def norm_1(self, saved: Tensors) -> Tensors:
        """Return mean and variance of the first norm, ``2 x [b t, 1]``."""
        return saved[:2]

    def attention(self, saved: Tensors) -> Tensors:
        """Return input ``[b t, h]``, q, k and v ``3 x [b n, t, d]``, and context ``[b t, h]``."""
        return saved[2:7]

    def keys_values(self, saved: Tensors) -> Tensors:
        """Return k and v, ``2 x [b n, t, d]``."""
        return saved[4:6]

    def residual(self, saved: Tensors) -> Tensors:
        """Return the residual stream between attention and MLP, ``[b t, h]``."""
        return saved[7:8]

    def norm_2(self, saved: Tensors) -> Tensors:
        """Return mean and variance of the second norm, ``2 x [b t, 1]``."""
        return saved[8:10]

    def mlp(self, saved: Tensors) -> Tensors:
        """Return inputs of the MLP ``[b t, h]`` and of its activation ``[b t, intermediate]``."""
        return saved[10:12]

    def probabilities(self, saved: Tensors) -> Tensors:
        """Return the attention probabilities, ``[b n, t, t]``; empty for ``selective`` too."""
        return saved[12:13]

    def packed(
        self, norm_1: Tensors, attention: Tensors, residual: Tensor, norm_2: Tensors, mlp: Tensors,
        probabilities: Tensor,
    ) -> Tensors:  # fmt: skip
        """Return all of them in their order."""
        return (*norm_1, *attention, residual, *norm_2, *mlp, probabilities)
