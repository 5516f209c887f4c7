"""nanoGPT's ckpt.pt: GPT-2 with linear weights ``[out, in]``, and its model_args.

Source: github.com/karpathy/nanoGPT, model.py and train.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from gpt2dsl.errors import InputError
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.params import param_specs
from gpt2dsl.layout.tensor_layout import Box
from gpt2dsl.parts.model import GPT2_ROWS, GPT2_VOCAB
from gpt2dsl.schema.fate import KeyFate, fates
from gpt2dsl.schema.nanogpt import MODEL_ARGS, TABLE
from gpt2dsl.weights import defaults
from gpt2dsl.weights.defaults import Defaults
from gpt2dsl.weights.files.lazy_tensor import ArrayTensor, LazyTensor, Whole
from gpt2dsl.weights.formats import huggingface
from gpt2dsl.weights.formats.config import to_config
from gpt2dsl.weights.infer_config import Overrides
from gpt2dsl.weights.location import CheckpointLocation
from gpt2dsl.weights.network_weights import Weights

_LINEARS = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")


@attrs.frozen(eq=False)
class Transposed(Whole):
    """The transpose of a matrix."""

    of: LazyTensor

    def make(self) -> NDArray[Any]:
        """Return the transpose."""
        return np.ascontiguousarray(self.of.rows(0, self.of.length).T)

    def read(self, box: Box) -> NDArray[Any]:
        """Return a box, read as the transposed one of the matrix."""
        transposed: NDArray[Any] = self.of.read(box[::-1]).T
        return transposed

    def prepared(self) -> LazyTensor:
        """Return itself: boxes are read from the file."""
        return self


def is_nanogpt(document: Mapping[str, Any]) -> bool:
    """Return whether a torch checkpoint is nanoGPT's, judging by its entry model_args."""
    return isinstance(document.get("model_args"), dict)


def open_weights(
    place: CheckpointLocation,
    tensors: Mapping[str, LazyTensor],
    document: dict[str, Any],
    overrides: Overrides,
) -> Weights:
    """Open a checkpoint, given its entries besides the tensors.

    Raises:
        InputError: as in ``network``, or a file beside it describes another network (G2-314).
    """
    file = place.files[0]
    geometry = network(document, overrides.activation, file)
    named = renamed(huggingface.full_names(tensors, file), document, geometry)
    stated = defaults.beside(place, geometry, Defaults())
    return Weights.of(
        place, "nanoGPT's checkpoint", geometry, named, config=config(geometry), defaults=stated
    )


def key_fates(document: Mapping[str, Any], path: Path) -> list[KeyFate]:
    """Return the fate of each key of a checkpoint and of its model_args."""
    of_args = fates(path, document["model_args"], MODEL_ARGS)
    named = (attrs.evolve(fate, key=f"model_args.{fate.key}") for fate in of_args)
    other_keys = {key: "..." for key in document if key != "model_args"}
    return [*fates(path, other_keys, TABLE), *named]


def network(document: Mapping[str, Any], activation: str, path: Path) -> GPT2Config:
    """Return the network of a checkpoint.

    Without ``activation`` it is gelu with erf, as in nanoGPT today; before August 2023 nanoGPT used
    the tanh form, gelu_new, which its files do not record.

    Raises:
        InputError: a number is missing or invalid (G2-313).
    """
    args = document["model_args"]
    names = ("n_layer", "n_head", "n_embd", "block_size", "vocab_size")
    for name in names:
        value = args.get(name)
        if type(value) is not int or not 1 <= value <= 2**24:
            message = f"model_args: {name} is {value!r}, a positive whole number is expected"
            raise InputError("G2-313", path, message)
    layers, heads, hidden, positions, vocab = (args[name] for name in names)
    if hidden % heads:
        raise InputError("G2-313", path, f"model_args: n_head {heads} does not divide {hidden}")
    dropout = args.get("dropout", 0.0)
    if type(dropout) not in {int, float} or not 0 <= dropout < 1 or math.isnan(dropout):
        raise InputError("G2-313", path, f"model_args: dropout is {dropout!r}")
    return GPT2Config(
        layers=layers, heads=heads, hidden=hidden, positions=positions, vocab=vocab,
        activation=activation or "gelu", dropout=float(dropout),
    )  # fmt: skip


def config(geometry: GPT2Config) -> dict[str, Any]:
    """Return the network's config.json, with the end-of-text id of GPT-2's vocabulary."""
    end = GPT2_VOCAB - 1 if geometry.vocab in GPT2_ROWS else None
    return to_config(geometry) | {"bos_token_id": end, "eos_token_id": end}


def renamed(
    stored: Mapping[str, LazyTensor], document: Mapping[str, Any], geometry: GPT2Config
) -> dict[str, LazyTensor]:
    """Return tensors in the layout of Hugging Face's GPT-2, whose names nanoGPT shares."""
    result: dict[str, LazyTensor] = {}
    for name, tensor in stored.items():
        if name.endswith(_LINEARS) and len(tensor.shape) == 2:
            result[name] = Transposed(tensor.kind, tensor.shape[::-1], tensor)
        else:
            result[name] = tensor
    if document["model_args"].get("bias") is False:
        for expected in param_specs(geometry):
            if expected.name.endswith(".bias") and expected.name not in result:
                result[expected.name] = ArrayTensor.of(np.zeros(expected.shape, np.float32))
    return result
