"""Small scripts run as the ranks of a job, and what is left of them."""

from __future__ import annotations

import os
import signal
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gpt2dsl.cluster.supervisor import Node, Timeouts, free_port, supervise

BEGIN = """
import os, signal, sys, time
from gpt2dsl.cluster.reports import Reporter
reporter = Reporter.from_environment()
rank = int(os.environ["GPT2DSL_RANK"])
reporter.other({"kind": "pid", "pid": os.getpid()})
"""

COLLECTIVE = """
import mindspore as ms
from mindspore import Tensor, nn, ops
from mindspore.communication import init
ms.set_context(mode=ms.GRAPH_MODE)
ms.set_device("CPU")
init()

class Sum(nn.Cell):
    def __init__(self):
        super().__init__()
        self.reduce = ops.AllReduce()

    def construct(self, x):
        return self.reduce(x)

total = Sum()
"""

Take = Callable[[dict[str, Any]], None]


def gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state == "Z"


class Job:
    """Runs a script as the ranks of a job, and keeps what they told."""

    def __init__(self, folder: Path) -> None:
        self.logs = folder / "logs"
        self.script = folder / "worker.py"
        self.told: list[dict[str, Any]] = []
        self.pids: dict[int, int] = {}

    def write(self, *parts: str) -> list[str]:
        self.script.write_text("".join(textwrap.dedent(part) for part in (BEGIN, *parts)))
        return [sys.executable, str(self.script)]

    def run(self, *parts: str, ranks: int = 2, take: Take | None = None, **limits: float) -> None:
        supervise(
            self.write(*parts),
            Node(ranks=ranks, local=ranks, port=free_port(), schedules=COLLECTIVE in parts),
            self.logs,
            Timeouts(**{"collective": 10, "least": 1, "end": 1, **limits}),
            on_report=lambda report: self.note(report, take),
        )

    def note(self, report: dict[str, Any], take: Take | None) -> None:
        self.told.append(report)
        if report["kind"] == "pid":
            self.pids[report["rank"]] = report["pid"]
        if take:
            take(report)

    def kill(self, rank: int, number: signal.Signals = signal.SIGKILL) -> None:
        os.kill(self.pids[rank], number)

    def log(self, name: str) -> str:
        return (self.logs / f"{name}.log").read_text()


def marked(mark: bytes) -> list[int]:
    """Processes that were started with the mark in their environment and still run."""
    variable = b"GPT2DSL_TEST_MARK=" + mark + b"\0"
    pids = [int(folder.name) for folder in Path("/proc").glob("[0-9]*")]
    return [pid for pid in pids if variable in environment(pid) and not gone(pid)]


def environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""
