"""What is to be done. Each kind of task has its own keys."""

from __future__ import annotations

from typing import ClassVar

from gpt2dsl.parts.base import Part, part
from gpt2dsl.parts.parallel import Parallel
from gpt2dsl.parts.rules import choice, flag, integer, nested, text, texts

TARGET_DTYPES = ("", "float32", "float16", "bfloat16")


class Task(Part):
    """What is to be done: ``Task.finetune(data=...)``, ``Task.generate(prompts=[...])``, ...

    Class attributes:
        name: the value of ``task.kind``.
    """

    table: ClassVar[str] = "task"
    name: ClassVar[str]

    pretrain: ClassVar[type[Pretrain]]
    finetune: ClassVar[type[Finetune]]
    evaluate: ClassVar[type[Evaluate]]
    generate: ClassVar[type[Generate]]
    classify: ClassVar[type[Classify]]
    convert: ClassVar[type[Convert]]
    reshard: ClassVar[type[Reshard]]
    export: ClassVar[type[Export]]

    @classmethod
    def _called(cls) -> str:
        return f"Task.{cls.name}"


@part
class Pretrain(Task):
    """Train from new weights, unless ``model.weights`` names others."""

    name: ClassVar[str] = "pretrain"

    data: str = text(
        None, "a file, folder or glob; sample:train for the built-in text", empty=False
    )
    eval_data: str = text("", "held-out text of the same form")


@part
class Finetune(Task):
    """Train on from given weights."""

    name: ClassVar[str] = "finetune"

    data: str = text(
        None, "a file, folder or glob; sample:train for the built-in text", empty=False
    )
    eval_data: str = text("", "held-out text of the same form")


@part
class Evaluate(Task):
    """Measure weights on data."""

    name: ClassVar[str] = "evaluate"

    data: str = text(
        None, "a file, folder or glob; sample:valid for the built-in text", empty=False
    )
    metrics: tuple[str, ...] = texts((), "perplexity; with a classifier accuracy")


@part
class Generate(Task):
    """Continue prompts."""

    name: ClassVar[str] = "generate"

    prompts: tuple[str, ...] | str = texts(
        None, "the prompts, or a file with one a line", or_path=True
    )


@part
class Classify(Task):
    """Name the class of texts."""

    name: ClassVar[str] = "classify"

    texts: tuple[str, ...] | str = texts(None, "the texts, or a file with one a line", or_path=True)


@part
class Convert(Task):
    """Weights from one format to another."""

    name: ClassVar[str] = "convert"

    source: str = text(None, "weights of any format", empty=False)
    target: str = text(None, "a folder, or a file where it ends in .ckpt", empty=False)
    to: str = choice("hf", ("hf", "mindformers", "peft"), "the target's format")
    dtype: str = choice("", TARGET_DTYPES, "of the target; the source's where it is not said")
    merge: bool = flag(False, "merge the LoRA adapter into its base")


@part
class Reshard(Task):
    """A checkpoint from one layout of ranks to another."""

    name: ClassVar[str] = "reshard"

    source: str = text(None, "a checkpoint", empty=False)
    target: str = text(None, "a folder", empty=False)
    layout: Parallel = nested(Parallel, "of the target", required=True)
    source_layout: Parallel | None = nested(Parallel, "of a source that doesn't know its own")
    optimizer: bool = flag(False, "the optimizer's state too")


@part
class Export(Task):
    """Graphs for deployment."""

    name: ClassVar[str] = "export"

    source: str = text(None, "weights of any format", empty=False)
    target: str = text(None, "a folder", empty=False)
    format: str = choice("mindir", ("mindir", "onnx", "ms"), "MindIR, ONNX, or MindSpore Lite")
    seq_length: int | None = integer(None, "tokens; the model's positions", low=1, optional=True)
    batch: int = integer(1, "rows", low=1)
    dtype: str = choice("", TARGET_DTYPES, "of the weights; the source's where it is not said")


Task.pretrain = Pretrain
Task.finetune = Finetune
Task.evaluate = Evaluate
Task.generate = Generate
Task.classify = Classify
Task.convert = Convert
Task.reshard = Reshard
Task.export = Export
