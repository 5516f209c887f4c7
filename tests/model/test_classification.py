from __future__ import annotations

from typing import Any

import attrs
import numpy as np
import pytest
import torch
from transformers import GPT2Config as HFConfig
from transformers import GPT2ForSequenceClassification

from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.model.evaluation import ClassScores
from gpt2dsl.model.forward import MicroBatch
from gpt2dsl.model.gpt2 import GPT2
from gpt2dsl.parts import Optim
from gpt2dsl.training.step import TrainStep
from tests.judges import TINY, random_ids, random_weights

GEOMETRY = attrs.evolve(TINY, labels=3, dropout=0.0)
PAD = 0
LENGTHS = (7, 3, 12, 1)


def judge(geometry: GPT2Config, arrays: dict[str, Any]) -> Any:
    """transformers' classifier in float64."""
    config = HFConfig(
        n_layer=geometry.layers, n_head=geometry.heads, n_embd=geometry.hidden,
        n_positions=geometry.positions, vocab_size=geometry.vocab, n_inner=geometry.inner or None,
        activation_function=geometry.activation, layer_norm_epsilon=geometry.epsilon,
        num_labels=geometry.labels, pad_token_id=PAD, attn_pdrop=0.0, embd_pdrop=0.0,
        resid_pdrop=0.0,
    )  # fmt: skip
    model = GPT2ForSequenceClassification(config).eval()
    model.load_state_dict({name: torch.tensor(np.array(array)) for name, array in arrays.items()})
    return model.double()


@pytest.fixture(scope="module")
def batch() -> tuple[Any, Any, Any]:
    """Padded rows, the places of their last tokens, and their attention mask."""
    ids = random_ids(GEOMETRY, len(LENGTHS), max(LENGTHS)) % (GEOMETRY.vocab - 1) + 1
    mask = np.arange(ids.shape[1]) < np.array(LENGTHS)[:, None]
    ids[~mask] = PAD
    return ids, np.array(LENGTHS, np.int32) - 1, torch.tensor(mask)


def test_logits_of_padded_rows_are_those_of_transformers(batch: tuple[Any, Any, Any]) -> None:
    ids, last, mask = batch
    arrays = random_weights(GEOMETRY)
    network = GPT2(GEOMETRY)
    network.load(arrays)
    with torch.no_grad():
        expected = judge(GEOMETRY, arrays)(torch.from_numpy(ids), attention_mask=mask).logits
    assert np.abs(ClassScores(network).logits(ids, last) - expected.numpy()).max() < 1e-4


def test_a_step_has_the_loss_and_the_gradients_of_transformers(batch: tuple[Any, Any, Any]) -> None:
    ids, last, mask = batch
    arrays = random_weights(GEOMETRY)
    network = GPT2(GEOMETRY)
    network.load(arrays)
    classes = np.array([2, 0, 1, 2], np.int32)
    trainer = TrainStep(network, Optim(weight_decay=0).settings(), clip=0)
    loss, norm = trainer.step([MicroBatch(ids, np.stack([classes, last], 1))], 1e-3)
    model = judge(GEOMETRY, arrays)
    expected = model(
        torch.from_numpy(ids), attention_mask=mask, labels=torch.from_numpy(classes).long()
    ).loss
    expected.backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    squares = sum(float((gradient**2).sum()) for gradient in gradients.values())
    assert abs(loss - expected.item()) < 1e-5 * expected.item()
    assert abs(norm - squares**0.5) < 1e-4 * squares**0.5
    # After one step m is (1 - beta1) times the gradient.
    moments = trainer.state()
    for name, gradient in gradients.items():
        found = moments[f"m.{name}"][: len(gradient)] / 0.1
        assert np.abs(found - gradient.numpy()).max() < 1e-4 * squares**0.5, name
