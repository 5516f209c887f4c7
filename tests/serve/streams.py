"""Well-behaved streams in a process of their own, where nothing but the server holds them up.

``python streams.py PORT STREAMS`` asks for one text a stream again and again, writes a line once
each was told one, and when its input ends lets the texts end and writes what it saw, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any


class Stream:
    """A client that asks for one text again and again, and notes when its tokens came."""

    def __init__(self, port: int, number: int) -> None:
        self._port = port
        asked = {
            "prompt": "the old cat " * number, "seed": number, "max_tokens": 60, "stream": True,
        }  # fmt: skip
        body = json.dumps(asked).encode()
        head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self._request = head.encode() + body
        self.texts: list[str] = []
        self.waits: list[float] = []

    async def run(self, ending: asyncio.Event, begun: asyncio.Semaphore) -> None:
        """Ask until it is enough."""
        while not ending.is_set():
            self.texts.append(await self._text())
            begun.release()

    async def _text(self) -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(self._request)
        pieces, before = [], 0.0
        async for line in reader:
            if not line.startswith(b"data: {"):
                continue
            now = time.monotonic()
            if before:
                self.waits.append(now - before)
            before = now
            pieces.append(json.loads(line[6:])["choices"][0]["text"])
        writer.close()
        return "".join(pieces)


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def main(port: int, count: int) -> Any:
    """Return the texts of each stream, and all waits between two tokens of one."""
    loop, ending, begun = asyncio.get_running_loop(), asyncio.Event(), asyncio.Semaphore(0)
    streams = [Stream(port, number) for number in range(count)]
    tasks = [asyncio.create_task(stream.run(ending, begun)) for stream in streams]
    while not all(stream.texts for stream in streams):
        await begun.acquire()
    say("begun")
    await loop.run_in_executor(None, sys.stdin.read)
    ending.set()
    await asyncio.gather(*tasks)
    waits = [wait for stream in streams for wait in stream.waits]
    return {"texts": [stream.texts for stream in streams], "waits": waits}


if __name__ == "__main__":
    say(json.dumps(asyncio.run(main(*map(int, sys.argv[1:])))))
