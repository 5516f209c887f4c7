"""Value and gradient of each operator against float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mindspore as ms
import numpy as np
import pytest
import torch
from mindspore import Tensor, nn

from gpt2dsl.kernels.activation import activation
from gpt2dsl.kernels.dropout import Dropout
from gpt2dsl.kernels.layer_norm import LayerNorm
from gpt2dsl.kernels.linear import Bias, MatMul
from gpt2dsl.kernels.lm_head import LinearCrossEntropy, Logits
from gpt2dsl.kernels.softmax import Softmax

RANDOM = np.random.default_rng(0)
functional: Any = torch.nn.functional


def normal(*shape: int) -> Any:
    return RANDOM.normal(size=shape).astype(np.float32)


class Pulled(nn.Cell):
    """A cell's gradients when its (first) result is pulled by given weights."""

    def __init__(self, cell: nn.Cell) -> None:
        super().__init__()
        self.gradient = ms.ops.GradOperation(get_all=True, sens_param=True)(cell)

    def construct(self, sens: Any, *inputs: Any) -> Any:
        return self.gradient(*inputs, sens)


class First(nn.Cell):
    """Only the first result of a cell."""

    def __init__(self, cell: nn.Cell) -> None:
        super().__init__()
        self.cell = cell

    def construct(self, *inputs: Any) -> Any:
        return self.cell(*inputs)[0]


class Unknown(nn.Cell):
    """A cell that is not told its result."""

    def __init__(self, cell: nn.Cell) -> None:
        super().__init__()
        self.cell = cell

    def construct(self, *inputs: Any) -> Any:
        return self.cell(*inputs, ())


def agree(cell: nn.Cell, reference: Callable[..., Any], *inputs: Any, close: float = 2e-6) -> None:
    """The cell's value and the gradients of its float inputs are those of the reference."""
    doubles = [
        torch.tensor(x.astype(np.float64), requires_grad=True)
        if x.dtype == np.float32
        else torch.tensor(x)
        for x in inputs
    ]
    expected = reference(*doubles)
    values = expected.detach().numpy()
    tensors = [Tensor(x) for x in inputs]
    found = cell(*tensors).asnumpy()
    scale = max(1.0, float(abs(values).max()))
    np.testing.assert_allclose(found, values, atol=close * scale, rtol=0)
    sens = normal(*found.shape)
    expected.backward(torch.tensor(sens.astype(np.float64)))
    gradients = Pulled(cell)(Tensor(sens), *tensors)
    for x, gradient, double in zip(inputs, gradients, doubles, strict=True):
        if x.dtype == np.float32:
            scale = max(1.0, float(double.grad.abs().max()))
            np.testing.assert_allclose(
                gradient.asnumpy(), double.grad.numpy(), atol=close * scale, rtol=0
            )


def test_linear() -> None:
    agree(MatMul(), lambda x, w: x @ w, normal(37, 24), normal(24, 50))
    agree(Bias(), lambda x, b: x + b, normal(37, 50), normal(50))


@pytest.mark.parametrize("epsilon", [1e-5, 1e-3])
def test_layer_norm(epsilon: float) -> None:
    def reference(x: Any, g: Any, b: Any) -> Any:
        return functional.layer_norm(x, (24,), g, b, epsilon)

    agree(First(LayerNorm(epsilon)), reference, 3 * normal(37, 24) + 2, normal(24), normal(24))


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("gelu_new", lambda x: functional.gelu(x, approximate="tanh")),
        ("gelu", functional.gelu),
        ("fast_gelu", lambda x: x * torch.sigmoid(1.702 * x)),
        ("relu", functional.relu),
    ],
)
def test_activation(name: str, reference: Callable[..., Any]) -> None:
    x = np.concatenate([np.linspace(-12, 12, 241), [0.0, -40.0, 40.0]]).astype(np.float32)
    agree(activation(name), reference, x[x != 0].reshape(-1, 1))


def test_fast_gelu_is_what_mindspore_calls_by_that_name() -> None:
    x = torch.linspace(-12, 12, 241, dtype=torch.float64)
    published = x * torch.exp(0.851 * (x - x.abs())) / (1 + torch.exp(-1.702 * x.abs()))
    torch.testing.assert_close(published, x * torch.sigmoid(1.702 * x))


def test_softmax_with_masked_scores() -> None:
    scores = normal(6, 13, 13) * 5
    scores += np.triu(np.full((13, 13), -1e9, np.float32), 1)
    agree(Unknown(Softmax()), lambda s: s.softmax(-1), scores)


def test_dropout_with_a_given_mask() -> None:
    mask = RANDOM.random((37, 24)) < 0.9
    agree(Dropout(0.9), lambda x, m: x * m / 0.9, normal(37, 24), mask)


@pytest.mark.parametrize("shift", [0.0, -60.0])
def test_head_loss_leaves_padded_rows_out(shift: float) -> None:
    vocab, padded, hidden = 301, 384, 24
    table = np.zeros((padded, hidden), np.float32)
    table[:vocab] = normal(vocab, hidden)
    x = normal(37, hidden)
    # Published weights have logits far below zero: padding at zero would take all probability.
    x[:, 0] = 1.0
    table[:vocab, 0] = shift
    labels = RANDOM.integers(0, vocab, (37, 1)).astype(np.int32)

    def reference(x: Any, table: Any, labels: Any) -> Any:
        logits = x @ table[:vocab].T
        return functional.cross_entropy(logits, labels[:, 0].long(), reduction="none")[:, None]

    agree(First(LinearCrossEntropy(vocab, padded)), reference, x, table, labels, close=1e-5)


def test_padded_logits_have_no_probability() -> None:
    logits = Logits(301, 384)(Tensor(normal(5, 24)), Tensor(normal(384, 24))).asnumpy()
    assert (logits[:, 301:] < -1e8).all()
