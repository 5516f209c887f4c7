"""Which network a run has: its geometry, its tokenizer, and where its weights come from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from gpt2dsl.data.fit import vocabulary_misfit
from gpt2dsl.errors import Fault, InputError, some
from gpt2dsl.layout.config import REGRESSION, GPT2Config
from gpt2dsl.parts import Generation
from gpt2dsl.parts.bundle import Parts
from gpt2dsl.parts.model import GPT2_ROWS, GPT2_VOCAB
from gpt2dsl.parts.task import Conversion, Export
from gpt2dsl.plan import conversion, export, generation, resharding, serving, training, written
from gpt2dsl.plan.checks import fault
from gpt2dsl.plan.inputs import Input, hints, refused, weights_key, weights_name
from gpt2dsl.plan.written import Written

if TYPE_CHECKING:
    from gpt2dsl.weights.infer_config import Overrides
    from gpt2dsl.weights.reading import Look

PUBLISHED = "gpt2"
TRAIN = "train"


@attrs.frozen(kw_only=True)
class DeferredWeights:
    """Weights that are not there yet; an earlier stage of a chain makes them.

    Attributes:
        look: what will be known of them, but for their tensors.
        tokenizer: that they will come with: gpt2, a folder, or train.
    """

    look: Look
    tokenizer: str


@attrs.frozen(kw_only=True)
class Network:
    """The network of a run.

    Attributes:
        geometry: its numbers.
        tokenizer: gpt2, a folder, or train; "" where an earlier stage will make it.
        weights: where they are; "" for new ones.
        looked: what is known of them; None for new ones.
        inputs: the weights and the tokenizer, where they are read.
        faults: where the recipe, the weights and the tokenizer contradict each other.
        notes: what a reader must know of the weights.
        classes: the names of a classifier's classes.
        written: of conversions, how much that is; None where it is not known.
        generation: how text is generated, the weights asked too.
    """

    geometry: GPT2Config
    tokenizer: str
    weights: str
    looked: Look | None
    inputs: tuple[Input, ...]
    faults: tuple[Fault, ...]
    notes: tuple[str, ...]
    classes: tuple[str, ...]
    written: Written | None
    generation: Generation


def find_network(
    parts: Parts, *, fetch: bool = False, promised: DeferredWeights | None = None
) -> Network:
    """Return the network that a recipe describes, or that its weights are of.

    Args:
        parts: the recipe's.
        fetch: whether weights on the Hub are downloaded.
        promised: its weights, where they are not there yet.
    """
    known = hints(parts, fetch=fetch)
    read, looked = _promised(parts, promised.look) if promised else _weights(parts, known)
    tokenizer, tokenizer_input, entries = _tokenizer(parts, looked, promised)
    labels = _labels(parts, looked)
    said = parts.model.geometry(vocab=entries, labels=labels)
    geometry = said
    faults: list[Fault] = []
    if looked:
        geometry = looked.geometry
        if not isinstance(parts.task, Conversion):
            geometry = attrs.evolve(geometry, labels=labels)
            if parts.model.dropout is not None:
                geometry = geometry.with_dropout(parts.model.dropout)
        faults = [*_contradictions(parts, said, geometry), *_head(parts, looked)]
    if entries and (misfit := vocabulary_misfit(entries, geometry.vocab)):
        keys = ("model.vocab", "data.vocab", weights_key(parts))
        faults.append(fault(parts, "G2-205", "data.tokenizer", misfit, *keys))
    asked, wrong = generation.completed(parts, looked)
    faults += [*training.faults(parts, geometry, looked), *wrong]
    resharded, refusals = resharding.find(parts, None if promised else looked, known)
    writes = resharded or written.find(parts, looked, known)
    others = (
        conversion.find_target(parts),
        written.refusal(parts, writes),
        export.find_writer(parts),
        serving.find_template(parts),
        serving.find_packages(parts),
        serving.find_host(parts),
    )
    return Network(
        geometry=geometry,
        tokenizer=tokenizer,
        weights=str(looked.path) if looked else "",
        looked=looked,
        inputs=tuple(found for found in (read, tokenizer_input, *others, *refusals) if found),
        faults=(
            *faults,
            *conversion.faults(parts, looked),
            *resharding.faults(parts, looked),
            *export.faults(parts, looked),
            *serving.faults(parts),
        ),
        notes=(
            *(looked.unknown if looked else ()),
            *_new_values(parts, looked),
            *conversion.notes(parts, looked),
            *export.notes(parts, looked),
            *(() if faults else training.notes(parts, geometry)),
            *generation.notes(parts, asked, looked),
            *serving.notes(parts),
        ),
        classes=_classes(parts, looked, labels),
        written=writes,
        generation=asked,
    )


def _promised(parts: Parts, look: Look) -> tuple[Input, Look | None]:
    """As ``_weights``, of weights that are still to be made."""
    found = Input(
        key=weights_key(parts), name=weights_name(parts), state="promised", detail=look.kind
    )
    return found, None if getattr(parts.task, "to", "") == "peft" else look


def _weights(parts: Parts, said: Overrides) -> tuple[Input | None, Look | None]:
    """Return the weights as an input, and what they are of; nothing for new ones."""
    name = weights_name(parts)
    if not name or parts.task is None:
        return None, None
    from gpt2dsl.weights import reading  # noqa: PLC0415  # NumPy: only where there are weights

    try:
        if getattr(parts.task, "to", "") == "peft":
            return _adapter(parts, name, said), None
        looked = reading.look(name, said)
    except InputError as error:
        return refused(parts, weights_key(parts), name, error), None
    found = Input(
        key=weights_key(parts),
        name=name,
        digest=looked.digest or "",
        size=looked.size,
        detail=looked.kind + _new(looked),
    )
    return found, looked


def _adapter(parts: Parts, name: str, said: Overrides) -> Input:
    """Return an adapter that is converted by itself, whether its base is there or not."""
    from gpt2dsl.weights import opening  # noqa: PLC0415  # as above

    adapter = opening.adapter(name, said, contents=False)
    detail = f"LoRA adapter of {len(adapter.modules)} modules, {adapter.parameters:,} parameters"
    return Input(key=weights_key(parts), name=name, detail=detail, size=adapter.size)


def _new(looked: Look) -> str:
    """What stays random, where the recipe allows that it is missing."""
    return f"; RANDOM: {some(looked.new)}" if looked.new else ""


def _tokenizer(
    parts: Parts, looked: Look | None, promised: DeferredWeights | None
) -> tuple[str, Input | None, int | None]:
    """Return the tokenizer's name, the input it is read from, and the rows that its ids need."""
    name = parts.data.tokenizer
    own = str(looked.tokenizer) if looked and looked.tokenizer else ""
    exports = isinstance(parts.task, Export)
    if isinstance(parts.task, Conversion) and (name in ("auto", TRAIN) or not exports):
        unknown = ("", PUBLISHED, *((TRAIN,) if promised else ()))
        # others copy it; graphs of an export are used with it
        return _opened(parts, own) if exports and own not in unknown else (own, None, None)
    if name == "auto" and promised:
        known = "" if promised.tokenizer == TRAIN else promised.tokenizer
        if known in ("", PUBLISHED):
            return known, None, GPT2_VOCAB if known else promised.look.geometry.vocab
        return _opened(parts, known)
    if name == "auto" and looked and not own:
        return PUBLISHED, _without_tokenizer(parts, looked), None
    if name == "auto":
        name = own or PUBLISHED
    if name in (PUBLISHED, TRAIN):
        return name, None, GPT2_VOCAB if name == PUBLISHED else parts.data.vocab
    return _opened(parts, name)


