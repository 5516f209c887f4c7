"""The examples of an export's README, run as they stand."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from gpt2dsl import Recipe, Task


def export(weights: Path, target: Path, **keys: Any) -> Path:
    """Weights as ONNX, in a folder."""
    Recipe(Task.export(source=str(weights), target=str(target), format="onnx", **keys)).plan().run()
    return target


def output(folder: Path, heading: str, python: str) -> list[str]:
    """What the example under a heading prints, a text a line."""
    text = (folder / "README.md").read_text("utf-8")
    section = text.partition(f"## With {heading}\n")[2]
    code = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert code
    done = subprocess.run(
        [python, "-W", "error::UserWarning", "-c", code[1]],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": "", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def greedy(weights: Path, prompts: list[str], tokens: int) -> list[str]:
    """What transformers makes of prompts, each alone, as the examples print it."""
    tokenizer: Any = AutoTokenizer.from_pretrained(weights)
    # Its sdpa leaves scale_attn_by_inverse_layer_idx out.
    model = AutoModelForCausalLM.from_pretrained(weights, attn_implementation="eager")
    texts = []
    for prompt in prompts:
        ids = torch.tensor([tokenizer.encode(prompt)])
        mask = torch.ones_like(ids)
        found = model.generate(
            ids, attention_mask=mask, max_new_tokens=tokens, do_sample=False, pad_token_id=0
        )
        texts.append(repr(tokenizer.decode(found[0], skip_special_tokens=True)))
    return texts
