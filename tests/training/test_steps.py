"""Steps in micro-batches, other optimizers, number formats, and what is computed again."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
import pytest
import torch

from gpt2dsl.layout.lora import LoRASettings, lora_specs
from gpt2dsl.layout.precision import PrecisionPolicy
from gpt2dsl.model import dropout_masks
from gpt2dsl.model.evaluation import TokenLogits
from gpt2dsl.model.forward import MicroBatch
from gpt2dsl.model.gpt2 import GPT2
from gpt2dsl.parts import Optim
from gpt2dsl.training.loss_scale import WINDOW, LossScale
from gpt2dsl.training.step import TrainStep
from gpt2dsl.weights.files.lazy_tensor import Arrays
from gpt2dsl.weights.initial import initial_adapters
from tests.judges import TINY, hugging_face, random_ids, random_weights
from tests.training.gradients import Gradients

HALF = PrecisionPolicy(params="float16", compute="float16")


def network(geometry: Any = TINY, **more: Any) -> GPT2:
    found = GPT2(geometry, **more)
    found.load(random_weights(geometry))
    return found


def batch(rows: int = 4, parts: int = 1, seed: int = 1) -> list[MicroBatch]:
    ids, labels = random_ids(TINY, rows, 9, seed=seed), random_ids(TINY, rows, 9, seed=seed + 50)
    pairs = zip(np.split(ids, parts), np.split(labels, parts), strict=True)
    return [MicroBatch(one, other) for one, other in pairs]


def test_micro_batches_are_the_batch() -> None:
    whole = TrainStep(network(), Optim().settings())
    for parts in (2, 4):
        divided = TrainStep(network(), Optim().settings(), micro_batches=parts)
        for seed in range(3):
            one = TrainStep(network(), Optim().settings()) if seed else whole
            one.network.load({k: v.copy() for k, v in divided.network.arrays().items()})
            one.load_state({k: v.copy() for k, v in divided.state().items()}, divided.progress())
            loss, norm = divided.step(batch(parts=parts, seed=seed), 1e-3)
            expected_loss, expected_norm = one.step(batch(seed=seed), 1e-3)
            assert loss == pytest.approx(expected_loss, rel=1e-6)
            assert norm == pytest.approx(expected_norm, rel=1e-5)
            for name, array in divided.network.arrays().items():
                if not name.endswith("c_attn.bias"):
                    np.testing.assert_allclose(array, one.network.arrays()[name], atol=2e-5)


def test_sgd_is_that_of_torch_with_decoupled_decay() -> None:
    step = TrainStep(
        network(), Optim(name="sgd", momentum=0.8, weight_decay=0.1).settings(), clip=0
    )
    model = hugging_face(TINY, random_weights(TINY))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.8)
    for seed in range(5):
        (part,) = batch(seed=seed)
        step.step([part], 0.01)
        optimizer.zero_grad()
        logits = model(torch.tensor(part.ids).long()).logits.reshape(-1, TINY.vocab)
        labels = torch.tensor(part.labels).long().reshape(-1)
        torch.nn.functional.cross_entropy(logits, labels).backward()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.mul_(1 - 0.01 * 0.1)
        optimizer.step()
    for name, parameter in model.named_parameters():
        np.testing.assert_allclose(
            step.network.arrays()[name], parameter.detach().numpy(), atol=2e-6, rtol=1e-5
        )


def test_without_bias_correction_it_is_the_arithmetic_of_mindformers() -> None:
    """AdamWeightDecay: ``p -= lr (m / (sqrt(v) + eps) + decay p)``."""
    step = TrainStep(network(), Optim(bias_correction=False, eps=1e-6).settings(), clip=0)
    name = "transformer.h.0.mlp.c_fc.weight"
    gradients = Gradients(step.network)
    p: Any = step.network.arrays()[name].astype(np.float64)
    m: Any = 0.0
    v: Any = 0.0
    for seed in range(3):
        (part,) = batch(seed=seed)
        g = gradients.of(part)[name].astype(np.float64)
        m, v = 0.9 * m + 0.1 * g, 0.95 * v + 0.05 * g * g
        p = p - 1e-3 * (m / (np.sqrt(v) + 1e-6) + 0.1 * p)
        step.step([part], 1e-3)
        np.testing.assert_allclose(step.network.arrays()[name], p, atol=2e-6)


@pytest.mark.parametrize("probability", [0.0, 0.2])
@pytest.mark.parametrize("recompute", ["full", "selective"])
@pytest.mark.parametrize("targets", ["", "[qv]|c_fc"])
def test_what_is_computed_again_gives_the_same_gradients(
    recompute: str, probability: float, targets: str
) -> None:
    geometry = attrs.evolve(TINY, dropout=probability)
    slots = lora_specs(TINY, LoRASettings(targets=targets, r=3, alpha=6)) if targets else []
    more: dict[str, Any] = {"adapters": slots, "adapter_dropout": probability}
    kept = tuple(dropout_masks.masks(geometry, 0, 0, range(4), 9, **more))
    (part,) = batch()
    part = attrs.evolve(part, dropout_masks=kept)
    found = []
    for how in ("none", recompute):
        one = network(geometry, recompute=how, **more)
        values = dict(Arrays(initial_adapters(slots, 0)))
        one.load_adapters({name: array + np.float32(0.1) for name, array in values.items()})
        found.append(Gradients(one).of(part))
    for name, gradient in found[0].items():
        assert np.linalg.norm(gradient - found[1][name]) <= 1e-6 * np.linalg.norm(gradient)


def test_half_precision_is_near_float32_and_its_parameters_are_rounded() -> None:
    exact, half = network(), network(precision=HALF)
    ids = random_ids(TINY, 2, 9)
    difference = np.abs(TokenLogits(exact).logits(ids) - TokenLogits(half).logits(ids)).max()
    assert 1e-5 < difference < 0.05
    rounded = network(precision=PrecisionPolicy(params="float16"))
    halves = {name: a.astype(np.float16) for name, a in random_weights(TINY).items()}
    exact.load({name: array.astype(np.float32) for name, array in halves.items()})
    np.testing.assert_array_equal(TokenLogits(rounded).logits(ids), TokenLogits(exact).logits(ids))


def test_half_precision_trains_as_float32_does() -> None:
    half = TrainStep(network(precision=HALF), Optim().settings(), scale=LossScale())
    exact = TrainStep(network(), Optim().settings())
    for seed in range(20):
        loss, norm = half.step(batch(seed=seed % 3), 3e-3)
        expected_loss, expected_norm = exact.step(batch(seed=seed % 3), 3e-3)
        assert loss == pytest.approx(expected_loss, rel=2e-2)
        assert norm == pytest.approx(expected_norm, rel=0.1)
    assert half.scale
    assert (half.scale.value, half.scale.clean, half.scale.skipped) == (2.0**16, 20, 0)


def test_master_weights_keep_updates_that_float16_would_lose() -> None:
    """Updates of 1e-5 relative: half of float16's own step is 2.4e-4."""
    name = "transformer.h.0.mlp.c_fc.weight"
    step = TrainStep(network(precision=HALF), Optim(weight_decay=0).settings(), scale=LossScale())
    before = step.network.arrays()[name].copy()
    size = np.abs(before).mean()
    for _ in range(40):
        step.step(batch(), float(size * 1e-5))
    moved = np.abs(step.network.arrays()[name] - before).mean() / size
    assert 1e-4 < moved < 5e-4
    one_by_one = before.astype(np.float16)
    for _ in range(40):
        one_by_one = (one_by_one.astype(np.float32) * (1 + 1e-5)).astype(np.float16)
    np.testing.assert_array_equal(one_by_one, before.astype(np.float16))


