"""Chooses a layout for so many devices: what fits, and costs least by the plan's own figures.

Time is that of products, of the bubble, and of what crosses between ranks, one after another. The
two speeds are round figures of an Ascend 910 in a cluster; where one layout is to be told from
another only their ratio counts.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import attrs

from gpt2dsl.errors import SpecError
from gpt2dsl.layout.config import PADDED_TO, GPT2Config
from gpt2dsl.layout.params import parameter_count
from gpt2dsl.parts.bundle import Parts
from gpt2dsl.parts.parallel import Parallel
from gpt2dsl.parts.rules import bytes_of
from gpt2dsl.parts.task import Conversion
from gpt2dsl.plan.checks import fault
from gpt2dsl.plan.memory import Memory, memory
from gpt2dsl.plan.parallel import bubble
from gpt2dsl.plan.stages import StageSizes, stages_of
from gpt2dsl.plan.traffic import traffic

PRODUCTS = 100e12
"""Floating-point operations a second that a device does in matrix products."""

NEAR, FAR = 25e9, 10e9
"""Bytes a second that a rank sends to the devices of its machine, and to others."""

MACHINE = 8
"""Devices of a machine."""

SHOWN = 5


@attrs.frozen(kw_only=True)
class Choice:
    """A layout that fits.

    Attributes:
        parallel: it.
        memory: bytes on the rank that needs the most.
        products: seconds of a step's products on a device, what is computed again included.
        waiting: seconds that a stage waits for others.
        sending: seconds of what crosses.
    """

    parallel: Parallel
    memory: int
    products: float
    waiting: float
    sending: float

    @property
    def seconds(self) -> float:
        """Of a step."""
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
    """Return the recipe with its layout chosen, and the best ones, each of another dp, mp and pp.

    A recipe that says its own stays as it is.

    Raises:
        SpecError: no layout fits (G2-206).
    """
    if not parts.parallel.devices or isinstance(parts.task, Conversion):
        return parts, ()
    found = ranked(parts, geometry)
    if not found:
        size = parts.parallel.memory or "any memory"
        message = f"no layout of {parts.parallel.devices} devices fits {size}, or divides the batch"
        raise SpecError([fault(parts, "G2-206", "parallel.devices", message)])
    chosen = found[0].parallel
    chosen.written(parts.parallel.origin, dict.fromkeys(chosen.origins, "chosen"))
    best = {(p.dp, p.mp, p.pp): choice for choice in reversed(found) for p in (choice.parallel,)}
    shown = sorted(best.values(), key=found.index)[:SHOWN]
    return attrs.evolve(parts, parallel=chosen), tuple(shown)


def ranked(parts: Parts, geometry: GPT2Config) -> list[Choice]:
    """Return every layout that fits, the cheapest first; of equal ones the simplest."""
    asked = parts.parallel
    found = [
        choice
        for mp, pp in _splits(asked.devices, geometry, trains=parts.trains)
        for choice in _of_split(parts, geometry, mp, pp)
    ]
    order = ("none", "selective", "full")

    def simplest(choice: Choice) -> tuple[float, ...]:
        p = choice.parallel
        again = order.index(p.recompute)
        return (round(choice.seconds, 9), p.mp * p.pp, p.micro_batches, again, p.optimizer_shard)

    return sorted(found, key=simplest)


def _splits(devices: int, geometry: GPT2Config, *, trains: bool) -> Iterator[tuple[int, int]]:
    """Mp and pp that the network and the devices allow."""
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
    ends = _ends(parts, geometry, Parallel(dp=dp, mp=mp, pp=pp))
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
            stages = [attrs.evolve(stage, tokens=tokens) for stage in ends]
            said = attrs.evolve(parts, parallel=parallel)
            needed = memory(said, geometry, stages).total
            if needed <= limit:
                yield _choice(said, geometry, stages, needed)


def _limit(parts: Parts) -> float:
    """Return the bytes of a device."""
    return bytes_of(parts.parallel.memory) if parts.parallel.memory else math.inf


def _ends(parts: Parts, geometry: GPT2Config, parallel: Parallel) -> list[StageSizes]:
    """Return the stages that can need the most: the first two, and the last."""
    stages = stages_of(attrs.evolve(parts, parallel=parallel), geometry)
    return [stages[i] for i in sorted({0, min(1, parallel.pp - 1), parallel.pp - 1})]


def _choice(parts: Parts, geometry: GPT2Config, stages: list[StageSizes], needed: int) -> Choice:
    parallel = parts.parallel
    once = _products(parts, geometry)
    again = {"none": 1.0, "selective": 1.0 + _attention(parts, geometry) / 3, "full": 4 / 3}
    products = once * again[parallel.recompute] / parallel.ranks / PRODUCTS
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


def _products(parts: Parts, geometry: GPT2Config) -> float:
    """Operations of a step on all devices: there, and twice back (Kaplan et al. 2020)."""
    tokens = parts.train.batch_size * parts.train.seq_length
    return 6.0 * tokens * (parameter_count(geometry) + _scores(parts, geometry))


def _attention(parts: Parts, geometry: GPT2Config) -> float:
    """Share of the products that attention's scores have."""
    scores = _scores(parts, geometry)
    return scores / (parameter_count(geometry) + scores)


def _scores(parts: Parts, geometry: GPT2Config) -> int:
    """Multiplications a token that attention's scores cost, as parameters cost one each."""
    return 2 * geometry.layers * geometry.hidden * parts.train.seq_length


def advice(parts: Parts, geometry: GPT2Config, needed: Memory) -> Iterator[str]:
    """What would fit, where a layout that is said needs more than a device has."""
    asked = parts.parallel
    if asked.devices or not asked.memory or needed.total <= bytes_of(asked.memory):
        return
    words = f"a rank needs {needed.total / 1e9:.1f} GB of {asked.memory}"
    wanted = Parallel(devices=asked.ranks, memory=asked.memory)
    found = ranked(attrs.evolve(parts, parallel=wanted), geometry)
    if found:
        yield f"{words}; parallel.devices = {asked.ranks} would choose {found[0]}"
    else:
        yield f"{words}, and no layout of {asked.ranks} devices fits"
