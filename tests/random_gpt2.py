"""Weights of GPT-2's kind with random values, in place of the published ones of a page.

``python -m tests.random_gpt2 gpt2 --adapter wiki`` writes small ones and an adapter of them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import attrs
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.params import param_specs
from gpt2dsl.parts.model import SIZES
from gpt2dsl.weights.formats.config import to_config

SMALL = attrs.evolve(SIZES["124m"], layers=2, heads=4, hidden=32)
RANK = 2


def save(folder: Path, geometry: GPT2Config) -> None:
    """Write a folder as transformers does, with settings of generation."""
    folder.mkdir(parents=True)
    save_file(
        {tensor.name: _drawn(*tensor.shape) for tensor in param_specs(geometry)},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    config = {"architectures": ["GPT2LMHeadModel"], **to_config(geometry)}
    _write(folder / "config.json", config)
    _write(folder / "generation_config.json", {"eos_token_id": [50256, 198], "temperature": 0.5})


def save_adapter(folder: Path, base: Path, geometry: GPT2Config) -> None:
    """Write an adapter of every c_attn as PEFT does."""
    folder.mkdir(parents=True)
    shapes = {"A": (RANK, geometry.hidden), "B": (3 * geometry.hidden, RANK)}
    save_file(
        {
            f"base_model.model.transformer.h.{layer}.attn.c_attn.lora_{side}.weight": _drawn(*shape)
            for layer in range(geometry.layers)
            for side, shape in shapes.items()
        },
        folder / "adapter_model.safetensors",
    )
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": str(base.resolve()),
        "r": RANK,
        "lora_alpha": 2 * RANK,
        "target_modules": ["c_attn"],
        "fan_in_fan_out": True,
    }
    _write(folder / "adapter_config.json", config)


def _drawn(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal(shape, np.float32) * np.float32(0.02)


def _write(path: Path, content: dict[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", choices=SIZES)
    parser.add_argument("--adapter", type=Path, action="append", default=[])
    words = parser.parse_args()
    network = SIZES[words.size] if words.size else SMALL
    save(words.folder, network)
    for path in words.adapter:
        save_adapter(path, words.folder, network)
