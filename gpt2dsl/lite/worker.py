"""MindSpore Lite in a Python of its own: the program that the door starts there.

This source stays valid Python 3.7 and imports nothing of this project. Each line on stdin is a
request in JSON, each line on the pipe whose number is the argument its answer. Tensors lie in files
that both sides have mapped into memory, in the folder that a request names.
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


class Worker:
    """Converts and runs graphs."""

    def __init__(self) -> None:
        self.models: dict[str, Any] = {}

    def convert(self, source: str, target: str) -> dict[str, Any]:
        """ONNX into .ms, whatever the converter thinks of the result."""
        converter = mslite.Converter()
        converter.save_type = mslite.ModelType.MINDIR_LITE
        converter.convert(mslite.FmkType.ONNX, source, target)
        return {}

    def load(
        self, graph: str, path: str, folder: str, threads: int, outputs: list[dict[str, Any]]
    ) -> dict[str, Any]:
        """Load a graph, and maps its inputs and outputs; gives the inputs as they are.

        Lite says of outputs only once they are there: the caller knows them.
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
        """Run a graph on what its mapped inputs hold."""
        model, inputs, arrays = self.models[graph]
        for tensor in inputs:
            tensor.set_data_from_numpy(arrays["inputs"][tensor.name])
        found = {tensor.name: tensor.get_data_to_numpy() for tensor in model.predict(inputs)}
        for name, array in arrays["outputs"].items():
            np.copyto(array, found[name].reshape(array.shape))
        return {}


def _mapped(folder: str, graph: str, side: str, port: dict[str, Any]) -> Any:
    """Return a file of the tensor's size, mapped; the other side maps it too."""
    path = Path(folder) / f"{graph}.{side}.{port['name']}"
    return np.memmap(path, port["dtype"], "w+", shape=tuple(port["shape"]))


def main(answers: int) -> None:
    """Answers requests until stdin ends."""
    worker = Worker()
    with os.fdopen(answers, "w") as out:
        for line in sys.stdin:
            request = json.loads(line)
            try:
                answer = getattr(worker, request.pop("do"))(**request)
            except Exception as error:  # noqa: BLE001  # whatever the library raises is an answer
                answer = {"error": f"{type(error).__name__}: {str(error).strip()}"}
            out.write(json.dumps(answer) + "\n")
            out.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]))
