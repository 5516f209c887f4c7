"""Writing of graphs and weights of an export in each format."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from gpt2dsl import extras
from gpt2dsl.errors import InputError, RunError
from gpt2dsl.lite import onnx_graph, onnx_model, onnx_ports, onnx_weights
from gpt2dsl.lite.description import ONNX, SUFFIX
from gpt2dsl.lite.plain import plain
from gpt2dsl.lite.runtimes import mslite
from gpt2dsl.lite.shapes import Shapes
from gpt2dsl.weights.files.lazy_tensor import Arrays, LazyTensor

GE = {
    "910A": "",
    "910B": "ge.exec.formatMode=1\n",
}
"""Ascend processor → further lines of its config.ini (mindformers 0.8, docs on inference)."""

_GE = """[ascend_context]
plugin_custom_ops=All
provider=ge

[ge_session_options]
ge.externalWeight=1
{more}ge.exec.atomicCleanPolicy=1
ge.event=notify
ge.exec.staticMemoryPolicy=2
ge.exec.precision_mode=must_keep_origin_dtype
"""


@attrs.frozen(kw_only=True)
class Graphs:
    """The graphs of an export, with the network's tensors in the element type of the export."""

    shapes: Shapes
    names: tuple[str, ...]
    tensors: Mapping[str, LazyTensor] = attrs.field(repr=False)
    dtype: str


def names_of(form: str, shapes: Shapes, *, cache: bool) -> tuple[str, ...]:
    """Return the names of the graphs of an export in a format."""
    if form == ONNX:
        return (onnx_ports.task_of(shapes.geometry, cache=cache),)
    return shapes.graphs(cache=cache)


def room(form: str, names: Sequence[str], parameters: int, dtype: str) -> tuple[int, int]:
    """Return the bytes of the graphs' weights, and of temporary files."""
    width = 2 if dtype == "float16" else 4
    if form == "ms":  # its converter widens float16, and reads ONNX
        return 4 * parameters * len(names), width * parameters
    return width * parameters * len(names), 0


def write(folder: Path, form: str, graphs: Graphs) -> dict[str, str]:
    """Write the graphs in a format; return graph → file.

    Raises:
        InputError: onnx or Lite is not installed (G2-531).
        RunError: a converter failed.
    """
    if form == ONNX:
        return _onnx(folder, graphs)
    files = {name: f"{name}{SUFFIX[form]}" for name in graphs.names}
    if form == "ms":
        with tempfile.TemporaryDirectory(dir=folder) as name:
            fixed_onnx(Path(name), graphs)
            for graph, file in files.items():
                mslite.convert(Path(name) / f"{graph}.onnx", folder / file)
    else:
        return _mindir(folder, graphs, files)
    return files


def ge_config(processor: str) -> str:
    """Return the config.ini of MindSpore Lite on Ascend."""
    return _GE.format(more=GE[processor])


def _onnx(folder: Path, graphs: Graphs) -> dict[str, str]:
    """Write one model with dynamic batch size and length; return task → file."""
    placed = _placed(folder / onnx_model.WEIGHTS, graphs)
    shapes, (task,) = graphs.shapes, graphs.names
    model = onnx_model.model(shapes.geometry, task, shapes.length, placed)
    _checked(folder / onnx_model.FILE, model)
    return {task: onnx_model.FILE}


def fixed_onnx(folder: Path, graphs: Graphs) -> dict[str, str]:
    """Write ONNX graphs of fixed shapes, for Lite's converter; return graph → file."""
    placed = _placed(folder / onnx_graph.WEIGHTS, graphs)
    for name in graphs.names:
        _checked(folder / f"{name}.onnx", onnx_graph.graph(graphs.shapes, name, placed))
    return {name: f"{name}.onnx" for name in graphs.names}


def _placed(path: Path, graphs: Graphs) -> dict[str, onnx_weights.ExternalTensor]:
    """Write the weights file of ONNX graphs; return each tensor's place in it."""
    if not importlib.util.find_spec("onnx"):
        message = f"it is not installed: {extras.install('onnx')}"
        raise InputError("G2-531", "onnx", message)
    tensors = onnx_weights.thirds(graphs.tensors, graphs.shapes.geometry)
    return onnx_weights.write_weights(path, tensors)


def _checked(path: Path, model: Any) -> None:
    """Write a ModelProto and validate it with ONNX's own checker."""
    import onnx  # noqa: PLC0415  # an extra

    path.write_bytes(model.SerializeToString(deterministic=True))
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except onnx.checker.ValidationError as error:
        raise RunError("G2-533", f"{path.name}: onnx.checker refuses it: {error}") from error


def _mindir(folder: Path, graphs: Graphs, files: Mapping[str, str]) -> dict[str, str]:
    from gpt2dsl.lite import cells  # noqa: PLC0415  # imports MindSpore

    values = dict(Arrays(graphs.tensors).items())
    result = {}
    narrow = graphs.dtype == "float16"
    for name, file in files.items():
        with plain(folder) as safe:
            cells.export(graphs.shapes, name, values, safe / file, float16=narrow)
        for path in folder.rglob("*"):  # MindSpore makes files readable only for their owner
            path.chmod(0o755 if path.is_dir() else 0o644)
        # above 2 GB MindSpore writes weights to a folder, and adds _graph to the file name
        split = f"{name}_graph{SUFFIX['mindir']}"
        result[name] = file if (folder / file).exists() else split
    return result
