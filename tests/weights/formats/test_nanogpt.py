"""nanoGPT's checkpoints, judged by GPT-2 as its paper and nanoGPT's README have it, in torch."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch.nn import functional
from transformers import AutoModelForCausalLM

from gpt2dsl import Recipe, Task, load
from gpt2dsl.errors import InputError
from gpt2dsl.weights import inspection, reading
from gpt2dsl.weights.infer_config import Overrides

IDS = [[1, 5, 9, 30, 7]]
ARGS: dict[str, Any] = {
    "n_layer": 2, "n_head": 2, "n_embd": 8, "block_size": 16, "bias": True, "vocab_size": 40,
    "dropout": 0.0,
}  # fmt: skip
State = dict[str, torch.Tensor]


def state(args: dict[str, Any]) -> State:
    """Random parameters under nanoGPT's names; linears are ``[out, in]``."""
    torch.manual_seed(0)
    h = args["n_embd"]
    shapes: dict[str, tuple[int, ...]] = {"transformer.wte.weight": (args["vocab_size"], h)}
    shapes["transformer.wpe.weight"] = (args["block_size"], h)
    for i in range(args["n_layer"]):
        for name, out, inputs in (
            ("ln_1", h, 0), ("attn.c_attn", 3 * h, h), ("attn.c_proj", h, h), ("ln_2", h, 0),
            ("mlp.c_fc", 4 * h, h), ("mlp.c_proj", h, 4 * h),
        ):  # fmt: skip
            shapes[f"transformer.h.{i}.{name}.weight"] = (out, inputs) if inputs else (out,)
            shapes[f"transformer.h.{i}.{name}.bias"] = (out,)
    shapes |= {"transformer.ln_f.weight": (h,), "transformer.ln_f.bias": (h,)}
    found = {name: torch.randn(shape) * 0.3 for name, shape in shapes.items()}
    if not args["bias"]:
        found = {name: value for name, value in found.items() if not name.endswith("bias")}
    return found | {"lm_head.weight": found["transformer.wte.weight"]}


def judged(weights: State, args: dict[str, Any], approximate: str = "none") -> NDArray[np.float32]:
    """Logits of those parameters."""
    heads, ids = args["n_head"], torch.tensor(IDS)

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        weight, bias = weights[f"transformer.{name}.weight"], f"transformer.{name}.bias"
        return functional.layer_norm(x, weight.shape, weight, weights.get(bias), 1e-5)

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        bias = weights.get(f"transformer.{name}.bias")
        return functional.linear(x, weights[f"transformer.{name}.weight"], bias)

    length = ids.shape[1]
    x = weights["transformer.wte.weight"][ids] + weights["transformer.wpe.weight"][:length]
    for i in range(args["n_layer"]):
        q, k, v = (
            part.unflatten(-1, (heads, -1)).transpose(1, 2)
            for part in linear(norm(x, f"h.{i}.ln_1"), f"h.{i}.attn.c_attn").chunk(3, -1)
        )
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        later = torch.ones(length, length).triu(1).bool()
        mixed = scores.masked_fill(later, -math.inf).softmax(-1) @ v
        x = x + linear(mixed.transpose(1, 2).flatten(2), f"h.{i}.attn.c_proj")
        inner = functional.gelu(
            linear(norm(x, f"h.{i}.ln_2"), f"h.{i}.mlp.c_fc"), approximate=approximate
        )
        x = x + linear(inner, f"h.{i}.mlp.c_proj")
    logits: NDArray[np.float32] = (norm(x, "ln_f") @ weights["transformer.wte.weight"].T).numpy()
    return logits


def save(path: Path, args: dict[str, Any], prefix: str = "", **more: Any) -> State:
    """A checkpoint as train.py saves it; its parameters."""
    weights = state(args)
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(3))])
    optimizer.step()
    content = {
        "model": {f"{prefix}{name}": value for name, value in weights.items()},
        "optimizer": optimizer.state_dict(),
        "model_args": args,
        "iter_num": 7,
        "best_val_loss": torch.tensor(1.5),
        "config": {"out_dir": "out", "compile": True},
    }
    torch.save(content | more, path)
    return weights


@pytest.mark.parametrize("prefix", ["", "_orig_mod.", "module."])
@pytest.mark.parametrize("bias", [True, False])
def test_a_checkpoint_gives_the_logits_that_nanogpt_computes(
    tmp_path: Path, prefix: str, bias: bool
) -> None:
    args = ARGS | {"bias": bias}
    expected = judged(save(tmp_path / "ckpt.pt", args, prefix), args)
    for name in (tmp_path, tmp_path / "ckpt.pt"):
        found = reading.read(name)
        assert found.geometry.activation == "gelu"
    assert np.abs(load(str(tmp_path)).logits(IDS) - expected).max() < 1e-4


