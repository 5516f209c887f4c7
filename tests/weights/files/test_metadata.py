"""What a safetensors file says of itself; the judge is the safetensors library and transformers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_model, save_file, save_model
from transformers import GPT2LMHeadModel

from gpt2dsl import load
from gpt2dsl.errors import SpecError
from gpt2dsl.weights import inspection, reading
from gpt2dsl.weights.infer_config import Overrides
from tests import adapters

TABLE, HEAD = "transformer.wte.weight", "lm_head.weight"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return adapters.save_base(tmp_path / "b")


def tensors(base: Path) -> dict[str, torch.Tensor]:
    """Those of the model; the table and the head are two copies."""
    model = GPT2LMHeadModel.from_pretrained(base)
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def test_a_table_that_save_model_kept_under_the_heads_name_is_read(base: Path) -> None:
    model = GPT2LMHeadModel.from_pretrained(base).eval()
    save_model(model, str(base / "model.safetensors"), metadata={"format": "pt"})
    again = GPT2LMHeadModel.from_pretrained(adapters.save_base(base.parent / "c")).eval()
    load_model(again, str(base / "model.safetensors"))
    logits = load(str(base)).logits(adapters.IDS.tolist())
    assert np.abs(logits - adapters.outputs(again)).max() < 1e-4
    keys = inspection.inspect(base, Overrides())["beside"]["model.safetensors"]["keys"]
    assert keys[TABLE]["fate"] == keys["format"]["fate"] == "used"


@pytest.mark.parametrize("form", ["metadata", "no metadata", "bin", "bare", "shards"])
def test_one_name_of_the_tied_table_is_enough_in_every_form(base: Path, form: str) -> None:
    expected = reading.read(base).arrays[TABLE]
    held = {name: tensor for name, tensor in tensors(base).items() if name != TABLE}
    (base / "model.safetensors").unlink()
    if form == "bare":
        held = {name.removeprefix("transformer."): tensor for name, tensor in held.items()}
    if form == "bin":
        torch.save(held, base / "pytorch_model.bin")
    elif form == "shards":
        names = list(held)
        index: dict[str, str] = {}
        for i, half in enumerate((names[:9], names[9:])):
            save_file({name: held[name] for name in half}, base / f"{i}.safetensors")
            index |= dict.fromkeys(half, f"{i}.safetensors")
        text = str({"metadata": {}, "weight_map": index}).replace("'", '"')
        (base / "model.safetensors.index.json").write_text(text)
    else:
        said = {"format": "pt", TABLE: HEAD} if form == "metadata" else None
        save_file(held, base / "model.safetensors", metadata=said)
    assert np.array_equal(reading.read(base).arrays[TABLE], expected)


@pytest.mark.parametrize(
    ("form", "refused"), [("pt", ""), ("mlx", ""), ("tf", "tf"), ("flax", "f")]
)
def test_tensors_of_another_library_are_refused_as_transformers_does_without_it(
    base: Path, form: str, refused: str
) -> None:
    save_file(tensors(base), base / "model.safetensors", metadata={"format": form})
    if refused:
        with pytest.raises(SpecError, match=f"format is '{form}': tensors of another library"):
            reading.read_info(base)
    else:
        assert reading.read_info(base).geometry.layers == 2


def test_what_nobody_knows_of_a_file_is_told(base: Path) -> None:
    save_file(tensors(base), base / "model.safetensors", metadata={"format": "pt", "mood": "blue"})
    assert any("mood = 'blue'" in note for note in reading.read_info(base).unknown)
