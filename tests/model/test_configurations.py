"""Every flag of GPT-2's configuration, alone and together, against transformers in float64."""

from __future__ import annotations

from typing import Any

import attrs
import mindspore as ms
import numpy as np
import pytest
import torch
from transformers.activations import ACT2FN

from gpt2dsl.kernels.activation import OPERATORS, activation
from gpt2dsl.layout.config import ACTIVATIONS, GPT2Config
from gpt2dsl.layout.params import HEAD, WTE
from gpt2dsl.layout.precision import PrecisionPolicy
from gpt2dsl.model import dropout_masks
from gpt2dsl.model.decoding import KVCacheDecoder
from gpt2dsl.model.evaluation import TokenLogits, TokenLosses
from gpt2dsl.model.forward import MicroBatch
from gpt2dsl.model.gpt2 import GPT2, AttentionCore
from gpt2dsl.parts import Optim
from gpt2dsl.schema.activations import WRITTEN
from gpt2dsl.training.step import TrainStep
from tests.judges import TINY, hugging_face, random_ids, random_weights
from tests.training.gradients import Gradients

FLAGS: dict[str, dict[str, Any]] = {
    "unscaled": {"scale_attention": False},
    "by layer": {"scale_by_layer": True},
    "untied": {"tied": False},
    "all": {
        "scale_attention": False, "scale_by_layer": True, "tied": False, "upcast_attention": True,
        "activation": "mish",
    },
}  # fmt: skip
EDGES = [0, 6, -6, 10, 20, 100, -100, 1e4, -1e4, -1e-8]
GEOMETRIES = [
    pytest.param(
        attrs.evolve(TINY, **flags), id=name, marks=[] if name == "all" else [pytest.mark.soak]
    )
    for name, flags in FLAGS.items()
]


def loaded(geometry: GPT2Config, **more: Any) -> GPT2:
    network = GPT2(geometry, **more)
    network.load(random_weights(geometry))
    return network


def batch(geometry: GPT2Config) -> MicroBatch:
    ids = random_ids(geometry, 2, 13)
    return MicroBatch(np.ascontiguousarray(ids[:, :-1]), np.ascontiguousarray(ids[:, 1:]))


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_scores_and_decoding_are_those_of_transformers(geometry: GPT2Config) -> None:
    network = loaded(geometry)
    ids = random_ids(geometry, 2, 12)
    with torch.no_grad():
        model = hugging_face(geometry, random_weights(geometry))
        expected = model(torch.tensor(ids).long()).logits.numpy()
    assert np.abs(TokenLogits(network).logits(ids) - expected).max() < 1e-5
    decoder = KVCacheDecoder(network, 2)
    decoder.reserve(12)
    first = decoder.prefill([0, 1], ids[:, :6].tolist())
    assert np.abs(first - expected[:, 5]).max() < 1e-5
    assert np.abs(decoder.step(ids[:, 6]) - expected[:, 6]).max() < 1e-5


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_loss_and_gradients_are_those_of_transformers(geometry: GPT2Config) -> None:
    part = batch(geometry)
    network = loaded(geometry)
    found = Gradients(network).of(part)
    model = hugging_face(geometry, random_weights(geometry))
    logits = model(torch.tensor(part.ids).long()).logits.reshape(-1, geometry.vocab)
    labels = torch.tensor(part.labels).long().reshape(-1)
    losses = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    losses.mean().backward()
    expected = {name: p.grad.numpy() for name, p in model.named_parameters()}
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        own = found[name][: len(gradient)]
        assert np.abs(own - gradient).max() < 1e-4 * max(1.0, np.abs(gradient).max()), name
    own_losses = TokenLosses(network).losses(part.ids, part.labels)
    assert np.abs(own_losses.reshape(-1) - losses.detach().numpy()).max() < 1e-4


def test_layers_that_differ_in_their_scale_share_one_graph() -> None:
    geometry = attrs.evolve(TINY, scale_by_layer=True)
    assert len(set(GPT2(geometry).kinds)) == 1


def test_a_head_of_its_own_is_trained_with_decay_and_the_table_without_it() -> None:
    geometry = attrs.evolve(TINY, tied=False)
    network = loaded(geometry)
    before = network.arrays()
    part = batch(geometry)
    TrainStep(network, Optim(lr=1e-2, weight_decay=0.5).settings()).step([part], 1e-2)
    after = network.arrays()
    unseen = np.setdiff1d(np.arange(geometry.vocab), part.ids)
    assert np.allclose(after[WTE][unseen], before[WTE][unseen] * (1 - 1e-2 * 0.5), atol=1e-6)
    assert not np.allclose(after[HEAD], before[HEAD] * (1 - 1e-2 * 0.5), atol=1e-4)


