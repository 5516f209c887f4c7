"""Defaults of a recipe's keys, read from the files beside weights."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from gpt2dsl.errors import SpecError
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.parts import Generation
from gpt2dsl.parts.base import check
from gpt2dsl.parts.generation import OF_BEAMS, SAMPLING
from gpt2dsl.parts.model import GPT2_VOCAB
from gpt2dsl.schema import generation_config
from gpt2dsl.schema.fate import KeyFate, fates, refuse
from gpt2dsl.schema.lines import lines_of
from gpt2dsl.weights import location

GPT2_END = GPT2_VOCAB - 1
"""The id that begins and ends texts where a config.json does not say it."""

_TABLE = "generation."

_RIVALS = (("max_new_tokens", "max_length"), ("min_new_tokens", "min_length"))
"""Pairs of keys: one that a recipe sets overrides the other one of a file."""

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
"""Key of ``[model]`` → those of config.json that decide it, first the one that counts of both."""


@attrs.frozen
class Stated:
    """A value from a file, and its origin: ``generation_config.json:12``."""

    value: Any
    origin: str


@attrs.frozen
class Document:
    """The content of a file of keys beside weights.

    Attributes:
        path: the file.
        content: its keys.
        lines: the line of each.
    """

    path: Path
    content: Mapping[str, Any] = attrs.field(repr=False)
    lines: Mapping[str, int] = attrs.field(repr=False, factory=dict)

    @classmethod
    def of_json(cls, path: Path, content: Mapping[str, Any]) -> Document:
        """Return the document of a JSON file parsed already, with the lines of its keys."""
        raw = path.read_bytes()
        return cls(path, content, lines_of(raw.decode(json.detect_encoding(raw), "surrogatepass")))

    def origin(self, *keys: str) -> str:
        """Return where the first of some keys that the file has is written, or the file's name."""
        line = next((self.lines[key] for key in keys if key in self.lines), 0)
        return f"{self.path.name}:{line}" if line else self.path.name


