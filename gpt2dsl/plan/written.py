"""Size of the output of conversions, and refusal of a disk that is too small for it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import attrs

from gpt2dsl.errors import FileError, InputError
from gpt2dsl.files import cache
from gpt2dsl.layout.params import param_specs, parameter_count
from gpt2dsl.parts.bundle import Parts
from gpt2dsl.parts.task import Conversion, Convert, Export
from gpt2dsl.plan.inputs import Input, refused, weights_name

if TYPE_CHECKING:
    from gpt2dsl.weights.infer_config import Overrides
    from gpt2dsl.weights.reading import Look

_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


@attrs.frozen(kw_only=True)
class Written:
    """Output of a conversion.

    Attributes:
        files: number of files with tensors: ranks of resharding, graphs of an export, else 1.
        size: bytes of the tensors, copies included.
        scratch: bytes of temporary files beside them.
        memory: bytes of the blocks that resharding has in memory at once, whatever the size.
    """

    files: int
    size: int
    scratch: int = 0
    memory: int = 0


def find(parts: Parts, looked: Look | None, said: Overrides) -> Written | None:
    """Return the output of convert and export; None where it is not known yet.

    Args:
        parts: the recipe's.
        looked: description of the source; None where it is refused, or an adapter.
        said: the recipe's settings of the source.
    """
    task = parts.task
    if isinstance(task, Convert):
        size = (
            _adapter(parts, task.dtype, said) if task.to == "peft" else _tensors(looked, task.dtype)
        )
        return Written(files=1, size=size) if size else None
    if isinstance(task, Export) and looked:
        return _graphs(task, looked)
    return None


def refusal(parts: Parts, written: Written | None) -> Input | None:
    """Return the refusal of a disk without room for the output."""
    task = parts.task
    if not isinstance(task, Conversion) or written is None:
        return None
    from gpt2dsl.weights import writing  # noqa: PLC0415  # NumPy: only for weights

    try:
        writing.find_room(cache.expanded(task.target), written.size + written.scratch)
    except OSError:  # find_target reports it
        return None
    except FileError as error:
        full = InputError("G2-308", task.target, error.message)
        return refused(parts, "task.target", task.target, full)
    return None


def _tensors(looked: Look | None, dtype: str) -> int:
    """Return the bytes of full weights; 0 where they depend on weights yet to be made."""
    if looked is None:
        return 0
    if dtype:
        return parameter_count(looked.geometry) * _BYTES[dtype]
    from gpt2dsl.weights import writing  # noqa: PLC0415  # as above

    present = sum(tensor.size for tensor in writing.in_dtype(looked.tensors, "").values())
    shapes = {tensor.name: tensor.shape for tensor in param_specs(looked.geometry)}
    added = sum(_BYTES["float32"] * math.prod(shapes[name]) for name in looked.new)
    return present + added if present else 0


def _adapter(parts: Parts, dtype: str, said: Overrides) -> int:
    """Return the bytes of an adapter without its base; 0 if it is refused or yet to be made."""
    from gpt2dsl.weights import opening, writing  # noqa: PLC0415  # as above

    name = weights_name(parts)
    if not name:
        return 0
    try:
        adapter = opening.adapter(name, said, contents=False)
    except InputError:
        return 0
    tensors = {str(number): tensor for number, tensor in enumerate(adapter.tensors)}
    return sum(tensor.size for tensor in writing.in_dtype(tensors, dtype).values())


def _graphs(task: Export, looked: Look) -> Written:
    """Return the output of an export: graphs that each have all weights."""
    from gpt2dsl.lite import writing  # noqa: PLC0415  # only exports ask for it
    from gpt2dsl.lite.shapes import Shapes  # noqa: PLC0415  # as above

    shapes = Shapes(looked.geometry, task.batch, task.seq_length or looked.geometry.positions)
    names = writing.names_of(task.format, shapes, cache=task.cache)
    size, scratch = writing.room(
        task.format, names, parameter_count(looked.geometry), task.dtype or "float32"
    )
    return Written(files=len(names), size=size, scratch=scratch)
