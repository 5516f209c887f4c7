"""Opening of weights of any format: identify the network and list mismatches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs

from gpt2dsl.errors import InputError, some
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.params import HEAD, SCORE, WTE, head_of, param_specs
from gpt2dsl.weights import defaults, joining, location, nearby, store
from gpt2dsl.weights.defaults import Defaults, Document
from gpt2dsl.weights.files import detect_format, torchfile
from gpt2dsl.weights.files.lazy_tensor import LazyTensor
from gpt2dsl.weights.formats import adapter as low_rank
from gpt2dsl.weights.formats import huggingface, mindformers, nanogpt, peft, settings
from gpt2dsl.weights.formats.adapter import Adapter
from gpt2dsl.weights.formats.config import class_names, from_config, problem, to_config
from gpt2dsl.weights.infer_config import Overrides, infer_config
from gpt2dsl.weights.location import CheckpointLocation


@attrs.frozen(kw_only=True)
class Opened:
    """Open weights of any format, and their mismatches with the network.

    Attributes:
        place: their location.
        format: description of the format.
        geometry: the network.
        config: the content of config.json; {} if there is none.
        tensors: those of the network that are present, in forward order, with an adapter merged.
        head: lm_head, if the files contain it although it is tied to the wte.
        missing: names of the network's tensors that are absent.
        faults: messages about all other mismatches.
        aside: tensors that are not weights, such as optimizer state.
        adapter: the merged adapter.
        base: the weights before it was merged.
        tokenizer: the folder of their tokenizer; None if there is none.
        defaults: recipe defaults from the files beside them, or beside an adapter's base.
    """

    place: CheckpointLocation
    format: str
    geometry: GPT2Config
    config: dict[str, Any]
    tensors: Mapping[str, LazyTensor] = attrs.field(repr=False)
    head: LazyTensor | None = None
    missing: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    aside: tuple[str, ...] = ()
    adapter: Adapter | None = None
    base: Opened | None = attrs.field(default=None, repr=False)
    tokenizer: Path | None = None
    defaults: Defaults = attrs.field(factory=Defaults, repr=False)

    def refuse(self) -> None:
        """Raise an error for weights that are incomplete or do not match the network.

        Raises:
            InputError: it lists the mismatches (G2-306).
        """
        messages = [*([_count(self.missing, "missing")] if self.missing else []), *self.faults]
        if messages and self.place.is_split:
            messages.append(f"so {self.place.strategy or 'the layout that was named'} joins them")
        if messages:
            raise InputError("G2-306", self.place.files[0], "; ".join(messages))


def opened(name: str | Path, hints: Overrides, *, contents: bool = False) -> Opened:
    """Open weights, complete or not.

    Args:
        name: as in ``location.find``.
        hints: settings that the files may lack.
        contents: whether to compare a checkpoint's checksums, as in ``store.verify``.

    Raises:
        InputError: absent (G2-301), empty (G2-302), damaged (G2-304), unclear (G2-307), or wrong
            (G2-306, G2-311 to G2-315).
    """
    return _opened_at(location.find(name, contents=contents, fetch=hints.fetch), hints, contents)


def _opened_at(found: CheckpointLocation, hints: Overrides, contents: bool) -> Opened:
    kind, stored, aside = _stored(found, hints)
    if found.is_adapter:
        return _with_adapter(found, stored, hints, contents=contents)
    if mindformers.is_mindformers(stored):
        return _of_mindformers(found, kind, stored, hints)
    if kind == detect_format.TORCH and (gpt := _of_nanogpt(found, stored, hints)):
        return gpt
    config_path = found.folder / location.CONFIG
    config = location.read_json(config_path)
    geometry = from_config(config, config_path)
    words = f"Hugging Face, {kind}"
    if found.checkpoint:
        words = f"checkpoint {found.checkpoint}" + (f", {kind}" if found.is_split else "")
    named = huggingface.full_names(stored, found.files[0])
    beside = Document.of_json(config_path, config)
    return attrs.evolve(
        _opened(found, words, geometry, named, config=config, aside=aside),
        defaults=_defaults(found, beside, geometry),
    )


def _defaults(
    found: location.CheckpointLocation, config: Document, geometry: GPT2Config
) -> Defaults:
    """Read the defaults from the files beside weights."""
    try:
        return defaults.read(config, found.folder / location.GENERATION, geometry)
    except InputError:
        if found.checkpoint:  # the manifest tells a damaged file from an invalid one
            store.verify(found.folder, but=".safetensors")
        raise


def adapter(name: str | Path, hints: Overrides, *, contents: bool = True) -> Adapter:
    """Return the adapter of a PEFT folder or of a MindFormers checkpoint with LoRA.

    Args:
        name: the folder or checkpoint.
        hints: settings that the files may lack.
        contents: as in ``location.find``.

    Raises:
        InputError: it can't be read, or contains no adapter (G2-311).
    """
    source = location.find(name, contents=contents, fetch=hints.fetch)
    _, stored, _ = _stored(source, hints)
    if source.is_adapter:
        path = source.folder / location.ADAPTER_CONFIG
        peft_adapter = peft.adapter(peft.read_config(path), path, stored)
        return attrs.evolve(peft_adapter, base=nearby.base_of(source.folder, peft_adapter.base))
    if mindformers.is_mindformers(stored):
        yaml = _settings(source)
        if lora := mindformers.adapter(stored, yaml.alpha if yaml else None, source.files[0]):
            return attrs.evolve(lora, base=hints.base)
    raise InputError("G2-311", source.files[0], "it holds no LoRA adapter")


def _settings(found: CheckpointLocation) -> settings.Settings | None:
    """Return MindFormers' YAML beside the weights; None if there is none."""
    file = found.files[0]
    return settings.beside(file) or settings.beside(found.folder / file.name)


