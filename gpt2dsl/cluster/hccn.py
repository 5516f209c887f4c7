"""Configuration of an Ascend server: device ids, device addresses and its own address."""

from __future__ import annotations

import ipaddress
import re
import shutil
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

from gpt2dsl.errors import Fault

CONF = Path("/etc/hccn.conf")
DEVICES = 8
RING = 4

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def ip(text: str) -> Address | None:
    """Return a text as an IP address, None if it is not one."""
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def devices(text: str, faults: list[Fault]) -> list[int]:
    """Parse ``0-7`` or ``0,2,3`` into ascending device ids; [] on a fault.

    The ids must lie in one ring (0-3, 4-7) or be all eight, as MindFormers' hccl_tools.py
    requires.
    """
    try:
        ids = _listed(text)
        _fit(ids)
    except ValueError as error:
        faults.append(Fault("G2-202", "", f"--devices {text}", str(error)))
        return []
    return sorted(ids)


def _listed(text: str) -> list[int]:
    if match := re.fullmatch(r"\s*[\[(]\s*(\d)\s*,\s*(\d)\s*[\])]\s*", text):
        first, last = int(match[1]), int(match[2]) - 1
        hint = f"{first}-{last}" if first < last else f"{first}"
        raise ValueError(f"that is MindFormers' interval, without its end; here it is {hint}")
    ids: list[int] = []
    for word in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,3})(?:\s*-\s*([0-9]{1,3}))?\s*", word)
        if match is None:
            raise ValueError(f"expected devices as in 0-7 or 0,1,3, found {word!r}")
        first, last = int(match[1]), int(match[2] or match[1])
        if first > last:
            raise ValueError(f"expected the lower one first, {last}-{first}, found {word!r}")
        ids += range(first, last + 1)
    return ids


def _fit(ids: Sequence[int]) -> None:
    if max(ids) >= DEVICES:
        raise ValueError(f"expected 0 to {DEVICES - 1}, found {max(ids)}")
    if twice := [device for device in sorted(set(ids)) if ids.count(device) > 1]:
        raise ValueError(f"expected each device once, found {twice[0]} more often")
    if 0 < sum(device < RING for device in ids) < len(ids) < DEVICES:
        raise ValueError(
            "an Ascend server joins its devices in two rings, 0-3 and 4-7: expected devices of "
            f"one ring, or all {DEVICES}"
        )


def device_ips(ids: Sequence[int], conf: Path, faults: list[Fault]) -> dict[int, str]:
    """Return device id → address, from ``hccn_tool`` if installed, else from ``conf``."""
    texts = {device: ("hccn_tool", reply) for device in ids if (reply := _asked(device))}
    if missing := [device for device in ids if device not in texts]:
        texts |= _configured(missing, conf, faults)
    owners: dict[Address, int] = {}
    for device, (origin, text) in texts.items():
        address = ip(text)
        if address is None:
            message = f"expected an IP address, found {text!r}"
            faults.append(Fault("G2-512", origin, f"address_{device}", message))
        elif (owner := owners.setdefault(address, device)) != device:
            message = f"expected an address of its own, found {text}, as of device {owner}"
            faults.append(Fault("G2-513", origin, f"address_{device}", message))
    return {device: text for device, (_, text) in texts.items()}


def _asked(device: int) -> str:
    """Return the address that ``hccn_tool`` prints as ``ipaddr:192.168.0.1``; "" if it fails."""
    tool = shutil.which("hccn_tool")
    if tool is None:
        return ""
    words = [tool, "-i", str(device), "-ip", "-g"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)  # noqa: S603  # Huawei's tool
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return ""
    first, *_ = done.stdout.splitlines() or [""]
    return first.partition(":")[2].strip()


def _configured(ids: Sequence[int], conf: Path, faults: list[Fault]) -> dict[int, tuple[str, str]]:
    try:
        lines = conf.read_text("utf-8", errors="replace").splitlines()
    except OSError as error:
        message = f"it can't be read for the address of device {ids[0]}: {error.strerror}"
        faults.append(Fault("G2-515", str(conf), "", message))
        return {}
    values: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        name, equals, value = map(str.strip, line.partition("="))
        where = f"{conf}:{number}"
        if name.startswith("address_") and not equals:
            message = f"expected {name.split()[0]}=ip, found {line.strip()!r}"
            faults.append(Fault("G2-515", where, name.split()[0], message))
        elif name.startswith("address_") and values.setdefault(name, value) != value:
            message = f"expected one address, found {value} after {values[name]}"
            faults.append(Fault("G2-515", where, name, message))
    for device in ids:
        if not values.get(f"address_{device}"):
            message = f"device {device} has no address here; expected a line address_{device}=ip"
            faults.append(Fault("G2-515", str(conf), f"address_{device}", message))
    return {
        device: (str(conf), address)
        for device in ids
        if (address := values.get(f"address_{device}"))
    }


def given_ip(text: str, faults: list[Fault]) -> str:
    """Return the server address that the user gave, checked."""
    if ip(text) is None:
        message = "expected the IP address of this server"
        faults.append(Fault("G2-202", "", f"--server-ip {text}", message))
    return text


def own_ip(faults: list[Fault]) -> str:
    """Return the address that this host's name resolves to, "" on a fault."""
    name = socket.gethostname()
    try:
        text = socket.gethostbyname(name)
    except (OSError, UnicodeError):
        message = f"this host's name, {name}, leads to no address; pass --server-ip"
    else:
        if not ipaddress.ip_address(text).is_loopback:
            return text
        message = f"this host's name, {name}, leads to {text}, a loopback; pass --server-ip"
    faults.append(Fault("G2-515", "", "--server-ip", message))
    return ""
