"""One machine's share of a job, its limits in seconds, and both as environment variables."""

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
    """This machine's share of a job.

    Attributes:
        ranks: ranks of the whole job.
        first: the first rank here.
        local: how many run here.
        host: address of the scheduler.
        port: port of the scheduler; ``free_port()`` gives one.
        schedules: whether MindSpore's scheduler runs here.
        rank_table: absolute path of the table that HCCL finds the ranks in; it needs no scheduler.
        devices: of the ranks here, by id; () counts from 0.
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
    def whole(self) -> bool:
        """Whether all ranks of the job run here."""
        return self.local == self.ranks


@attrs.frozen(kw_only=True)
class Timeouts:
    """How long what may last, in seconds.

    Attributes:
        collective: a wait within a collective.
        start: until all ranks have joined.
        hang: a silence of so many times the median between two steps is a hang,
        least: if it lasts this long too.
        end: between SIGTERM and SIGKILL.
    """

    collective: float
    start: float = 120
    hang: float = 10
    least: float = 20
    end: float = 5


def shared_variables(node: Node, limits: Timeouts, given: Mapping[str, str]) -> dict[str, str]:
    """What all processes of the job have in their environment; ``given`` wins."""
    return {
        "GLOG_v": "3",
        "PYTHONUNBUFFERED": "1",  # the last lines before a SIGKILL are those that are wanted
        **os.environ,
        # For ranks lost on another machine: the defaults take half a minute to notice them.
        "MS_NODE_TIMEOUT": "10",
        "MS_HEARTBEAT_RETRY_TIMEOUT": "5",
        "MS_RETRY_INTERVAL_LOWER": "1",
        "MS_RETRY_INTERVAL_UPPER": "1",
        "MS_TOPO_TIMEOUT": str(math.ceil(limits.start)),
        "MS_CPU_COMM_OP_TIMEOUT": str(math.ceil(limits.collective)),
        **given,
        "RANK_SIZE": str(node.ranks),
        **_meeting(node),
    }


def _meeting(node: Node) -> dict[str, str]:
    """How the ranks find one another; MindSpore reads a rank table where it has no scheduler."""
    if node.rank_table:
        return {"RANK_TABLE_FILE": node.rank_table}
    return {
        "MS_WORKER_NUM": str(node.ranks),
        "MS_SCHED_HOST": node.host,
        "MS_SCHED_PORT": str(node.port),
    }


def scheduler_variables() -> dict[str, str]:
    """What the scheduler has beside."""
    return {"MS_ROLE": "MS_SCHED", "RANK_ID": "0", "DEVICE_ID": "0"}


def rank_variables(node: Node, place: int) -> dict[str, str]:
    """What a rank has beside; ``place`` counts the ranks of this machine."""
    rank = str(node.first + place)
    role = {} if node.rank_table else {"MS_ROLE": "MS_WORKER", "MS_NODE_ID": rank}
    return {
        **role,
        "RANK_ID": rank,
        "DEVICE_ID": str(node.devices[place] if node.devices else place),
        "GPT2DSL_RANK": rank,
    }


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


REACH = 5.0
"""Seconds in which a machine answers itself."""


def refuse_unusable_port(node: Node) -> None:
    """Refuse an address of the scheduler that is taken, or that this machine can't reach.

    MindSpore's ranks would wait for ``Timeouts.start`` and then tell less.
    """
    with socket.socket() as probe:
        # As MindSpore does: connections of a job that has just ended are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((node.host, node.port))
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            why = "is in use; choose another port" if taken else f"can't be used: {error.strerror}"
            raise RunError(
                f"the scheduler's address {node.host}:{node.port} {why} [G2-503]"
            ) from error
        probe.listen()
        try:
            socket.create_connection((node.host, node.port), timeout=REACH).close()
        except OSError as error:
            raise RunError(
                f"the scheduler's address {node.host}:{node.port} can't be reached from its own "
                f"machine: {error.strerror or error}; the loopback interface may be down: "
                "ip link set lo up [G2-503]"
            ) from error
