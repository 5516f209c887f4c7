"""Interface of all runtimes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from numpy.typing import NDArray
from typing_extensions import Self

Arrays = dict[str, NDArray[Any]]


class GraphRuntime(Protocol):
    """GraphRuntime of an export's graphs; a context manager.

    Class attributes:
        name: name and version of the library.
    """

    name: str

    def run(self, graph: str, feeds: Mapping[str, NDArray[Any]]) -> Arrays:
        """Run a graph and return its outputs by name, which are valid until the next run.

        Raises:
            RunError: the runtime failed, or its process ended.
        """

    def close(self) -> None:
        """Release its resources."""


class Closing:
    """Mixin that makes a runtime a context manager."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Do nothing by default."""