def _opened(parts: Parts, name: str) -> tuple[str, Input | None, int | None]:
    """Return the same as ``_tokenizer``, for a tokenizer in a folder."""
    from gpt2dsl.data.tokenizer import Tokenizer  # noqa: PLC0415  # slow, and seldom needed

    try:
        loaded = Tokenizer.load(name)
    except InputError as error:
        return name, refused(parts, "data.tokenizer", name, error), None
    detail = f"byte-level BPE, {len(loaded):,} entries"
    found = Input(key="data.tokenizer", name=name, digest=loaded.digest, detail=detail)
    return str(Path(name)), found, len(loaded)


def _without_tokenizer(parts: Parts, looked: Look) -> Input | None:
    """Refuse weights without a tokenizer beside them, unless the published one fits."""
    if parts.data.format == "mindrecord":
        return None  # rows of ids need none
    from gpt2dsl.data.weights_tokenizer import of_weights  # noqa: PLC0415  # as above

    vocab, name = looked.geometry.vocab, weights_name(parts)
    if vocab in GPT2_ROWS:  # Else it is loaded, which takes a while.
        return None
    try:
        of_weights(None, vocab, name)
    except InputError as error:
        return refused(parts, "data.tokenizer", name, error)
    return None


_KEYS = {
    "layers": "layers", "heads": "heads", "hidden": "hidden", "positions": "positions",
    "vocab": "vocab", "inner": "inner_width", "activation": "activation",
}  # fmt: skip
"""Key of ``[model]`` → the geometry's word for it."""


