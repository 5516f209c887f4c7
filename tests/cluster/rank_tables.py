"""Rank tables of the card, of GPT-2's page in MindFormers 0.8.0, and whatever else is valid."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from gpt2dsl.cluster.ranktable import Device, RankTable, Server

ONE = Path(__file__).parent / "card" / "one_server.json"
TWO = Path(__file__).parent / "card" / "two_servers.json"
IPS = tuple(f"192.{third}.27.{last}" for last in (6, 7) for third in (1, 2, 3, 4))
"""The addresses of the card's first example."""


def conf(folder: Path, ips: tuple[str, ...] = IPS) -> Path:
    """An hccn.conf as the Ascend driver has it."""
    path = folder / "hccn.conf"
    lines = (f"address_{i}={ip}\nnetmask_{i}=255.255.255.0\n" for i, ip in enumerate(ips))
    path.write_text("".join(lines))
    return path


def card(path: Path, *server_ids: str) -> dict[str, Any]:
    """An example of the card, with addresses where it says xx.xx.xx.xx."""
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    for server, server_id in zip(found["server_list"], server_ids, strict=False):
        server["server_id"] = server_id
    return found


def apart(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The tables of single servers that a table was merged from."""
    found = []
    for server in document["server_list"]:
        devices = [{**device, "rank_id": str(i)} for i, device in enumerate(server["device"])]
        one = {**document, "server_count": "1", "server_list": [{**server, "device": devices}]}
        found.append(one)
    return found


def saved(folder: Path, *documents: Any) -> list[Path]:
    """Files a.json, b.json, ... with these documents."""
    paths = [folder / f"{name}.json" for name, _ in zip("abcdef", documents, strict=False)]
    for path, document in zip(paths, documents, strict=True):
        path.write_text(json.dumps(document))
    return paths


@st.composite
def tables(draw: st.DrawFn) -> list[RankTable]:
    """Any valid tables that can be merged, their servers, devices and ranks in any order."""
    size = draw(st.integers(1, 8))
    addresses = st.ip_addresses(v=4).map(str) | st.ip_addresses(v=6).map(str)
    names = st.text("abc-.", min_size=1, max_size=5)
    server_ids = draw(st.lists(addresses | names, min_size=1, max_size=4, unique=True))
    count = len(server_ids) * size
    ips = iter(draw(st.lists(addresses, min_size=count, max_size=count, unique=True)))
    cuts = sorted(draw(st.sets(st.integers(1, 4), max_size=3)))
    parts = [server_ids[a:b] for a, b in zip([0, *cuts], [*cuts, None], strict=True)]
    return [_table(draw, part, size, ips) for part in parts if part]


def _table(draw: st.DrawFn, server_ids: list[str], size: int, ips: Any) -> RankTable:
    ranks = iter(draw(st.permutations(range(len(server_ids) * size))))
    return RankTable(
        tuple(
            Server(
                server_id,
                tuple(
                    Device(i, next(ips), next(ranks)) for i in draw(st.permutations(range(size)))
                ),
                draw(st.sampled_from(["reserve", "10.0.0.1"])),
            )
            for server_id in server_ids
        )
    )
