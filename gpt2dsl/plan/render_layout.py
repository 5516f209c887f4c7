"""Rendering of a parallel layout."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpt2dsl.plan.parallel import Layout, Role, StagePlacement

SHOWN = 3
"""Most stages that are all shown; of more, the first two and the last are."""


def layout_rows(
    layout: Layout, ranks: Mapping[str, int], size: Callable[[int], str]
) -> Iterator[tuple[str, str]]:
    """Yield a label and a line per subject, where there are several ranks.

    Args:
        layout: the plan's.
        ranks: the plan's.
        size: formats a number of bytes.
    """
    yield "layout", "; ".join(_tensors(layout.roles, ranks))
    if ranks["pp"] > 1:
        yield "stages", _stages(layout.stages)
    if layout.traffic:
        kinds = {key: getattr(layout.traffic, key) for key in ("dp", "mp", "pp")}
        words = ", ".join(f"{key} {size(sent)}" for key, sent in kinds.items() if sent)
        yield "traffic", f"per rank and step: {words}"
    if layout.bubble:
        waits, count = ranks["pp"] - 1, ranks["micro_batches"]
        yield "bubble", f"{layout.bubble:.1%} of a step: {waits} / ({count} + {waits})"


def _tensors(roles: Sequence[Role], ranks: Mapping[str, int]) -> Iterator[str]:
    cut = [role for role in roles if role.axis is not None]
    if cut:
        firsts = {role.by: role for role in reversed(cut)}
        shown = [role for role in cut if role in firsts.values()]
        yield f"{', '.join(map(_cut, shown))}, {len(cut) - len(shown)} kinds alike"
    else:
        where = "the ranks of its stage" if ranks["pp"] > 1 else "each rank"
        yield f"every tensor whole on {where}"
    trained = [role for role in roles if role.state]
    shared = sum(role.count for role in trained if role.state_axis is not None)
    if shared:
        count = sum(role.count for role in trained)
        which = "all" if shared == count else f"{shared:,} of"
        yield f"1/{ranks['dp']} of the optimizer state of {which} {count:,} tensors (dp)"


def _cut(role: Role) -> str:
    name = role.name.removesuffix(".weight")
    return f"{name} {list(role.shape)} → {list(role.part)} (mp: {role.by})"


def _stages(stages: Sequence[StagePlacement]) -> str:
    lengths = sorted({last - first + 1 for first, last in (stage.layers for stage in stages)})
    words = f"{len(stages)} of {' or '.join(map(str, lengths))} layer{'s' * (lengths[-1] > 1)}: "
    if len(stages) <= SHOWN:
        return words + ", ".join(map(_stage, stages))
    between = len(stages) - SHOWN
    return words + f"{_stage(stages[0])}, {_stage(stages[1])}, {between} more, {_stage(stages[-1])}"


def _stage(stage: StagePlacement) -> str:
    return f"{_range('rank', stage.ranks)} {_range('layer', stage.layers)}"


def _range(word: str, ends: tuple[int, int]) -> str:
    first, last = ends
    return f"{word} {first}" if first == last else f"{word}s {first}-{last}"