def _contradictions(parts: Parts, said: GPT2Config, found: GPT2Config) -> list[Fault]:
    """Return where the recipe says one number of the network, and the file of weights another."""
    unlike = {
        key: (getattr(said, word), getattr(found, word))
        for key, word in _KEYS.items()
        if getattr(said, word) != getattr(found, word)
    }
    advice = f"in {weights_name(parts)}; leave it out to take theirs"
    faults = [
        fault(parts, "G2-306", f"model.{key}", f"{one} here, {other} {advice}", "model.size")
        for key, (one, other) in unlike.items()
        if getattr(parts.model, key)
    ]
    by_size = {
        key: pair
        for key, pair in unlike.items()
        if not getattr(parts.model, key) and (key, parts.model.size) != ("vocab", "nano")
    }
    if parts.model.size and by_size:
        words = ", ".join(f"{key} {one} here and {other}" for key, (one, other) in by_size.items())
        faults.append(fault(parts, "G2-306", "model.size", f"{words} {advice}"))
    return faults


def _labels(parts: Parts, looked: Look | None) -> int:
    """Classes of the network: those that the recipe says, else those of the weights."""
    if parts.classifier:
        return parts.classifier.count
    return looked.geometry.labels if looked else 0


def _classes(parts: Parts, looked: Look | None, labels: int) -> tuple[str, ...]:
    """Their names: the recipe's, else those of the weights, else those that transformers gives."""
    if parts.classifier and not isinstance(parts.classifier.labels, int):
        return tuple(parts.classifier.labels)
    known = looked.classes if looked else ()
    return known if len(known) == labels else tuple(f"LABEL_{i}" for i in range(labels))


def _head(parts: Parts, looked: Look) -> Iterator[Fault]:
    """Yield where the weights have another head than the task needs."""
    task, found = parts.task, looked.geometry.labels
    if task is None or isinstance(task, Conversion):
        return
    if task.generates and found and not parts.classifier:
        yield fault(parts, "G2-107", "model.weights", "a classifier generates no text")
    if parts.classifier and found not in (0, parts.classifier.count):
        message = f"{parts.classifier.count} classes here, {found} in {weights_name(parts)}"
        yield fault(parts, "G2-306", "classifier.labels", message)
    own = parts.classifier.labels if parts.classifier else ()
    given = bool(looked.classes) and not looked.classes[0].startswith("LABEL_")
    if not isinstance(own, int) and own and found == len(own) and given and looked.classes != own:
        message = f"the weights have {', '.join(looked.classes)}, in this order; leave it out"
        yield fault(parts, "G2-306", "classifier.labels", message)
    yield from _problem(parts, looked.geometry)
    needed = task.kind == "classify" or (task.kind == "evaluate" and parts.classifier)
    if needed and not found:
        message = "it has no classification head (score.weight); finetune makes one"
        yield fault(parts, "G2-306", "model.weights", message)


def _problem(parts: Parts, weights: GPT2Config) -> Iterator[Fault]:
    """Yield faults where outputs of the weights' head do not suit the recipe or its data."""
    if not weights.problem:
        return
    if parts.classifier:
        message = (
            f"it tells one class of several, and the weights' head is one of {weights.problem}: "
            "leave [classifier] out to keep that"
        )
        yield fault(parts, "G2-306", "classifier.labels", message, "classifier")
    elif hasattr(parts.task, "data") and (weights.problem != REGRESSION or weights.labels > 1):
        message = (
            f"its head is one of {weights.problem} with {weights.labels} outputs, and data has one "
            "label a row: classify gives its outputs, transformers trains it"
        )
        yield fault(parts, "G2-306", "model.weights", message)


def _new_values(parts: Parts, looked: Look | None) -> Iterator[str]:
    """What of the network is new although it has weights: what they lack, and a head."""
    for name in looked.new if looked else ():
        yield f"RANDOM values for {name}, which the weights lack (allow_missing)"
    if parts.trains and parts.classifier and looked and not looked.geometry.labels:
        yield "the classification head (score.weight) is new"
