"""Slices of lazy tensors: what they give, and what is read for them."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch

from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.parallel_dims import ParallelDims
from gpt2dsl.layout.params import padded_shape
from gpt2dsl.layout.pipeline_stages import stage_tensors
from gpt2dsl.layout.shard_spec import shard_specs
from gpt2dsl.weights import initial, reading, training_state
from gpt2dsl.weights.files import ckptfile, lazy_tensor, tensorfile, torchfile
from gpt2dsl.weights.files.lazy_tensor import (
    Array,
    ArrayTensor,
    Converted,
    FileTensor,
    LazyTensor,
    extents,
)
from gpt2dsl.weights.files.pieces import Assembled, Piece, SlicedTensor, resized
from gpt2dsl.weights.formats import huggingface, mindformers
from gpt2dsl.weights.formats.mindformers import QKVTensor
from gpt2dsl.weights.formats.nanogpt import Transposed
from gpt2dsl.weights.infer_config import Overrides
from gpt2dsl.weights.resharding import Target
from gpt2dsl.weights.values import Values
from tests.judges import random_weights
from tests.weights.checkpoints import WIDE, reshard, whole

ARRAY = np.arange(8 * 12, dtype=np.float32).reshape(8, 12)
GRID = ParallelDims(dp=1, mp=2, pp=2)


def stored(path: Path, array: Array) -> FileTensor:
    tensorfile.write(path, {"x": ArrayTensor.of(array)})
    found = tensorfile.stored(path)["x"]
    assert isinstance(found, FileTensor)
    return found


def sliced_in_ckpt(path: Path, array: Array, monkeypatch: pytest.MonkeyPatch) -> LazyTensor:
    monkeypatch.setattr(ckptfile, "SLICE", 100)
    ckptfile.write(path, {"x": ArrayTensor.of(array)})
    return ckptfile.stored(path)["x"]


def strided(path: Path, array: Array) -> LazyTensor:
    torch.save({"x": torch.from_numpy(np.ascontiguousarray(array.T)).T}, path)
    return torchfile.stored(path)["x"]


def kinds(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[LazyTensor, Array]]:
    file = stored(folder / "x", ARRAY)
    yield file, ARRAY
    yield sliced_in_ckpt(folder / "x.ckpt", ARRAY, monkeypatch), ARRAY
    yield strided(folder / "x.bin", ARRAY), ARRAY
    yield ArrayTensor.of(ARRAY), ARRAY
    yield Converted("F16", file.shape, file), ARRAY
    yield SlicedTensor.at(file, ((2, 7), (3, 12))), ARRAY[2:7, 3:]
    yield resized(file, (6, 12)), ARRAY[:6]
    yield resized(file, (11, 12)), np.pad(ARRAY, ((0, 3), (0, 0)))
    cube = stored(folder / "cube", ARRAY.reshape(8, 3, 4))
    yield cube, ARRAY.reshape(8, 3, 4)
    yield resized(cube, (8, 12)), ARRAY
    yield resized(stored(folder / "bias", ARRAY[:3]), (36,)), ARRAY[:3].reshape(-1)
    yield Transposed("F32", (12, 8), file), ARRAY.T
    thirds = [stored(folder / f"{i}", ARRAY[i * 2 : i * 2 + 2]) for i in range(3)]
    joined = np.concatenate([ARRAY[i * 2 : i * 2 + 2].T for i in range(3)], 1)
    yield QKVTensor("F32", (12, 6), tuple(thirds)), joined
    boxes = [((0, 5), (0, 12)), ((5, 8), (0, 4)), ((5, 8), (4, 12))]
    parts = [stored(folder / f"p{i}", ARRAY[5 * (i > 0) : 5 if not i else 8, b[0] : b[1]])
             for i, (_, b) in enumerate(boxes)]  # fmt: skip
    pieces = tuple(Piece(box, (part,), ("",)) for box, part in zip(boxes, parts, strict=True))
    yield Assembled("F32", ARRAY.shape, pieces), ARRAY


def test_a_box_of_any_tensor_is_that_of_its_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for tensor, array in kinds(tmp_path, monkeypatch):
        assert tensor.shape == array.shape
        values = Values({"x": tensor})["x"]
        edges = [itertools.combinations((0, 1, n // 2, n - 1, n), 2) for n in array.shape]
        for box in itertools.product(*edges):
            index = tuple(slice(*pair) for pair in box)
            for found in (tensor.read(box), tensor.prepared().read(box), values[index]):
                assert found.shape == extents(box)
                assert np.array_equal(found, array[index]), (tensor, box)


@attrs.define
class Counter:
    """Bytes of tensors read from files."""

    size: int = 0

    def fill(self, file: Any, offset: int, view: memoryview) -> None:
        self.size += len(view)
        file.seek(offset)
        assert file.readinto(view) == len(view)


@pytest.fixture
def counter(monkeypatch: pytest.MonkeyPatch) -> Counter:
    counter = Counter()
    monkeypatch.setattr(lazy_tensor, "_fill", counter.fill)
    return counter


def shards(
    values: Mapping[str, Any], geometry: GPT2Config, grid: ParallelDims, rank: int, state: str = ""
) -> dict[str, Array]:
    """A rank's part of weights or of a state, read as the network reads it."""
    here, specs, found = grid.coordinates(rank), shard_specs(geometry), {}
    for spec in stage_tensors(geometry, here.stage, grid.pp):
        shape, cut = padded_shape(spec, geometry), specs[spec.name]
        found[spec.name] = np.zeros(cut.shape(shape, grid.mp), np.float32)
        for part in cut.slices(shape, grid.mp, here.shard):
            read = values[state + spec.name][part.whole]
            found[spec.name][part.shard][: len(read)] = read
    return found


