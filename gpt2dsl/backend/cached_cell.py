"""Compiled graphs on disk, so that the next process need not compile them again.

MindSpore's own cache (``enable_compile_cache``) takes one folder a process and calls its files
``compile_cache_<n>``, by the order of compilation: what another process compiled in another order
would be taken for ours. Here each graph has a name made of all that it depends on, and MindSpore
sees a private folder with just the file that it is about to ask for.
"""

from __future__ import annotations

import atexit
import functools
import gc
import hashlib
import importlib.util
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from threading import Lock
from typing import Any

import mindspore as ms
from mindspore import Parameter, Tensor, nn
from mindspore.graph import api

from gpt2dsl.files import atomic, cache

KEPT = 1000
"""Graphs on disk; the oldest go first. A training has about 20, of up to half a megabyte."""

_one_at_a_time = Lock()


@contextmanager
def cached_compilation(*depends: object) -> Iterator[None]:
    """Within it one graph is compiled, or taken from the disk where it was compiled before.

    Args:
        depends: all that the graph depends on, besides the code of this package and of MindSpore:
            what it computes, its precision, the shapes of its inputs, parameters and constants.
    """
    said = [ms.__version__, ms.get_context("device_target"), _code(), *map(repr, depends)]
    name = hashlib.sha256("\n".join(said).encode()).hexdigest()
    with _one_at_a_time, _turn().on(_found(name)) as compiled:
        yield
    for graph in compiled:
        _keep(name, graph)


class CachedCell(nn.Cell):
    """A cell whose graphs are kept on disk, one for each shape of its inputs.

    A call of a Cell sets ``compile_phase`` of all cells below it, one by one, which takes 3 ms of
    the 30 of a decoding step, although only that of the called cell is ever read: hence the
    property.

    Args:
        depends: as for ``cached_compilation``; the shapes of inputs are added.
        is_kept: whether it is; groups of ranks are a process's own, so that their graphs are too.
    """

    def __init__(self, *depends: object, is_kept: bool = True) -> None:
        super().__init__(auto_prefix=False)
        self._depends, self._is_kept = (type(self).__name__, *depends), is_kept
        self._seen: set[tuple[object, ...]] = set()

    @property
    def compile_phase(self) -> str:
        """MindSpore's name for what was compiled."""
        return str(self._compile_phase)

    @compile_phase.setter
    def compile_phase(self, value: str) -> None:
        self._compile_phase = value

    def compile(self, *args: Tensor, **kwargs: Any) -> None:
        """Compile for inputs of these shapes and types, if that was not done yet."""
        given = tuple(map(_given, args))
        if given in self._seen:
            super().compile(*args, **kwargs)
            return
        with (
            cached_compilation(*self._depends, given) if self._is_kept else nullcontext(),
            _nothing_to_collect(),
        ):
            super().compile(*args, **kwargs)
        self._seen.add(given)


def _given(value: Tensor) -> tuple[object, ...]:
    """What a graph depends on of an input; a Parameter's name is in the file of a graph."""
    name = value.name if isinstance(value, Parameter) else ""
    return tuple(value.shape), str(value.dtype), name


@contextmanager
def _nothing_to_collect() -> Iterator[None]:
    """MindSpore collects garbage before it compiles, which takes 0.1 s a graph without this.

    What a caller has frozen stays so.
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
    """MindSpore's cache, on for one compilation at a time.

    No file is there for longer: if ``number`` were wrong, a graph would be compiled in vain, and
    never be another's.
    """

    def __init__(self) -> None:
        root = tempfile.mkdtemp(prefix="gpt2dsl-graphs-")
        atexit.register(shutil.rmtree, root, ignore_errors=True)
        self._root, self._folder, self._number = root, Path(root, "rank_0", "graph_cache"), 0
        self._folder.mkdir(parents=True)
        # Its own test of what a graph depends on compares the sources that the main program
        # imports, and fails where there is none in a file: it gets an empty one.
        os.environ["MS_DEV_FORCE_USE_COMPILE_CACHE"] = "1"
        program = Path(root, "empty.py")
        program.touch()
        api.entry_script_path = str(program)

    @contextmanager
    def on(self, graph: bytes | None) -> Iterator[list[bytes]]:
        """Offer a graph; gives what was compiled instead, once it is over."""
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
    """Return a digest of this package's code, which decides what is computed.

    All of it is read, which takes 10 ms, so that no module that is moved or added is left out.
    """
    digest = hashlib.sha256()
    spec = importlib.util.find_spec("gpt2dsl")
    for folder in (spec and spec.submodule_search_locations) or ():
        for file in sorted(Path(folder).rglob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()


def _found(name: str) -> bytes | None:
    """Return the graph of this name; one whose bytes are not as they were written is none."""
    with suppress(OSError):
        file = _file(name)
        digest, _, graph = file.read_bytes().partition(b"\n")
        if digest == _digest(graph):
            os.utime(file)
            return graph
    return None


def _keep(name: str, graph: bytes) -> None:
    """Write a graph; a disk that takes none costs a compilation next time, and nothing else."""
    with suppress(OSError):
        file = _file(name)
        atomic.write_file(file, lambda opened: opened.write(_digest(graph) + b"\n" + graph))
        kept_ones = sorted(file.parent.glob("*.graph"), key=lambda one: one.stat().st_mtime)
        for old in kept_ones[:-KEPT]:
            old.unlink(missing_ok=True)


def _file(name: str) -> Path:
    return cache.folder("graphs") / f"{name}.graph"


def _digest(graph: bytes) -> bytes:
    return hashlib.sha256(graph).hexdigest().encode()
