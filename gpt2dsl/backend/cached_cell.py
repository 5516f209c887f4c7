"""On-disk cache of compiled graphs, shared between processes.

MindSpore's own cache (``enable_compile_cache``) uses one folder per process and names its files
``compile_cache_<n>`` in order of compilation, so graphs that another process compiled in another
order would be mistaken for ours. Here a graph is keyed by everything that it depends on, and
MindSpore sees a private folder with only the file that it is about to load.
"""

from __future__ import annotations

import functools
import gc
import hashlib
import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from threading import Lock
from typing import Any

import mindspore as ms
from mindspore import Parameter, Tensor, nn
from mindspore.graph import api

from gpt2dsl.files import atomic, cache, temporary

KEPT = 1000
"""Most graphs on disk; the least recently used are evicted. A training run has about 20, of up to
half a megabyte."""

_one_at_a_time = Lock()


@contextmanager
def cached_compilation(*depends: object) -> Iterator[None]:
    """Compile one graph in the block, or load it from disk if it was compiled before.

    Args:
        depends: all that the graph depends on besides the code of this package and of MindSpore:
            its computation, precision, shapes of inputs and parameters, constants.
    """
    key = [ms.__version__, ms.get_context("device_target"), _code(), *map(repr, depends)]
    name = hashlib.sha256("\n".join(key).encode()).hexdigest()
    with _one_at_a_time, _turn().on(_found(name)) as compiled:
        yield
    for graph in compiled:
        _keep(name, graph)


class CachedCell(nn.Cell):
    """Cell whose compiled graphs are cached on disk, one per combination of input shapes.

    ``compile_phase`` is a property because each call of a Cell sets it on all its sub-cells, which
    takes 3 ms of the 30 ms of a decoding step, although only that of the called cell is read.

    Args:
        depends: as for ``cached_compilation``; input shapes are added.
        is_kept: whether to cache on disk; False for graphs with communication groups, which belong
            to one process.
    """

    def __init__(self, *depends: object, is_kept: bool = True) -> None:
        super().__init__(auto_prefix=False)
        self._depends, self._is_kept = (type(self).__name__, *depends), is_kept
        self._seen: set[tuple[object, ...]] = set()

    @property
    def compile_phase(self) -> str:
        """MindSpore's key of the compiled graph."""
        return str(self._compile_phase)

    @compile_phase.setter
    def compile_phase(self, value: str) -> None:
        self._compile_phase = value

    def compile(self, *args: Tensor, **kwargs: Any) -> None:
        """Compile for inputs of these shapes and types, unless already compiled."""
        signature = tuple(map(_given, args))
        if signature in self._seen:
            super().compile(*args, **kwargs)
            return
        with (
            cached_compilation(*self._depends, signature) if self._is_kept else nullcontext(),
            _nothing_to_collect(),
        ):
            super().compile(*args, **kwargs)
        self._seen.add(signature)


def _given(value: Tensor) -> tuple[object, ...]:
    """Return the cache key of an input; a Parameter's name is part of the graph file."""
    name = value.name if isinstance(value, Parameter) else ""
    return tuple(value.shape), str(value.dtype), name


@contextmanager
def _nothing_to_collect() -> Iterator[None]:
    """Freeze all objects, so that MindSpore's garbage collection before compiling is cheap.

    Otherwise it takes 0.1 s per graph. Objects that the caller has frozen stay frozen.
    """
    if gc.get_freeze_count():
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


class _Turn:
    """MindSpore's compile cache, switched on for one compilation at a time.

    Its folder is empty in between: if the predicted file number were wrong, a graph would be
    compiled needlessly, but never mistaken for another.
    """

    def __init__(self) -> None:
        root = temporary.folder("gpt2dsl-graphs-")
        self._root, self._folder, self._number = root, Path(root, "rank_0", "graph_cache"), 0
        self._folder.mkdir(parents=True)
        # MindSpore's own check compares the sources that the main program imports, and fails if
        # the program is not a file: point it to an empty one.
        os.environ["MS_DEV_FORCE_USE_COMPILE_CACHE"] = "1"
        program = Path(root, "empty.py")
        program.touch()
        api.entry_script_path = str(program)

    @contextmanager
    def on(self, graph: bytes | None) -> Iterator[list[bytes]]:
        """Offer a cached graph; yield a list that receives the graph if it was compiled instead."""
        compiled: list[bytes] = []
        if graph is not None:
            (self._folder / f"compile_cache_{self._number}.mindir").write_bytes(graph)
        ms.set_context(enable_compile_cache=True, compile_cache_path=self._root)
        try:
            yield compiled
        finally:
            ms.set_context(enable_compile_cache=False)
            for file in self._folder.glob("compile_cache_*.mindir"):
                self._number = int(file.stem.rpartition("_")[2]) + 1
                if graph is None:
                    compiled.append(file.read_bytes())
                file.unlink()


@functools.cache
def _turn() -> _Turn:
    return _Turn()


@functools.cache
def _code() -> str:
    """Return a digest of this package's source, on which every graph depends.

    All modules are read, which takes 10 ms, so that none that is moved or added is missed.
    """
    digest = hashlib.sha256()
    spec = importlib.util.find_spec("gpt2dsl")
    for folder in (spec and spec.submodule_search_locations) or ():
        for file in sorted(Path(folder).rglob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()


def _found(name: str) -> bytes | None:
    """Return the cached graph of this name; None if it is missing or corrupt."""
    with suppress(OSError):
        file = _file(name)
        digest, _, graph = file.read_bytes().partition(b"\n")
        if digest == _digest(graph):
            os.utime(file)
            return graph
    return None


def _keep(name: str, graph: bytes) -> None:
    """Write a graph to the cache; on a failing disk it is only compiled again next time."""
    with suppress(OSError):
        file = _file(name)
        atomic.write_file(file, lambda opened: opened.write(_digest(graph) + b"\n" + graph))
        files = sorted(file.parent.glob("*.graph"), key=lambda path: path.stat().st_mtime)
        for old in files[:-KEPT]:
            old.unlink(missing_ok=True)


def _file(name: str) -> Path:
    return cache.folder("graphs") / f"{name}.graph"


def _digest(graph: bytes) -> bytes:
    return hashlib.sha256(graph).hexdigest().encode()
