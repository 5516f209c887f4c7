from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gpt2dsl.errors import InputError
from gpt2dsl.weights import store, training_state

ARRAYS = {"m.x": np.arange(6, dtype=np.float32).reshape(2, 3), "t": np.array(3, np.float32)}


def test_arrays_and_state_come_back(tmp_path: Path) -> None:
    with store.writing(tmp_path / "step-1") as folder:
        training_state.write(folder, ARRAYS, {"step": 1, "scale": 0.1})
    arrays, state = training_state.read(tmp_path / "step-1")
    assert state == {"step": 1, "scale": 0.1}
    assert set(arrays) == set(ARRAYS)
    for name, array in ARRAYS.items():
        assert arrays[name].shape == array.shape
        assert np.array_equal(arrays[name].load(), array)


def test_what_is_absent_or_damaged_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"state.json: .* no state to resume from.*G2-301"):
        training_state.read(tmp_path)
    training_state.write(tmp_path, ARRAYS, {})
    (tmp_path / "optimizer.safetensors").write_bytes(b"junk and more junk")
    with pytest.raises(InputError, match=r"optimizer.safetensors: .*G2-304"):
        training_state.read(tmp_path)
    for text, said in (("{", "it is not JSON"), ("[]", "it is not a JSON object")):
        (tmp_path / "state.json").write_text(text)
        with pytest.raises(InputError, match=said):
            training_state.read(tmp_path)
