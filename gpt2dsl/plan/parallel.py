"""Parallel layout of a plan: tensors, pipeline stages, traffic, bubble."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import attrs

from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.local_params import LocalParam
from gpt2dsl.layout.params import VOCAB_TABLES
from gpt2dsl.layout.tensor_layout import Shape
from gpt2dsl.parts.bundle import Parts
from gpt2dsl.plan.stages import StageSizes
from gpt2dsl.plan.traffic import Traffic, traffic


@attrs.frozen(kw_only=True)
class Role:
    """Tensors that are alike in every block.

    Attributes:
        name: name within the block or the network: ``attn.c_attn.weight``, ``wte.weight``.
        count: number of such tensors.
        shape: full shape; rows of wte are padded to a multiple of 128.
        part: shape on a rank.
        axis: axis that mp splits; None where it is replicated.
        by: dimension that mp splits: heads, inner, vocabulary, or "".
        state: shape of the optimizer state on a rank; None where it is not trained.
        state_axis: axis that dp splits; None where it is replicated.
    """

    name: str
    count: int
    shape: Shape
    part: Shape
    axis: int | None
    by: str
    state: Shape | None
    state_axis: int | None


@attrs.frozen
class StagePlacement:
    """A pipeline stage; both ranges include their ends.

    Attributes:
        layers: first and last block.
        ranks: first and last rank.
    """

    layers: tuple[int, int]
    ranks: tuple[int, int]


@attrs.frozen(kw_only=True)
class Layout:
    """Layout of a network on its ranks.

    Attributes:
        roles: tensors of the network, each kind once.
        stages: pipeline stages.
        traffic: bytes per rank and optimizer step; None where nothing is trained.
        bubble: fraction of a step in which a stage waits for others.
    """

    roles: tuple[Role, ...]
    stages: tuple[StagePlacement, ...]
    traffic: Traffic | None
    bubble: float


def layout(parts: Parts, geometry: GPT2Config, stages: Sequence[StageSizes]) -> Layout:
    """Return the layout of a recipe whose task has a network in memory."""
    parallel = parts.parallel
    size = parallel.dp * parallel.mp  # ranks of a stage
    return Layout(
        roles=_roles(parts, stages),
        stages=tuple(
            StagePlacement(
                (stage.layers[0], stage.layers[-1]),
                (stage.index * size, (stage.index + 1) * size - 1),
            )
            for stage in stages
        ),
        traffic=traffic(parts, geometry, stages) if parts.trains else None,
        bubble=bubble(parallel.pp, parallel.micro_batches) if parts.trains else 0.0,
    )


def bubble(pp: int, micro_batches: int) -> float:
    """Return the bubble of 1F1B as a fraction of a step (Narayanan et al. 2021, section 2.2)."""
    return (pp - 1) / (micro_batches + pp - 1)


def _roles(parts: Parts, stages: Sequence[StageSizes]) -> tuple[Role, ...]:
    once = {param.name: param for stage in stages for param in stage.held}
    kinds: dict[tuple[str, Shape], list[LocalParam]] = {}
    for param in once.values():
        kinds.setdefault((_role(param.name), param.shape), []).append(param)
    return tuple(_made(parts, name, params) for (name, _), params in kinds.items())


def _made(parts: Parts, name: str, alike: Sequence[LocalParam]) -> Role:
    parallel, param = parts.parallel, alike[0]
    axis = param.split.axis if parallel.mp > 1 else None
    updated = param.is_trained and parts.trains
    dp = parallel.dp if parallel.optimizer_shard else 1
    return Role(
        name=name,
        count=len(alike),
        shape=param.shape,
        part=param.part,
        axis=axis,
        by="" if axis is None else _by(param.name),
        state=param.state(dp) if updated else None,
        state_axis=0 if updated and param.is_sharded(dp) else None,
    )


def _role(name: str) -> str:
    """Return a name within its block: ``transformer.h.3.ln_1.bias`` → ``ln_1.bias``."""
    words = name.removeprefix("transformer.").split(".")
    return ".".join(words[2:] if words[0] == "h" else words)


def _by(name: str) -> str:
    if name in VOCAB_TABLES:
        return "vocabulary"
    return "heads" if ".attn." in name else "inner"


def notes(parts: Parts) -> Iterator[str]:
    """Yield a note on a pipeline with a large bubble."""
    parallel = parts.parallel
    if not parts.trains:
        return
    if parallel.micro_batches < parallel.pp:
        waits = bubble(parallel.pp, parallel.micro_batches)
        yield (
            f"parallel.micro_batches = {parallel.micro_batches} fill {parallel.pp} stages badly: "
            f"each waits {waits:.0%} of a step; {4 * parallel.pp} make it less than 20%"
        )
