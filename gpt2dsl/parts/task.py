"""Tasks, each kind with keys of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from gpt2dsl.parts.base import Part, part
from gpt2dsl.parts.parallel import Parallel
from gpt2dsl.parts.rules import choice, flag, integer, nested, number, size, text, texts
from gpt2dsl.parts.web import host_names, origins

SOURCE = "weights of any format; auto for those of the stage before it, in a chain"
SEVERAL = "a folder or a pattern such as texts/*.txt names several files"
TARGET_DTYPES = ("", "float32", "float16", "bfloat16")


class Task(Part):
    """What is to be done: ``Task.finetune(data=...)``, ``Task.generate(prompts=[...])``, ...

    Class attributes:
        kind: the value of ``task.kind``.
        trains: whether it changes weights.
        generates: whether it continues texts.
        has_directory: whether its runs have directories of their own.
        needs_device: whether it computes on ``runtime.device``.
    """

    table: ClassVar[str] = "task"
    kind: ClassVar[str]
    trains: ClassVar[bool] = False
    generates: ClassVar[bool] = False
    has_directory: ClassVar[bool] = True
    needs_device: ClassVar[bool] = True

    pretrain: ClassVar[type[Pretrain]]
    finetune: ClassVar[type[Finetune]]
    evaluate: ClassVar[type[Evaluate]]
    generate: ClassVar[type[Generate]]
    classify: ClassVar[type[Classify]]
    convert: ClassVar[type[Convert]]
    reshard: ClassVar[type[Reshard]]
    export: ClassVar[type[Export]]
    serve: ClassVar[type[Serve]]

    @classmethod
    def _called(cls) -> str:
        return f"Task.{cls.kind}"


class Conversion(Task):
    """Base of tasks that write weights or graphs of any network, without a run directory.

    Attributes:
        source: weights of any format; ``auto`` for those of the preceding stage of a chain.
        target: file or folder that is written.
    """

    has_directory: ClassVar[bool] = False
    needs_device: ClassVar[bool] = False

    source: str
    target: str


@part
class Pretrain(Task):
    """Train from new weights, unless ``model.weights`` names others."""

    kind: ClassVar[str] = "pretrain"
    trains: ClassVar[bool] = True

    data: str = text(
        "a file, folder or glob; sample:train for the built-in text", empty=False, several=SEVERAL
    )
    eval_data: str = text("held-out text of the same form", default="", several=SEVERAL)


@part
class Finetune(Task):
    """Train on from given weights."""

    kind: ClassVar[str] = "finetune"
    trains: ClassVar[bool] = True

    data: str = text(
        "a file, folder or glob; sample:train for the built-in text", empty=False, several=SEVERAL
    )
    eval_data: str = text("held-out text of the same form", default="", several=SEVERAL)


@part
class Evaluate(Task):
    """Measure weights on data."""

    kind: ClassVar[str] = "evaluate"

    data: str = text(
        "a file, folder or glob; sample:valid for the built-in text", empty=False, several=SEVERAL
    )
    metrics: Sequence[str] = texts("perplexity; with a classifier accuracy", default=())


@part
class Generate(Task):
    """Continue prompts."""

    kind: ClassVar[str] = "generate"
    generates: ClassVar[bool] = True

    prompts: Sequence[str] | str = texts("the prompts, or a file with one a line", or_path=True)


@part
class Classify(Task):
    """Name the class of texts."""

    kind: ClassVar[str] = "classify"

    texts: Sequence[str] | str = texts("the texts, or a file with one a line", or_path=True)


@part
class Convert(Conversion):
    """Weights from one format to another."""

    kind: ClassVar[str] = "convert"

    source: str = text(SOURCE, default="auto", empty=False)
    target: str = text("a folder, or a file where it ends in .ckpt", empty=False)
    to: str = choice(("hf", "mindformers", "peft"), "the target's format", default="hf")
    dtype: str = choice(
        TARGET_DTYPES, "of the target; the source's where it is not said", default=""
    )
    merge: bool = flag("add the LoRA adapter to its base", default=False)
    max_shard_size: str = size(
        "bytes of a file at most, where the target is Hugging Face's", default="5GB"
    )


@part
class Reshard(Conversion):
    """A checkpoint from one layout of ranks to another."""

    kind: ClassVar[str] = "reshard"

    source: str = text(SOURCE, default="auto", empty=False)
    target: str = text("a folder", empty=False)
    layout: Parallel = nested(Parallel, "of the target")
    source_layout: Parallel | None = nested(
        Parallel, "of a source that doesn't know its own", default=None
    )
    source_strategy: str = text(
        "MindSpore's strategy file of the source, or the folder of them; that in or beside the "
        "source where it is not said",
        default="",
    )
    optimizer: bool = flag("the optimizer's state too", default=False)


@part
class Export(Conversion):
    """Graphs for deployment."""

    kind: ClassVar[str] = "export"

    source: str = text(SOURCE, default="auto", empty=False)
    target: str = text("a folder", empty=False)
    format: str = choice(
        ("mindir", "onnx", "ms"), "MindIR, ONNX, or MindSpore Lite", default="mindir"
    )
    seq_length: int | None = integer(
        "tokens; the model's positions", low=1, optional=True, default=None
    )
    batch: int = integer("rows; onnx takes any number", low=1, default=1)
    dtype: str = choice(
        ("", "float32", "float16"), "of the weights; computing is in float32", default=""
    )
    cache: bool = flag(
        "graphs for the prompt and for each token after it, of onnx one for both; without, one of "
        "all logits",
        default=True,
    )
    ge: str = choice(("", "910A", "910B"), "a config.ini for that Ascend processor", default="")


@part
class Serve(Task):
    """Answer requests over HTTP, under an OpenAI-compatible API, until it is stopped.

    ``gpt2dsl serve`` has its defaults.
    """

    kind: ClassVar[str] = "serve"
    generates: ClassVar[bool] = True
    has_directory: ClassVar[bool] = False
    refused: ClassVar[Mapping[str, str]] = {
        "api_key": "specs are shared, and a key is a secret: set GPT2DSL_API_KEY",
        "insecure": "only a command says so, gpt2dsl serve --insecure; else set GPT2DSL_API_KEY",
    }

    name: str = text(
        "of the model, as requests say it; where it is not said, its weights as they are named, "
        "and in a chain the chain's",
        default="",
    )
    host: str = text("address that is listened on", default="127.0.0.1", empty=False)
    port: int = integer("of the address; 0 for a free one", high=65535, default=8000)
    allowed_hosts: Sequence[str] = host_names(
        "names under which it may be asked, besides localhost and numbers; * for any"
    )
    cors: Sequence[str] = origins(
        "origins of pages that may read its answers: https://example.org, or * for any"
    )
    batch: int = integer("texts at once", low=1, default=16)
    queue: int = integer(
        "texts that may wait; more are refused with status 503", low=1, default=128
    )
    cache_mb: int = integer("MiB kept of prompts, for those that begin alike", default=256)
    template: str = text(
        "a file with a chat template in Jinja, in place of the tokenizer's own", default=""
    )
    warmup: bool = flag(
        "compile for all lengths before it is ready, so that no text waits for it later",
        default=True,
    )
    max_body: int = integer(
        "bytes of a request; larger ones are refused with status 413", low=1, default=1 << 20
    )
    max_stops: int = integer("stop strings of a request", default=4)
    grace: float = number("seconds for what runs when it is asked to stop", default=30.0)


Serve.unidentified = frozenset(Serve.rules()) - {"template"}

Task.pretrain = Pretrain
Task.finetune = Finetune
Task.evaluate = Evaluate
Task.generate = Generate
Task.classify = Classify
Task.convert = Convert
Task.reshard = Reshard
Task.export = Export
Task.serve = Serve
