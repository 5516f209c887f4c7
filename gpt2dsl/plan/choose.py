"""Choice of the layout for a number of devices: one that fits and is fastest by the plan's figures.

Time is the sum of matrix products, pipeline bubble and communication, without overlap. The two
speeds are round figures of an Ascend 910 in a cluster; to compare layouts only their ratio counts.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import attrs

from gpt2dsl.errors import SpecError, counted
from gpt2dsl.layout.config import PADDED_TO, GPT2Config
from gpt2dsl.layout.flops import attention_products, model_flops
from gpt2dsl.parts import TABLES
from gpt2dsl.parts.bundle import Parts
from gpt2dsl.parts.parallel import Parallel
from gpt2dsl.parts.rules import bytes_of
from gpt2dsl.plan.checks import fault
from gpt2dsl.plan.parallel import bubble
from gpt2dsl.plan.stages import StageSizes, stages_of
from gpt2dsl.plan.tasks import plan_of
from gpt2dsl.plan.traffic import traffic
from gpt2dsl.plan.training import flops

PRODUCTS = 100e12
"""Floating-point operations per second of a device in matrix products."""

NEAR, FAR = 25e9, 10e9
"""Bytes per second that a rank sends to devices of its own machine, and of others."""

MACHINE = 8
"""Devices per machine."""

SHOWN = 5


@attrs.frozen(kw_only=True)
class Choice:
    """A layout that fits.

    Attributes:
        parallel: the layout.
        memory: bytes on the rank that needs the most.
        products: seconds of a step's matrix products on a device, recomputation included.
        waiting: seconds of the pipeline bubble.
        sending: seconds of communication.
    """

    parallel: Parallel
    memory: int
    products: float
    waiting: float
    sending: float

    @property
    def seconds(self) -> float:
        """Seconds of a step."""
        return self.products + self.waiting + self.sending

    def __str__(self) -> str:
        p = self.parallel
        words = f"dp {p.dp} x mp {p.mp} x pp {p.pp}"
        words += f", {p.micro_batches} micro-batches" if p.micro_batches > 1 else ""
        words += f", recompute {p.recompute}" if p.recompute != "none" else ""
        words += ", optimizer shared" if p.optimizer_shard else ""
        shares = ", ".join(
            f"{name} {share / self.seconds:.0%}"
            for name, share in (
                ("products", self.products), ("waiting", self.waiting), ("sending", self.sending),
            )
            if share > 0.005 * self.seconds
        )  # fmt: skip
        return f"{words}: {self.memory / 1e9:.1f} GB a rank; {shares}"


def resolved(parts: Parts, geometry: GPT2Config) -> tuple[Parts, tuple[Choice, ...]]:
    """Return the recipe with its layout chosen, and the best layouts, which differ in dp, mp or pp.

    A recipe with a layout of its own stays as it is.

    Raises:
        SpecError: no layout fits, or not the given one (G2-206).
    """
    if parts.converts:
        return parts, ()
    if not parts.parallel.devices:
        _require_fit(parts, geometry)
        return parts, ()
    layouts = ranked(parts, geometry)
    if not layouts:
        size = parts.parallel.memory or "any memory"
        message = f"no layout of {parts.parallel.devices} devices fits {size}, or divides the batch"
        raise SpecError(
            [fault(parts, "G2-206", "parallel.devices", message, compared=tuple(TABLES))]
        )
    chosen = layouts[0].parallel
    chosen.written(parts.parallel.origin, dict.fromkeys(chosen.origins, "chosen"))
    best = {(p.dp, p.mp, p.pp): choice for choice in reversed(layouts) for p in (choice.parallel,)}
    shown = sorted(best.values(), key=layouts.index)[:SHOWN]
    return attrs.evolve(parts, parallel=chosen), tuple(shown)


def ranked(parts: Parts, geometry: GPT2Config) -> list[Choice]:
    """Return every layout that fits, the fastest first, and the simpler of two equals."""
    asked = parts.parallel
    layouts = [
        choice
        for mp, pp in _splits(asked.devices, geometry, trains=parts.trains)
        for choice in _of_split(parts, geometry, mp, pp)
    ]
    order = ("none", "selective", "full")

    def simplest(choice: Choice) -> tuple[float, ...]:
        p = choice.parallel
        again = order.index(p.recompute)
        return (round(choice.seconds, 9), p.mp * p.pp, p.micro_batches, again, p.optimizer_shard)

    return sorted(layouts, key=simplest)


def _splits(devices: int, geometry: GPT2Config, *, trains: bool) -> Iterator[tuple[int, int]]:
    """Yield each mp and pp that the network and the devices allow."""
    for mp in (n for n in range(1, PADDED_TO + 1) if PADDED_TO % n == 0):
        if geometry.heads % mp or geometry.inner_width % mp or devices % mp:
            continue
        for pp in range(1, geometry.layers + 1 if trains else 2):
            if devices // mp % pp == 0:
                yield mp, pp


def _of_split(parts: Parts, geometry: GPT2Config, mp: int, pp: int) -> Iterator[Choice]:
    """Yield the layouts of one mp and pp."""
    dp, batch = parts.parallel.devices // (mp * pp), parts.train.batch_size
    if batch % dp:
        return
    rows, limit = batch // dp, _limit(parts)
    extremes = _ends(parts, geometry, Parallel(dp=dp, mp=mp, pp=pp))
    counts = [n for n in range(1, rows + 1) if rows % n == 0] if parts.trains else [1]
    recomputes = ("none", "selective", "full") if parts.trains else ("none",)
    for micro, recompute in itertools.product(counts, recomputes):
        for shard in (False, True) if dp > 1 and parts.trains else (False,):
            parallel = Parallel(
                dp=dp,
                mp=mp,
                pp=pp,
                micro_batches=micro,
                recompute=recompute,
                optimizer_shard=shard,
                sequence_parallel=parts.parallel.sequence_parallel and mp > 1,
            )
            tokens = rows // micro * parts.train.seq_length
            stages = [attrs.evolve(stage, tokens=tokens) for stage in extremes]
            candidate = attrs.evolve(parts, parallel=parallel)
            needed = plan_of(candidate).memory(geometry, stages).total
            if needed <= limit:
                yield _choice(candidate, geometry, stages, needed)


def _limit(parts: Parts) -> float:
    """Return the memory of a device in bytes; infinity where it is not given."""
    return bytes_of(parts.parallel.memory) if parts.parallel.memory else math.inf


def _ends(parts: Parts, geometry: GPT2Config, parallel: Parallel) -> list[StageSizes]:
    """Return the stages that can need the most memory: the first two and the last."""
    stages = stages_of(attrs.evolve(parts, parallel=parallel), geometry)
    return [stages[i] for i in sorted({0, min(1, parallel.pp - 1), parallel.pp - 1})]


def _choice(parts: Parts, geometry: GPT2Config, stages: list[StageSizes], needed: int) -> Choice:
    parallel = parts.parallel
    once = flops(parts, geometry)
    again = {"none": 0.0, "selective": _attention(parts, geometry) / 3, "full": 1 / 3}
    passes = 1.0 + again[parallel.recompute] + (1 / 3 if parallel.pp > 1 else 0.0)
    products = once * passes / parallel.ranks / PRODUCTS
    share = bubble(parallel.pp, parallel.micro_batches)
    sent = traffic(parts, geometry, stages) if parts.trains else None
    sending = 0.0
    if sent:
        near = {"mp": parallel.mp, "dp": parallel.mp * parallel.dp}
        sending = sent.pp / (NEAR if parallel.ranks <= MACHINE else FAR)
        for kind, reach in near.items():
            sending += getattr(sent, kind) / (NEAR if reach <= MACHINE else FAR)
    return Choice(
        parallel=parallel,
        memory=needed,
        products=products,
        waiting=products * share / (1 - share),
        sending=sending,
    )


def _attention(parts: Parts, geometry: GPT2Config) -> float:
    """Return the fraction of FLOPs that attention takes."""
    length = parts.train.seq_length
    return 6 * length * attention_products(geometry, length) / model_flops(geometry, 1, length)


def _require_fit(parts: Parts, geometry: GPT2Config) -> None:
    """Refuse a given layout that needs more memory than a device has.

    The error names the nearest layout that fits: that with the fewest keys changed, then the
    fastest.
    """
    given = parts.parallel
    if not given.memory:
        return
    needed = plan_of(parts).memory(geometry, stages_of(parts, geometry)).total
    if needed <= _limit(parts):
        return
    wanted = Parallel(
        devices=given.ranks, memory=given.memory, sequence_parallel=given.sequence_parallel
    )
    layouts = ranked(attrs.evolve(parts, parallel=wanted), geometry)
    message = f"a rank needs {needed / 1e9:.3g} GB"
    if layouts:
        nearest = min(layouts, key=lambda choice: _distance(choice.parallel, given))
        message += f"; the nearest layout that fits is {nearest}"
    else:
        message += f", and no layout of {counted(given.ranks, 'device')} fits"
    raise SpecError([fault(parts, "G2-206", "parallel.memory", message, compared=tuple(TABLES))])


def _distance(layout: Parallel, given: Parallel) -> int:
    """Return how much of a layout would change; the split of the ranks counts the most."""
    splits = sum(bool(getattr(layout, key) != getattr(given, key)) for key in ("dp", "mp", "pp"))
    others = ("micro_batches", "recompute", "optimizer_shard")
    return 4 * splits + sum(bool(getattr(layout, key) != getattr(given, key)) for key in others)
