"""LiteWorker process for MindSpore Lite in a separate Python.

This source must stay valid Python 3.7 and must not import this project. Each line on stdin is a
request in JSON; its answer is a line on the pipe whose file descriptor is the argument. Tensors are
in memory-mapped files shared by both processes, in the folder given by the request.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import mindspore_lite as mslite
import numpy as np

DTYPES = {"FLOAT32": "float32", "INT32": "int32"}


class LiteWorker:
    """Converter and runtime of graphs."""

    def __init__(self) -> None:
        self.models: dict[str, Any] = {}

    def convert(self, source: str, target: str) -> dict[str, Any]:
        """Convert ONNX to .ms; the caller checks whether a file was written."""
        converter = mslite.Converter()
        converter.save_type = mslite.ModelType.MINDIR_LITE
        converter.convert(mslite.FmkType.ONNX, source, target)
        return {}

    def load(
        self, graph: str, path: str, folder: str, threads: int, outputs: list[dict[str, Any]]
    ) -> dict[str, Any]:
        """Load a graph and map its inputs and outputs; return a description of the inputs.

        Lite only describes outputs once they are computed, so the caller passes them.
        """
        context = mslite.Context()
        context.target = ["cpu"]
        context.cpu.thread_num = threads
        model = mslite.Model()
        model.build_from_file(path, mslite.ModelType.MINDIR_LITE, context)
        inputs = model.get_inputs()
        described = [
            {"name": t.name, "shape": list(t.shape), "dtype": DTYPES[t.dtype.name]} for t in inputs
        ]
        arrays = {
            side: {port["name"]: _mapped(folder, graph, side, port) for port in ports}
            for side, ports in (("inputs", described), ("outputs", outputs))
        }
        self.models[graph] = model, inputs, arrays
        return {"inputs": described}

    def run(self, graph: str) -> dict[str, Any]:
        """Run a graph on its mapped inputs."""
        model, inputs, arrays = self.models[graph]
        for tensor in inputs:
            tensor.set_data_from_numpy(arrays["inputs"][tensor.name])
        values = {tensor.name: tensor.get_data_to_numpy() for tensor in model.predict(inputs)}
        for name, array in arrays["outputs"].items():
            np.copyto(array, values[name].reshape(array.shape))
        return {}


def _mapped(folder: str, graph: str, side: str, port: dict[str, Any]) -> Any:
    """Create a mapped file of the tensor's size, which the caller maps too."""
    path = Path(folder) / f"{graph}.{side}.{port['name']}"
    return np.memmap(path, port["dtype"], "w+", shape=tuple(port["shape"]))


def main(answers: int) -> None:
    """Answer requests until stdin ends."""
    worker = LiteWorker()
    with os.fdopen(answers, "w") as out:
        for line in sys.stdin:
            request = json.loads(line)
            try:
                answer = getattr(worker, request.pop("do"))(**request)
            except Exception as error:  # noqa: BLE001  # any error of the library is an answer
                answer = {"error": f"{type(error).__name__}: {str(error).strip()}"}
            out.write(json.dumps(answer) + "\n")
            out.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]))
