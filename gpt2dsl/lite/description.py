"""export.json: what an exported folder holds, for whoever runs it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import attrs

from gpt2dsl.data import documents
from gpt2dsl.errors import InputError
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.lite import onnx_ports
from gpt2dsl.lite.onnx_ports import DynamicPort
from gpt2dsl.lite.shapes import Port, Shapes
from gpt2dsl.weights import store

FILE = "export.json"
ONNX = "onnx"
COMPARED_ROWS = 2
"""Rows that an export of any number of rows is compared with, one longer than the other."""

SUFFIX = {ONNX: ".onnx", "mindir": ".mindir", "ms": ".ms"}


@attrs.frozen(kw_only=True)
class Description:
    """What an export is.

    Attributes:
        format: mindir, onnx or ms.
        shapes: the sizes that its graphs are for; of a dynamic export the batch is that of the
            comparison alone.
        files: graph → its file.
        dtype: of the weights.
        digest: of the whole weights, as resharding has it.
        classes: names of a classifier's classes.
        verified: runtime → the largest difference of a logit from MindSpore's.
        unverified: what was not verified, and why.
    """

    format: str
    shapes: Shapes
    files: Mapping[str, str]
    dtype: str
    digest: str = ""
    classes: tuple[str, ...] = ()
    verified: Mapping[str, float] = attrs.field(factory=dict)
    unverified: str = ""

    @property
    def task(self) -> str:
        """Return the task of a model with dynamic axes; "" where the graphs have fixed shapes."""
        return next((graph for graph in self.files if graph in onnx_ports.TASKS), "")

    def to_json(self) -> dict[str, Any]:
        """As JSON has it."""
        geometry = self.shapes.geometry
        return {
            "gpt2dsl": metadata.version("gpt2dsl"),
            "format": self.format,
            "dtype": self.dtype,
            "batch": None if self.task else self.shapes.batch,
            "seq_length": self.shapes.length,
            "graphs": {
                graph: {"file": file, **self._ports(graph)} for graph, file in self.files.items()
            },
            "network": {**attrs.asdict(geometry), "inner": geometry.inner_width},
            "classes": list(self.classes),
            "digest": self.digest,
            "verified": dict(self.verified),
            "unverified": self.unverified,
        }

    def _ports(self, graph: str) -> dict[str, list[dict[str, Any]]]:
        """Return what a graph takes and gives."""
        sides: dict[str, tuple[Port, ...] | tuple[DynamicPort, ...]]
        if graph == self.task:
            geometry = self.shapes.geometry
            sides = {
                "inputs": onnx_ports.inputs(geometry, graph),
                "outputs": onnx_ports.outputs(geometry, graph),
            }
        else:
            sides = {"inputs": self.shapes.inputs(graph), "outputs": self.shapes.outputs(graph)}
        return {side: [attrs.asdict(port) for port in ports] for side, ports in sides.items()}

    def write(self, folder: Path) -> None:
        """Write it into an export's folder."""
        text = documents.dumps(self.to_json(), indent=2) + "\n"
        (folder / FILE).write_text(text, "utf-8")


def read(folder: Path) -> Description:
    """What an export's folder says, once its files have proven to be whole.

    Raises:
        InputError: it is no export (G2-301), or damaged (G2-304).
    """
    path = folder / FILE
    if not path.is_file():
        raise InputError("G2-301", folder, f"it is no export: it has no {FILE}")
    store.verify(folder)
    try:
        said = json.loads(path.read_bytes())
        geometry = GPT2Config(**said["network"])
        return Description(
            format=said["format"],
            shapes=Shapes(geometry, said["batch"] or COMPARED_ROWS, said["seq_length"]),
            files={graph: one["file"] for graph, one in said["graphs"].items()},
            dtype=said["dtype"],
            digest=said["digest"],
            classes=tuple(said["classes"]),
            verified=said["verified"],
            unverified=said["unverified"],
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError("G2-304", path, f"it is damaged: {error}") from error
