"""Training beside torch: transformers' network, and PEFT's adapters on it, state by state."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from peft import LoraConfig, get_peft_model

from gpt2dsl.engine.lr_schedule import learning_rate
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.lora import LoRASettings, LoRASpec, lora_specs
from gpt2dsl.layout.params import WTE
from gpt2dsl.model.forward import MicroBatch
from gpt2dsl.model.gpt2 import GPT2
from gpt2dsl.parts import Model, Optim, Schedule
from gpt2dsl.training.step import TrainStep
from gpt2dsl.weights.files.lazy_tensor import Arrays
from gpt2dsl.weights.initial import initial
from tests.judges import TINY, hugging_face, random_ids, random_weights
from tests.training.gradients import Gradients

SCHEDULE = Schedule(kind="polynomial", warmup=3, end=1e-5)
STEPS, PEAK = 100, 1e-3
BEFORE = 2
"""Torch's steps before states are compared: the first update is the sign of the gradient alone,
which noise decides where the gradient is 0."""

Values = dict[str, NDArray[Any]]


class Torch:
    """The same training in torch."""

    def __init__(self, model: Any, trained: dict[str, Any], vocab: int) -> None:
        self.model, self.trained, self.vocab = model, trained, vocab
        groups = [
            {"params": [p for p in trained.values() if p.dim() > 1], "weight_decay": 0.1},
            {"params": [p for p in trained.values() if p.dim() == 1], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95), eps=1e-8)

    def step(self, part: MicroBatch, lr: float) -> tuple[float, float, Values]:
        """Loss, gradient norm and gradients; then the update."""
        self.optimizer.zero_grad()
        logits = self.model(torch.tensor(part.ids).long()).logits.reshape(-1, self.vocab)
        labels = torch.tensor(part.labels).long().reshape(-1)
        loss = torch.nn.functional.cross_entropy(logits, labels)
        loss.backward()
        gradients = {name: p.grad.numpy().copy() for name, p in self.trained.items()}
        # In float32 torch's own norm of a word table of 38 million values is 2e-3 too low.
        norm = sum(np.square(g, dtype=np.float64).sum() for g in gradients.values()) ** 0.5
        for parameter in self.trained.values():
            parameter.grad.mul_(min(1.0, 1.0 / (norm + 1e-6)))
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        return loss.item(), float(norm), gradients

    def values(self) -> Values:
        """What is trained."""
        return {name: p.detach().numpy().copy() for name, p in self.trained.items()}

    def moments(self) -> Values:
        """Adam's, by our names."""
        found = {}
        for name, parameter in self.trained.items():
            state = self.optimizer.state.get(parameter) or {}
            for kind, key in (("m", "exp_avg"), ("v", "exp_avg_sq")):
                value = state.get(key, torch.zeros_like(parameter))
                found[f"{kind}.{name}"] = value.numpy().astype(np.float32)
        return found


def weights(geometry: GPT2Config) -> Values:
    """Large ones where a loss of hundreds does not come of them."""
    return random_weights(geometry) if geometry is TINY else dict(Arrays(initial(geometry, 0)))


def full(geometry: GPT2Config, *, double: bool) -> tuple[GPT2, Torch]:
    """All parameters."""
    arrays = weights(geometry)
    network = GPT2(geometry)
    network.load(arrays)
    model = hugging_face(geometry, arrays, double=double)
    return network, Torch(model, dict(model.named_parameters()), geometry.vocab)


def with_peft(geometry: GPT2Config, *, double: bool) -> tuple[GPT2, Torch]:
    """Adapters on c_attn and both c_proj, as PEFT makes them."""
    slots = lora_specs(geometry, LoRASettings(targets="c_attn|.*c_proj", r=4, alpha=8))
    arrays = weights(geometry)
    network = GPT2(geometry, adapters=slots)
    network.load(arrays)
    model = get_peft_model(
        hugging_face(geometry, arrays, double=double),
        LoraConfig(r=4, lora_alpha=8, target_modules=["c_attn", "c_proj"], fan_in_fan_out=True),
        autocast_adapter_dtype=False,
    )
    named = dict(model.named_parameters())
    random = np.random.default_rng(3)
    trained = {}
    for slot in slots:
        for name, shape in slot.shapes.items():
            parameter = named[_peft_name(slot, name)]
            parameter.data = torch.tensor(random.normal(size=shape) * arrays[WTE].std()).to(
                parameter.dtype
            )
            trained[name] = parameter
    return network, Torch(model, trained, geometry.vocab)


