from __future__ import annotations

from typing import Any

import attrs
import numpy as np
import pytest
import torch

from gpt2dsl.model import dropout_masks
from gpt2dsl.model.forward import MicroBatch
from gpt2dsl.model.gpt2 import GPT2
from gpt2dsl.parts import Optim
from gpt2dsl.training.step import TrainStep
from tests.judges import TINY, hugging_face, random_ids, random_weights

OPTIM = Optim()
KEY_BIASES = "c_attn.bias"
"""The loss does not depend on the keys' biases: their gradient is noise, which Adam amplifies."""


def trainer(seed: int = 0, optim: Optim = OPTIM, **changes: Any) -> TrainStep:
    network = GPT2(TINY)
    network.load(random_weights(TINY, seed))
    return TrainStep(network, optim.settings(), **changes)


def one(ids: Any, labels: Any, *kept: Any) -> list[MicroBatch]:
    """A batch in one piece."""
    return [MicroBatch(ids, labels, kept)]


def torch_step(model: Any, optimizer: Any, ids: Any, labels: Any, clip: float) -> Any:
    """Loss and gradient norm of one step of torch."""
    optimizer.zero_grad()
    logits = model(torch.tensor(ids).long()).logits
    loss = torch.nn.functional.cross_entropy(
        logits.reshape(-1, TINY.vocab), torch.tensor(labels).long().reshape(-1)
    )
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), clip or float("inf"))
    optimizer.step()
    return loss.item(), norm.item()


@pytest.mark.parametrize(("clip", "decay"), [(1.0, 0.1), (0.0, 0.0)])
def test_steps_are_those_of_torch_in_float64(clip: float, decay: float) -> None:
    step = trainer(clip=clip, optim=Optim(weight_decay=decay))
    model = hugging_face(TINY, random_weights(TINY))
    groups = [
        {"params": [p for p in model.parameters() if p.dim() > 1], "weight_decay": decay},
        {"params": [p for p in model.parameters() if p.dim() == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95), eps=1e-8)
    for i in range(6):
        lr = 1e-3 / (i + 1)
        for group in optimizer.param_groups:
            group["lr"] = lr
        ids, labels = random_ids(TINY, 3, 17, seed=i), random_ids(TINY, 3, 17, seed=i + 50)
        loss, norm = step.step(one(ids, labels), lr)
        expected_loss, expected_norm = torch_step(model, optimizer, ids, labels, clip)
        assert loss == pytest.approx(expected_loss, rel=1e-5)
        assert norm == pytest.approx(expected_norm, rel=2e-5)
        found = step.network.arrays()
        for name, parameter in model.named_parameters():
            if not name.endswith(KEY_BIASES):
                np.testing.assert_allclose(
                    found[name], parameter.detach().numpy(), atol=lr * 0.02, rtol=0
                )


def test_padded_rows_stay_zero_through_training() -> None:
    step = trainer()
    for i in range(3):
        ids = random_ids(TINY, 2, 9, seed=i)
        step.step(one(ids, ids), 1e-2)
    assert not step.network.by_name["transformer.wte.weight"].asnumpy()[TINY.vocab :].any()


def test_a_state_that_is_saved_and_loaded_goes_on_bit_for_bit() -> None:
    ids = random_ids(TINY, 2, 9)
    batch = one(ids, ids)
    first = trainer()
    for _ in range(2):
        first.step(batch, 1e-3)
    weights, state = first.network.arrays(), first.state()
    weights = {name: array.copy() for name, array in weights.items()}
    state = {name: array.copy() for name, array in state.items()}
    progress = first.progress()
    expected = [first.step(batch, 1e-3) for _ in range(3)]
    other = trainer(seed=9)
    other.network.load(weights)
    other.load_state(state, progress)
    assert [other.step(batch, 1e-3) for _ in range(3)] == expected
    for name, array in first.network.arrays().items():
        np.testing.assert_array_equal(other.network.arrays()[name], array)


def test_a_state_of_another_network_is_refused() -> None:
    step = trainer()
    state = step.state()
    state.pop("m.transformer.wte.weight")
    with pytest.raises(ValueError, match=r"m\.transformer\.wte\.weight is missing"):
        step.load_state(state, step.progress())


def test_dropout_is_the_network_with_these_masks() -> None:
    """The loss with masks equals that of transformers with the same masks put in by hooks."""
    geometry = attrs.evolve(TINY, dropout=0.25)
    arrays = random_weights(geometry)
    network = GPT2(geometry)
    network.load(arrays)
    step = TrainStep(network, OPTIM.settings())
    ids, labels = random_ids(geometry, 2, 9), random_ids(geometry, 2, 9, seed=5)
    kept = list(dropout_masks.masks(geometry, seed=3, step=0, rows=range(2), time=9))
    loss, norm = step.step(one(ids, labels, *kept), 1e-3)

    model = hugging_face(geometry, arrays)
    order = iter(kept)

    def masked(_module: Any, _inputs: Any, output: Any) -> Any:
        mask = torch.tensor(next(order)).reshape(output.shape)
        return output * mask / dropout_masks.keep(0.25)

    places = [model.transformer.drop]
    for block in model.transformer.h:
        places += [block.attn.attn_dropout, block.attn.resid_dropout, block.mlp.dropout]
    for place in places:
        place.register_forward_hook(masked)
    optimizer = torch.optim.AdamW(model.parameters())
    expected_loss, expected_norm = torch_step(model, optimizer, ids, labels, 1.0)
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    assert norm == pytest.approx(expected_norm, rel=2e-5)