def _stored(
    found: CheckpointLocation, hints: Overrides
) -> tuple[str, dict[str, LazyTensor], tuple[str, ...]]:
    """Return the format's description, the tensors, and the names of those that are not weights."""
    if found.is_split:
        joined = joining.joined(found, hints)
        return joined.kind, joined.tensors, tuple(joined.states)
    if hints.strategy or (hints.split and hints.split.count > 1):
        raise InputError("G2-315", found.path, "it is whole, not split over ranks")
    stored: dict[str, LazyTensor] = {}
    holder: dict[str, Path] = {}
    kinds = set()
    for file in found.files:
        kind, file_tensors = detect_format.stored(file)
        kinds.add(kind)
        for name, tensor in file_tensors.items():
            if name in stored:
                message = f"{name} is in {holder[name].name} too"
                raise InputError("G2-304", file, message)
            stored[name], holder[name] = tensor, file
    for name, file in (found.index or {}).items():
        if holder.get(name) != file:
            raise InputError("G2-304", file, f"{name} is not in it, but the index says so")
    shards = f" in {len(found.files)} shards" if len(found.files) > 1 else ""
    return f"{' and '.join(sorted(kinds))}{shards}", mindformers.own_names(stored), ()


def _opened(
    found: CheckpointLocation,
    words: str,
    geometry: GPT2Config,
    stored: Mapping[str, LazyTensor],
    *,
    config: dict[str, Any],
    aside: tuple[str, ...] = (),
) -> Opened:
    """Return open weights, with the mismatches between tensors and network."""
    if HEAD in stored and WTE not in stored and head_of(geometry) == WTE:
        stored = {WTE: stored[HEAD], **stored}  # The two are tied, and the file names them once.
    expected = {tensor.name: tensor.shape for tensor in param_specs(geometry)}
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
    return Opened(
        place=found,
        format=words,
        geometry=geometry,
        config=config,
        tensors={name: stored[name] for name in expected if name in stored},
        head=None if HEAD in expected else stored.get(HEAD),
        missing=tuple(name for name in expected if name not in stored),
        faults=tuple(_count(names, what) for what, names in faults.items() if names),
        aside=aside,
        tokenizer=found.tokenizer,
    )


