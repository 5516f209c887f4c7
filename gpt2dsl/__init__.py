"""gpt2dsl: typed recipes that train, evaluate and generate with GPT-2 on MindSpore.

>>> from gpt2dsl import Model, Parallel, Task
>>> recipe = Model(size="13b") | Parallel(dp=4, mp=8) | Task.finetune(data="wiki.train.tokens")
>>> recipe.set("parallel.mp", 4).parts["parallel"]
Parallel(dp=4, mp=4)
"""

from __future__ import annotations

from gpt2dsl import start

start.guard()

import os
from typing import TYPE_CHECKING, Any

from gpt2dsl.chain.chain import Chain
from gpt2dsl.engine.callbacks import Callback, Start
from gpt2dsl.engine.interrupt import held
from gpt2dsl.errors import (
    ArgumentValueError,
    Fault,
    FileError,
    Gpt2DslError,
    InputError,
    Interrupted,
    InUseError,
    RunError,
    SpecError,
)
from gpt2dsl.parts import (
    Classifier,
    Data,
    Generation,
    LoRA,
    Model,
    Optim,
    Parallel,
    Part,
    Precision,
    Runtime,
    Schedule,
    Task,
    Train,
)
from gpt2dsl.plan.plan import Plan
from gpt2dsl.recipe import Recipe

if TYPE_CHECKING:
    from gpt2dsl.engine.language_model import LanguageModel
    from gpt2dsl.engine.text_model import TextModel
    from gpt2dsl.engine.text_pipeline import TextGeneration

__all__ = [
    "Callback",
    "Chain",
    "Classifier",
    "Data",
    "Fault",
    "FileError",
    "Generation",
    "Gpt2DslError",
    "InUseError",
    "InputError",
    "Interrupted",
    "LoRA",
    "Model",
    "Optim",
    "Parallel",
    "Part",
    "Plan",
    "Precision",
    "Recipe",
    "RunError",
    "Runtime",
    "Schedule",
    "SpecError",
    "Start",
    "Task",
    "Train",
    "load",
    "pipeline",
]


_ARGUMENTS = {
    "model.size": "load(size=)",
    "model.heads": "load(heads=)",
    "data.tokenizer": "tokenizer=",
}
"""Key of a recipe → argument of the functions here that stands for it in messages."""


def load(
    weights: str | os.PathLike[str],
    *,
    tokenizer: str = "auto",
    size: str = "",
    heads: int | None = None,
    activation: str = "",
) -> LanguageModel:
    """Load a model with its tokenizer: ``lm.generate(["text"], max_new_tokens=20)``.

    Args:
        weights: a folder or file of Hugging Face, MindFormers or PEFT, a checkpoint or run of ours,
            a size, or a name on the Hub: ``gpt2``, ``cerebras/Cerebras-GPT-13B``.
        tokenizer: auto for the one beside the weights, gpt2 for the published one, or a folder.
        size: as in ``[model]``, for a ``.ckpt`` without YAML; it must agree with the weights.
        heads: likewise.
        activation: likewise.

    Raises:
        SpecError: a size, a number of heads or an activation is invalid.
        InputError: there are no such weights, they or the tokenizer are damaged, or they have
            another size, other heads or another activation.
    """
    from gpt2dsl.weights import location  # noqa: PLC0415  # not needed to build a recipe

    name = os.fspath(weights)
    network = Model(size=size, heads=heads, activation=activation)
    location.refuse_absent(name)  # before MindSpore is imported, which takes seconds
    with held():
        from gpt2dsl.engine.language_model import LanguageModel  # noqa: PLC0415  # has MindSpore
        from gpt2dsl.weights.infer_config import Overrides  # noqa: PLC0415  # as above

    overrides = Overrides.of(network, fetch=True)
    model = LanguageModel.load(name, overrides, tokenizer=tokenizer, arguments=_ARGUMENTS)
    overrides.require(model.geometry, name)
    return model


def pipeline(
    task: str,
    model: str | os.PathLike[str] | TextModel,
    *,
    backend: str = "ms",
    tokenizer: str = "auto",
    **generation: Any,
) -> TextGeneration:
    """Build a pipeline: ``pipeline("text_generation", "124m")("I love", max_length=20)``.

    Args:
        task: text_generation.
        model: as in ``load``, or what that gave; of ``mslite`` what ``gpt2dsl export`` wrote.
        backend: ms for MindSpore, mslite for exported graphs.
        tokenizer: as in ``load``, for a model that is loaded here.
        generation: keys of ``[generation]`` that count where a call says no others.

    Raises:
        ValueError: the task or the backend is another.
        SpecError: a key or value of ``generation`` is wrong.
        InputError: there are no such weights, or they are damaged.
    """
    if task not in ("text_generation", "text-generation"):
        raise ArgumentValueError(f"expected text_generation, found {task!r}")
    if backend not in ("ms", "mslite"):
        raise ArgumentValueError(f"expected ms or mslite, found {backend!r}")
    with held():
        from gpt2dsl.engine.exported import ExportedModel  # noqa: PLC0415  # imports MindSpore
        from gpt2dsl.engine.text_pipeline import TextGeneration  # noqa: PLC0415  # as above

    if isinstance(model, str | os.PathLike):
        path = os.fspath(model)
        if backend == "ms":
            return TextGeneration(load(path, tokenizer=tokenizer), **generation)
        loaded = ExportedModel.load(path, tokenizer=tokenizer, arguments=_ARGUMENTS)
        return TextGeneration(loaded, **generation)
    return TextGeneration(model, **generation)
