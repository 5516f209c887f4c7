from __future__ import annotations

from pathlib import Path

import mindspore as ms
import numpy as np
import pytest

from gpt2dsl.errors import InputError
from gpt2dsl.weights.files import ckptfile
from gpt2dsl.weights.files.lazy_tensor import ArrayTensor, LazyTensor, converted


def arrays() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {
        "table": random.normal(size=(9, 4)).astype(np.float32),
        "half": random.normal(size=(3, 2)).astype(np.float16),
        "bias": random.normal(size=5).astype(np.float32),
        "one": np.ones(1, np.float32),
    }


def test_what_mindspore_saves_is_read(tmp_path: Path) -> None:
    path = str(tmp_path / "a.ckpt")
    held = [{"name": name, "data": ms.Tensor(array)} for name, array in arrays().items()]
    ms.save_checkpoint(held, path, append_dict={"epoch_num": 3, "loss_scale": 2.0})
    found = ckptfile.stored(Path(path))
    for name, array in arrays().items():
        assert found[name].shape == array.shape
        assert np.array_equal(found[name].load(), array.astype(np.float32))
    assert found["loss_scale"].load() == 2.0
    assert not found["epoch_num"].readable


def test_mindspores_own_checksum_at_the_end_is_no_tensor(tmp_path: Path) -> None:
    path = str(tmp_path / "a.ckpt")
    ms.save_checkpoint([{"name": "a", "data": ms.Tensor([1.0])}], path, crc_check=True)
    assert list(ckptfile.stored(Path(path))) == ["a"]


@pytest.mark.parametrize("cut", [8, 24, 2**29])
def test_mindspore_reads_what_is_written_in_slices_or_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: int
) -> None:
    monkeypatch.setattr(ckptfile, "SLICE", cut)
    kinds = {np.dtype(np.float32): "F32", np.dtype(np.float16): "F16"}
    held: dict[str, LazyTensor] = {
        name: ArrayTensor(kinds[array.dtype], array.shape, array)
        for name, array in arrays().items()
    }
    path = tmp_path / "a.ckpt"
    ckptfile.write(path, held)
    found = ms.load_checkpoint(str(path))
    back = ckptfile.stored(path)
    assert list(found) == list(back) == list(held)
    for name, array in arrays().items():
        assert np.array_equal(found[name].asnumpy(), array)
        assert found[name].asnumpy().dtype == array.dtype
        assert np.array_equal(back[name].rows(0, len(array)), array)


def test_blocks_cross_the_borders_of_slices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ckptfile, "SLICE", 50)
    array = np.arange(60, dtype=np.float32).reshape(20, 3)
    ckptfile.write(tmp_path / "a.ckpt", {"a": ArrayTensor.of(array)})
    found = ckptfile.stored(tmp_path / "a.ckpt")["a"]
    for first, last in ((0, 20), (3, 11), (19, 20), (5, 5)):
        assert np.array_equal(found.rows(first, last), array[first:last])


def test_bfloat16_goes_both_ways(tmp_path: Path) -> None:
    array = np.array([1.0, -2.5, 3.140625], np.float32)
    ckptfile.write(tmp_path / "a.ckpt", {"a": converted(ArrayTensor.of(array), "BF16")})
    found = ckptfile.stored(tmp_path / "a.ckpt")["a"]
    assert found.kind == "BF16"
    assert np.array_equal(found.load(), array)


@pytest.mark.parametrize("keep", [0.99, 0.5, 0.02])
def test_a_truncated_file_is_told_in_one_line(tmp_path: Path, keep: float) -> None:
    path = tmp_path / "a.ckpt"
    ckptfile.write(
        path, {name: ArrayTensor.of(a.astype(np.float32)) for name, a in arrays().items()}
    )
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data))])
    with pytest.raises(InputError, match=r"a.ckpt: it is no whole MindSpore checkpoint") as caught:
        ckptfile.stored(path)
    assert "\n" not in str(caught.value)


def test_a_shape_that_its_bytes_do_not_fill_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    ckptfile.write(path, {"a": ArrayTensor.of(np.ones((2, 3), np.float32))})
    path.write_bytes(path.read_bytes().replace(b"\x08\x02\x08\x03", b"\x08\x02\x08\x04"))
    with pytest.raises(InputError, match="a has 24 bytes, its shape needs 32"):
        ckptfile.stored(path)
