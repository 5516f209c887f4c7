"""A machine's share of a job, its timeouts, and both as environment variables."""

from __future__ import annotations

import errno
import math
import os
import socket
from collections.abc import Mapping

import attrs

from gpt2dsl.errors import RunError


@attrs.frozen(kw_only=True)
class Node:
    """This machine's share of a job: ``local`` ranks from ``first`` on.

    Attributes:
        host: address of the scheduler.
        port: port of the scheduler; ``free_port()`` finds one.
        schedules: whether MindSpore's scheduler runs here.
        rank_table: absolute path of HCCL's rank table, which makes the scheduler unnecessary.
        devices: device ids of the local ranks; () counts from 0.
    """

    ranks: int
    first: int = 0
    local: int
    host: str = "127.0.0.1"
    port: int
    schedules: bool = True
    rank_table: str = ""
    devices: tuple[int, ...] = ()

    def __attrs_post_init__(self) -> None:
        if not (self.local > 0 <= self.first and self.first + self.local <= self.ranks):
            raise ValueError(f"{self.local} ranks from {self.first} are none of {self.ranks}")

    @property
    def is_whole_job(self) -> bool:
        return self.local == self.ranks


@attrs.frozen(kw_only=True)
class Timeouts:
    """Timeouts of a job, in seconds unless stated.

    Attributes:
        collective: longest wait within a collective.
        start: time until all ranks have joined.
        hang: silence that counts as a hang, in multiples of the median time between steps.
        least: shortest silence that counts as a hang.
        end: time between SIGTERM and SIGKILL.
    """

    collective: float
    start: float = 120
    hang: float = 10
    least: float = 20
    end: float = 5


def shared_variables(node: Node, limits: Timeouts, overrides: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of all processes of the job; ``overrides`` take precedence."""
    return {
        "GLOG_v": "3",
        "PYTHONUNBUFFERED": "1",  # the last lines before a SIGKILL matter most
        **os.environ,
        # The defaults take half a minute to detect the loss of a rank on another machine.
        "MS_NODE_TIMEOUT": "10",
        "MS_HEARTBEAT_RETRY_TIMEOUT": "5",
        "MS_RETRY_INTERVAL_LOWER": "1",
        "MS_RETRY_INTERVAL_UPPER": "1",
        "MS_TOPO_TIMEOUT": str(math.ceil(limits.start)),
        "MS_CPU_COMM_OP_TIMEOUT": str(math.ceil(limits.collective)),
        **overrides,
        "RANK_SIZE": str(node.ranks),
        **_meeting(node),
    }


def _meeting(node: Node) -> dict[str, str]:
    """Return the rendezvous variables; without a scheduler MindSpore reads the rank table."""
    if node.rank_table:
        return {"RANK_TABLE_FILE": node.rank_table}
    return {
        "MS_WORKER_NUM": str(node.ranks),
        "MS_SCHED_HOST": node.host,
        "MS_SCHED_PORT": str(node.port),
    }


def scheduler_variables() -> dict[str, str]:
    return {"MS_ROLE": "MS_SCHED", "RANK_ID": "0", "DEVICE_ID": "0"}


def rank_variables(node: Node, place: int) -> dict[str, str]:
    """Return the additional variables of a rank; ``place`` is its local rank."""
    rank = str(node.first + place)
    role = {} if node.rank_table else {"MS_ROLE": "MS_WORKER", "MS_NODE_ID": rank}
    return {
        **role,
        "RANK_ID": rank,
        "DEVICE_ID": str(node.devices[place] if node.devices else place),
        "GPT2DSL_RANK": rank,
    }


def free_port(host: str = "127.0.0.1") -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


REACH = 5.0
"""Seconds for a machine to connect to itself."""


def refuse_unusable_port(node: Node) -> None:
    """Refuse a scheduler address that is in use or that this machine can't reach.

    MindSpore's ranks would wait for ``Timeouts.start`` and then give a vaguer error.

    Raises:
        RunError: the address can't be used.
    """
    with socket.socket() as probe:
        # As MindSpore does, so that connections of a job that has just ended do no harm.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((node.host, node.port))
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            why = "is in use; choose another port" if taken else f"can't be used: {error.strerror}"
            raise RunError(
                "G2-503",
                f"the scheduler's address {node.host}:{node.port} {why}",
            ) from error
        probe.listen()
        try:
            socket.create_connection((node.host, node.port), timeout=REACH).close()
        except OSError as error:
            raise RunError(
                "G2-503",
                f"the scheduler's address {node.host}:{node.port} can't be reached from its own "
                f"machine: {error.strerror or error}; the loopback interface may be down: "
                "ip link set lo up",
            ) from error
