from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from gpt2dsl.errors import InputError
from gpt2dsl.weights import beside, contents, location, reading, store, training_state
from gpt2dsl.weights.infer_config import Overrides
from tests import adapters


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return adapters.save_speaking_base(tmp_path / "base", 32)


@pytest.fixture
def checkpoint(base: Path, tmp_path: Path) -> Path:
    """A checkpoint with an adapter, which notes the contents of its base."""
    digest = contents.of_files(beside.deciding(location.find(base)))
    identity = {"values": {}, "contents": {"model.weights": digest}}
    with store.writing(tmp_path / "step-1") as folder:
        adapters.save_adapter(base, folder, task_type="CAUSAL_LM", r=2, target_modules=["c_attn"])
        training_state.write_state(folder, {"identity": identity})
    return tmp_path / "step-1"


def change(base: Path) -> None:
    """Put other values into the base's file."""
    file = base / "model.safetensors"
    tensors = {name: tensor * 2 for name, tensor in load_file(file).items()}
    save_file(tensors, file, {"format": "pt"})


def test_an_adapter_s_base_may_be_moved_and_copied_but_not_changed(
    base: Path, checkpoint: Path, tmp_path: Path
) -> None:
    assert reading.read(checkpoint).base
    shutil.copytree(base, tmp_path / "copy")
    shutil.rmtree(base)
    shutil.copytree(tmp_path / "copy", base)
    assert reading.read(checkpoint).base
    change(base)
    with pytest.raises(InputError, match=r"base has changed since the adapter was trained") as told:
        reading.read(checkpoint)
    assert told.value.faults[0].code == "G2-312"
    with pytest.raises(InputError, match=r"then, .* now"):
        reading.read_info(checkpoint)  # whose contents are known by now


def test_another_base_that_is_named_is_taken(base: Path, checkpoint: Path) -> None:
    change(base)
    assert reading.read(checkpoint, Overrides(base=str(base))).base


@pytest.mark.parametrize("digest", ["pending", "", None, 5])
def test_a_checkpoint_that_does_not_know_its_base_s_contents_is_read(
    base: Path, checkpoint: Path, tmp_path: Path, digest: object
) -> None:
    change(base)
    with store.writing(tmp_path / "step-2") as folder:
        for file in checkpoint.iterdir():
            if file.name != store.MANIFEST:
                shutil.copy(file, folder)
        identity = {"values": {}, "contents": {"model.weights": digest}}
        training_state.write_state(folder, {"identity": identity})
    assert reading.read(tmp_path / "step-2").base
