from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gpt2dsl.errors import FileError, InputError
from gpt2dsl.weights.files import lazy_tensor, tensorfile
from gpt2dsl.weights.files.lazy_tensor import (
    ArrayTensor,
    FileTensor,
    all_finite,
    converted,
    from_float32,
    to_float32,
)

FLOATS = arrays(np.float32, st.integers(0, 40), elements=st.floats(width=32))
KINDS = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@given(FLOATS, st.sampled_from(sorted(KINDS)))
def test_rounding_to_another_type_is_torchs(values: np.ndarray, kind: str) -> None:
    expected = torch.from_numpy(values).to(KINDS[kind]).float().numpy()
    found = to_float32(from_float32(values, kind), kind)
    assert np.array_equal(found, expected, equal_nan=True)


@given(FLOATS, st.sampled_from(sorted(KINDS)))
def test_what_is_not_finite_is_found_in_any_type(values: np.ndarray, kind: str) -> None:
    raw = from_float32(values, kind)
    assert all_finite(raw, kind) == bool(np.isfinite(to_float32(raw, kind)).all())


def test_finite_values_whose_sum_is_not_are_finite() -> None:
    assert all_finite(np.full(9, 3e38, np.float32), "F32")


def test_blocks_are_small_and_make_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lazy_tensor, "BLOCK", 64)
    array = np.arange(105, dtype=np.float32).reshape(35, 3)
    tensorfile.write(tmp_path / "a", {"a": ArrayTensor.of(array)})
    found = tensorfile.stored(tmp_path / "a")["a"]
    blocks = list(found.blocks())
    assert max(block.nbytes for block in blocks) <= 64
    assert np.array_equal(np.concatenate(blocks), array)
    assert np.array_equal(np.concatenate(list(found.blocks(3, 17))), array[3:17])


def test_a_file_that_shrank_since_it_was_opened_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a"
    tensorfile.write(path, {"a": ArrayTensor.of(np.ones(100, np.float32))})
    found = tensorfile.stored(path)["a"]
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(InputError, match="it ends before its last tensor"):
        found.load()


def test_a_number_is_a_tensor_too(tmp_path: Path) -> None:
    tensorfile.write(
        tmp_path / "a", {"a": converted(ArrayTensor.of(np.float32(1.5).reshape(())), "F16")}
    )
    found = tensorfile.stored(tmp_path / "a")["a"]
    assert (found.shape, found.load().tolist()) == ((), 1.5)


def test_a_read_that_fails_in_the_middle_is_no_fault_of_the_weights() -> None:
    tensor = FileTensor.at("F32", (2,), Path("/proc/self/mem"), 0)
    with pytest.raises(FileError, match=r"^/proc/self/mem: it can't be read: .* \[G2-403\]$"):
        tensor.rows(0, 2)
