"""Small networks exported, and transformers' logits of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.lite import writing
from gpt2dsl.lite.description import Description
from gpt2dsl.lite.shapes import Shapes
from gpt2dsl.lite.writing import Graphs
from gpt2dsl.weights.files.lazy_tensor import ArrayTensor, converted
from tests.judges import hugging_face, random_ids, random_weights

Logits = NDArray[np.float32]


def exported(
    folder: Path, form: str, shapes: Shapes, *, cache: bool = True, kind: str = "F32"
) -> Description:
    """The graphs of random weights in a format; ``fixed`` is ONNX of fixed shapes."""
    arrays = random_weights(shapes.geometry)
    graphs = Graphs(
        shapes=shapes,
        names=writing.names_of(form, shapes, cache=cache),
        tensors={name: converted(ArrayTensor.of(array), kind) for name, array in arrays.items()},
        dtype="float16" if kind == "F16" else "float32",
    )
    if form == "fixed":
        form, files = "onnx", writing.fixed_onnx(folder, graphs)
    else:
        files = writing.write(folder, form, graphs)
    return Description(format=form, shapes=shapes, files=files, dtype=graphs.dtype)


def judge(geometry: GPT2Config, *, rounded: bool = False) -> Callable[[Any, Any], Logits]:
    """What transformers says, in float64, as ``verification.Reference``."""
    arrays: dict[str, Any] = random_weights(geometry)
    if rounded:
        arrays = {name: array.astype(np.float16) for name, array in arrays.items()}
    model = hugging_face(geometry, {k: v for k, v in arrays.items() if k != "score.weight"})

    def logits(ids: Any, valid: Any) -> Logits:
        tokens = torch.tensor(np.asarray(ids, np.int64))
        if not geometry.labels:
            found: Logits = model(tokens).logits.detach().numpy().astype(np.float32)
            return found
        hidden = model.transformer(tokens).last_hidden_state.detach().numpy()
        last = hidden[np.arange(len(ids)), np.asarray(valid) - 1]
        scores: Logits = (last @ arrays["score.weight"].astype(np.float64).T).astype(np.float32)
        return scores

    return logits


def real(geometry: GPT2Config) -> list[int]:
    found: list[int] = random_ids(geometry, 1, 50)[0].tolist()
    return found
