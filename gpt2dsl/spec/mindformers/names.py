"""MindFormers 0.8's names of values for GPT-2, and what the recipe calls them.

Source: mindformers 0.8.0, configs/gpt2 and the registry of its classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from gpt2dsl.errors import Fault
from gpt2dsl.spec.mindformers.document import ConfigEntry

MODES = {"train": "pretrain", "finetune": "finetune", "eval": "evaluate", "predict": "generate"}
SCHEDULES = {
    "polynomial": "polynomial",
    "linear": "linear",
    "cosine": "cosine",
    "cosine_with_restarts": "cosine_restarts",
    "constant_with_warmup": "constant",
}
PUBLISHED = {"gpt2": "gpt2", "gpt2_xl": "gpt2-xl", "gpt2_13b": "13b"}
"""Names of weights that MindFormers downloads → the same weights on the Hugging Face Hub."""

ADAPTED = {"gpt2_lora": "gpt2", "gpt2_xl_lora": "gpt2_xl"}
OPTIMIZERS = ("FusedAdamWeightDecay", "AdamWeightDecay", "AdamW", "adamw")
THIRDS = {"dense1": "q", "dense2": "k", "dense3": "v"}

DATA_PARALLEL = (0, 3, "DATA_PARALLEL", "HYBRID_PARALLEL")
AUTO_PARALLEL = (1, 2, "SEMI_AUTO_PARALLEL", "AUTO_PARALLEL")
LOADERS = {"MindDataset": "mindrecord"}

ARCH, LABELS = "model.arch.type", "model.model_config.num_labels"

_LM, _CLASSIFIER = "a language model", "a classifier"
_DATASETS = {"CausalLanguageModelDataset": _LM, "TextClassificationDataset": _CLASSIFIER}
_HEADS: dict[str, dict[str, str]] = {
    ARCH: {"GPT2LMHeadModel": _LM, "GPT2ForSequenceClassification": _CLASSIFIER},
    "trainer.type": {
        "CausalLanguageModelingTrainer": _LM,
        "TextClassificationTrainer": _CLASSIFIER,
    },
    "train_dataset_task.type": _DATASETS,
    "eval_dataset_task.type": _DATASETS,
    "metric.type": {"PerplexityMetric": _LM, "Accuracy": _CLASSIFIER},
}
"""Keys whose values belong to a task, and the task of each value."""

_TYPES: dict[str, tuple[object, ...]] = {
    **{key: tuple(values) for key, values in _HEADS.items()},
    "model.model_config.type": ("GPT2Config",),
    "model.model_config.pet_config.pet_type": ("lora", "", None),
    "train_dataset.tokenizer.type": ("GPT2Tokenizer",),
    "eval_dataset.tokenizer.type": ("GPT2Tokenizer",),
    "processor.tokenizer.type": ("GPT2Tokenizer",),
    "processor.type": ("GPT2Processor",),
    "runner_wrapper.type": ("MFTrainOneStepCell", "MFPipelineWithLossScaleCell"),
    "optimizer.type": OPTIMIZERS,
    "parallel.parallel_mode": DATA_PARALLEL + AUTO_PARALLEL,
    "metric.eval_type": ("classification",),
}
"""Keys that name a class or a mode → the values that MindFormers has for GPT-2."""

_NAME = "trainer.model_name"


def faults(entries: Mapping[str, ConfigEntry]) -> Iterator[Fault]:
    """Yield the faults of values that name another network, or contradict the task."""
    for key, names in _TYPES.items():
        if (entry := entries.get(key)) and entry.value not in names:
            yield outside(entry, names)
    if (entry := entries.get(_NAME)) and not str(entry.value).startswith("gpt2"):
        yield outside(entry, ("a name of GPT-2's, such as gpt2_xl",))
    yield from _contradictions(entries)


def outside(entry: ConfigEntry, names: Iterable[object]) -> Fault:
    """Return the fault of a value that is none of ``names``."""
    words = [str(name) for name in names if name not in ("", None)]
    expected = f"one of {', '.join(words)}" if len(words) > 1 else words[0]
    message = f"expected {expected}, found {entry.value!r}"
    return Fault("G2-202", entry.origin, entry.key, message)


def _contradictions(entries: Mapping[str, ConfigEntry]) -> Iterator[Fault]:
    """Yield the faults of values that belong to another task than the network's head."""
    arch, labels = entries.get(ARCH), entries.get(LABELS)
    has_labels = bool(labels and labels.value)
    head = _head(arch) if arch else _CLASSIFIER if has_labels else _LM
    if arch and head == _CLASSIFIER and not has_labels:
        message = f"{arch.value} needs {LABELS}, the number of classes, which is missing"
        yield Fault("G2-103", arch.origin, ARCH, message)
    if arch and labels and has_labels and head == _LM:
        cure = f"delete the line, or say {ARCH}: GPT2ForSequenceClassification"
        message = f"{arch.value} has no classes: {cure}"
        yield Fault("G2-202", labels.origin, LABELS, message)
    evidence = (
        f"{ARCH} is {arch.value}" if arch else f"{LABELS} is {'there' if labels else 'missing'}"
    )
    for key, heads in _HEADS.items():
        entry = entries.get(key)
        task = _head(entry) if entry else ""
        if entry and head and task and task != head:
            expected = next(name for name, of in heads.items() if of == head)
            why = f"{entry.value} is for {task}, but the network is {head} ({evidence})"
            yield Fault("G2-202", entry.origin, key, f"{why}: expected {expected}")


def _head(entry: ConfigEntry) -> str:
    """Return the task that a value belongs to; "" for an unknown value."""
    return _HEADS[entry.key].get(entry.value, "") if isinstance(entry.value, str) else ""
