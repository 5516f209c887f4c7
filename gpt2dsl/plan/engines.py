"""What the engines can carry out so far. The rest can be written and planned, not run."""

from __future__ import annotations

from gpt2dsl.parts.bundle import Parts

TASKS = ("pretrain", "finetune", "evaluate", "generate", "classify", "convert", "reshard")


def not_yet(parts: Parts) -> tuple[str, ...]:
    """Each thing in a recipe that no engine carries out so far, in words."""
    task = parts.task
    wanted = {
        f"the task {task.name if task else ''}": task is not None and task.name not in TASKS,
    }
    return tuple(words for words, is_wanted in wanted.items() if is_wanted)
