"""Serving here, in ``transformers serve`` and in vLLM's CPU build, side by side in one run.

    .venv/bin/python bench/serve.py                     124M; 1, 8, 32 and 64 streams at once
    .venv/bin/python bench/serve.py --sides gpt2dsl --streams 1 64 --rounds 1

Each side of each round is a server of its own, one after the other, over the same weights in
float32. Streams begin together, with prompts of mixed lengths that share nothing, as chats whose
template is their text alone (``transformers serve`` has no completions), and take the best tokens.
A wait for the next token is the time between two events of a stream; the first event ends the wait
for the first token. At last, where the server keeps prefixes, two prompts that begin with the same
500 tokens are sent one after the other.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import httpx
import numpy as np
from sides import PEERS, Found, able, in_turns, parser, publish

TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
PREFIX = 500
"""Tokens with which the last two prompts begin alike."""

READY = 300.0
"""Seconds in which a server must answer."""


@attrs.frozen
class Stream:
    """What one client saw.

    Attributes:
        text: that it was told.
        first: seconds to the first event with text.
        waits: seconds between two of them.
    """

    text: str
    first: float
    waits: list[float]


def command(side: str, folder: Path, port: int, batch: int) -> list[str]:
    """Return the words that start a server."""
    words: dict[str, list[str]] = {
        "gpt2dsl": [
            sys.executable, "-m", "gpt2dsl", "serve", str(folder), "--batch", str(batch),
            "--queue", "128", "--port", str(port),
        ],
        "transformers": [
            str(Path(sys.executable).parent / "transformers"), "serve", "--host", "127.0.0.1",
            "--port", str(port), "--dtype", "float32", "--log_level", "error",
        ],
        "vllm": [
            str(PEERS / "bin" / "python"), "-m", "vllm.entrypoints.openai.api_server", "--model",
            str(folder), "--port", str(port), "--dtype", "float32", "--max-num-seqs", "64",
        ],
    }  # fmt: skip
    return words[side]


@contextmanager
def served(args: argparse.Namespace) -> Iterator[str]:
    """Run a server, and yield its address once it answers."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    log = args.folder / f"{args.side}.log"
    with log.open("wb") as opened:
        process = subprocess.Popen(
            command(args.side, args.folder, port, args.batch),
            stdout=opened,
            stderr=opened,
            env=os.environ | {"VLLM_CPU_KVCACHE_SPACE": "4", "HF_HUB_OFFLINE": "1"},
        )
        url = f"http://127.0.0.1:{port}"
        try:
            _wait(f"{url}/health", process, log)
            yield f"{url}/v1/chat/completions"
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a server answers."""
    end = time.monotonic() + READY
    while time.monotonic() < end and process.poll() is None:
        try:
            if httpx.get(url, timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise SystemExit(f"the server does not answer; its last words:\n{log.read_text()[-3000:]}")


async def ask(client: httpx.AsyncClient, url: str, args: argparse.Namespace, text: str) -> Stream:
    """Send a prompt, and note when the pieces of its answer come."""
    body = {
        "model": str(args.folder),
        "messages": [{"role": "user", "content": text}],
        "max_tokens": args.new,
        "temperature": 0.0,
        "stream": True,
    }
    before = time.monotonic()
    pieces, waits = [], []
    async with client.stream("POST", url, json=body) as answer:
        if answer.status_code != 200:
            raise SystemExit(f"status {answer.status_code}: {(await answer.aread())[:500]!r}")
        async for line in answer.aiter_lines():
            if piece := _piece(line):
                now = time.monotonic()
                waits.append(now - before)
                before = now
                pieces.append(piece)
    if not waits:
        raise SystemExit("an answer without text")
    return Stream("".join(pieces), waits[0], waits[1:])


def _piece(line: str) -> str:
    """Return the text that a line of a stream brings."""
    if not line.startswith("data: {"):
        return ""
    choices = json.loads(line.removeprefix("data: ")).get("choices")
    return (choices[0]["delta"].get("content") or "") if choices else ""


async def together(url: str, args: argparse.Namespace, prompts: Sequence[str]) -> dict[str, Any]:
    """Send prompts at once; returns what their streams saw."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(timeout=3600, limits=limits) as client:
        began = time.monotonic()
        streams = await asyncio.gather(*(ask(client, url, args, text) for text in prompts))
        seconds = time.monotonic() - began
    return {
        "seconds": seconds,
        "texts": [stream.text for stream in streams],
        "first": [stream.first for stream in streams],
        "waits": list(itertools.chain.from_iterable(stream.waits for stream in streams)),
    }


