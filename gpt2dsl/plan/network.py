"""Network of a run: configuration, tokenizer and source of the weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from gpt2dsl.data.fit import vocabulary_misfit
from gpt2dsl.data.source import Source
from gpt2dsl.errors import Fault, InputError, counted, some
from gpt2dsl.layout.config import REGRESSION, GPT2Config
from gpt2dsl.parts import Generation
from gpt2dsl.parts.bundle import Parts
from gpt2dsl.parts.model import GPT2_ROWS, GPT2_VOCAB
from gpt2dsl.plan import training
from gpt2dsl.plan.checks import NETWORK, fault
from gpt2dsl.plan.inputs import Input, refused, weights_key, weights_name
from gpt2dsl.plan.tasks import plan_of
from gpt2dsl.plan.written import Written

if TYPE_CHECKING:
    from gpt2dsl.weights.infer_config import Overrides
    from gpt2dsl.weights.reading import WeightsInfo

PUBLISHED = "gpt2"
TRAIN = "train"


@attrs.frozen(kw_only=True)
class DeferredWeights:
    """Weights that an earlier stage of a chain will make.

    Attributes:
        weights_info: description of the weights, without tensors.
        tokenizer: the tokenizer of the weights: gpt2, a folder, or train.
    """

    weights_info: WeightsInfo
    tokenizer: str


@attrs.frozen(kw_only=True)
class Network:
    """The network of a run.

    Attributes:
        geometry: configuration of the network.
        tokenizer: gpt2, a folder, or train; "" if an earlier stage will make it.
        weights: path of the weights; "" for new weights.
        weights_info: description of the weights; None for new weights.
        inputs: the weights, the tokenizer and other inputs that determine the network.
        faults: contradictions between recipe, weights and tokenizer.
        notes: remarks on the weights and the tokenizer, shown in the plan.
        classes: names of a classifier's classes.
        written: output of a conversion; None if it is not known.
        generation: generation settings, completed with the settings of the weights.
        sources: opened data, by key.
    """

    geometry: GPT2Config
    tokenizer: str
    weights: str
    weights_info: WeightsInfo | None
    inputs: tuple[Input, ...]
    faults: tuple[Fault, ...]
    notes: tuple[str, ...]
    classes: tuple[str, ...]
    written: Written | None
    generation: Generation
    sources: Mapping[str, Source] = attrs.field(factory=dict, repr=False)


def find_network(
    parts: Parts, *, fetch: bool = False, promised: DeferredWeights | None = None
) -> Network:
    """Return the network that a recipe or its weights describe.

    Args:
        parts: the recipe's.
        fetch: whether to download weights from the Hub.
        promised: the weights, if an earlier stage of a chain will make them.
    """
    task = plan_of(parts)
    overrides = task.overrides(fetch=fetch)
    read, info = _promised(parts, promised.weights_info) if promised else _weights(parts, overrides)
    tokenizer, tokenizer_input, entries = _tokenizer(parts, info, promised)
    labels = _labels(parts, info)
    stated = parts.model.geometry(vocab=entries, labels=labels)
    geometry = stated
    faults: list[Fault] = []
    if info:
        geometry = info.geometry
        if not parts.converts:
            geometry = attrs.evolve(geometry, labels=labels)
            if parts.model.dropout is not None:
                geometry = geometry.with_dropout(parts.model.dropout)
        faults = [*_contradictions(parts, stated, geometry), *_head(parts, info)]
    if entries and (misfit := vocabulary_misfit(entries, geometry.vocab)):
        keys = ("model.vocab", "data.vocab", weights_key(parts))
        faults.append(fault(parts, "G2-205", "data.tokenizer", misfit, *keys, compared=NETWORK))
    faults += _new_tokenizer(parts)
    settings, conflicts = task.generation(info)
    faults += [*training.faults(parts, geometry), *conflicts, *task.faults(geometry, info)]
    written, refusals = task.written(info, overrides)
    weights_and_tokenizer = tuple(item for item in (read, tokenizer_input) if item)
    return Network(
        geometry=geometry,
        tokenizer=tokenizer,
        weights=str(info.path) if info else "",
        weights_info=info,
        inputs=(*weights_and_tokenizer, *refusals, *task.inputs()),
        faults=tuple(faults),
        notes=(
            *(info.unknown if info else ()),
            *_new_values(parts, info),
            *_other_tokenizer(tokenizer_input, info),
            *(() if faults else task.notes(geometry, settings, info)),
        ),
        classes=_classes(parts, info, labels),
        written=written,
        generation=settings,
    )


def _promised(parts: Parts, info: WeightsInfo) -> tuple[Input, WeightsInfo | None]:
    """Do the same as ``_weights`` for weights that an earlier stage will make."""
    item = Input(
        key=weights_key(parts), name=weights_name(parts), state="promised", detail=info.kind
    )
    return item, None if plan_of(parts).is_adapter_alone else info


def _weights(parts: Parts, overrides: Overrides) -> tuple[Input | None, WeightsInfo | None]:
    """Return the weights as an input, and their description; None for new weights."""
    name = weights_name(parts)
    if not name or parts.task is None:
        return None, None
    from gpt2dsl.weights import reading  # noqa: PLC0415  # NumPy: only where there are weights

    try:
        if plan_of(parts).is_adapter_alone:
            return _adapter(parts, name, overrides), None
        info = reading.read_info(name, overrides)
    except InputError as error:
        return refused(parts, weights_key(parts), name, error, ("model", "task")), None
    item = Input(
        key=weights_key(parts),
        name=name,
        digest=info.digest or "",
        size=info.size,
        detail=info.kind + _new(info),
    )
    return item, info


def _adapter(parts: Parts, name: str, overrides: Overrides) -> Input:
    """Return an adapter as an input; it is converted without its base, which may be absent."""
    from gpt2dsl.weights import opening  # noqa: PLC0415  # as above

    adapter = opening.adapter(name, overrides, contents=False)
    modules = counted(len(adapter.modules), "module")
    detail = f"LoRA adapter of {modules}, {adapter.parameters:,} parameters"
    return Input(key=weights_key(parts), name=name, detail=detail, size=adapter.size)


def _new(info: WeightsInfo) -> str:
    """Return a suffix that lists the parameters left random by ``allow_missing``."""
    return f"; RANDOM: {some(info.new)}" if info.new else ""


def _tokenizer(
    parts: Parts, info: WeightsInfo | None, promised: DeferredWeights | None
) -> tuple[str, Input | None, int | None]:
    """Return the tokenizer's name, the tokenizer as an input, and its vocabulary size if known."""
    name = parts.data.tokenizer
    beside = str(info.tokenizer) if info and info.tokenizer else ""
    opens = plan_of(parts).opens_tokenizer
    if parts.converts and (name in ("auto", TRAIN) or not opens):
        unknown = ("", PUBLISHED, *((TRAIN,) if promised else ()))
        return _opened(parts, beside) if opens and beside not in unknown else (beside, None, None)
    if name == "auto" and promised:
        known = "" if promised.tokenizer == TRAIN else promised.tokenizer
        if known in ("", PUBLISHED):
            return known, None, GPT2_VOCAB if known else promised.weights_info.geometry.vocab
        return _opened(parts, known)
    if name == "auto" and info and not beside:
        return PUBLISHED, _without_tokenizer(parts, info), None
    if name == "auto":
        name = beside or PUBLISHED
    if name in (PUBLISHED, TRAIN):
        return name, None, GPT2_VOCAB if name == PUBLISHED else parts.data.vocab
    return _opened(parts, name)


