"""Generation here, in transformers on torch, and in MindFormers, side by side in one run.

    make bench                                          124M, prompts of 32 tokens, 64 new ones
    .venv/bin/python bench/generate.py --sides gpt2dsl transformers --rounds 1

Each side of each round is a process of its own, one after the other. All read the same weights and
continue the same prompts greedily, with a cache, in float32. A time is that of a whole call, the
prompt's pass included; the first call, which compiles, is told apart. The limit is what the memory
allows at batch 1: the weights' bytes, which each token needs, over the bandwidth that two threads
reach when they read.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from sides import Found, able, in_turns, parser, publish, to_mindformers

Prompts = list[list[int]]
Generate = Callable[[Prompts], list[list[int]]]
"""Prompts of one length to the new tokens of each."""

BATCHES = (1, 8)


def ours(args: argparse.Namespace) -> Generate:
    """This project's generation, with text in and out."""
    import gpt2dsl
    from gpt2dsl import Generation

    model = gpt2dsl.load(str(args.folder))
    wanted = Generation(max_new_tokens=args.new)

    def generate(prompts: Prompts) -> list[list[int]]:
        texts = [model.tokenizer.decode(ids) for ids in prompts]
        return [list(one.ids) for one in model.continuations(texts, wanted)]

    return generate


def transformers(args: argparse.Namespace) -> Generate:
    """Transformers on torch as it comes."""
    import torch
    from transformers import GPT2LMHeadModel

    model = GPT2LMHeadModel.from_pretrained(args.folder, dtype=torch.float32).eval()
    settings = {"max_new_tokens": args.new, "do_sample": False, "pad_token_id": 50256}

    def generate(prompts: Prompts) -> list[list[int]]:
        ids = torch.tensor(prompts)
        with torch.no_grad():
            found = model.generate(ids, attention_mask=torch.ones_like(ids), **settings)
        new: list[list[int]] = found[:, ids.shape[1] :].tolist()
        return new

    return generate


def mindformers(args: argparse.Namespace) -> Generate:
    """MindFormers' generation, on the Python that it needs."""
    from generate_mindformers import side

    generate: Generate = side(args)
    return generate


SIDES: dict[str, Callable[[argparse.Namespace], Generate]] = {
    "gpt2dsl": ours,
    "transformers": transformers,
    "mindformers": mindformers,
}


def measured(args: argparse.Namespace) -> dict[str, Any]:
    """Seconds of calls and the tokens that came, by batch, in this process."""
    prompts = json.loads((args.folder / "prompts.json").read_text())
    found: dict[str, Any] = {}
    for batch in BATCHES:
        generate, times, tokens = SIDES[args.side](args), [], []
        for _ in range(args.calls + 1):
            before = time.monotonic()
            tokens = generate(prompts[:batch])
            times.append(time.monotonic() - before)
        count = sum(map(len, tokens))
        found[str(batch)] = {"first": times[0], "times": times[1:], "count": count, "ids": tokens}
    return found


def prepare(folder: Path, args: argparse.Namespace, sides: Sequence[str]) -> float:
    """Weights and prompts that every side reads; gives the bytes that a token needs."""
    from gpt2dsl.data.source import Source
    from gpt2dsl.data.tokenizer import Tokenizer
    from gpt2dsl.parts.model import SIZES
    from gpt2dsl.weights.files.lazy_tensor import Arrays
    from gpt2dsl.weights.formats import huggingface
    from gpt2dsl.weights.initial import initial

    geometry, tokenizer = SIZES[args.size], Tokenizer.load("gpt2")
    arrays = dict(Arrays(initial(geometry, 0)))
    huggingface.write(folder, geometry, arrays, tokenizer)
    text = "".join(Source.open("sample:valid").documents())
    ids = tokenizer.encode(text)
    cut = [ids[i : i + args.prompt] for i in range(0, len(ids), args.prompt)]
    whole = [one for one in cut if tokenizer.encode(tokenizer.decode(one)) == one]
    (folder / "prompts.json").write_text(json.dumps(whole[: max(BATCHES)]))
    if "mindformers" in sides:
        to_mindformers(folder)
    skipped = arrays["transformer.wpe.weight"].nbytes
    return float(sum(array.nbytes for array in arrays.values()) - skipped)


def bandwidth() -> float:
    """Bytes a second that two threads read."""
    halves = [np.ones(1 << 26, np.float32) for _ in range(2)]
    best = 0.0
    for _ in range(5):
        before = time.monotonic()
        threads = [threading.Thread(target=half.sum) for half in halves]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        best = max(best, sum(half.nbytes for half in halves) / (time.monotonic() - before))
    return best


def report(found: Found, limit: float) -> None:
    """A line a batch and side, then ratios."""
    for batch in map(str, BATCHES):
        speeds = {}
        for side, rounds in found.items():
            times = [t for one in rounds for t in one[batch]["times"]]
            count = rounds[0][batch]["count"]
            speeds[side] = count / median(times)
            publish("generate", {"side": side, "batch": batch, "count": count, "times": times})
            first = median(one[batch]["first"] for one in rounds)
            span = f"{count / max(times):.1f} to {count / min(times):.1f}"
            share = speeds[side] / int(batch) / limit
            print(
                f"batch {batch} {side:<13} {speeds[side]:6.1f} tokens/s ({span})   "
                f"{share:4.0%} of the limit   first call {first:5.1f} s"
            )
        for side in [side for side in speeds if side != "gpt2dsl" and "gpt2dsl" in speeds]:
            ratio = speeds["gpt2dsl"] / speeds[side]
            pairs = zip(
                found["gpt2dsl"][0][batch]["ids"], found[side][0][batch]["ids"], strict=True
            )
            same = sum(one == other for one, other in pairs)
            print(f"batch {batch} gpt2dsl / {side:<13} {ratio:.2f}   equal texts {same} of {batch}")


def main() -> None:
    """Measure and print a table."""
    options = parser(list(SIDES))
    options.add_argument("--prompt", type=int, default=32)
    options.add_argument("--new", type=int, default=64)
    options.add_argument("--calls", type=int, default=3, help="that are timed, in each round")
    args = options.parse_args()
    if args.side:
        print(json.dumps(measured(args)))
        return
    sides = able(args.sides)
    with tempfile.TemporaryDirectory() as name:
        read, speed = prepare(Path(name), args, sides), bandwidth()
        limit = speed / read
        print(
            f"{args.size}, prompts of {args.prompt}, {args.new} new, float32; {os.cpu_count()} "
            f"cores, load {os.getloadavg()[0]:.1f}; {speed / 1e9:.1f} GB/s: limit {limit:.1f} "
            "tokens/s a row",
            flush=True,
        )
        found = in_turns(Path(__file__), Path(name), args.rounds, sides)
    report(found, limit)
    if len(found) < len(sides):
        raise SystemExit("a side failed")


if __name__ == "__main__":
    main()