def expected(
    arrays: Mapping[str, Array], geometry: GPT2Config, grid: ParallelDims, rank: int
) -> dict[str, Array]:
    """The same, cut from arrays in memory."""
    here, specs, found = grid.coordinates(rank), shard_specs(geometry), {}
    for spec in stage_tensors(geometry, here.stage, grid.pp):
        padding = padded_shape(spec, geometry)[0] - len(arrays[spec.name])
        widths = ((0, padding), *[(0, 0)] * (len(spec.shape) - 1))
        padded = np.pad(arrays[spec.name], widths)
        found[spec.name] = specs[spec.name].cut(padded, grid.mp, here.shard)
    return found


def as_ckpt(folder: Path) -> Path:
    weights = reading.read(folder)
    target = folder.parent / "gpt2.ckpt"
    ckptfile.write(target, mindformers.named(weights.tensors))
    return target


def as_bin(folder: Path) -> Path:
    arrays = reading.read(folder).arrays
    target = folder.parent / "bin"
    target.mkdir()
    (target / "config.json").write_bytes((folder / "config.json").read_bytes())
    torch.save({n: torch.from_numpy(a) for n, a in arrays.items()}, target / "pytorch_model.bin")
    return target


def as_shards(folder: Path) -> Path:
    weights = reading.read(folder)
    target = folder.parent / "shards"
    target.mkdir()
    huggingface.write_stored(target, weights.config, weights.tensors, 20_000)
    return target


def as_ranks(dp: int, mp: int, pp: int, *, zero: bool = False) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        target = folder.parent / "ranks"
        reshard(folder, target, Target(ranks=ParallelDims(dp, mp, pp), zero=zero))
        return target

    return make


SOURCES: dict[str, Callable[[Path], Path]] = {
    "Hugging Face": lambda folder: folder,
    "its shards": as_shards,
    "bin": as_bin,
    "ranks of the same layout": as_ranks(1, 2, 2),
    "ranks of another layout": as_ranks(2, 4, 1, zero=True),
}


@pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES)
def test_a_rank_reads_only_its_slices_whatever_the_format(
    make: Callable[[Path], Path], tmp_path: Path, counter: Counter
) -> None:
    source = make(whole(tmp_path / "step-3"))
    arrays = random_weights(WIDE)
    weights = reading.read(source, contents=False)
    for rank in range(GRID.count):
        counter.size = 0
        found = shards(weights.values, WIDE, GRID, rank)
        wanted = expected(arrays, WIDE, GRID, rank)
        assert all(np.array_equal(found[name], array) for name, array in wanted.items())
        assert counter.size <= sum(array.nbytes for array in wanted.values())
        assert counter.size > 0.8 * sum(array.nbytes for array in wanted.values())  # but padding


def test_a_rank_of_the_same_layout_reads_its_own_file_once(
    tmp_path: Path, counter: Counter
) -> None:
    source = as_ranks(1, 2, 2)(whole(tmp_path / "step-3"))
    for rank in range(GRID.count):
        weights = reading.read(source, contents=False)
        states, _ = training_state.read(source)
        counter.size = 0
        shards(weights.values, WIDE, GRID, rank)
        for state in ("m.", "v."):
            shards(Values(states), WIDE, GRID, rank, state)
        size = (source / f"rank_{rank}" / "model.safetensors").stat().st_size
        assert 0.5 * size < counter.size <= size


def test_a_mindformers_checkpoint_is_read_by_slices(tmp_path: Path, counter: Counter) -> None:
    source = as_ckpt(whole(tmp_path / "step-3"))
    weights = reading.read(source, Overrides(heads=WIDE.heads))
    arrays = random_weights(WIDE)
    for rank in range(GRID.count):
        counter.size = 0
        found = shards(weights.values, WIDE, GRID, rank)
        wanted = expected(arrays, WIDE, GRID, rank)
        assert all(np.array_equal(found[name], array) for name, array in wanted.items())
        assert counter.size <= sum(array.nbytes for array in wanted.values())


def test_new_tensors_are_drawn_one_at_a_time_and_only_where_they_are_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    geometry = attrs.evolve(WIDE, hidden=256, inner=1024, vocab=4000)
    grid = ParallelDims(mp=2, pp=4)
    drawn: list[str] = []
    before = initial._random

    def spied(name: str, seed: int) -> Any:
        drawn.append(name)
        return before(name, seed)

    monkeypatch.setattr(initial, "_random", spied)
    new = initial.initial(geometry, 0)
    assert not drawn
    tracemalloc.start()
    own = shards(Values(new), geometry, grid, rank=3)  # of a stage of one block
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sorted(set(drawn)) == sorted(name for name, array in own.items() if array.ndim > 1)
    assert all(name.startswith("transformer.h.2.") for name in drawn)
    largest = 4 * 256 * 1024
    assert peak <= sum(array.nbytes for array in own.values()) + 2 * largest


def test_some_rows_of_a_shard_are_read_as_zero_shares_them() -> None:
    geometry, specs = WIDE, shard_specs(WIDE)
    for spec in stage_tensors(geometry, 0, 1):
        shape = padded_shape(spec, geometry)
        array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
        for mp, dp in ((1, 2), (2, 1), (2, 2), (4, 3)):
            cut = specs[spec.name]
            for shard in range(mp):
                whole_shard = cut.cut(array, mp, shard)
                step = -(-len(whole_shard) // dp)
                for first in range(0, len(whole_shard), step):
                    rows = range(first, min(first + step, len(whole_shard)))
                    found = np.full((len(rows), *whole_shard.shape[1:]), np.nan, np.float32)
                    for part in cut.slices(shape, mp, shard, rows):
                        found[part.shard] = array[part.whole]
                    assert np.array_equal(found, whole_shard[rows.start : rows.stop])
