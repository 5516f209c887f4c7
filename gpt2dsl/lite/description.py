"""export.json, the description of an exported folder for its runtimes."""

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
"""Batch size for verifying an export with dynamic axes, with rows of different lengths."""

SUFFIX = {ONNX: ".onnx", "mindir": ".mindir", "ms": ".ms"}


@attrs.frozen(kw_only=True)
class Description:
    """The description of an export.

    Attributes:
        format: mindir, onnx or ms.
        shapes: the shapes of its graphs; with dynamic axes the batch is only used to verify.
        files: graph → file.
        dtype: element type of the weights.
        digest: digest of the whole weights, as in resharding.
        classes: names of a classifier's classes.
        verified: runtime → largest difference of a logit from MindSpore's.
        unverified: the reason if the export was not verified; else "".
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
        """The task of a model with dynamic axes; "" for graphs of fixed shapes."""
        return next((graph for graph in self.files if graph in onnx_ports.TASKS), "")

    def to_json(self) -> dict[str, Any]:
        """Return the content of export.json."""
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
        """Return the inputs and outputs of a graph."""
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
        """Write export.json into an export's folder."""
        text = documents.dumps(self.to_json(), indent=2) + "\n"
        (folder / FILE).write_text(text, "utf-8")


def read(folder: Path) -> Description:
    """Verify an export's folder and return its description.

    Raises:
        InputError: it is not an export (G2-301), or is damaged (G2-304).
    """
    path = folder / FILE
    if not path.is_file():
        raise InputError("G2-301", folder, f"it is no export: it has no {FILE}")
    store.verify(folder)
    try:
        content = json.loads(path.read_bytes())
        geometry = GPT2Config(**content["network"])
        return Description(
            format=content["format"],
            shapes=Shapes(geometry, content["batch"] or COMPARED_ROWS, content["seq_length"]),
            files={graph: entry["file"] for graph, entry in content["graphs"].items()},
            dtype=content["dtype"],
            digest=content["digest"],
            classes=tuple(content["classes"]),
            verified=content["verified"],
            unverified=content["unverified"],
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError("G2-304", path, f"it is damaged: {error}") from error
