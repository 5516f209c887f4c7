"""What the forward pass has found, in place of computing it again for the backward pass."""

from __future__ import annotations

from mindspore import Tensor, nn

SavedValue = tuple[Tensor, ...]
"""One value that was found before, or none."""


class ReuseActivation(nn.Cell):
    """A value: the one that was found before, or else the one that is computed here.

    Gradients go to what computes it in both cases. MindSpore leaves that computation out where
    nothing needs its value.
    """

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.known = _Known()

    def construct(self, x: Tensor, found: SavedValue) -> Tensor:
        """Of any shape."""
        if found:
            x = self.known(x, found[0])
        return x


class _Known(nn.Cell):
    def construct(self, x: Tensor, found: Tensor) -> Tensor:
        return found

    def bprop(self, x: Tensor, found: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor, Tensor]:
        return dout, found  # nobody asks for the second