def test_an_overflow_skips_the_step_and_halves_the_scale() -> None:
    step = TrainStep(network(precision=HALF), Optim().settings(), scale=LossScale(2.0**40, clean=7))
    before = {name: array.copy() for name, array in step.network.arrays().items()}
    loss, norm = step.step(batch(), 1e-3)
    assert np.isfinite(loss)
    assert not np.isfinite(norm)
    for name, array in step.network.arrays().items():
        np.testing.assert_array_equal(array, before[name])
    assert step.scale == LossScale(2.0**39, clean=0, skipped=1)
    assert (step.steps, step.updates) == (1, 0)
    step.scale = LossScale()
    clean, _ = step.step(batch(), 1e-3)
    assert clean == pytest.approx(loss, rel=1e-6)
    fresh = TrainStep(network(precision=HALF), Optim().settings(), scale=LossScale())
    fresh.step(batch(), 1e-3)
    for name, array in step.network.arrays().items():
        np.testing.assert_array_equal(array, fresh.network.arrays()[name])


def test_a_window_of_clean_steps_doubles_the_scale() -> None:
    scale = LossScale(value=4.0)
    for _ in range(WINDOW):
        scale.passed()
    assert scale == LossScale(value=8.0, clean=0)
    for _ in range(5):
        scale.overflowed()
    assert scale == LossScale(value=1.0, clean=0, skipped=5)
