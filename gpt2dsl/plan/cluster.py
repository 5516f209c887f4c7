"""The rank table that a recipe names, as an input of the plan."""

from __future__ import annotations

from pathlib import Path

import attrs

from gpt2dsl.errors import InputError, SpecError
from gpt2dsl.parts.bundle import Parts
from gpt2dsl.plan import inputs
from gpt2dsl.plan.inputs import Input

KEY = "runtime.rank_table"


def rank_table(parts: Parts) -> list[Input]:
    """Return the rank table as an input, where it is used; refused unless its ranks match."""
    name = parts.runtime.rank_table
    if not name or parts.runtime.device != "ascend":
        return []
    try:
        return [_read(name, parts.parallel.ranks)]
    except SpecError as error:
        named = [
            attrs.evolve(problem, origin=problem.key or problem.origin) for problem in error.faults
        ]
        return [inputs.refused(parts, KEY, name, SpecError(named), ("parallel", "runtime.device"))]


def _read(name: str, ranks: int) -> Input:
    import hashlib  # noqa: PLC0415  # few recipes have a table

    from gpt2dsl.cluster import ranktable  # noqa: PLC0415  # as above

    path = Path(name)
    if not path.exists():
        raise InputError("G2-301", name, "no such file; gpt2dsl ranktable generate makes one")
    table = ranktable.read(path)
    if table.ranks != ranks:
        message = f"it has {table.ranks} ranks, the recipe dp x mp x pp = {ranks}"
        raise InputError("G2-522", name, message)
    text = path.read_bytes()
    return Input(
        key=KEY,
        name=name,
        digest=hashlib.sha256(text).hexdigest(),
        size=len(text),
        detail=f"{len(table.servers)} x {len(table.servers[0].devices)} devices",
    )
