"""Defaults of a recipe's keys, read from the files beside weights."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from gpt2dsl.data.documents import read_json
from gpt2dsl.errors import InputError, SpecError
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.parts import Generation
from gpt2dsl.parts.base import check
from gpt2dsl.parts.generation import OF_BEAMS, SAMPLING
from gpt2dsl.parts.model import GPT2_VOCAB
from gpt2dsl.schema import generation_config
from gpt2dsl.schema.fate import KeyFate, fates, refuse
from gpt2dsl.schema.folder import CONFIG, GENERATION
from gpt2dsl.schema.lines import lines_of
from gpt2dsl.weights.formats.config import OF_NETWORK, from_config
from gpt2dsl.weights.location import CheckpointLocation

GPT2_END = GPT2_VOCAB - 1
"""Default of bos_token_id and eos_token_id in a config.json."""

_TABLE = "generation."

_RIVALS = (("max_new_tokens", "max_length"), ("min_new_tokens", "min_length"))
"""Pairs of keys; the one set in a recipe overrides the other one from a file."""

_NETWORK = {
    "layers": ("num_hidden_layers", "n_layer"),
    "heads": ("num_attention_heads", "n_head"),
    "hidden": ("hidden_size", "n_embd"),
    "positions": ("max_position_embeddings", "n_positions"),
    "vocab": ("vocab_size",),
    "inner": ("n_inner",),
    "activation": ("activation_function",),
    "dropout": ("resid_pdrop",),
}
"""Key of ``[model]`` → its keys in config.json, in order of precedence."""


@attrs.frozen
class Stated:
    """A value from a file, and its origin: ``generation_config.json:12``."""

    value: Any
    origin: str


@attrs.frozen
class Document:
    """A configuration file beside weights, and the line of each of its keys."""

    path: Path
    content: Mapping[str, Any] = attrs.field(repr=False)
    lines: Mapping[str, int] = attrs.field(repr=False, factory=dict)

    @classmethod
    def of_json(cls, path: Path, content: Mapping[str, Any]) -> Document:
        """Return the document of a parsed JSON file, with line numbers of its keys."""
        raw = path.read_bytes()
        return cls(path, content, lines_of(raw.decode(json.detect_encoding(raw), "surrogatepass")))

    def origin(self, *keys: str) -> str:
        """Return file and line of the first of these keys that is present, or the file's name."""
        line = next((self.lines[key] for key in keys if key in self.lines), 0)
        return f"{self.path.name}:{line}" if line else self.path.name


