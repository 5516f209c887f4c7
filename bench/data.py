"""A large text into MindRecord here, beside `tokenizers` and tiktoken on the same text and cores.

    make bench                                             1 GB of text
    .venv/bin/python bench/data.py --megabytes 100

Each side is a process of its own. Ours does all: it reads, encodes, writes the token stream and the
MindRecord files; the peers only encode what is in memory, in batches.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

BATCH = 2**22
"""Bytes that a peer is given at once."""


def make_text(path: Path, size: int) -> None:
    """Paragraphs of Python's help topics, in an order that never repeats."""
    from pydoc_data.topics import topics

    paragraphs = [part for topic in topics.values() for part in topic.split("\n\n") if part.strip()]
    chance = random.Random(0)  # noqa: S311  # no secret
    written = 0
    with path.open("w", encoding="utf-8") as file:
        while written < size:
            block = "\n\n".join(chance.sample(paragraphs, 500)) + "\n\n"
            written += file.write(block)


def batches(path: Path) -> Iterator[list[str]]:
    """The text in pieces of some paragraphs, as a peer would be given it."""
    with path.open(encoding="utf-8") as file:
        while text := file.read(BATCH):
            yield [text[i : i + 2**15] for i in range(0, len(text), 2**15)]


def tokenizers(path: Path) -> int:
    """Hugging Face's library, as transformers uses it."""
    from gpt2dsl.data import vocabulary
    from gpt2dsl.data.tokenizer import _published

    inner = vocabulary.published(*_published())
    return sum(len(one.ids) for texts in batches(path) for one in inner.encode_batch(texts))


def tiktoken(path: Path) -> int:
    """OpenAI's library, with the vocabulary that comes along here."""
    from tiktoken import Encoding
    from tiktoken.load import data_gym_to_mergeable_bpe_ranks

    from gpt2dsl.data.tokenizer import _published

    vocab, merges = _published()
    ranks = data_gym_to_mergeable_bpe_ranks(str(merges), str(vocab))
    pattern = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
    encoding = Encoding("gpt2", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    threads = os.cpu_count() or 1
    return sum(
        len(ids)
        for texts in batches(path)
        for ids in encoding.encode_ordinary_batch(texts, num_threads=threads)
    )


PEERS: dict[str, Callable[[Path], int]] = {"tokenizers": tokenizers, "tiktoken": tiktoken}


def measured(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Seconds and peak of resident memory in MB."""
    started = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed with status {status}")
    return time.perf_counter() - started, usage.ru_maxrss / 1e3


def main() -> None:
    """Prints a line a side."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--side", choices=list(PEERS), help=argparse.SUPPRESS)
    parser.add_argument("--text", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        print(json.dumps(PEERS[args.side](args.text)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text = folder / "text"
        make_text(text, args.megabytes * 10**6)
        size = text.stat().st_size / 1e6
        environment = os.environ | {"GPT2DSL_CACHE": str(folder / "cache")}
        ours = [sys.executable, "-m", "gpt2dsl", "data", "prepare", str(text), str(folder / "out")]
        sides = {"gpt2dsl": [*ours, "--seq-length", "1024"]} | {
            side: [sys.executable, __file__, "--side", side, "--text", str(text)] for side in PEERS
        }
        speeds = {}
        for side, command in sides.items():
            seconds, peak = measured(command, environment)
            speeds[side] = size / seconds
            print(f"{side:<12} {size / seconds:6.1f} MB/s   peak {peak:,.0f} MB", flush=True)
        for side in PEERS:
            print(f"gpt2dsl is {speeds['gpt2dsl'] / speeds[side]:.2f} times as fast as {side}")


if __name__ == "__main__":
    main()
