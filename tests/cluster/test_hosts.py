from __future__ import annotations

from pathlib import Path

import pytest

from gpt2dsl.cluster import hosts
from gpt2dsl.cluster.hosts import Host
from gpt2dsl.cluster.node import Node, Timeouts, rank_variables, shared_variables
from gpt2dsl.cluster.ranktable import Device, RankTable, Server
from gpt2dsl.errors import RunError, SpecError


def written(folder: Path, text: str) -> Path:
    path = folder / "hosts"
    path.write_text(text)
    return path


def machines(*names: str, devices: int = 2) -> list[Host]:
    return [
        Host(address=name, devices=devices, first=devices * i, origin=f"hosts:{i + 1}")
        for i, name in enumerate(names)
    ]


def table(*ids: str, swapped: bool = False) -> RankTable:
    ranks = [0, 2, 1, 3] if swapped else range(4)
    devices = [Device(i % 2 + 4, f"192.0.0.{rank}", rank) for i, rank in enumerate(ranks)]
    places = zip(ids, (devices[:2], devices[2:]), strict=True)
    return RankTable(tuple(Server(server_id, tuple(two)) for server_id, two in places))


def test_hosts_are_given_ranks_in_the_order_of_their_lines(tmp_path: Path) -> None:
    found = hosts.read(written(tmp_path, "# all\n\nb\n  me@a devices=4 # small\nc\tdevices=1\n"))
    assert [(host.address, host.name, host.devices, host.first) for host in found] == [
        ("b", "b", 8, 0), ("me@a", "a", 4, 8), ("c", "c", 1, 12),
    ]  # fmt: skip
    assert found[1].origin == f"{tmp_path / 'hosts'}:4"
    assert list(map(str, found)) == ["b (ranks 0 to 7)", "a (ranks 8 to 11)", "c (rank 12)"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("a", "a: expected each host once, found it at {file}:1 too"),
        ("me@a", "a: expected each host once, found it at {file}:1 too"),
        ("b devices=0", "devices=0: expected a number of at least 1"),
        ("b devices=-1", "devices=-1: expected a number of at least 1"),
        ("b devices=two", "devices=two: expected a number of at least 1"),
        ("b 8", "8: expected devices=N or nothing"),
        ("b device=8", "device=8: expected devices=N or nothing; did you mean devices?"),
        ("-oProxyCommand=x", "-oProxyCommand=x: expected a host, or user@host"),
        ("me@", "me@: expected a host, or user@host"),
        ("me@-x", "me@-x: expected a host, or user@host"),
    ],
)
def test_a_line_that_is_wrong_is_named(line: str, said: str, tmp_path: Path) -> None:
    file = written(tmp_path, f"a\n\n{line}\n")
    with pytest.raises(SpecError) as caught:
        hosts.read(file)
    assert str(caught.value) == f"{file}:3  {said.format(file=file)} [G2-521]"


def test_every_fault_of_a_file_is_told_and_an_empty_one_too(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        hosts.read(written(tmp_path, "a x devices=0\na\n"))
    assert len(caught.value.faults) == 3
    with pytest.raises(SpecError, match="expected a host a line, found none"):
        hosts.read(written(tmp_path, "# nobody\n"))
    with pytest.raises(SpecError, match="it can't be read: No such file"):
        hosts.read(tmp_path / "none")
    (tmp_path / "latin").write_bytes(b"\xe9")
    with pytest.raises(SpecError, match="it is not UTF-8"):
        hosts.read(tmp_path / "latin")


def test_devices_and_ranks_are_both_named_where_they_differ() -> None:
    hosts.check(machines("a", "b"), 4, None)
    with pytest.raises(SpecError) as caught:
        hosts.check(machines("a", "b"), 8, None)
    assert str(caught.value) == (
        "hosts: 4 devices on 2 hosts, the recipe has dp x mp x pp = 8 [G2-522]"
    )


@pytest.mark.parametrize(
    ("names", "found", "said"),
    [
        (["a"], table("a", "b"), "hosts: 1 hosts, the rank table has 2 servers"),
        (["b", "a"], table("a", "b"), "hosts:1  b: expected a: hosts are in the order"),
        (["x", "y"], table("a", "b", swapped=True), "server a of the rank table has the ranks 0, "),
    ],
)
def test_hosts_are_the_servers_of_the_rank_table(
    names: list[str], found: RankTable, said: str
) -> None:
    hosts.check(machines("x", "y"), 4, table("10.0.0.1", "10.0.0.2"))
    with pytest.raises(SpecError) as caught:
        hosts.check(machines(*names, devices=4 // len(names)), 4, found)
    assert said in str(caught.value)


def test_the_first_machine_is_reached_by_its_name_and_on_loopback_by_its_address() -> None:
    assert hosts.master(machines("me@a", "b")) == "a"
    assert hosts.master(machines("localhost", "127.0.0.1")) == "127.0.0.1"
    with pytest.raises(SpecError, match="hosts:1  localhost: the other hosts do not reach it"):
        hosts.master(machines("localhost", "b"))


def test_a_share_is_what_launch_writes() -> None:
    words = hosts.remote(
        machines("a", "b")[1],
        ["run", "my spec.toml"],
        program="env X=1 gpt2dsl",
        directory=Path("/my jobs"),
        meet="127.0.0.1:20001",
    )
    place = "2:2@127.0.0.1:20001"
    line = f"cd '/my jobs' && env X=1 gpt2dsl run 'my spec.toml' --node {place}"
    assert words == line
    node = hosts.node(place, 4)
    assert node == Node(ranks=4, first=2, local=2, port=20001, schedules=False)
    assert hosts.node("0:2@127.0.0.1:20001", 4).schedules


@pytest.mark.parametrize("place", ["2", "0:0@a:1", "3:2@a:1", "0:1@a:99999", "-1:2@a:1"])
def test_what_is_no_share_is_refused(place: str) -> None:
    with pytest.raises(SpecError, match=r"\[G2-524\]"):
        hosts.node(place, 4)


def test_a_name_that_others_would_not_reach_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostbyname", lambda _: "127.0.1.1")
    with pytest.raises(RunError, match=r"me is 127\.0\.1\.1 here.*--master ADDRESS \[G2-524\]"):
        hosts.node("0:2@me:1", 4)
    monkeypatch.undo()
    with pytest.raises(RunError, match=r"no\.host\.invalid: no address is known"):
        hosts.node("0:2@no.host.invalid:1", 4)


def test_ranks_of_a_table_have_its_variables_and_no_scheduler() -> None:
    node = Node(ranks=4, first=2, local=2, port=1, rank_table="/t.json", devices=(4, 5))
    shared = shared_variables(node, Timeouts(collective=1), {})
    rank = rank_variables(node, 1)
    found = {name: {**shared, **rank}[name] for name in ("RANK_TABLE_FILE", "RANK_SIZE", *rank)}
    assert found == {
        "RANK_TABLE_FILE": "/t.json", "RANK_SIZE": "4", "RANK_ID": "3", "DEVICE_ID": "5",
        "GPT2DSL_RANK": "3",
    }  # fmt: skip
    assert not {"MS_ROLE", "MS_SCHED_HOST", "MS_WORKER_NUM"} & {*shared, *rank}
