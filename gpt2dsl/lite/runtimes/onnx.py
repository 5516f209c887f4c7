"""GraphRuntime of ONNX in onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from gpt2dsl.errors import InputError, RunError
from gpt2dsl.lite.description import Description
from gpt2dsl.lite.runtimes.base import Arrays, Closing


class OnnxRuntime(Closing):
    """GraphRuntime with sessions on the CPU, created on first use."""

    def __init__(self, folder: Path, described: Description) -> None:
        import onnxruntime  # noqa: PLC0415  # an extra

        self.name = f"onnxruntime {onnxruntime.__version__}"
        self._folder, self._described = folder, described
        self._sessions: dict[str, Any] = {}

    def run(self, graph: str, feeds: Mapping[str, NDArray[Any]]) -> Arrays:
        """Run a graph; see ``GraphRuntime.run``."""
        session = self._session(graph)
        try:
            outputs = session.run(None, dict(feeds))
        except Exception as error:  # the library has errors of its own
            raise RunError("G2-532", f"{graph}: {self.name} failed: {error}") from error
        names = (port.name for port in session.get_outputs())
        return dict(zip(names, outputs, strict=True))

    def _session(self, graph: str) -> Any:
        if graph not in self._sessions:
            import onnxruntime  # noqa: PLC0415

            path = self._folder / self._described.files[graph]
            try:
                self._sessions[graph] = onnxruntime.InferenceSession(
                    str(path), providers=["CPUExecutionProvider"]
                )
            except Exception as error:
                message = f"{self.name} can't load it: {str(error).splitlines()[0]}"
                raise InputError("G2-304", path, message) from error
        return self._sessions[graph]
