"""Readable text of the plan of a chain."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpt2dsl.errors import counted

if TYPE_CHECKING:
    from gpt2dsl.chain.plan import ChainPlan, Stage


def render(plan: ChainPlan) -> str:
    """Return one line per stage, with its state and reason, then the plans of those to run."""
    count = counted(len(plan.stages), "stage")
    waiting = sum(stage.state != "=" for stage in plan.stages)
    lines = [
        f"{plan.name}   {count}, {waiting} to run   digest {plan.digest[:8]}   {plan.directory}"
    ]
    width = max(len(stage.plan.task) for stage in plan.stages)
    lines += [f"  {_line(stage, width)}" for stage in plan.stages]
    for stage in plan.stages:
        if stage.state != "=":
            lines += ["", f"stage {stage.number}", *str(stage.plan).splitlines()]
    return "\n".join(line.rstrip() for line in lines)


def _line(stage: Stage, width: int) -> str:
    weights = f"weights of stage {stage.takes}" if stage.takes else ""
    why = stage.why or f"unchanged: {stage.directory}"
    return f"{stage.state} {stage.number} {stage.plan.task:<{width}}   {weights:<19}{why}"