@pytest.mark.parametrize("upcasts", [True, False])
def test_scores_of_attention_that_are_upcast_may_be_larger_than_float16_holds(
    *, upcasts: bool
) -> None:
    geometry = attrs.evolve(TINY, upcast_attention=upcasts)
    core = AttentionCore(geometry, PrecisionPolicy(compute="float16"))
    q, k = (ms.Tensor(np.full((1, 1, 8), value, np.float32)) for value in (200, 300))
    v, mask = ms.Tensor(np.ones((1, 1, 8), np.float32)), ms.Tensor(np.zeros((1, 1, 1), np.float32))
    mixed, _ = core(q, mask, (k, v), (), ())
    assert np.isfinite(mixed.asnumpy()).all() == upcasts


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_and_its_slope_are_those_of_transformers(name: str) -> None:
    x = np.concatenate([np.linspace(-30, 30, 2001), EDGES]).astype(np.float32)[None]
    wide = torch.tensor(x.astype(np.float64), requires_grad=True)
    y = ACT2FN[WRITTEN[name]](wide)
    y.sum().backward()
    own = activation(name)
    for found, expected in (
        (own(ms.Tensor(x)), y.detach().numpy()),
        (ms.grad(own)(ms.Tensor(x)), wide.grad.numpy()),
    ):
        scale = np.maximum(1, np.abs(expected))
        assert (np.abs(found.asnumpy() - expected) / scale).max() < 1e-5


def test_an_activation_that_no_operator_is_for_fails() -> None:
    assert OPERATORS.keys() == set(ACTIVATIONS)
    with pytest.raises(KeyError):
        activation("prelu")


MASKED = attrs.evolve(TINY, dropout=0.1, embedding_dropout=0.3, attention_dropout=0.5)


def shares(geometry: GPT2Config) -> list[float]:
    found = dropout_masks.masks(geometry, seed=0, step=0, rows=range(4), time=40)
    return [1 - mask.mean() for mask in found]


def test_each_place_drops_with_its_own_probability() -> None:
    expected = [0.3, *([0.5, 0.1, 0.1] * TINY.layers)]
    assert shares(MASKED) == pytest.approx(expected, abs=0.03)


def test_equal_probabilities_give_the_masks_of_one() -> None:
    one = attrs.evolve(TINY, dropout=0.1)
    three = attrs.evolve(one, embedding_dropout=0.1, attention_dropout=0.1)
    pairs = zip(*(dropout_masks.masks(g, 0, 0, range(2), 9) for g in (one, three)), strict=True)
    assert all(np.array_equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("place", ["dropout", "embedding_dropout", "attention_dropout"])
def test_a_place_that_drops_alone_takes_no_mask_of_another(place: str) -> None:
    none: dict[str, Any] = {"dropout": 0.0, "embedding_dropout": 0.0, "attention_dropout": 0.0}
    geometry = attrs.evolve(TINY, **(none | {place: 0.5}))
    part = batch(geometry)
    kept = tuple(dropout_masks.masks(geometry, 0, 0, range(2), part.ids.shape[1]))
    counts = {"dropout": 2 * TINY.layers, "embedding_dropout": 1, "attention_dropout": TINY.layers}
    assert len(kept) == counts[place]
    network = loaded(geometry)
    model = hugging_face(geometry, random_weights(geometry))
    ids = torch.tensor(part.ids).long()
    labels = torch.tensor(part.labels).long().reshape(-1)
    masks = iter(kept)

    def dropped(_: Any, inputs: tuple[Any, ...]) -> Any:
        mask = torch.tensor(next(masks)).reshape(inputs[0].shape)
        return inputs[0] * mask / dropout_masks.keep(0.5)

    blocks = model.transformer.h
    modules = {
        "embedding_dropout": [model.transformer.drop],
        "attention_dropout": [block.attn.attn_dropout for block in blocks],
        "dropout": [m for b in blocks for m in (b.attn.resid_dropout, b.mlp.dropout)],
    }
    for module in modules[place]:
        module.register_forward_pre_hook(dropped)
    loss = torch.nn.functional.cross_entropy(model(ids).logits.reshape(-1, TINY.vocab), labels)
    step = TrainStep(network, Optim(lr=1e-3).settings())
    assert step.step([attrs.evolve(part, dropout_masks=kept)], 0.0)[0] == pytest.approx(
        loss.item(), 1e-5
    )


@pytest.mark.parametrize("epsilon", [0.0, 1e-12, 1.0, 1e4])
def test_any_epsilon_of_the_norms_is_that_of_transformers(epsilon: float) -> None:
    geometry = attrs.evolve(TINY, epsilon=epsilon)
    ids = random_ids(geometry, 2, 12)
    with torch.no_grad():
        model = hugging_face(geometry, random_weights(geometry))
        expected = model(torch.tensor(ids).long()).logits.numpy()
    assert np.abs(TokenLogits(loaded(geometry)).logits(ids) - expected).max() < 1e-5