def _opened(parts: Parts, name: str) -> tuple[str, Input | None, int | None]:
    """Do the same as ``_tokenizer`` for a tokenizer in a folder."""
    from gpt2dsl.data.tokenizer import Tokenizer  # noqa: PLC0415  # slow, and seldom needed

    try:
        loaded = Tokenizer.load(name)
    except InputError as error:
        return name, refused(parts, "data.tokenizer", name, error, NETWORK), None
    detail = f"byte-level BPE, {len(loaded):,} entries"
    item = Input(key="data.tokenizer", name=name, digest=loaded.digest, detail=detail)
    return str(Path(name)), item, len(loaded)


def _without_tokenizer(parts: Parts, info: WeightsInfo) -> Input | None:
    """Return a refusal of weights without their own tokenizer; None if the published one fits."""
    if parts.data.format == "mindrecord":
        return None  # the data already has token ids
    from gpt2dsl.data.weights_tokenizer import of_weights  # noqa: PLC0415  # as above

    vocab, name = info.geometry.vocab, weights_name(parts)
    if vocab in GPT2_ROWS:  # avoids loading the tokenizer, which is slow
        return None
    try:
        of_weights(None, vocab, name)
    except InputError as error:
        return refused(parts, "data.tokenizer", name, error, ("data.format", *NETWORK))
    return None


def _new_tokenizer(parts: Parts) -> Iterator[Fault]:
    """Yield a fault if the recipe trains a new tokenizer, which existing weights can't use."""
    if parts.data.tokenizer != TRAIN or parts.converts:
        return
    if name := weights_name(parts):
        message = (
            f"it makes a new vocabulary, and the word table of {name} is of another: leave it out "
            "to take the tokenizer of the weights, or name a folder"
        )
        yield fault(
            parts, "G2-107", "data.tokenizer", message, weights_key(parts), compared=("model",)
        )


