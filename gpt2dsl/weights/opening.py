"""Opening of weights: name → location → stored tensors → format → the network's weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from gpt2dsl.data.documents import read_json
from gpt2dsl.errors import InputError
from gpt2dsl.schema.folder import ADAPTER_CONFIG, CONFIG
from gpt2dsl.weights import joining, location, nearby
from gpt2dsl.weights.files import detect_format, torchfile
from gpt2dsl.weights.formats import huggingface, mindformers, nanogpt, peft, settings
from gpt2dsl.weights.formats.adapter import Adapter
from gpt2dsl.weights.infer_config import Overrides
from gpt2dsl.weights.location import CheckpointLocation
from gpt2dsl.weights.network_weights import Weights


def opened(name: str | Path, overrides: Overrides, *, contents: bool = False) -> Weights:
    """Open weights, complete or not; arguments as in ``location.find``.

    Raises:
        InputError: absent (G2-301), empty (G2-302), damaged (G2-304), unclear (G2-307), or wrong
            (G2-306, G2-311 to G2-315).
    """
    return _at(
        location.find(name, contents=contents, fetch=overrides.fetch), overrides, contents=contents
    )


def adapter(name: str | Path, overrides: Overrides, *, contents: bool = True) -> Adapter:
    """Return the adapter of a PEFT folder or of a MindFormers checkpoint with LoRA.

    Raises:
        InputError: it can't be read, or contains no adapter (G2-311).
    """
    place = location.find(name, contents=contents, fetch=overrides.fetch)
    stored = joining.stored(place, overrides)
    if place.is_adapter:
        path = place.folder / ADAPTER_CONFIG
        peft_adapter = peft.adapter(peft.read_config(path), path, stored.tensors)
        return attrs.evolve(peft_adapter, base=nearby.base_of(place.folder, peft_adapter.base))
    if mindformers.is_mindformers(stored.tensors):
        yaml = settings.of_checkpoint(place.files[0], place.folder)
        alpha = yaml.alpha if yaml else None
        if lora := mindformers.adapter(stored.tensors, alpha, place.files[0]):
            return attrs.evolve(lora, base=overrides.base)
    raise InputError("G2-311", place.files[0], "it holds no LoRA adapter")


def _at(place: CheckpointLocation, overrides: Overrides, *, contents: bool) -> Weights:
    """Open the weights at a location in the format of their files."""
    stored = joining.stored(place, overrides)
    if place.is_adapter:
        return _peft(place, stored.tensors, overrides, contents=contents)
    if mindformers.is_mindformers(stored.tensors):
        return mindformers.open_weights(place, stored.format, stored.tensors, overrides)
    if stored.format == detect_format.TORCH:
        document = torchfile.opened(place.files[0]).document
        if nanogpt.is_nanogpt(document):
            return nanogpt.open_weights(place, stored.tensors, document, overrides)
    return huggingface.open_weights(place, stored.format, stored.tensors, tuple(stored.states))


def _peft(
    place: CheckpointLocation, tensors: Mapping[str, Any], overrides: Overrides, *, contents: bool
) -> Weights:
    path = place.folder / ADAPTER_CONFIG
    config = peft.read_config(path)
    named = config.get("base_model_name_or_path")
    name = overrides.base or (nearby.base_of(place.folder, named) if isinstance(named, str) else "")
    if not name:
        message = (
            "base_model_name_or_path is empty: write the name of its base there; convert, export "
            "and inspect take it by --base, a recipe of these as weights of [model]"
        )
        raise InputError("G2-307", path, message)
    revision = "" if overrides.base else config.get("revision")
    try:
        base_place = location.find_base(
            name, place, contents=contents, fetch=overrides.fetch,
            revision=revision if isinstance(revision, str) else "",
        )  # fmt: skip
        base = _at(base_place, attrs.evolve(overrides, base=""), contents=contents)
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