def _head_misfit(stored: Mapping[str, LazyTensor]) -> list[str]:
    """Return a message if the head's shape is not that of the wte it is tied to."""
    if HEAD not in stored or WTE not in stored or stored[HEAD].shape == stored[WTE].shape:
        return []
    return [f"{HEAD} is {_shape(stored[HEAD].shape)}, the word table {_shape(stored[WTE].shape)}"]


def _of_nanogpt(
    found: CheckpointLocation, stored: Mapping[str, LazyTensor], hints: Overrides
) -> Opened | None:
    """Return nanoGPT's checkpoint; None if it is another torch file."""
    file = found.files[0]
    document = torchfile.opened(file).document
    if not nanogpt.is_nanogpt(document):
        return None
    geometry = nanogpt.network(document, hints.activation, file)
    config = nanogpt.config(geometry)
    named = nanogpt.renamed(huggingface.full_names(stored, file), document, geometry)
    return attrs.evolve(
        _opened(found, "nanoGPT's checkpoint", geometry, named, config=config),
        defaults=_defaults_beside(found, geometry, Defaults()),
    )


def _defaults_beside(found: CheckpointLocation, geometry: GPT2Config, own: Defaults) -> Defaults:
    """Return the recipe defaults from transformers' files beside weights of another format.

    Args:
        found: the location of the weights.
        geometry: the network, from the weights' own files.
        own: the defaults from those files, used without a generation_config.json.

    Raises:
        InputError: config.json describes another network (G2-314), or a file is damaged (G2-304).
    """
    path = found.folder / location.CONFIG
    if path.is_file():
        described = from_config(location.read_json(path), path)
        for key in OF_NETWORK:
            stated, actual = getattr(described, key), getattr(geometry, key)
            if stated != actual:
                message = f"{key} is {stated} here, and {actual} as {found.files[0].name} is read"
                raise InputError("G2-314", path, f"{message}; take the wrong file out")
    path = found.folder / location.GENERATION
    return defaults.read(None, path, geometry) if path.is_file() else own


OF_NETWORK = (
    "layers", "heads", "hidden", "positions", "vocab", "inner_width", "activation", "epsilon",
    "scale_attention", "scale_by_layer", "tied",
)  # fmt: skip
"""Settings of a network that change its outputs."""


def _of_mindformers(
    found: CheckpointLocation, kind: str, stored: dict[str, LazyTensor], hints: Overrides
) -> Opened:
    file = found.files[0]
    yaml = _settings(found)
    lora = mindformers.adapter(stored, yaml.alpha if yaml else None, file)
    renamed = mindformers.renamed(stored, file)
    geometry, config = infer_config(renamed, yaml, hints, file)
    aside = tuple(name for name in stored if mindformers.is_aside(name))
    words = f"MindFormers, {kind}"
    opened = attrs.evolve(
        _opened(found, words, geometry, renamed, config=config, aside=aside),
        defaults=_defaults_beside(found, geometry, yaml.defaults(geometry) if yaml else Defaults()),
    )
    if not lora:
        return opened
    return _merged(attrs.evolve(opened, base=opened), lora, words + " with LoRA")


def _with_adapter(
    found: CheckpointLocation, stored: dict[str, LazyTensor], hints: Overrides, *, contents: bool
) -> Opened:
    path = found.folder / location.ADAPTER_CONFIG
    config = peft.read_config(path)
    named = config.get("base_model_name_or_path")
    name = hints.base or (nearby.base_of(found.folder, named) if isinstance(named, str) else "")
    if not name:
        message = "base_model_name_or_path is empty: name the base by --base or model.weights"
        raise InputError("G2-307", path, message)
    try:
        base = _base(name, found, attrs.evolve(hints, base=""), _revision(config, hints), contents)
    except InputError as error:
        first = error.faults[0]
        message = f"its base can't be used: {first.key}: {first.message}"
        raise InputError(first.code, found.path, message) from error
    loaded = peft.adapter(config, path, stored, base.geometry)
    words = f"PEFT adapter on {name} ({base.format})"
    combined = attrs.evolve(
        base,
        place=attrs.evolve(found, passed=base.place.passed),
        base=base,
        tokenizer=found.tokenizer or base.tokenizer,
    )
    file = found.folder / location.CONFIG
    return _merged(combined, loaded, words, location.read_json(file) if file.exists() else {})


