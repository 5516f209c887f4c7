from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gpt2dsl.errors import InputError
from gpt2dsl.weights.files import torchfile
from gpt2dsl.weights.files.lazy_tensor import FileTensor


def tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    base = torch.randn(6, 5)
    return {
        "float32": torch.randn(7, 3),
        "float16": torch.randn(4, 2).half(),
        "bfloat16": torch.randn(5).bfloat16(),
        "float64": torch.randn(2, 2, 2).double(),
        "transposed": torch.randn(3, 4).t(),
        "slice": base[2:4],
        "column": base[:, 1],
        "shared": base,
        "empty": torch.zeros(0, 3),
    }


@pytest.mark.parametrize("zipped", [True, False])
def test_every_tensor_is_read_as_torch_reads_it(tmp_path: Path, zipped: bool) -> None:
    expected = tensors()
    torch.save(expected, tmp_path / "a.bin", _use_new_zipfile_serialization=zipped)
    found = torchfile.stored(tmp_path / "a.bin")
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert found[name].shape == tuple(tensor.shape)
        assert np.array_equal(found[name].load(), tensor.float().numpy()), name
        blocks = [block for block in found[name].blocks() if block.size]
        assert sum(block.nbytes for block in blocks) == found[name].size


def test_opening_reads_no_tensor(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1500, 1000)}, tmp_path / "a.bin")
    found = torchfile.stored(tmp_path / "a.bin")["a"]
    assert isinstance(found, FileTensor)
    assert max(block.nbytes for block in found.blocks()) < found.size


def test_parameters_modules_state_and_a_nested_state_dict_are_read(tmp_path: Path) -> None:
    model = torch.nn.Linear(3, 2)
    torch.save({"state_dict": model.state_dict(), "epoch": 3}, tmp_path / "a.bin")
    found = torchfile.stored(tmp_path / "a.bin")
    assert np.array_equal(found["weight"].load(), model.weight.detach().numpy())


class _Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_would_run_a_command_is_refused_unrun(tmp_path: Path, zipped: bool) -> None:
    mark = tmp_path / "ran"
    content = {"a": torch.zeros(2), "b": _Evil(mark)}
    torch.save(content, tmp_path / "a.bin", _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError, match=r"a.bin: refused unrun: .*system.*G2-304") as caught:
        torchfile.stored(tmp_path / "a.bin")
    assert "\n" not in str(caught.value)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([torch.zeros(2)], "it holds no tensors by name"),
        ({1: torch.zeros(2)}, "it holds no tensors by name"),
        ({"a": 3}, "a is no tensor, but int"),
    ],
)
def test_what_is_no_state_dict_is_refused(tmp_path: Path, content: Any, said: str) -> None:
    torch.save(content, tmp_path / "a.bin")
    with pytest.raises(InputError, match=said):
        torchfile.stored(tmp_path / "a.bin")


def test_only_torchs_files_are_taken_for_torchs(tmp_path: Path) -> None:
    torch.save({}, tmp_path / "new")
    torch.save({}, tmp_path / "old", _use_new_zipfile_serialization=False)
    assert all(torchfile.is_torch((tmp_path / name).read_bytes()[:64]) for name in ("new", "old"))
    assert not torchfile.is_torch(pickle.dumps({}))