def measured(args: argparse.Namespace) -> dict[str, Any]:
    """Return what the streams of one server saw, by their number."""
    prompts: dict[str, list[str]] = json.loads((args.folder / "prompts.json").read_text())
    with served(args) as url:
        asyncio.run(together(url, args, prompts["warm"]))
        found = {
            str(count): asyncio.run(together(url, args, prompts[str(count)]))
            for count in args.streams
        }
        alike = [asyncio.run(together(url, args, [text])) for text in prompts["alike"]]
    return found | {"alike": {"first": [one["first"][0] for one in alike]}}


def prepare(folder: Path, args: argparse.Namespace) -> None:
    """Write weights and prompts that every side reads."""
    from gpt2dsl.data.source import Source
    from gpt2dsl.data.tokenizer import Tokenizer
    from gpt2dsl.parts.model import SIZES
    from gpt2dsl.weights.files.lazy_tensor import Arrays
    from gpt2dsl.weights.formats import huggingface
    from gpt2dsl.weights.initial import initial

    geometry, tokenizer = SIZES[args.size], Tokenizer.load("gpt2")
    huggingface.write(folder, geometry, dict(Arrays(initial(geometry, 0))), tokenizer)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    ids = tokenizer.encode("".join(Source.open("sample:valid").documents()))
    lengths, places = itertools.cycle([16, 160, 32, 256, 64, 24, 128, 48]), itertools.count()
    room = geometry.positions - args.new - 16

    def prompt(length: int) -> str:
        length = min(length, room)
        start = (next(places) * 263) % (len(ids) - length)
        return tokenizer.decode(ids[start : start + length])

    texts = {"warm": [prompt(32)]}
    texts |= {str(count): [prompt(next(lengths)) for _ in range(count)] for count in args.streams}
    shared = prompt(PREFIX)
    texts["alike"] = [shared + prompt(8) for _ in range(2)]
    (folder / "prompts.json").write_text(json.dumps(texts))


def report(found: Found, args: argparse.Namespace) -> None:
    """Print a line a number of streams and side, then ratios."""
    speeds: dict[tuple[str, int], float] = {}
    for count in args.streams:
        for side, rounds in found.items():
            of = [one[str(count)] for one in rounds]
            speed = count * args.new / min(one["seconds"] for one in of)
            speeds[side, count] = speed
            first, waits = (np.concatenate([one[key] for one in of]) for key in ("first", "waits"))
            print(
                f"{count:>2} streams {side:<13} {speed:7.1f} tokens/s   first token "
                f"{np.median(first):6.2f} s (longest {first.max():6.2f})   next "
                f"{np.median(waits) * 1e3:6.0f} ms (99%: {np.quantile(waits, 0.99) * 1e3:.0f}, "
                f"longest {waits.max() * 1e3:.0f}: {waits.max() / np.median(waits):.1f} medians)"
            )
            publish("serve", {"side": side, "streams": count, "speed": speed})
        for side in found.keys() - {"gpt2dsl"} if "gpt2dsl" in found else ():
            pairs = zip(
                found["gpt2dsl"][0][str(count)]["texts"], found[side][0][str(count)]["texts"],
                strict=True,
            )  # fmt: skip
            same = sum(one == other for one, other in pairs)
            ratio = speeds["gpt2dsl", count] / speeds[side, count]
            print(f"{count:>2} streams gpt2dsl / {side}: {ratio:.2f}, equal texts {same}")
    for side, rounds in found.items():
        least, most = min(args.streams), max(args.streams)
        print(f"{side}: {most} over {least}: {speeds[side, most] / speeds[side, least]:.1f} times")
        cold, warm = zip(*(one["alike"]["first"] for one in rounds), strict=True)
        print(
            f"{side}: a prompt of {PREFIX} known tokens: first token after {min(warm):.2f} s, "
            f"unknown {min(cold):.2f}: {min(cold) / min(warm):.1f} times sooner"
        )


def main() -> None:
    """Measure and print a table."""
    options = parser(["gpt2dsl", "transformers", "vllm"])
    options.add_argument("--streams", type=int, nargs="+", default=[1, 8, 32, 64])
    options.add_argument("--new", type=int, default=32, help="tokens of each stream")
    options.add_argument("--batch", type=int, default=16, help="of gpt2dsl serve")
    args = options.parse_args()
    if args.side:
        print(json.dumps(measured(args)))
        return
    sides = able(args.sides)
    with tempfile.TemporaryDirectory() as name:
        prepare(Path(name), args)
        load = os.getloadavg()[0]
        print(f"{args.size}, {args.new} new, float32; {os.cpu_count()} cores, load {load:.1f}")
        found = in_turns(Path(__file__), Path(name), args.rounds, sides)
    report(found, args)
    if len(found) < len(sides):
        raise SystemExit("a side failed")


if __name__ == "__main__":
    main()