def test_it_is_converted_for_transformers(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    expected = judged(save(tmp_path / "out" / "ckpt.pt", ARGS, "_orig_mod."), ARGS)
    target = tmp_path / "hf"
    Recipe(Task.convert(source=str(tmp_path / "out"), target=str(target))).plan().run()
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained(target).eval()(torch.tensor(IDS)).logits
    assert np.abs(logits.numpy() - expected).max() < 1e-4
    assert json.loads((target / "config.json").read_text())["eos_token_id"] is None


def test_the_activation_of_an_old_checkpoint_can_be_named(tmp_path: Path) -> None:
    weights = save(tmp_path / "ckpt.pt", ARGS)
    found = reading.read(tmp_path, Overrides(activation="gelu_new"))
    assert found.geometry.activation == "gelu_new"
    assert np.abs(judged(weights, ARGS) - judged(weights, ARGS, "tanh")).max() > 1e-4


def test_buffers_of_masks_are_left_out(tmp_path: Path) -> None:
    weights = state(ARGS)
    mask = {f"transformer.h.{i}.attn.bias": torch.ones(1, 1, 16, 16) for i in range(2)}
    save(tmp_path / "ckpt.pt", ARGS, model=weights | mask)
    assert reading.read(tmp_path).geometry.layers == 2


def test_a_padded_vocabulary_ends_texts_with_gpt2s_token(tmp_path: Path) -> None:
    save(tmp_path / "ckpt.pt", ARGS | {"vocab_size": 50304})
    found = reading.read(tmp_path)
    assert (found.geometry.vocab, found.config["eos_token_id"]) == (50304, 50256)


def test_every_key_has_a_fate(tmp_path: Path) -> None:
    save(tmp_path / "ckpt.pt", ARGS | {"rotary": True}, note="mine")
    keys = inspection.inspect(tmp_path, Overrides())["beside"]["ckpt.pt"]["keys"]
    assert keys["optimizer"]["fate"] == "no effect"
    assert keys["model_args.bias"]["fate"] == "used"
    assert {key for key, one in keys.items() if one["fate"] == "unknown"} == {
        "model_args.rotary", "note",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"n_layer": None}, "model_args: n_layer is None, a positive whole number is expected"),
        ({"n_head": 3}, "model_args: n_head 3 does not divide 8"),
        ({"dropout": "x"}, "model_args: dropout is 'x'"),
        ({"n_layer": 3}, "missing: transformer.h.2"),
        ({"block_size": 8}, "1 of another shape: transformer.wpe.weight"),
    ],
)
def test_a_network_that_is_not_that_of_the_tensors_is_refused(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    args = ARGS | change
    save(tmp_path / "ckpt.pt", ARGS, model_args=args)
    with pytest.raises(InputError, match=said):
        reading.read(tmp_path)


@pytest.mark.parametrize(
    ("key", "prefix"),
    [
        ("model_state_dict", ""),
        ("state_dict", "model."),
        ("state_dict", "net.gpt._orig_mod."),
        ("module", ""),
    ],
)
def test_checkpoints_of_other_loops_are_read_beside_a_config(
    folder: Path, key: str, prefix: str
) -> None:
    expected = reading.read(folder).arrays["transformer.h.0.attn.c_attn.weight"]
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    named = {f"{prefix}{name}": tensor for name, tensor in tensors.items()}
    content = {key: named, "epoch": 3, "optimizer_state_dict": {"state": {0: torch.ones(2)}}}
    torch.save(content, folder / "last.ckpt")
    assert np.array_equal(
        reading.read(folder).arrays["transformer.h.0.attn.c_attn.weight"], expected
    )


def test_two_models_in_one_checkpoint_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "ckpt.pt", ARGS, model_state_dict=state(ARGS))
    with pytest.raises(InputError, match="it holds model_state_dict and model: save the one"):
        reading.read(tmp_path)


def test_settings_of_generation_that_lie_beside_it_are_used(tmp_path: Path) -> None:
    save(tmp_path / "ckpt.pt", ARGS)
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": 5, "max_length": 9}')
    values = reading.read_info(tmp_path).defaults.values
    assert values["generation.eos"].value == [5]
    assert values["generation.max_length"].origin == "generation_config.json:1"


def test_a_config_beside_it_of_another_network_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "ckpt.pt", ARGS)
    config = {
        "model_type": "gpt2", "n_layer": 2, "n_head": 2, "n_embd": 8, "n_positions": 16,
        "vocab_size": 40, "activation_function": "gelu",
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert reading.read_info(tmp_path).geometry.activation == "gelu"
    (tmp_path / "config.json").write_text(json.dumps({**config, "activation_function": "relu"}))
    with pytest.raises(InputError, match=r"activation is relu here, and gelu as ckpt\.pt is read"):
        reading.read_info(tmp_path)
