"""Opening of weights: name → location → stored tensors → format → the network's weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from gpt2dsl.data.documents import read_json
from gpt2dsl.errors import InputError
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.schema.folder import ADAPTER_CONFIG, CONFIG, GENERATION
from gpt2dsl.weights import defaults, joining, location, nearby, store
from gpt2dsl.weights.defaults import Defaults, Document
from gpt2dsl.weights.files import detect_format, torchfile
from gpt2dsl.weights.formats import huggingface, mindformers, nanogpt, peft, settings
from gpt2dsl.weights.formats.adapter import Adapter
from gpt2dsl.weights.formats.config import from_config
from gpt2dsl.weights.infer_config import Overrides, infer_config
from gpt2dsl.weights.joining import StoredTensors
from gpt2dsl.weights.location import CheckpointLocation
from gpt2dsl.weights.network_weights import Weights

OF_NETWORK = (
    "layers", "heads", "hidden", "positions", "vocab", "inner_width", "activation", "epsilon",
    "scale_attention", "scale_by_layer", "tied",
)  # fmt: skip
"""Settings of a network that change its outputs."""


def opened(name: str | Path, hints: Overrides, *, contents: bool = False) -> Weights:
    """Open weights, complete or not; arguments as in ``location.find``.

    Raises:
        InputError: absent (G2-301), empty (G2-302), damaged (G2-304) or unclear (G2-306, G2-307).
    """
    return _at(location.find(name, contents=contents, fetch=hints.fetch), hints, contents=contents)


def adapter(name: str | Path, hints: Overrides, *, contents: bool = True) -> Adapter:
    """Return the adapter of a PEFT folder or of a MindFormers checkpoint with LoRA.

    Raises:
        InputError: it can't be read, or contains no adapter (G2-306).
    """
    place = location.find(name, contents=contents, fetch=hints.fetch)
    stored = joining.stored(place, hints)
    if place.is_adapter:
        path = place.folder / ADAPTER_CONFIG
        peft_adapter = peft.adapter(peft.read_config(path), path, stored.tensors)
        return attrs.evolve(peft_adapter, base=nearby.base_of(place.folder, peft_adapter.base))
    if mindformers.is_mindformers(stored.tensors):
        yaml = settings.of_checkpoint(place.files[0], place.folder)
        alpha = yaml.alpha if yaml else None
        if lora := mindformers.adapter(stored.tensors, alpha, place.files[0]):
            return attrs.evolve(lora, base=hints.base)
    raise InputError("G2-306", place.files[0], "it holds no LoRA adapter")


def _at(place: CheckpointLocation, hints: Overrides, *, contents: bool) -> Weights:
    """Open the weights at a location in the format of their files."""
    stored = joining.stored(place, hints)
    if place.is_adapter:
        return _peft(place, stored.tensors, hints, contents=contents)
    if mindformers.is_mindformers(stored.tensors):
        return _mindformers(place, stored, hints)
    if stored.format == detect_format.TORCH:
        document = torchfile.opened(place.files[0]).document
        if nanogpt.is_nanogpt(document):
            return _nanogpt(place, stored.tensors, document, hints)
    return _hugging_face(place, stored)


def _hugging_face(place: CheckpointLocation, stored: StoredTensors) -> Weights:
    path = place.folder / CONFIG
    config = read_json(path)
    geometry = from_config(config, path)
    words = f"Hugging Face, {stored.format}"
    if place.checkpoint:
        words = f"checkpoint {place.checkpoint}" + (f", {stored.format}" if place.is_split else "")
    tensors = huggingface.full_names(stored.tensors, place.files[0])
    document = Document.of_json(path, config)
    try:
        stated = defaults.read(document, place.folder / GENERATION, geometry)
    except InputError:
        if place.checkpoint:  # the manifest tells a damaged file from an invalid one
            store.verify(place.folder, but=".safetensors")
        raise
    return Weights.of(
        place, words, geometry, tensors,
        config=config, defaults=stated, training_state=tuple(stored.states),
    )  # fmt: skip


def _nanogpt(
    place: CheckpointLocation,
    tensors: Mapping[str, Any],
    document: dict[str, Any],
    hints: Overrides,
) -> Weights:
    file = place.files[0]
    geometry = nanogpt.network(document, hints.activation, file)
    renamed = nanogpt.renamed(huggingface.full_names(tensors, file), document, geometry)
    stated = _defaults_beside(place, geometry, Defaults())
    config = nanogpt.config(geometry)
    return Weights.of(
        place, "nanoGPT's checkpoint", geometry, renamed, config=config, defaults=stated
    )


def _mindformers(place: CheckpointLocation, stored: StoredTensors, hints: Overrides) -> Weights:
    file = place.files[0]
    yaml = settings.of_checkpoint(file, place.folder)
    lora = mindformers.adapter(stored.tensors, yaml.alpha if yaml else None, file)
    renamed = mindformers.renamed(stored.tensors, file)
    geometry, config = infer_config(renamed, yaml, hints, file)
    stated = yaml.defaults(geometry) if yaml else Defaults()
    words = f"MindFormers, {stored.format}"
    weights = Weights.of(
        place, words, geometry, renamed, config=config,
        defaults=_defaults_beside(place, geometry, stated),
        training_state=tuple(filter(mindformers.is_aside, stored.tensors)),
    )  # fmt: skip
    if not lora:
        return weights
    return attrs.evolve(weights, base=weights).merged(lora, words + " with LoRA")


def _defaults_beside(
    place: CheckpointLocation, geometry: GPT2Config, embedded: Defaults
) -> Defaults:
    """Return the recipe defaults from transformers' files beside weights of another format.

    ``embedded`` are those of the weights' own files, used without a generation_config.json.

    Raises:
        InputError: config.json describes another network (G2-306), or a file is damaged (G2-304).
    """
    path = place.folder / CONFIG
    if path.is_file():
        described = from_config(read_json(path), path)
        for key in OF_NETWORK:
            stated, actual = getattr(described, key), getattr(geometry, key)
            if stated != actual:
                message = f"{key} is {stated} here, and {actual} as {place.files[0].name} is read"
                raise InputError("G2-306", path, f"{message}; take the wrong file out")
    path = place.folder / GENERATION
    return defaults.read(None, path, geometry) if path.is_file() else embedded


def _peft(
    place: CheckpointLocation, tensors: Mapping[str, Any], hints: Overrides, *, contents: bool
) -> Weights:
    path = place.folder / ADAPTER_CONFIG
    config = peft.read_config(path)
    named = config.get("base_model_name_or_path")
    name = hints.base or (nearby.base_of(place.folder, named) if isinstance(named, str) else "")
    if not name:
        message = "base_model_name_or_path is empty: name the base by --base or model.weights"
        raise InputError("G2-307", path, message)
    revision = "" if hints.base else config.get("revision")
    try:
        base_place = location.find_base(
            name, place, contents=contents, fetch=hints.fetch,
            revision=revision if isinstance(revision, str) else "",
        )  # fmt: skip
        base = _at(base_place, attrs.evolve(hints, base=""), contents=contents)
    except InputError as error:
        first = error.faults[0]
        message = f"its base can't be used: {first.key}: {first.message}"
        raise InputError(first.code, place.path, message) from error
    combined = attrs.evolve(
        base,
        location=attrs.evolve(place, skipped=base.location.skipped),
        base=base,
        tokenizer=place.tokenizer or base.tokenizer,
    )
    file = place.folder / CONFIG
    return combined.merged(
        peft.adapter(config, path, tensors, base.geometry),
        f"PEFT adapter on {name} ({base.format})",
        read_json(file) if file.exists() else {},
    )
