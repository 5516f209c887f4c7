"""MindSpore's strategy files of a recipe's layout, written without a running job."""

from __future__ import annotations

from pathlib import Path

from gpt2dsl.errors import FileError, RunError, SpecError
from gpt2dsl.layout.checkpoint_tensors import MOMENTS, filed
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.parts.bundle import Parts
from gpt2dsl.plan.checks import fault
from gpt2dsl.plan.tasks import plan_of


def write(parts: Parts, geometry: GPT2Config, folder: Path) -> int:
    """Write ``ckpt_strategy_rank_<N>.ckpt`` of each rank and return the number of ranks.

    They describe the parameters and optimizer state of a training, or the output of resharding.
    Names and shapes are those of this project's distributed checkpoints (docs/reshard.md).

    Raises:
        SpecError: the recipe has LoRA, whose adapters are never split.
        RunError: the folder is not empty, or can't be written.
    """
    from gpt2dsl.weights.files import strategyfile  # noqa: PLC0415  # protobuf: only where needed

    if parts.lora:
        message = "adapters are whole in every layout: they have no strategy files"
        raise SpecError([fault(parts, "G2-107", "lora", message)])
    task = plan_of(parts)
    layout = task.layout
    states = MOMENTS[parts.optim.name] if task.saves_optimizer else ()
    table = filed(geometry, layout.grid, states, zero=layout.optimizer_shard)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunError("G2-308", f"{folder}: it is there already, and not an empty folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        strategyfile.write(folder, table, layout.grid)
    except OSError as error:
        raise FileError.unwritable(folder, error) from error
    return layout.ranks
