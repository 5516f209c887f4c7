"""What every runtime does."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Protocol

from numpy.typing import NDArray
from typing_extensions import Self

Arrays = dict[str, NDArray[Any]]


class Runtime(Protocol):
    """Runs the graphs of an export; a context manager.

    Class attributes:
        name: of the library, with its version.
    """

    name: str

    def run(self, graph: str, feeds: Mapping[str, NDArray[Any]]) -> Arrays:
        """Return the outputs of a graph by name. They are the caller's until the next run.

        Raises:
            RunError: the runtime failed, or its process ended.
        """

    def close(self) -> None:
        """Give back what it holds."""


class Closing:
    """The context manager of a runtime."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Nothing, where nothing is held."""
