"""Parts of recipes: one frozen class per table. Imports nothing of the layers above."""

from gpt2dsl.parts.base import Part, owners
from gpt2dsl.parts.classifier import Classifier
from gpt2dsl.parts.data import Data
from gpt2dsl.parts.generation import Generation
from gpt2dsl.parts.lora import LoRA
from gpt2dsl.parts.model import Model
from gpt2dsl.parts.optim import Optim
from gpt2dsl.parts.parallel import Parallel
from gpt2dsl.parts.precision import Precision
from gpt2dsl.parts.runtime import Runtime
from gpt2dsl.parts.schedule import Schedule
from gpt2dsl.parts.task import (
    Classify,
    Convert,
    Evaluate,
    Export,
    Finetune,
    Generate,
    Pretrain,
    Reshard,
    Serve,
    Task,
)
from gpt2dsl.parts.train import Train

TABLES: dict[str, type[Part]] = {
    cls.table: cls
    for cls in (
        Model, Classifier, LoRA, Parallel, Data, Train, Optim, Schedule, Precision, Generation,
        Runtime, Task,
    )
}  # fmt: skip
"""TOML table → class of its part, in the order in which recipes are written."""

TASKS: dict[str, type[Task]] = {
    cls.kind: cls
    for cls in (
        Pretrain, Finetune, Evaluate, Generate, Classify, Convert, Reshard, Export, Serve,
    )
}  # fmt: skip
"""Value of ``task.kind`` → class of the task."""

__all__ = [
    "TABLES",
    "TASKS",
    "Classifier",
    "Data",
    "Generation",
    "LoRA",
    "Model",
    "Optim",
    "Parallel",
    "Part",
    "Precision",
    "Runtime",
    "Schedule",
    "Task",
    "Train",
    "owners",
]
