"""MindFormers' side of bench/generate.py: its generation with use_past, on Python 3.9."""

from __future__ import annotations

import argparse
import json
from typing import Any

import mindformers  # type: ignore[import-not-found]
import mindspore as ms
import numpy as np


def network(args: argparse.Namespace, batch: int) -> Any:
    """Its network with a cache for a batch, as long as the texts will be.

    It computes in float16 with float32 parameters, as it comes: its cache knows nothing else.
    """
    config = json.loads((args.folder / "config.json").read_text())
    length = args.prompt + args.new
    found = mindformers.GPT2LMHeadModel(
        mindformers.GPT2Config(
            batch_size=batch, num_layers=config["n_layer"], num_heads=config["n_head"],
            hidden_size=config["n_embd"], vocab_size=config["vocab_size"], seq_length=length,
            use_past=True,
            embedding_dropout_prob=0.0, hidden_dropout_rate=0.0, attention_dropout_rate=0.0,
            max_decode_length=length, do_sample=False, top_k=0, top_p=1.0, repetition_penalty=1.0,
            eos_token=50256,
        )
    )  # fmt: skip
    weights = ms.load_checkpoint(str(args.folder / "mindformers.ckpt"))
    for one in found.get_parameters():
        if one.name in weights:
            values = weights[one.name].asnumpy()
            position = "position_embedding" in one.name
            one.set_data(ms.Tensor(values[:length] if position else values))
    return found.set_train(False)


def side(args: argparse.Namespace) -> Any:
    """Its generate; a network for each size of batch, which it fixes when it is built."""
    ms.set_context(mode=ms.GRAPH_MODE, device_target="CPU")
    built: dict[int, Any] = {}

    def generate(prompts: list[list[int]]) -> list[list[int]]:
        batch = len(prompts)
        model = built.setdefault(batch, None) or network(args, batch)
        built[batch] = model
        ids = np.array(prompts, np.int32)
        rows = model.generate(ids, max_length=args.prompt + args.new, do_sample=False)
        return [[int(i) for i in row[args.prompt :]] for row in rows]

    return generate
