"""The machines of a job: the hosts file and the command of each machine."""

from __future__ import annotations

import ipaddress
import re
import shlex
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs

from gpt2dsl.cluster.node import Node
from gpt2dsl.cluster.ranktable import RankTable
from gpt2dsl.errors import Fault, InputError, RunError, SpecError, did_you_mean

DEVICES = 8
"""Default devices of a machine, as on those of MindFormers' model card."""

PORT = 28118
"""Port of the scheduler. Not msrun's 8118, where ranks of another CPU job may listen."""

LOOPBACK = "127.0.0.1"


@attrs.frozen(kw_only=True)
class Host:
    """One machine of a job, whose ssh destination is ``host`` or ``user@host``."""

    address: str
    devices: int
    first: int
    origin: str

    @property
    def name(self) -> str:
        """Host name or address, without the user."""
        return self.address.rpartition("@")[2]

    @property
    def ranks(self) -> range:
        return range(self.first, self.first + self.devices)

    def __str__(self) -> str:
        last = self.ranks[-1]
        return f"{self.name} (rank{f's {self.first} to' if last > self.first else ''} {last})"


def read(path: Path) -> tuple[Host, ...]:
    """Read a hosts file, one machine per line: ``[user@]host [devices=8]``; # begins a comment.

    Raises:
        SpecError: every fault of the file.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8"
        raise InputError("G2-521", path, f"it can't be read: {why}") from None
    faults: list[Fault] = []
    hosts: dict[str, Host] = {}
    for number, line in enumerate(lines, 1):
        if words := line.partition("#")[0].split():
            origin = f"{path}:{number}"
            first = sum(host.devices for host in hosts.values())
            devices = _devices(words[1:], origin, faults)
            host = Host(address=words[0], devices=devices, first=first, origin=origin)
            faults += _address_faults(host, hosts.get(host.name))
            hosts.setdefault(host.name, host)
    if not hosts:
        faults.append(Fault("G2-521", str(path), "", "expected a host a line, found none"))
    if faults:
        raise SpecError(faults)
    return tuple(hosts.values())


def _devices(words: Sequence[str], origin: str, faults: list[Fault]) -> int:
    count = DEVICES
    for word in words:
        name, equals, value = word.partition("=")
        if name != "devices" or not equals:
            hint = did_you_mean(name, ["devices"])
            faults.append(Fault("G2-521", origin, word, f"expected devices=N or nothing{hint}"))
        elif not re.fullmatch("[1-9][0-9]{0,5}", value):
            faults.append(Fault("G2-521", origin, word, "expected a number of at least 1"))
        else:
            count = int(value)
    return count


def _address_faults(host: Host, before: Host | None) -> Iterator[Fault]:
    if not re.fullmatch(r"([^-@][^@]*@)?[^-@][^@]*", host.address):
        yield Fault("G2-521", host.origin, host.address, "expected a host, or user@host")
    if before:
        message = f"expected each host once, found it at {before.origin} too"
        yield Fault("G2-521", host.origin, host.name, message)


def check(hosts: Sequence[Host], ranks: int, table: RankTable | None) -> None:
    """Check that the machines match the ranks of a recipe and its rank table.

    Raises:
        SpecError: every mismatch.
    """
    devices = sum(host.devices for host in hosts)
    if devices != ranks:
        file = hosts[0].origin.rpartition(":")[0]
        message = f"{devices} devices on {len(hosts)} hosts, the recipe has dp x mp x pp = {ranks}"
        raise SpecError([Fault("G2-522", file, "", message)])
    if faults := list(_table_faults(hosts, table)) if table else []:
        raise SpecError(faults)


def _table_faults(hosts: Sequence[Host], table: RankTable) -> Iterator[Fault]:
    ids = [server.server_id for server in table.servers]
    if len(hosts) != len(ids):
        file = hosts[0].origin.rpartition(":")[0]
        message = f"{len(hosts)} hosts, the rank table has {len(ids)} servers"
        yield Fault("G2-522", file, "", message)
        return
    for host, server in zip(hosts, table.servers, strict=True):
        if host.name in ids and host.name != server.server_id:
            message = f"expected {server.server_id}: hosts are in the order of the rank table"
            yield Fault("G2-522", host.origin, host.name, message)
        elif sorted(device.rank_id for device in server.devices) != list(host.ranks):
            listed = ", ".join(str(device.rank_id) for device in server.devices)
            message = f"server {server.server_id} of the rank table has the ranks {listed}"
            yield Fault("G2-522", host.origin, str(host), message)


def master(hosts: Sequence[Host]) -> str:
    """Return the address at which all machines reach the first one.

    Raises:
        SpecError: the others can't reach it by its name in the hosts file.
    """
    first = hosts[0]
    if not _is_loopback(first.name):
        return first.name
    if all(_is_loopback(host.name) for host in hosts):
        return LOOPBACK
    message = "the other hosts do not reach it by this name; write another, or --master ADDRESS"
    raise SpecError([Fault("G2-522", first.origin, first.name, message)])


def _is_loopback(name: str) -> bool:
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def remote(host: Host, words: Sequence[str], *, program: str, directory: Path, meet: str) -> str:
    """Return the shell command of a machine.

    ``words`` are the arguments of ``gpt2dsl``; ``meet`` is address and port of the scheduler.
    """
    place = f"{host.first}:{host.devices}@{meet}"
    line = shlex.join([*words, "--node", place])
    return f"cd {shlex.quote(str(directory))} && {program} {line}"


def node(place: str, ranks: int) -> Node:
    """Parse this machine's share of a job, ``FIRST:COUNT@HOST:PORT`` as ``remote`` writes it.

    Raises:
        SpecError: the syntax is wrong, or the ranks exceed those of the job.
        RunError: the scheduler's host has no address that other machines can reach.
    """
    match = re.fullmatch(r"(\d{1,6}):(\d{1,6})@(.+):(\d{1,5})", place)
    if not match or int(match[4]) > 65535:
        expected = "expected FIRST:COUNT@HOST:PORT, as launch writes it"
        raise SpecError([Fault("G2-524", "", f"--node {place}", expected)])
    first, count = int(match[1]), int(match[2])
    if not 0 < count <= ranks - first:
        message = f"{count} ranks from {first} are none of the recipe's {ranks}"
        raise SpecError([Fault("G2-524", "", f"--node {place}", message)])
    return Node(
        ranks=ranks,
        first=first,
        local=count,
        host=_resolved(match[3]),
        port=int(match[4]),
        schedules=first == 0,
    )


def _resolved(name: str) -> str:
    """Return the IP address of a host, as MindSpore accepts no names."""
    try:
        address = socket.gethostbyname(name)
    except OSError as error:
        raise RunError("G2-524", f"{name}: no address is known of it: {error.strerror}") from error
    if _is_loopback(address) and not _is_loopback(name):
        raise RunError(
            "G2-524",
            f"{name} is {address} here, which other machines do not reach; launch with --master "
            "ADDRESS",
        )
    return address
