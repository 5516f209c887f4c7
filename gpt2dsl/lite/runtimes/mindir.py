"""GraphRuntime of MindIR in MindSpore."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from gpt2dsl.errors import InputError
from gpt2dsl.lite.description import Description
from gpt2dsl.lite.plain import plain
from gpt2dsl.lite.runtimes.base import Arrays, Closing


class MindirRuntime(Closing):
    """GraphRuntime of graphs loaded by ``mindspore.load``."""

    def __init__(self, folder: Path, described: Description) -> None:
        import mindspore  # noqa: PLC0415  # seconds

        from gpt2dsl.backend import device  # noqa: PLC0415  # as above

        device.use("cpu")
        self.name = f"MindSpore {mindspore.__version__}"
        self._folder, self._described = folder, described
        self._cells: dict[str, Any] = {}

    def run(self, graph: str, feeds: Mapping[str, NDArray[Any]]) -> Arrays:
        """Run a graph; see ``GraphRuntime.run``."""
        from mindspore import Tensor  # noqa: PLC0415

        shapes = self._described.shapes
        result = self._cell(graph)(*(Tensor(feeds[port.name]) for port in shapes.inputs(graph)))
        tensors = result if isinstance(result, tuple) else (result,)
        names = (port.name for port in shapes.outputs(graph))
        return {name: tensor.asnumpy() for name, tensor in zip(names, tensors, strict=True)}

    def _cell(self, graph: str) -> Any:
        if graph not in self._cells:
            import mindspore  # noqa: PLC0415

            path = self._folder / self._described.files[graph]
            try:
                with plain(self._folder) as folder:
                    loaded = mindspore.load(str(folder / path.name))
            except (RuntimeError, ValueError) as error:
                message = f"MindSpore can't load it: {str(error).strip().splitlines()[0]}"
                raise InputError("G2-304", path, message) from error
            self._cells[graph] = mindspore.nn.GraphCell(loaded)
        return self._cells[graph]
