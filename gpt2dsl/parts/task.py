"""Tasks, each kind with keys of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from gpt2dsl.parts.base import Part, part
from gpt2dsl.parts.parallel import Parallel
from gpt2dsl.parts.rules import choice, flag, integer, nested, number, size, text, texts
from gpt2dsl.parts.web import host_names, origins

SOURCE = "weights of any format; auto for those of the previous stage of a chain"
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
        converts: whether it turns a source into a target, whatever ``[model]`` says.
        from_scratch: whether its weights are new unless ``model.weights`` names some.
        weights_key: key that names its initial weights.
        data_keys: keys that name its data.
        texts_key: key that has its texts, or names their file.
    """

    table: ClassVar[str] = "task"
    kind: ClassVar[str]
    trains: ClassVar[bool] = False
    generates: ClassVar[bool] = False
    has_directory: ClassVar[bool] = True
    needs_device: ClassVar[bool] = True
    converts: ClassVar[bool] = False
    from_scratch: ClassVar[bool] = False
    weights_key: ClassVar[str] = "model.weights"
    data_keys: ClassVar[tuple[str, ...]] = ()
    texts_key: ClassVar[str] = ""

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
    converts: ClassVar[bool] = True
    weights_key: ClassVar[str] = "task.source"

    source: str
    target: str


@part
class Pretrain(Task):
    """Train from new weights, unless ``model.weights`` names others."""

    kind: ClassVar[str] = "pretrain"
    trains: ClassVar[bool] = True
    from_scratch: ClassVar[bool] = True
    data_keys: ClassVar[tuple[str, ...]] = ("task.data", "task.eval_data")

    data: str = text(
        "a file, folder or glob; sample:train for the built-in text", empty=False, several=SEVERAL
    )
    eval_data: str = text("held-out text of the same format", default="", several=SEVERAL)


@part
class Finetune(Task):
    """Train on from given weights."""

    kind: ClassVar[str] = "finetune"
    trains: ClassVar[bool] = True
    data_keys: ClassVar[tuple[str, ...]] = ("task.data", "task.eval_data")

    data: str = text(
        "a file, folder or glob; sample:train for the built-in text", empty=False, several=SEVERAL
    )
    eval_data: str = text("held-out text of the same format", default="", several=SEVERAL)


@part
class Evaluate(Task):
    """Measure weights on data."""

    kind: ClassVar[str] = "evaluate"
    data_keys: ClassVar[tuple[str, ...]] = ("task.data",)

    data: str = text(
        "a file, folder or glob; sample:valid for the built-in text", empty=False, several=SEVERAL
    )
    metrics: Sequence[str] = texts("perplexity, or accuracy for a classifier", default=())


@part
class Generate(Task):
    """Continue prompts."""

    kind: ClassVar[str] = "generate"
    generates: ClassVar[bool] = True
    texts_key: ClassVar[str] = "task.prompts"

    prompts: Sequence[str] | str = texts("the prompts, or a file with one per line", or_path=True)


@part
class Classify(Task):
    """Name the class of texts."""

    kind: ClassVar[str] = "classify"
    texts_key: ClassVar[str] = "task.texts"

    texts: Sequence[str] | str = texts("the texts, or a file with one per line", or_path=True)


@part
class Convert(Conversion):
    """Weights from one format to another."""

    kind: ClassVar[str] = "convert"

    source: str = text(SOURCE, default="auto", empty=False)
    target: str = text("a folder, or a file ending in .ckpt", empty=False)
    to: str = choice(("hf", "mindformers", "peft"), "format of the target", default="hf")
    dtype: str = choice(
        TARGET_DTYPES, "type of the target; by default that of the source", default=""
    )
    merge: bool = flag("merge the LoRA adapter into its base", default=False)
    max_shard_size: str = size("maximum size of a file of a Hugging Face target", default="5GB")


@part
class Reshard(Conversion):
    """A checkpoint from one layout of ranks to another."""

    kind: ClassVar[str] = "reshard"

    source: str = text(SOURCE, default="auto", empty=False)
    target: str = text("a folder", empty=False)
    layout: Parallel = nested(Parallel, "layout of the target")
    source_layout: Parallel | None = nested(
        Parallel, "layout of a source that has no record of it", default=None
    )
    source_strategy: str = text(
        "MindSpore strategy file of the source, or the folder with all; by default the one in or "
        "beside the source",
        default="",
    )
    optimizer: bool = flag("convert the optimizer state too", default=False)


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
        "maximum tokens; by default the model's positions", low=1, optional=True, default=None
    )
    batch: int = integer("batch size; onnx takes any", low=1, default=1)
    dtype: str = choice(
        ("", "float32", "float16"), "type of the weights; computation is in float32", default=""
    )
    cache: bool = flag(
        "graphs for the prompt and for each token after it, with onnx one for both; without, one "
        "graph that computes all logits",
        default=True,
    )
    ge: str = choice(("", "910A", "910B"), "add a config.ini for this Ascend processor", default="")


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
        "name of the model in requests; by default that of its weights as written, or in a chain "
        "that of the chain",
        default="",
    )
    host: str = text("listening address", default="127.0.0.1", empty=False)
    port: int = integer("listening port; 0 for a free one", high=65535, default=8000)
    allowed_hosts: Sequence[str] = host_names(
        "accepted host names besides localhost and IP addresses; * for any"
    )
    cors: Sequence[str] = origins(
        "origins of pages that may read responses: https://example.org, or * for any"
    )
    batch: int = integer("texts generated concurrently", low=1, default=16)
    queue: int = integer(
        "maximum number of waiting texts; more are refused with status 503", low=1, default=128
    )
    cache_mb: int = integer("MiB of cache for common beginnings of prompts", default=256)
    template: str = text(
        "file with a Jinja chat template, in place of that of the tokenizer", default=""
    )
    warmup: bool = flag(
        "compile for all lengths before serving, so that no text waits for it later",
        default=True,
    )
    max_body: int = integer(
        "maximum bytes of a request; larger ones are refused with status 413",
        low=1,
        default=1 << 20,
    )
    max_stops: int = integer("maximum stop strings of a request", default=4)
    grace: float = number("seconds for running requests to finish at shutdown", default=30.0)


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