@attrs.frozen(kw_only=True)
class Defaults:
    """Defaults from the files beside weights.

    Attributes:
        values: ``table.key`` of a recipe → its default.
        ends: end-of-text ids if neither recipe nor files set them; None for the tokenizer's.
        top_k: top_k of sampling if neither recipe nor files set it; None if there are no files.
        begin: the first id of an empty prompt; None for the tokenizer's end-of-text.
        refused: generation keys that ask for an unsupported feature, with the reason.
        notes: remarks for users on generated texts.
        generation: the content of generation_config.json, or the corresponding keys of config.json;
            None if neither exists.
        file: the generation_config.json; None if it is absent or overridden by config.json.
    """

    values: Mapping[str, Stated] = attrs.field(factory=dict)
    ends: tuple[int, ...] | None = None
    top_k: Stated | None = None
    begin: int | None = None
    refused: tuple[KeyFate, ...] = ()
    notes: tuple[str, ...] = ()
    generation: Mapping[str, Any] | None = attrs.field(default=None, repr=False)
    file: Path | None = None

    @classmethod
    def of(
        cls, config: Document | None, generation: Document | None, geometry: GPT2Config
    ) -> Defaults:
        """Return the defaults from a network's files, each of which may be absent."""
        values = dict(_network(config, geometry)) if config else {}
        keys = config.content if config else {}
        if generation and not generation_config.goes_before(generation.content, keys):
            defaults = cls._of_generation(generation, generation.content, geometry.vocab)
        elif config:
            ids = {"bos_token_id": GPT2_END, "eos_token_id": GPT2_END, **keys}
            defaults = cls._of_generation(config, generation_config.of_config(ids), geometry.vocab)
        else:
            return cls()
        return attrs.evolve(defaults, values={**values, **defaults.values})

    @classmethod
    def _of_generation(cls, document: Document, content: Mapping[str, Any], vocab: int) -> Defaults:
        table = generation_config.TABLE
        refused = [fate for fate in fates(document.path, content, table) if fate.fate == "refused"]
        values: dict[str, Stated] = {}
        ends: tuple[int, ...] | None = ()
        notes = []
        for key, (value, file_key) in generation_config.stated(content).items():
            if key == "eos":
                inside = [i for i in value if 0 <= i < vocab]
                if beyond := [i for i in value if i not in inside]:
                    words = f"{', '.join(map(str, beyond))} ends no text: there are {vocab} ids"
                    notes.append(f"{document.origin(file_key)}: eos_token_id {words}")
                if not inside:
                    continue
                ends, value = None, inside  # noqa: PLW2901  # ids within the vocabulary
            elif any(i >= vocab for i in _ids(key, value)):
                words = f"there are {vocab} ids"
                refused.append(
                    KeyFate(document.path, file_key, content[file_key], "refused", words)
                )
                continue
            values[_TABLE + key] = Stated(value, document.origin(file_key))
        if content.get("eos_token_id") is None:
            words = "texts end by their length alone, as in transformers; generation.eos says more"
            notes.append(f"{document.path.name} names no eos_token_id: {words}")
        begin = content.get("bos_token_id")
        return cls(
            values=values,
            ends=ends,
            top_k=Stated(generation_config.DEFAULT_TOP_K, document.path.name),
            begin=begin if type(begin) is int and 0 <= begin < vocab else None,
            refused=tuple(refused),
            notes=tuple(notes),
            generation=content,
        )

    def refuse(self, asked: Generation) -> None:
        """Raise an error for unsupported keys of the files, unless the request overrides them.

        Raises:
            SpecError: it lists every such key (G2-313).
        """
        overridden_keys = set(generation_config.file_keys(asked.given()))
        refuse(fate for fate in self.refused if fate.key not in overridden_keys)

    def overridden(self, requested: Generation) -> Defaults:
        """Return the defaults, overridden by the keys that a recipe sets."""
        stated = {key: value for key, value in requested.given().items() if value is not None}
        rivals = {
            b if a in stated else a for a, b in _RIVALS if a in stated or b in stated
        } - stated.keys()
        values = {
            key: entry
            for key, entry in self.values.items()
            if key.removeprefix(_TABLE) not in rivals
        }
        values |= {_TABLE + key: Stated(value, requested.why(key)) for key, value in stated.items()}
        named = set(generation_config.file_keys(requested.given()))
        refused = tuple(fate for fate in self.refused if fate.key not in named)
        return attrs.evolve(self, values=values, refused=refused)

    def completed(self, asked: Generation) -> Generation:
        """Return the generation settings, with keys that are not set taken from the files.

        Raises:
            SpecError: a value of the files is invalid (G2-202), or contradicts the request.
        """
        requested = {key: value for key, value in asked.given().items() if value is not None}
        stated = {
            key.removeprefix(_TABLE): value
            for key, value in self.values.items()
            if key.startswith(_TABLE) and key.removeprefix(_TABLE) not in requested
        }
        for key, rival in (*_RIVALS, *(pair[::-1] for pair in _RIVALS)):
            if key in requested:
                stated.pop(rival, None)
        values = {**{key: entry.value for key, entry in stated.items()}, **requested}
        if self.top_k and values.get("do_sample") and "top_k" not in values:
            stated["top_k"] = self.top_k
            values["top_k"] = self.top_k.value
        unused = _unused(values)
        values = {
            key: value
            for key, value in values.items()
            if key in requested or key not in unused or not Generation.rules()[key].problem(value)
        }
        for least, most in (("min_new_tokens", "max_new_tokens"), ("min_length", "max_length")):
            # A minimum above the maximum: transformers only warns about it.
            if least in stated and most in values:
                values[least] = min(values[least], values[most])
        origins = {
            key: asked.why(key) if key in requested else stated[key].origin for key in values
        }
        if faults := check(Generation, values, origins, asked.origin):
            raise SpecError(faults)
        generation = Generation(**values).written(asked.origin, origins)
        assert isinstance(generation, Generation)
        return generation


def read(config: Document | None, path: Path, geometry: GPT2Config) -> Defaults:
    """Read the defaults from the content of config.json, if any, and a generation_config.json.

    Raises:
        InputError: the file is empty (G2-302) or damaged (G2-304).
    """
    if not path.is_file():
        return Defaults.of(config, None, geometry)
    document = Document.of_json(path, read_json(path))
    result = Defaults.of(config, document, geometry)
    return attrs.evolve(result, file=path if result.generation is document.content else None)


def beside(place: CheckpointLocation, geometry: GPT2Config, embedded: Defaults) -> Defaults:
    """Return the recipe defaults from transformers' files beside weights of another format.

    ``embedded`` are those of the weights' own files, used without a generation_config.json.

    Raises:
        InputError: config.json describes another network (G2-314), or a file is damaged (G2-304).
    """
    path = place.folder / CONFIG
    if path.is_file():
        described = from_config(read_json(path), path)
        for key in OF_NETWORK:
            stated, actual = getattr(described, key), getattr(geometry, key)
            if stated != actual:
                message = f"{key} is {stated} here, and {actual} as {place.files[0].name} is read"
                raise InputError("G2-314", path, f"{message}; take the wrong file out")
    path = place.folder / GENERATION
    return read(None, path, geometry) if path.is_file() else embedded


def _unused(values: Mapping[str, Any]) -> frozenset[str]:
    """Return the keys without effect, given the others."""
    of_draws = frozenset[str]() if values.get("do_sample") else SAMPLING
    return of_draws if values.get("beams", 1) > 1 else of_draws | OF_BEAMS


def _ids(key: str, value: Any) -> list[int]:
    """Return the token ids in a key's value."""
    rule = Generation.rules()[key]
    asked = Generation(**{key: value}) if not rule.problem(value) else Generation()
    return asked.ids.get(key, [])


def _network(config: Document, geometry: GPT2Config) -> Iterator[tuple[str, Stated]]:
    """Yield each key of ``[model]`` with its value from config.json."""
    words = {"inner": "inner_width"}
    for key, file_keys in _NETWORK.items():
        value = getattr(geometry, words.get(key, key))
        yield f"model.{key}", Stated(value, config.origin(*file_keys))
