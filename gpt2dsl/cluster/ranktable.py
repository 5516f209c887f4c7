"""Rank tables, which assign the devices of Ascend servers to ranks, as HCCL reads them.

The fields are those of MindFormers 0.8.0, ``tools/hccl_tools.py`` and ``tools/merge_hccl.py``.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import attrs

from gpt2dsl.cluster import hccn
from gpt2dsl.errors import Fault, InputError, SpecError, did_you_mean
from gpt2dsl.files import atomic

VERSION = "1.0"
STATUS = "completed"
NO_NIC = "reserve"
_UNREAD = object()


@attrs.frozen
class Device:
    """One device and its rank."""

    device_id: int
    device_ip: str
    rank_id: int


@attrs.frozen
class Server:
    """One server with its devices; ``server_id`` is its address."""

    server_id: str
    devices: tuple[Device, ...]
    host_nic_ip: str = NO_NIC


@attrs.frozen
class RankTable:
    """The rank table of a job."""

    servers: tuple[Server, ...]
    version: str = VERSION
    status: str = STATUS

    @property
    def ranks(self) -> int:
        return sum(len(server.devices) for server in self.servers)

    def to_json(self) -> dict[str, Any]:
        """Return the table as HCCL reads it: every value is a string."""
        return {
            "version": self.version,
            "server_count": str(len(self.servers)),
            "server_list": [
                {
                    "server_id": server.server_id,
                    "device": [
                        {name: str(value) for name, value in attrs.asdict(device).items()}
                        for device in server.devices
                    ],
                    "host_nic_ip": server.host_nic_ip,
                }
                for server in self.servers
            ],
            "status": self.status,
        }

    def __str__(self) -> str:
        return json.dumps(self.to_json(), indent=2)


def generate(devices: str, server_ip: str = "", hccn_conf: Path = hccn.CONF) -> RankTable:
    """Return the table of this server.

    Args:
        devices: ``0-7`` or ``0,2,3``; in one ring (0-3, 4-7), or all eight.
        server_ip: the server's address; "" to resolve its host name.
        hccn_conf: file with lines ``address_N=ip``, read for devices whose address ``hccn_tool``
            does not give.

    Raises:
        SpecError: the devices can't be used together, or an address can't be found.
    """
    faults: list[Fault] = []
    ids = hccn.devices(devices, faults)
    addresses = hccn.device_ips(ids, hccn_conf, faults)
    server_id = hccn.given_ip(server_ip, faults) if server_ip else hccn.own_ip(faults)
    if faults:
        raise SpecError(faults)
    ranked = (Device(device, addresses[device], rank) for rank, device in enumerate(ids))
    return RankTable((Server(server_id, tuple(ranked)),))


def read(path: Path) -> RankTable:
    """Read a table; servers and devices keep the order of the file.

    Raises:
        SpecError: every fault of the table, with its key.
    """
    (table,) = _read([path])
    return table


def merge(tables: Iterable[RankTable]) -> RankTable:
    """Merge tables in any order into one, sorted by address with ranks from 0.

    Raises:
        SpecError: the tables claim the same server or address, or do not fit each other.
    """
    documents = [(f"table {number}", table.to_json()) for number, table in enumerate(tables, 1)]
    return _merged(_checked(documents, []))


def merge_files(paths: Iterable[Path]) -> RankTable:
    """Merge the tables in files, as :func:`merge` does.

    Raises:
        SpecError: every fault of every file, duplicates across files included.
    """
    return _merged(_read(paths))


def write(path: Path, table: RankTable) -> None:
    """Write a table atomically.

    Raises:
        InputError: the file exists already or can't be written.
    """
    try:
        if path.exists() or path.is_symlink():
            raise InputError("G2-308", path, "it is there already")
        atomic.write_file(path, lambda file: file.write(f"{table}\n".encode()))
    except OSError as error:
        raise InputError("G2-308", path, f"it can't be written: {error.strerror}") from None


def _merged(tables: Iterable[RankTable]) -> RankTable:
    ranks = itertools.count()
    servers = sorted(
        (server for table in tables for server in table.servers),
        key=lambda server: _place(server.server_id),
    )
    return RankTable(
        tuple(
            attrs.evolve(
                server,
                devices=tuple(
                    attrs.evolve(device, rank_id=next(ranks))
                    for device in sorted(server.devices, key=lambda device: device.device_id)
                ),
            )
            for server in servers
        )
    )


def _place(server_id: str) -> tuple[int, int, str]:
    """Return the sort key of a server: addresses as numbers, then other names."""
    address = hccn.ip(server_id)
    return (address.version, int(address), server_id) if address else (9, 0, server_id)


# Validation of tables.


def _read(paths: Iterable[Path]) -> list[RankTable]:
    faults: list[Fault] = []
    documents = [(str(path), _document(path, faults)) for path in paths]
    return _checked([pair for pair in documents if pair[1] is not _UNREAD], faults)


def _document(path: Path, faults: list[Fault]) -> object:
    try:
        return json.loads(path.read_bytes(), object_pairs_hook=_object)
    except OSError as error:
        message = f"it can't be read: {error.strerror}"
    except (ValueError, RecursionError) as error:
        message = f"expected JSON: {error}"
    faults.append(Fault("G2-511", str(path), "", message))
    return _UNREAD


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    for name, count in itertools.groupby(sorted(name for name, _ in pairs)):
        if len(list(count)) > 1:
            raise ValueError(f"{name} is written twice in one object")
    return dict(pairs)


def _checked(documents: Iterable[tuple[str, Any]], faults: list[Fault]) -> list[RankTable]:
    """Return the tables in documents, validated one by one and together."""
    check = _Check()
    tables = [check.table(_Value(file, "", value, faults)) for file, value in documents]
    check.same_size()
    if faults:
        raise SpecError(faults)
    return tables


@attrs.frozen
class _Value:
    """A value in a document with its location and the list that collects faults."""

    file: str
    key: str
    value: Any
    faults: list[Fault]

    def wrong(self, code: str, expected: str, found: str = "") -> None:
        message = f"expected {expected}, found {found or _shown(self.value)}"
        self.faults.append(Fault(code, self.file, self.key, message))

    def fields(self, *names: str, **optional: str) -> list[_Value]:
        """Return the fields of an object in order; a missing one reports no further faults."""
        known = (*names, *optional)
        mapping = self.value if isinstance(self.value, dict) else {}
        if mapping is not self.value:
            self.wrong("G2-512", "an object")
        else:
            for name in sorted(mapping.keys() - set(known)):
                message = f"unknown field{did_you_mean(name, known)}"
                self.faults.append(Fault("G2-512", self.file, self._within(name), message))
            for name in names:
                if name not in mapping:
                    message = "expected this field, found none"
                    self.faults.append(Fault("G2-512", self.file, self._within(name), message))
        return [
            _Value(
                self.file,
                self._within(name),
                mapping.get(name, optional.get(name)),
                self.faults if name in mapping else [],
            )
            for name in known
        ]

    def items(self) -> list[_Value]:
        """Return the items of a list, which must not be empty."""
        if not isinstance(self.value, list) or not self.value:
            self.wrong("G2-512", "a list with at least one item")
            return []
        return [
            _Value(self.file, f"{self.key}[{i}]", item, self.faults)
            for i, item in enumerate(self.value)
        ]

    def text(self, pattern: str, expected: str) -> str:
        """Return a string that matches a pattern, "" on a fault."""
        if isinstance(self.value, str) and re.fullmatch(pattern, self.value):
            return self.value
        self.wrong("G2-512", expected)
        return ""

    def number(self) -> int:
        """Return the number in a string, -1 on a fault."""
        return int(self.text("0|[1-9][0-9]{0,8}", "a number in a string") or -1)

    def address(self) -> str:
        """Return an IP address, "" on a fault."""
        if isinstance(self.value, str) and hccn.ip(self.value):
            return self.value
        self.wrong("G2-512", "an IP address")
        return ""

    def _within(self, name: str) -> str:
        return f"{self.key}.{name}" if self.key else name


@attrs.frozen
class _Claims:
    """Owners of values that must be unique, over all files or within one list."""

    what: str
    owners: dict[object, tuple[_Value, str]] = attrs.field(factory=dict)

    def add(self, value: _Value, parsed: str | int, server: str = "") -> None:
        """Record a value, or a fault if it is already taken."""
        if parsed in {"", -1}:
            return
        same = (hccn.ip(parsed) if isinstance(parsed, str) else None) or parsed
        owner, other = self.owners.setdefault(same, (value, server))
        if owner is not value:
            in_file = owner.file == value.file and owner.key != value.key
            place = owner.key if in_file else f"{owner.file}: {owner.key}"
            of = f" of server {other}" if other else ""
            duplicate = f"{_shown(value.value)}, which {place}{of} has too"
            value.wrong("G2-513", f"{self.what} of its own", duplicate)


@attrs.frozen
class _Check:
    """Validator of a sequence of tables, which also finds duplicates among them."""

    servers: _Claims = attrs.field(factory=lambda: _Claims("a server id"))
    addresses: _Claims = attrs.field(factory=lambda: _Claims("an address"))
    sizes: list[tuple[_Value, str]] = attrs.field(factory=list)

    def table(self, document: _Value) -> RankTable:
        """Parse a table, which is complete only if no fault is reported."""
        version, count, servers, status = document.fields(
            "version", "server_count", "server_list", "status"
        )
        listed = servers.items()
        if count.number() not in {-1, len(listed)} and listed:
            count.wrong("G2-514", f'"{len(listed)}", as many as server_list has')
        ranks: list[_Value] = []
        table = RankTable(
            tuple(self._server(server, ranks) for server in listed),
            version.text(re.escape(VERSION), f'"{VERSION}"'),
            status.text(STATUS, f'"{STATUS}"'),
        )
        if all(server.devices for server in table.servers):
            _count(table, ranks)
        return table

    def same_size(self) -> None:
        """Check that all servers have the same number of devices."""
        most, first = max(
            ((len(value.value), server) for value, server in self.sizes), default=(0, "")
        )
        for value, _ in self.sizes:
            if len(value.value) != most:
                size = f"{len(value.value)}"
                value.wrong("G2-514", f"{most} devices, as server {first} has", size)

    def _server(self, server: _Value, ranks: list[_Value]) -> Server:
        name, devices, nic = server.fields("server_id", "device", host_nic_ip=NO_NIC)
        server_id = _server_id(name)
        self.servers.add(name, server_id)
        listed = devices.items()
        if listed:
            self.sizes.append((devices, server_id))
        ids = _Claims("a device id")
        parsed = [self._device(device, server_id, ids, ranks) for device in listed]
        text = nic.text(r"\S+", "an IP address or reserve")
        return Server(server_id, tuple(parsed), text)

    def _device(self, device: _Value, server_id: str, ids: _Claims, ranks: list[_Value]) -> Device:
        number, address, rank = device.fields("device_id", "device_ip", "rank_id")
        parsed = Device(number.number(), address.address(), rank.number())
        ids.add(number, parsed.device_id)
        self.addresses.add(address, parsed.device_ip, server_id)
        ranks.append(rank)
        return parsed


def _server_id(name: _Value) -> str:
    """Return an address or a name; four numbers that are not an address are a fault."""
    if isinstance(name.value, str) and re.fullmatch(r"\d+(\.\d+){3}", name.value):
        return name.address()
    return name.text(r"\S+", "the server's IP address or name")


def _count(table: RankTable, values: list[_Value]) -> None:
    """Check that the ranks of a table are 0 to n-1, each once."""
    ranks = [device.rank_id for server in table.servers for device in server.devices]
    claims = _Claims("a rank")
    for rank, value in zip(ranks, values, strict=True):
        if rank >= table.ranks:
            value.wrong("G2-514", f"0 to {table.ranks - 1}, each once")
        claims.add(value, rank)


def _shown(value: Any) -> str:
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else f"a list of {len(value)}"
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
