"""GraphRuntime of MindSpore Lite, in this process if it can be imported, else in a worker process.

A worker maps the same files as this process, so tensors are not copied between them.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2dsl.errors import InputError, RunError
from gpt2dsl.lite import setup
from gpt2dsl.lite.description import Description
from gpt2dsl.lite.runtimes.base import Arrays, Closing
from gpt2dsl.lite.shapes import Port

SHARED = Path("/dev/shm")  # noqa: S108  # in memory, if the system has it
WORKER = Path(__file__).parents[1] / "worker.py"


class InProcessWorker:
    """Lite in this process, running the worker's code directly."""

    def __init__(self) -> None:
        module = importlib.import_module("gpt2dsl.lite.worker")
        self._worker: Any = module.LiteWorker()

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """Return the answer to a request; errors as in ``WorkerProcess.ask``."""
        try:
            answer: dict[str, Any] = getattr(self._worker, do)(**request)
        except Exception as error:  # the library has errors of its own
            raise RunError("G2-532", f"MindSpore Lite: {error}") from error
        return answer

    def close(self) -> None:
        """Do nothing: there is no process to end."""


class WorkerProcess:
    """Client of a worker process with Lite; one request at a time."""

    def __init__(self, installation: setup.LiteInstallation) -> None:
        answers, write_end = os.pipe()
        # the library's output is not an answer; its last line is reported if the worker ends
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the worker
        self._process = subprocess.Popen(  # noqa: S603  # our own program
            [str(installation.python), str(WORKER), str(write_end)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._stderr,
            pass_fds=(write_end,),
            text=True,
            env={**os.environ, "PYTHONPATH": "", "GLOG_v": "3"},
        )
        os.close(write_end)
        self._answers = os.fdopen(answers)

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """Return the answer to a request.

        Raises:
            RunError: Lite failed, or the worker ended.
        """
        assert self._process.stdin
        try:
            self._process.stdin.write(json.dumps({"do": do, **request}) + "\n")
            self._process.stdin.flush()
            line = self._answers.readline()
        except OSError:
            line = ""
        if not line:
            code = self._process.wait()
            how = f"signal {-code}" if code < 0 else f"exit code {code}: {self._last_words()}"
            raise RunError("G2-532", f"MindSpore Lite's worker ended ({how}) while it was to {do}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise RunError("G2-532", f"MindSpore Lite: {answer['error']}")
        return answer

    def _last_words(self) -> str:
        self._stderr.seek(0)
        lines = self._stderr.read().decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "nothing said")

    @property
    def pid(self) -> int:
        """Process id of the worker."""
        return self._process.pid

    def close(self) -> None:
        """Kill the worker and close its pipes."""
        self._process.kill()
        self._process.wait()
        if self._process.stdin:
            with contextlib.suppress(BrokenPipeError):  # the worker ended before reading a request
                self._process.stdin.close()
        self._answers.close()
        self._stderr.close()


def started() -> InProcessWorker | WorkerProcess:
    """Return Lite, started and ready for requests.

    Raises:
        InputError: Lite is not installed (G2-531).
    """
    installation = setup.require()
    return InProcessWorker() if installation.is_own else WorkerProcess(installation)


def convert(source: Path, target: Path) -> None:
    """Convert an ONNX graph to ``.ms``, without verifying its results.

    Raises:
        RunError: the converter failed.
    """
    worker = started()
    try:
        worker.ask("convert", source=str(source), target=str(target.with_suffix("")))
    finally:
        worker.close()
    if not target.exists():
        raise RunError("G2-532", f"{target}: MindSpore Lite's converter wrote nothing")
    target.chmod(0o644)  # Lite makes it readable only for its owner


class LiteRuntime(Closing):
    """GraphRuntime of ``.ms`` graphs in Lite."""

    def __init__(self, folder: Path, described: Description) -> None:
        self.name = f"MindSpore Lite {setup.VERSION}"
        self._folder, self._described = folder, described
        self._shared = Path(tempfile.mkdtemp(dir=SHARED if SHARED.is_dir() else None))
        self._mapped: dict[str, tuple[Arrays, Arrays]] = {}
        try:
            self.worker = started()
        except BaseException:
            shutil.rmtree(self._shared)
            raise

    def run(self, graph: str, feeds: Mapping[str, NDArray[Any]]) -> Arrays:
        """Run a graph; see ``GraphRuntime.run``."""
        if graph not in self._mapped:
            self._mapped[graph] = self._load(graph)
        inputs, outputs = self._mapped[graph]
        for name, array in inputs.items():
            if feeds[name] is not array:
                np.copyto(array, feeds[name])
        self.worker.ask("run", graph=graph)
        return outputs

    def _load(self, graph: str) -> tuple[Arrays, Arrays]:
        shapes = self._described.shapes
        expected = {port.name: port for port in shapes.inputs(graph)}
        path = self._folder / self._described.files[graph]
        answer = self.worker.ask(
            "load",
            graph=graph,
            path=str(path),
            folder=str(self._shared),
            threads=os.cpu_count() or 1,
            outputs=[_described(port) for port in shapes.outputs(graph)],
        )
        actual = {
            port_info["name"]: (tuple(port_info["shape"]), port_info["dtype"])
            for port_info in answer["inputs"]
        }
        if actual != {port.name: (port.shape, port.dtype) for port in expected.values()}:
            message = f"its inputs are {actual}, others than export.json says"
            raise InputError("G2-304", path, message)
        return (
            {port.name: self._map(graph, "inputs", port) for port in shapes.inputs(graph)},
            {port.name: self._map(graph, "outputs", port) for port in shapes.outputs(graph)},
        )

    def _map(self, graph: str, side: str, port: Port) -> NDArray[Any]:
        path = self._shared / f"{graph}.{side}.{port.name}"
        return np.memmap(path, port.dtype, "r+", shape=port.shape)

    def close(self) -> None:
        """End the worker and release the shared memory."""
        self.worker.close()
        shutil.rmtree(self._shared, ignore_errors=True)


def _described(port: Port) -> dict[str, Any]:
    return {"name": port.name, "shape": list(port.shape), "dtype": port.dtype}