@attrs.frozen(kw_only=True)
class Defaults:
    """The defaults that the files beside weights give.

    Attributes:
        values: ``table.key`` of a recipe → what they say of it.
        ends: ids after which texts end where neither recipe nor files say some; None for the
            tokenizer's end-of-text.
        top_k: that of draws where neither recipe nor files say it; None where there are no files.
        begin: the id that an empty prompt begins at; None for the tokenizer's end-of-text.
        refused: keys of generation that ask for what can't be had, and why.
        notes: what a reader must know of texts that are generated.
        generation: the content of their generation_config.json, or what a config.json says in its
            place; None where neither is there.
        file: the generation_config.json itself; None where there is none, or config.json goes
            before it.
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
        """Return the defaults that a network's files give; either may be absent."""
        values = dict(_network(config, geometry)) if config else {}
        says = config.content if config else {}
        if generation and not generation_config.goes_before(generation.content, says):
            defaults = cls._of_generation(generation, generation.content, geometry.vocab)
        elif config:
            ids = {"bos_token_id": GPT2_END, "eos_token_id": GPT2_END, **says}
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
        for key, (value, theirs) in generation_config.stated(content).items():
            if key == "eos":
                inside = [i for i in value if 0 <= i < vocab]
                if beyond := [i for i in value if i not in inside]:
                    words = f"{', '.join(map(str, beyond))} ends no text: there are {vocab} ids"
                    notes.append(f"{document.origin(theirs)}: eos_token_id {words}")
                if not inside:
                    continue
                ends, value = None, inside  # noqa: PLW2901  # the part that can come
            elif any(i >= vocab for i in _ids(key, value)):
                words = f"there are {vocab} ids"
                refused.append(KeyFate(document.path, theirs, content[theirs], "refused", words))
                continue
            values[_TABLE + key] = Stated(value, document.origin(theirs))
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
        """Refuse files that ask for what can't be had, unless it is asked for otherwise.

        Raises:
            SpecError: with every such key (G2-306).
        """
        given = set(generation_config.theirs(asked.given()))
        refuse(fate for fate in self.refused if fate.key not in given)

    def overridden(self, said: Generation) -> Defaults:
        """Return the defaults where a recipe says some of them."""
        own = {key: value for key, value in said.given().items() if value is not None}
        rivals = {b if a in own else a for a, b in _RIVALS if a in own or b in own} - own.keys()
        values = {
            key: entry
            for key, entry in self.values.items()
            if key.removeprefix(_TABLE) not in rivals
        }
        values |= {_TABLE + key: Stated(value, said.why(key)) for key, value in own.items()}
        named = set(generation_config.theirs(said.given()))
        refused = tuple(fate for fate in self.refused if fate.key not in named)
        return attrs.evolve(self, values=values, refused=refused)

    def completed(self, asked: Generation) -> Generation:
        """Return how text is generated: keys that are not set come from the files.

        Raises:
            SpecError: a value of the files can't be (G2-202), or does not go with what is asked.
        """
        own = {key: value for key, value in asked.given().items() if value is not None}
        stated = {
            key.removeprefix(_TABLE): value
            for key, value in self.values.items()
            if key.startswith(_TABLE) and key.removeprefix(_TABLE) not in own
        }
        for key, rival in (*_RIVALS, *(pair[::-1] for pair in _RIVALS)):
            if key in own:
                stated.pop(rival, None)
        values = {**{key: entry.value for key, entry in stated.items()}, **own}
        if self.top_k and values.get("do_sample") and "top_k" not in values:
            stated["top_k"] = self.top_k
            values["top_k"] = self.top_k.value
        unused = _unused(values)
        values = {
            key: value
            for key, value in values.items()
            if key in own or key not in unused or not Generation.rules()[key].problem(value)
        }
        for least, most in (("min_new_tokens", "max_new_tokens"), ("min_length", "max_length")):
            # transformers warns of a text that is over before it may end
            if least in stated and most in values:
                values[least] = min(values[least], values[most])
        origins = {key: asked.why(key) if key in own else stated[key].origin for key in values}
        if faults := check(Generation, values, origins, asked.origin):
            raise SpecError(faults)
        generation = Generation(**values).written(asked.origin, origins)
        assert isinstance(generation, Generation)
        return generation


def read(config: Document | None, path: Path, geometry: GPT2Config) -> Defaults:
    """Read the defaults from the files in a folder.

    Args:
        config: the config.json, read; None where there is none.
        path: the generation_config.json, which may not be there.
        geometry: the network.

    Raises:
        InputError: the file is empty (G2-302) or damaged (G2-304).
    """
    if not path.is_file():
        return Defaults.of(config, None, geometry)
    own = Document.of_json(path, location.read_json(path))
    found = Defaults.of(config, own, geometry)
    return attrs.evolve(found, file=path if found.generation is own.content else None)


def _unused(values: Mapping[str, Any]) -> frozenset[str]:
    """Return the keys that have no effect beside the others, whatever their values."""
    of_draws = frozenset[str]() if values.get("do_sample") else SAMPLING
    return of_draws if values.get("beams", 1) > 1 else of_draws | OF_BEAMS


def _ids(key: str, value: Any) -> list[int]:
    """Return the ids that a key's value names."""
    rule = Generation.rules()[key]
    asked = Generation(**{key: value}) if not rule.problem(value) else Generation()
    return asked.ids.get(key, [])


def _network(config: Document, geometry: GPT2Config) -> Iterator[tuple[str, Stated]]:
    """Yield the keys of ``[model]`` that a config.json decides."""
    words = {"inner": "inner_width"}
    for key, theirs in _NETWORK.items():
        value = getattr(geometry, words.get(key, key))
        yield f"model.{key}", Stated(value, config.origin(*theirs))
