from __future__ import annotations

import copy
import json
import random
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2dsl.cluster import ranktable
from gpt2dsl.cluster.ranktable import Device, RankTable, Server
from gpt2dsl.errors import Fault, SpecError
from tests.cluster.rank_tables import IPS, ONE, TWO, apart, card, conf, saved, tables


@pytest.fixture(autouse=True)
def no_tools(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder that is the whole PATH, so that no hccn_tool of this machine is asked."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def faults(call: Callable[[], Any]) -> tuple[Fault, ...]:
    with pytest.raises(SpecError) as found:
        call()
    return found.value.faults


def distinct() -> dict[str, Any]:
    """The card's table of two servers, with addresses that differ."""
    document = card(TWO, "10.0.0.1", "10.0.0.2")
    for device in document["server_list"][1]["device"]:
        device["device_ip"] = device["device_ip"].replace("192.168", "192.169")
    return document


def test_the_cards_first_example_is_made_field_by_field(tmp_path: Path) -> None:
    table = ranktable.generate("0-7", "10.0.0.1", conf(tmp_path))
    assert table.to_json() == card(ONE, "10.0.0.1")
    assert list(table.to_json()) == list(card(ONE))
    assert list(table.to_json()["server_list"][0]) == list(card(ONE)["server_list"][0])
    assert table.ranks == 8


@pytest.mark.parametrize(
    ("text", "ids"),
    [("0-3", [0, 1, 2, 3]), ("5,4", [4, 5]), ("4-5, 7", [4, 5, 7]), ("4-7,0-3", list(range(8)))],
)
def test_devices_of_one_ring_or_all(tmp_path: Path, text: str, ids: list[int]) -> None:
    (server,) = ranktable.generate(text, "10.0.0.1", conf(tmp_path)).servers
    assert [device.device_id for device in server.devices] == ids
    assert [device.device_ip for device in server.devices] == [IPS[i] for i in ids]
    assert [device.rank_id for device in server.devices] == list(range(len(ids)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[0,8)", "MindFormers' interval, without its end; here it is 0-7"),
        ("[4,5)", "here it is 4"),
        ("0-8", "expected 0 to 7, found 8"),
        ("0,1,1", "expected each device once, found 1 more often"),
        ("0-3,2", "found 2 more often"),
        ("3-0", "expected the lower one first, 0-3"),
        ("2-5", "two rings, 0-3 and 4-7"),
        ("0,2,4", "two rings"),
        ("0-3,6", "two rings"),
        ("all", "as in 0-7 or 0,1,3, found 'all'"),
        ("", "as in 0-7 or 0,1,3, found ''"),
        ("-1", "as in 0-7"),
    ],
)
def test_devices_that_cannot_be_used_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (fault,) = faults(lambda: ranktable.generate(text, "10.0.0.1", conf(tmp_path)))
    assert fault.code == "G2-202"
    assert message in fault.message


def test_hccn_tool_is_asked_first_and_the_file_for_what_it_does_not_tell(
    tmp_path: Path, no_tools: Path
) -> None:
    tool = no_tools / "hccn_tool"
    tool.write_text('#!/bin/sh\n[ "$2" = 1 ] || echo "ipaddr:10.1.0.$2"\n')
    tool.chmod(0o755)
    (server,) = ranktable.generate("0-2", "10.0.0.1", conf(tmp_path)).servers
    assert [device.device_ip for device in server.devices] == ["10.1.0.0", IPS[1], "10.1.0.2"]


def test_an_address_that_is_missing_names_the_file_and_the_device(tmp_path: Path) -> None:
    path = conf(tmp_path, IPS[:2])
    found = faults(lambda: ranktable.generate("0-3", "10.0.0.1", path))
    assert [(fault.code, fault.origin, fault.key) for fault in found] == [
        ("G2-515", str(path), "address_2"),
        ("G2-515", str(path), "address_3"),
    ]
    assert "device 2 has no address here" in found[0].message


def test_every_fault_of_a_server_is_told_at_once(tmp_path: Path) -> None:
    path = conf(tmp_path, ("10.1.0.1", "10.1.0.1", "10.1.0.300"))
    found = faults(lambda: ranktable.generate("0-2", "10.0.0", path))
    assert [fault.code for fault in found] == ["G2-202", "G2-513", "G2-512"]
    (fault,) = faults(lambda: ranktable.generate("0-3", "10.0.0.1", tmp_path / "none"))
    assert (fault.code, fault.origin) == ("G2-515", str(tmp_path / "none"))
    assert "device 0: No such file" in fault.message


def test_the_servers_address_is_that_of_its_name_unless_it_is_a_loopback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def own() -> str:
        return ranktable.generate("0", "", conf(tmp_path)).servers[0].server_id

    monkeypatch.setattr(socket, "gethostbyname", lambda _: "10.9.8.7")
    assert own() == "10.9.8.7"
    monkeypatch.setattr(socket, "gethostbyname", lambda _: "127.0.1.1")
    assert "127.0.1.1, a loopback; pass --server-ip" in faults(own)[0].message

    def unknown(_: str) -> str:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(socket, "gethostbyname", unknown)
    assert "leads to no address; pass --server-ip" in faults(own)[0].message


@pytest.mark.parametrize("whole", [True, False], ids=["as it stands", "its two servers"])
def test_the_cards_second_example_is_refused_for_what_both_servers_claim(
    tmp_path: Path, whole: bool
) -> None:
    paths = saved(tmp_path, *([card(TWO)] if whole else apart(card(TWO))))
    text = str(SpecError(found := faults(lambda: ranktable.merge_files(paths))))
    assert [fault.code for fault in found] == ["G2-513"] * 5
    for claimed in ("xx.xx.xx.xx", *(f"192.168.{i}.1" for i in range(4))):
        assert f'of its own, found "{claimed}"' in text
    assert "server_list[0].device[4].device_ip of server xx.xx.xx.xx has too" in text
    if not whole:
        assert all(fault.origin == str(paths[1]) for fault in found)
        assert all(f"{paths[0]}: server_list[0]" in fault.message for fault in found)


def test_with_addresses_that_differ_it_is_merged_field_by_field(tmp_path: Path) -> None:
    first, second = saved(tmp_path, *apart(distinct()))
    merged = ranktable.merge_files([second, first])
    assert merged.to_json() == distinct()
    assert list(merged.to_json()) == list(card(TWO))
    assert ranktable.merge([ranktable.read(second), ranktable.read(first)]) == merged


def test_servers_are_sorted_as_addresses_and_not_as_words() -> None:
    names = ["node-b", "10.0.0.10", "fe80::1", "10.0.0.9", "node-a"]
    found = ranktable.merge(
        RankTable((Server(name, (Device(0, f"10.1.0.{i}", 0),)),)) for i, name in enumerate(names)
    )
    assert [server.server_id for server in found.servers] == [
        "10.0.0.9", "10.0.0.10", "fe80::1", "node-a", "node-b",
    ]  # fmt: skip


def _set(*path: str | int) -> Callable[[Any], Callable[[Any], None]]:
    """Puts a value, or nothing, where a path leads."""

    def to(value: Any) -> Callable[[Any], None]:
        def change(document: Any) -> None:
            for step in path[:-1]:
                document = document[step]
            if value is None:
                del document[path[-1]]
            else:
                document[path[-1]] = value

        return change

    return to


SERVER = ("server_list", 1)
DEVICE = (*SERVER, "device", 3)
BROKEN = [
    (_set("version")("1.2"), "G2-512", "version", 'expected "1.0", found "1.2"'),
    (_set("version")(1.0), "G2-512", "version", 'expected "1.0", found 1.0'),
    (_set("status")("initializing"), "G2-512", "status", 'expected "completed"'),
    (_set("status")(None), "G2-512", "status", "expected this field, found none"),
    (_set("server_count")("3"), "G2-514", "server_count", 'expected "2"'),
    (_set("server_count")(2), "G2-512", "server_count", "a number in a string, found 2"),
    (_set("server_list")([]), "G2-512", "server_list", "at least one item, found a list of 0"),
    (_set("server_list")({}), "G2-512", "server_list", "found an object"),
    (_set("serverlist")([]), "G2-512", "serverlist", "did you mean server_list?"),
    (_set(*SERVER)("a"), "G2-512", "server_list[1]", 'expected an object, found "a"'),
    (_set(*SERVER, "server_id")("10.0.0.1"), "G2-513", "server_list[1].server_id", "a server id"),
    (_set(*SERVER, "server_id")("10.0.0.256"), "G2-512", "server_list[1].server_id", "an IP addr"),
    (_set(*SERVER, "server_id")(""), "G2-512", "server_list[1].server_id", 'found ""'),
    (_set(*SERVER, "device")([]), "G2-512", "server_list[1].device", "at least one item"),
    (_set(*DEVICE)(None), "G2-514", "server_list[1].device", "8 devices, as server 10.0.0.1"),
    (_set(*SERVER, "host_nic_ip")(0), "G2-512", "server_list[1].host_nic_ip", "found 0"),
    (_set(*DEVICE, "device_id")("2"), "G2-513", "server_list[1].device[3].device_id", "device[2]"),
    (_set(*DEVICE, "device_id")("03"), "G2-512", "server_list[1].device[3].device_id", "a number"),
    (_set(*DEVICE, "device_ip")("::g"), "G2-512", "server_list[1].device[3].device_ip", '"::g"'),
    (
        _set(*DEVICE, "device_ip")("192.168.0.0"),
        "G2-513", "server_list[1].device[3].device_ip", "of server 10.0.0.1 has too",
    ),
    (_set(*DEVICE, "device_ip")(None), "G2-512", "server_list[1].device[3].device_ip", "none"),
    (_set(*DEVICE, "rank_id")("16"), "G2-514", "server_list[1].device[3].rank_id", "0 to 15"),
    (_set(*DEVICE, "rank_id")("0"), "G2-513", "server_list[1].device[3].rank_id", "a rank of its"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "code", "key", "message"), BROKEN, ids=[f"{row[2]}: {row[3]}" for row in BROKEN]
)
def test_a_broken_table_names_file_key_expectation_and_what_was_found(
    tmp_path: Path, change: Callable[[Any], None], code: str, key: str, message: str
) -> None:
    document = copy.deepcopy(distinct())
    change(document)
    (path,) = saved(tmp_path, document)
    found = faults(lambda: ranktable.read(path))
    assert all(fault.origin == str(path) for fault in found)
    assert (code, key) in {(fault.code, fault.key) for fault in found}
    assert any(message in fault.message for fault in found if fault.key == key)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected JSON"),
        (b"{", "expected JSON"),
        (b"\xff\xfe\xff", "expected JSON"),
        (b"[" * 100_000, "expected JSON"),
        (b'{"status": "completed", "status": ""}', "status is written twice"),
        (b"[]", "expected an object, found a list of 0"),
        (None, "it can't be read: No such file"),
    ],
)
def test_a_file_that_is_no_table_says_so_in_one_line(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    (fault,) = faults(lambda: ranktable.read(path))
    assert fault.origin == str(path)
    assert message in fault.message


def test_a_missing_field_is_one_fault_and_the_nic_may_be_left_out(tmp_path: Path) -> None:
    document = distinct()
    del document["server_list"][0]["host_nic_ip"]
    (path,) = saved(tmp_path, document)
    assert ranktable.read(path).to_json() == distinct()
    del document["server_list"][0]["device"]
    (path,) = saved(tmp_path, document)
    assert [f.key for f in faults(lambda: ranktable.read(path))] == ["server_list[0].device"]


def test_the_faults_of_all_files_are_told_at_once(tmp_path: Path) -> None:
    first, second = apart(distinct())
    first["version"] = "0.9"
    second["server_list"][0]["server_id"] = first["server_list"][0]["server_id"]
    second["server_list"][0]["device"].pop()
    paths = [*saved(tmp_path, first, second), tmp_path / "none.json"]
    found = faults(lambda: ranktable.merge_files(paths))
    assert [(Path(fault.origin).name, fault.code, fault.key) for fault in found] == [
        ("a.json", "G2-512", "version"),
        ("b.json", "G2-514", "server_list[0].device"),
        ("b.json", "G2-513", "server_list[0].server_id"),
        ("none.json", "G2-511", ""),
    ]


def test_the_same_file_twice_is_named_as_the_other_owner(tmp_path: Path) -> None:
    (path,) = saved(tmp_path, card(ONE, "10.0.0.1"))
    found = faults(lambda: ranktable.merge_files([path, path]))
    assert len(found) == 9
    assert all(f"{path}: {fault.key}" in fault.message for fault in found)


@given(tables(), st.randoms(use_true_random=False))
def test_the_order_of_tables_does_not_matter(
    parts: list[RankTable], shuffled: random.Random
) -> None:
    merged = ranktable.merge(parts)
    shuffled.shuffle(parts)
    assert ranktable.merge(parts) == merged
    assert ranktable.merge([merged]) == merged
    ranks = [device.rank_id for server in merged.servers for device in server.devices]
    assert ranks == list(range(merged.ranks))
    assert merged.ranks == sum(part.ranks for part in parts)


@given(tables())
def test_a_merged_table_reads_back_equal(
    tmp_path_factory: pytest.TempPathFactory, parts: list[RankTable]
) -> None:
    folder = tmp_path_factory.mktemp("tables")
    merged = ranktable.merge(parts)
    ranktable.write(folder / "all.json", merged)
    assert ranktable.read(folder / "all.json") == merged
    paths = saved(folder, *(part.to_json() for part in parts))
    assert ranktable.merge_files(reversed(paths)) == merged
    assert json.loads((folder / "all.json").read_text()) == merged.to_json()