def _revision(config: Mapping[str, Any], hints: Overrides) -> str:
    """Return the commit of the adapter's own base on the Hub; "" if another base is used."""
    revision = config.get("revision")
    return revision if isinstance(revision, str) and not hints.base else ""


def _base(
    name: str, adapter: CheckpointLocation, hints: Overrides, revision: str, contents: bool
) -> Opened:
    base = location.find(name, contents=contents, fetch=hints.fetch, revision=revision)
    if base.is_adapter and base.folder.resolve() == adapter.folder.resolve():
        base = location.base_beside(base)
    if base.is_adapter:
        raise InputError("G2-312", name, "it is an adapter itself; merge that one first")
    return _opened_at(base, hints, contents)


def _merged(
    base: Opened, own: Adapter, words: str, classes: Mapping[str, Any] | None = None
) -> Opened:
    """Return weights with an adapter merged; ``classes`` is the config.json with its labels."""
    geometry, config = _with_heads(base, own, classes or {})
    shapes = {tensor.name: tensor.shape for tensor in param_specs(geometry)}
    misfits = low_rank.misfits(shapes, own)
    faults = (*base.faults, *([_count(misfits, "that do not fit the base")] if misfits else ()))
    needed = {f"{name}.weight" for name in own.modules} | set(own.rows)
    usable = not misfits and needed <= {*base.tensors, *own.full, *own.own}
    merged = low_rank.merged(base.tensors, own) if usable else base.tensors
    return attrs.evolve(
        base,
        format=words,
        geometry=geometry,
        config=config,
        tensors={name: merged[name] for name in shapes if name in merged},
        head=_head(base, own) if HEAD not in shapes else None,
        missing=tuple(name for name in base.missing if name not in own.full),
        faults=faults,
        adapter=own,
    )


def _head(base: Opened, own: Adapter) -> LazyTensor | None:
    """Return the adapter's or base's explicit lm_head that is tied to the wte; None if none."""
    return own.full.get(HEAD, None if WTE in own.full or own.rows else base.head)


def _with_heads(
    base: Opened, own: Adapter, classes: Mapping[str, Any]
) -> tuple[GPT2Config, dict[str, Any]]:
    """Return the network and config.json with an adapter's head, classes and vocabulary size."""
    changes: dict[str, Any] = {}
    if own.own and base.geometry.tied:
        changes["tied"] = False
    if WTE in own.full and own.full[WTE].shape[:1] not in ((), (base.geometry.vocab,)):
        changes["vocab"] = own.full[WTE].shape[0]
    labels = own.full[SCORE].shape[0] if SCORE in own.full and own.full[SCORE].shape else 0
    is_named = bool(labels) and len(class_names(classes)) == labels
    if is_named:
        changes |= {"labels": labels, "problem": problem(classes)}
    elif labels and labels != base.geometry.labels:
        changes |= {"labels": labels, "problem": problem({"num_labels": labels})}
    geometry = attrs.evolve(base.geometry, **changes)
    config = base.config
    if config and changes:
        names = class_names(classes) if is_named else ()
        config = to_config(geometry, classes=names, source=config)
        # Keep only an explicit padding id: the default, the last id, is nobody's choice.
        key = "pad_token_id"
        config.pop(key, None)
        if (pad := classes.get(key, base.config.get(key))) is not None:
            config[key] = pad
    return geometry, config


def _count(names: Iterable[str], what: str) -> str:
    listed = list(names)
    return f"{len(listed)} {what}: {some(listed)}"


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a number"
