"""Weights that an earlier stage of a chain is to make, as far as its plan knows them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.params import parameter_count
from gpt2dsl.parts.bundle import Parts
from gpt2dsl.parts.task import Conversion, Convert, Reshard
from gpt2dsl.plan.network import PUBLISHED, TRAIN, DeferredWeights, Network

if TYPE_CHECKING:
    from gpt2dsl.weights.reading import Look


def gives(parts: Parts) -> bool:
    """Return whether a task makes weights that a later stage can take."""
    if isinstance(parts.task, Convert):
        return parts.task.to != "peft"
    return parts.trains or isinstance(parts.task, Reshard)


def takes(parts: Parts) -> bool:
    """Return whether a recipe leaves its initial weights open."""
    if isinstance(parts.task, Conversion):
        return parts.task.source == "auto"
    return parts.model.weights == "auto"


def promise(parts: Parts, network: Network, name: str) -> DeferredWeights:
    """Return the description of the weights that a stage is to make.

    Args:
        parts: its recipe's.
        network: network of the stage.
        name: name of the stage in messages.
    """
    from gpt2dsl.weights.defaults import Defaults  # noqa: PLC0415  # as below
    from gpt2dsl.weights.reading import Look  # noqa: PLC0415  # NumPy: only where weights follow

    assert parts.task is not None
    is_file = isinstance(parts.task, Convert) and parts.task.target.endswith(".ckpt")
    pending = any(item.state == "promised" for item in network.inputs)
    tokenizer = PUBLISHED if is_file else network.tokenizer or (TRAIN if pending else PUBLISHED)
    return DeferredWeights(
        look=Look(
            path=Path(name),
            geometry=_geometry(parts, network),
            kind=f"to be made by {parts.task.kind}",
            size=4 * parameter_count(network.geometry),
            digest=None,
            tokenizer=Path(tokenizer),
            adapter=_adapter(parts, network.looked),
            classes=network.classes,
            defaults=network.looked.defaults if network.looked else Defaults(),
        ),
        tokenizer=tokenizer,
    )


def _geometry(parts: Parts, network: Network) -> GPT2Config:
    """Return the configuration in the weights to be made; with LoRA it has the base's dropouts."""
    if parts.lora is None or network.looked is None:
        return network.geometry
    base = network.looked.geometry
    return attrs.evolve(
        network.geometry,
        dropout=base.dropout,
        embedding_dropout=base.embedding_dropout,
        attention_dropout=base.attention_dropout,
    )


def _adapter(parts: Parts, taken: Look | None) -> bool:
    """Return whether the weights are an adapter that is kept apart from its base."""
    if isinstance(parts.task, Conversion):
        return False
    return parts.lora is not None or bool(taken and taken.adapter)
