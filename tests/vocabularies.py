"""A byte-level vocabulary of 264 entries, and models that say what they are told to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import GPT2Config, GPT2LMHeadModel, GPT2TokenizerFast
from transformers.models.gpt2.tokenization_gpt2 import bytes_to_unicode

MERGES = (("t", "h"), ("th", "e"), ("Ġ", "c"), ("Ġc", "a"), ("Ġca", "t"), ("Ġ", "th"), ("Ġth", "e"))
END = 263
"""Its end-of-text token; the cat is [257, 260]."""


def vocabulary(folder: Path, end: int = END) -> Any:
    """Save the vocabulary as transformers does, the end-of-text token under any id."""
    folder.mkdir(parents=True, exist_ok=True)
    ids = {char: i for i, char in enumerate(sorted(bytes_to_unicode().values()))}
    for pair in MERGES:
        ids["".join(pair)] = len(ids)
    ids["<|endoftext|>"] = end
    (folder / "vocab.json").write_text(json.dumps(ids))
    lines = ["#version: 0.2", *map(" ".join, MERGES)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n")
    made = GPT2TokenizerFast.from_pretrained(folder)
    made.save_pretrained(folder)
    return made


def random_model(vocab: int, made: Any = GPT2LMHeadModel, **config: Any) -> Any:
    """Two layers of width 32 with weights of 0.2 randn."""
    torch.manual_seed(0)
    sizes = {"n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 2}
    ends = {"bos_token_id": vocab - 1, "eos_token_id": vocab - 1}
    described = GPT2Config(vocab_size=vocab, attn_implementation="eager", **sizes | ends | config)
    model = made(described).eval()
    with torch.no_grad():
        for values in model.parameters():
            values.copy_(torch.randn_like(values) * 0.2)
    return model


def says(plan: Sequence[int], vocab: int = END + 1) -> Any:
    """A model whose best token after position p is ``plan[p]``."""
    model = random_model(vocab, n_embd=48)
    with torch.no_grad():
        for name, values in model.named_parameters():
            if name.startswith("transformer.h."):
                values.zero_()
        model.transformer.ln_f.weight.fill_(1)
        model.transformer.ln_f.bias.zero_()
        rows = torch.randn(vocab, 48)
        rows -= rows.mean(1, keepdim=True)
        rows /= rows.norm(dim=1, keepdim=True)
        model.transformer.wte.weight.copy_(rows)
        for position, token in enumerate(plan):
            model.transformer.wpe.weight[position] = 100 * rows[token]
    return model