def _other_tokenizer(tokenizer: Input | None, info: WeightsInfo | None) -> Iterator[str]:
    """Yield a note if the tokenizer differs from the tokenizer of the weights."""
    if tokenizer is None or not tokenizer.digest or not (info and info.tokenizer):
        return
    if Path(tokenizer.name) == info.tokenizer:
        return
    from gpt2dsl.data.tokenizer import Tokenizer  # noqa: PLC0415  # as above

    try:
        own = Tokenizer.load(str(info.tokenizer)).digest
    except InputError:
        return  # the tokenizer of the weights is unusable, so the user named another one
    if own != tokenizer.digest:
        yield (
            f"{tokenizer.key} = {tokenizer.name} is not the tokenizer that came with the weights: "
            "ids may stand for other tokens than they learned"
        )


_KEYS = {
    "layers": "layers", "heads": "heads", "hidden": "hidden", "positions": "positions",
    "vocab": "vocab", "inner": "inner_width", "activation": "activation",
}  # fmt: skip
"""Key of ``[model]`` → attribute of GPT2Config."""


def _contradictions(parts: Parts, stated: GPT2Config, actual: GPT2Config) -> list[Fault]:
    """Return the faults of sizes that differ between the recipe and the weights."""
    differing = {
        key: (getattr(stated, word), getattr(actual, word))
        for key, word in _KEYS.items()
        if getattr(stated, word) != getattr(actual, word)
    }
    advice = f"in {weights_name(parts)}; leave it out to take theirs"
    faults = [
        fault(
            parts,
            "G2-306",
            f"model.{key}",
            f"{ours} here, {theirs} {advice}",
            "model.size",
            compared=("model", "data.tokenizer"),
        )
        for key, (ours, theirs) in differing.items()
        if getattr(parts.model, key)
    ]
    by_size = {
        key: pair
        for key, pair in differing.items()
        if not getattr(parts.model, key) and (key, parts.model.size) != ("vocab", "nano")
    }
    if parts.model.size and by_size:
        words = ", ".join(
            f"{key} {ours} here and {theirs}" for key, (ours, theirs) in by_size.items()
        )
        faults.append(
            fault(parts, "G2-306", "model.size", f"{words} {advice}", compared=("model",))
        )
    return faults


def _labels(parts: Parts, info: WeightsInfo | None) -> int:
    """Return the number of classes in the recipe, or else in the weights."""
    if parts.classifier:
        return parts.classifier.count
    return info.geometry.labels if info else 0


def _classes(parts: Parts, info: WeightsInfo | None, labels: int) -> tuple[str, ...]:
    """Return the class names of the recipe, of the weights, or transformers' ``LABEL_i``."""
    if parts.classifier and not isinstance(parts.classifier.labels, int):
        return tuple(parts.classifier.labels)
    known = info.classes if info else ()
    return known if len(known) == labels else tuple(f"LABEL_{i}" for i in range(labels))


def _head(parts: Parts, info: WeightsInfo) -> Iterator[Fault]:
    """Yield faults of weights whose head does not suit the task."""
    task, outputs = parts.task, info.geometry.labels
    if task is None or task.converts:
        return
    if task.generates and outputs and not parts.classifier:
        yield fault(parts, "G2-107", "model.weights", "a classifier generates no text")
    if parts.classifier and outputs not in (0, parts.classifier.count):
        message = f"{parts.classifier.count} classes here, {outputs} in {weights_name(parts)}"
        yield fault(parts, "G2-317", "classifier.labels", message, compared=("model",))
    names = parts.classifier.labels if parts.classifier else ()
    named = bool(info.classes) and not info.classes[0].startswith("LABEL_")
    if (
        not isinstance(names, int)
        and names
        and outputs == len(names)
        and named
        and info.classes != names
    ):
        message = f"the weights have {', '.join(info.classes)}, in this order; leave it out"
        yield fault(parts, "G2-317", "classifier.labels", message, compared=("model",))
    yield from _problem(parts, info.geometry)
    if plan_of(parts).needs_head and not outputs:
        message = "it has no classification head (score.weight); finetune makes one"
        yield fault(parts, "G2-317", "model.weights", message)


def _problem(parts: Parts, weights: GPT2Config) -> Iterator[Fault]:
    """Yield faults of a head whose outputs do not suit the recipe or its data."""
    if not weights.problem:
        return
    if parts.classifier:
        message = (
            f"it tells one class of several, and the weights' head is one of {weights.problem}: "
            "leave [classifier] out to keep that"
        )
        yield fault(
            parts, "G2-317", "classifier.labels", message, "classifier", compared=("model",)
        )
    elif parts.reads_rows and (weights.problem != REGRESSION or weights.labels > 1):
        message = (
            f"its head is one of {weights.problem} with {weights.labels} outputs, and data has one "
            "label a row: classify gives its outputs, transformers trains it"
        )
        yield fault(parts, "G2-317", "model.weights", message)


def _new_values(parts: Parts, info: WeightsInfo | None) -> Iterator[str]:
    """Yield notes on parameters missing from the weights, and on a new classification head."""
    for name in info.new if info else ():
        yield f"RANDOM values for {name}, which the weights lack (allow_missing)"
    if parts.trains and parts.classifier and info and not info.geometry.labels:
        yield "the classification head (score.weight) is new"
