"""Open weights of a network, with their mismatches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs

from gpt2dsl.errors import InputError, some
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.params import HEAD, SCORE, WTE, head_of, param_specs
from gpt2dsl.weights.defaults import Defaults
from gpt2dsl.weights.files.lazy_tensor import Arrays, LazyTensor
from gpt2dsl.weights.formats import adapter as low_rank
from gpt2dsl.weights.formats.adapter import Adapter
from gpt2dsl.weights.formats.config import class_names, problem, to_config
from gpt2dsl.weights.location import CheckpointLocation
from gpt2dsl.weights.values import Values


@attrs.frozen(kw_only=True)
class Weights:
    """Open weights of any format, with their mismatches against the network.

    Attributes:
        location: the files.
        format: description of the format.
        geometry: the network.
        config: the content of config.json; {} if there is none.
        tensors: the network's tensors that are present, in forward order, with any adapter merged.
        head: lm_head, if the files contain it although it is tied to wte.
        missing: names of the network's tensors that are absent.
        faults: messages on all other mismatches.
        training_state: names of tensors that are not weights, such as optimizer state.
        adapter: the merged adapter.
        base: the weights before the adapter was merged.
        tokenizer: folder of the tokenizer; None if there is none.
        defaults: recipe defaults from the files next to the weights, or next to an adapter's base.
    """

    location: CheckpointLocation
    format: str
    geometry: GPT2Config
    config: dict[str, Any] = attrs.field(repr=False)
    tensors: Mapping[str, LazyTensor] = attrs.field(repr=False)
    head: LazyTensor | None = None
    missing: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    training_state: tuple[str, ...] = ()
    adapter: Adapter | None = None
    base: Weights | None = attrs.field(default=None, repr=False)
    tokenizer: Path | None = None
    defaults: Defaults = attrs.field(factory=Defaults, repr=False)

    @classmethod
    def of(
        cls,
        location: CheckpointLocation,
        words: str,
        geometry: GPT2Config,
        stored: Mapping[str, LazyTensor],
        *,
        config: dict[str, Any],
        defaults: Defaults,
        training_state: tuple[str, ...] = (),
    ) -> Weights:
        """Compare stored tensors, under Hugging Face's names, with a network."""
        if HEAD in stored and WTE not in stored and head_of(geometry) == WTE:
            stored = {
                WTE: stored[HEAD],
                **stored,
            }  # tied weights, stored under the head's name
        expected = {spec.name: spec.shape for spec in param_specs(geometry)}
        faults = {
            "unexpected": [name for name in stored if name not in expected and name != HEAD],
            "of another shape": [
                f"{name} is {_shape(stored[name].shape)}, not {_shape(shape)}"
                for name, shape in expected.items()
                if name in stored and stored[name].shape != shape
            ]
            + ([] if HEAD in expected else _head_misfit(stored)),
            "not floats": [
                f"{name} is {stored[name].kind}"
                for name in expected
                if name in stored and not stored[name].readable
            ],
        }
        return cls(
            location=location,
            format=words,
            geometry=geometry,
            config=config,
            tensors={name: stored[name] for name in expected if name in stored},
            head=None if HEAD in expected else stored.get(HEAD),
            missing=tuple(name for name in expected if name not in stored),
            faults=tuple(_count(names, what) for what, names in faults.items() if names),
            training_state=training_state,
            tokenizer=location.tokenizer,
            defaults=defaults,
        )

    @property
    def path(self) -> Path:
        """The folder or file that the user named."""
        return self.location.path

    @property
    def size(self) -> int:
        """Size of the tensors in bytes."""
        return sum(tensor.size for tensor in self.tensors.values())

    @property
    def arrays(self) -> Arrays:
        """Name → float32 values, read at each access."""
        return Arrays(self.tensors)

    @property
    def values(self) -> Values:
        """Name → values to load, which are checked to be finite."""
        return Values(self.tensors, self.location.files[0])

    def refuse(self) -> None:
        """Raise an error if the weights are incomplete or do not match the network.

        Raises:
            InputError: it lists all mismatches (G2-306).
        """
        messages = [*([_count(self.missing, "missing")] if self.missing else []), *self.faults]
        if messages and self.location.is_split:
            strategy = self.location.strategy or "the layout that was named"
            messages.append(f"so {strategy} joins them")
        if messages:
            raise InputError("G2-306", self.location.files[0], "; ".join(messages))

    def merged(
        self, adapter: Adapter, words: str, classes: Mapping[str, Any] | None = None
    ) -> Weights:
        """Return the weights with an adapter merged; ``classes`` is the adapter's config.json."""
        geometry, config = self._with_heads(adapter, classes or {})
        shapes = {spec.name: spec.shape for spec in param_specs(geometry)}
        misfits = low_rank.misfits(shapes, adapter)
        faults = [_count(misfits, "that do not fit the base")] if misfits else []
        needed = {f"{name}.weight" for name in adapter.modules} | set(adapter.rows)
        usable = not misfits and needed <= {*self.tensors, *adapter.full, *adapter.own}
        tensors = low_rank.merged(self.tensors, adapter) if usable else self.tensors
        is_head_replaced = WTE in adapter.full or adapter.rows
        head = adapter.full.get(HEAD, None if is_head_replaced else self.head)
        return attrs.evolve(
            self,
            format=words,
            geometry=geometry,
            config=config,
            tensors={name: tensors[name] for name in shapes if name in tensors},
            head=None if HEAD in shapes else head,
            missing=tuple(name for name in self.missing if name not in adapter.full),
            faults=(*self.faults, *faults),
            adapter=adapter,
        )

    def _with_heads(
        self, adapter: Adapter, classes: Mapping[str, Any]
    ) -> tuple[GPT2Config, dict[str, Any]]:
        """Apply an adapter's head, classes and vocabulary size to the network and config.json."""
        changes: dict[str, Any] = {}
        if adapter.own and self.geometry.tied:
            changes["tied"] = False
        if WTE in adapter.full and adapter.full[WTE].shape[:1] not in ((), (self.geometry.vocab,)):
            changes["vocab"] = adapter.full[WTE].shape[0]
        score = adapter.full.get(SCORE)
        labels = score.shape[0] if score and score.shape else 0
        is_named = bool(labels) and len(class_names(classes)) == labels
        if is_named:
            changes |= {"labels": labels, "problem": problem(classes)}
        elif labels and labels != self.geometry.labels:
            changes |= {"labels": labels, "problem": problem({"num_labels": labels})}
        geometry = attrs.evolve(self.geometry, **changes)
        if not self.config or not changes:
            return geometry, self.config
        config = to_config(
            geometry, classes=class_names(classes) if is_named else (), source=self.config
        )
        # Keep only an explicit padding id: to_config's default, the last id, was never chosen.
        key = "pad_token_id"
        config.pop(key, None)
        if (pad := classes.get(key, self.config.get(key))) is not None:
            config[key] = pad
        return geometry, config


def _head_misfit(stored: Mapping[str, LazyTensor]) -> list[str]:
    """Return a message if the shape of the head differs from the wte that it is tied to."""
    if HEAD not in stored or WTE not in stored or stored[HEAD].shape == stored[WTE].shape:
        return []
    return [f"{HEAD} is {_shape(stored[HEAD].shape)}, the word table {_shape(stored[WTE].shape)}"]


def _count(names: Iterable[str], what: str) -> str:
    listed = list(names)
    return f"{len(listed)} {what}: {some(listed)}"


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a number"
