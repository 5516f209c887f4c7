"""Weights that an earlier stage of a chain is to make, as far as its plan knows them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.params import parameter_count
from gpt2dsl.parts.bundle import Parts
from gpt2dsl.plan.inputs import weights_key
from gpt2dsl.plan.network import PUBLISHED, TRAIN, DeferredWeights, Network
from gpt2dsl.plan.tasks import plan_of

if TYPE_CHECKING:
    from gpt2dsl.weights.reading import WeightsInfo


def gives(parts: Parts) -> bool:
    """Return whether a task makes weights that a later stage can take."""
    return plan_of(parts).gives_weights


def takes(parts: Parts) -> bool:
    """Return whether a recipe leaves its initial weights open."""
    return bool(parts.value(weights_key(parts)) == "auto")


def promise(parts: Parts, network: Network, name: str) -> DeferredWeights:
    """Return the description of the weights that a stage is to make.

    Args:
        parts: its recipe's.
        network: network of the stage.
        name: name of the stage in messages.
    """
    from gpt2dsl.weights.defaults import Defaults  # noqa: PLC0415  # as below
    from gpt2dsl.weights.reading import WeightsInfo  # noqa: PLC0415  # NumPy: only where weights follow

    assert parts.task is not None
    pending = any(item.state == "promised" for item in network.inputs)
    tokenizer = network.tokenizer if plan_of(parts).gives_tokenizer else PUBLISHED
    tokenizer = tokenizer or (TRAIN if pending else PUBLISHED)
    return DeferredWeights(
        weights_info=WeightsInfo(
            path=Path(name),
            geometry=_geometry(parts, network),
            kind=f"to be made by {parts.task.kind}",
            size=4 * parameter_count(network.geometry),
            digest=None,
            tokenizer=Path(tokenizer),
            adapter=_adapter(parts, network.weights_info),
            classes=network.classes,
            defaults=network.weights_info.defaults if network.weights_info else Defaults(),
        ),
        tokenizer=tokenizer,
    )


def _geometry(parts: Parts, network: Network) -> GPT2Config:
    """Return the configuration in the weights to be made; with LoRA it has the base's dropouts."""
    if parts.lora is None or network.weights_info is None:
        return network.geometry
    base = network.weights_info.geometry
    return attrs.evolve(
        network.geometry,
        dropout=base.dropout,
        embedding_dropout=base.embedding_dropout,
        attention_dropout=base.attention_dropout,
    )


def _adapter(parts: Parts, taken: WeightsInfo | None) -> bool:
    """Return whether the weights are an adapter that is kept apart from its base."""
    if parts.converts:
        return False
    return parts.lora is not None or bool(taken and taken.adapter)