def _peft_name(slot: LoRASpec, name: str) -> str:
    return f"base_model.model.{slot.module}.{name.rpartition('.')[2]}.default.weight"


def take_over(step: TrainStep, values: Values, moments: Values, steps: int) -> None:
    """Torch's state."""
    network, geometry = step.network, step.network.config
    if network.adapters:
        network.load_adapters(values)
    else:
        network.load(values)
        padding = geometry.padded_vocab - geometry.vocab
        for kind in "mv":
            name = f"{kind}.{WTE}"
            moments = moments | {name: np.pad(moments[name], ((0, padding), (0, 0)))}
    step.load_state(moments, {"step": steps, "updates": steps})


def batches(geometry: GPT2Config, rows: int, time: int, count: int) -> Iterator[MicroBatch]:
    for i in range(count):
        ids = random_ids(geometry, rows, time + 1, seed=i)
        yield MicroBatch(np.ascontiguousarray(ids[:, :-1]), np.ascontiguousarray(ids[:, 1:]))


def relative(found: NDArray[Any], expected: NDArray[Any]) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def without_keys(name: str, array: NDArray[Any]) -> NDArray[Any]:
    """The loss does not depend on keys' biases: their gradient is noise, which Adam amplifies."""
    if not name.endswith("c_attn.bias"):
        return array
    return np.delete(array, np.s_[len(array) // 3 : 2 * len(array) // 3])


def trained_now(network: GPT2) -> Values:
    found = {name: value.asnumpy().copy() for name, value in network.trained().items()}
    if WTE in found:
        found[WTE] = found[WTE][: network.config.vocab]
    return found


def compare(
    geometry: GPT2Config, pair: tuple[GPT2, Torch], shape: tuple[int, int], states: int
) -> None:
    """From each of torch's states one step here and there."""
    network, judge = pair
    step = TrainStep(network, Optim().settings(), clip=1.0)
    found_here = Gradients(network)
    for i, part in enumerate(batches(geometry, *shape, BEFORE + states)):
        lr = learning_rate(SCHEDULE, PEAK, i + 3, STEPS)
        if i < BEFORE:
            judge.step(part, lr)
            continue
        take_over(step, judge.values(), judge.moments(), i)
        before, before_there = trained_now(network), judge.values()
        gradients = found_here.of(part)
        loss, norm = step.step([part], lr)
        expected_loss, expected_norm, expected = judge.step(part, lr)
        assert loss == pytest.approx(expected_loss, rel=1e-5)
        assert norm == pytest.approx(expected_norm, rel=2e-5)
        after, after_there = trained_now(network), judge.values()
        for name, gradient in expected.items():
            found = gradients[name][: len(gradient)]
            assert relative(found, gradient) < 1e-4, name
            update = without_keys(name, after[name] - before[name])
            update_there = without_keys(name, after_there[name] - before_there[name])
            rounding = HALF_A_STEP * np.linalg.norm(after[name])
            difference = np.linalg.norm(update - update_there)
            assert difference < 1e-4 * np.linalg.norm(update_there) + rounding, (name, i)


HALF_A_STEP = 2.0**-24
"""Of float32, relative: what holding a parameter costs."""


@pytest.mark.parametrize("pair", [full, with_peft])
def test_twenty_states_of_torch_in_float64_lead_to_the_same_steps(pair: Any) -> None:
    compare(TINY, pair(TINY, double=True), (3, 17), 20)


@pytest.mark.parametrize("pair", [full, with_peft])
def test_a_hundred_steps_run_free_stay_beside_torch(pair: Any) -> None:
    network, judge = pair(TINY, double=True)
    step = TrainStep(network, Optim().settings(), clip=1.0)
    take_over(step, judge.values(), judge.moments(), 0)
    for i, part in enumerate(batches(TINY, 3, 17, STEPS)):
        lr = learning_rate(SCHEDULE, PEAK, i, STEPS)
        loss, _ = step.step([part], lr)
        expected, _, _ = judge.step(part, lr)
        assert loss == pytest.approx(expected, rel=1e-2), i


@pytest.mark.soak
@pytest.mark.parametrize("pair", [full, with_peft])
def test_three_states_of_124m_lead_to_the_same_steps(pair: Any) -> None:
    geometry = Model(size="124m", dropout=0.0).geometry(vocab=50257, labels=0)
    compare(geometry, pair(geometry, double=False), (2, 128), 3)
