from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gpt2dsl import Runtime
from gpt2dsl.cluster.node import Node
from gpt2dsl.engine.parallel import _on_table
from gpt2dsl.errors import RunError
from gpt2dsl.parts.bundle import Parts
from tests.cluster.rank_tables import TWO, card, saved


@pytest.fixture
def job(elsewhere: Path) -> Any:
    document = card(TWO, "10.0.0.1", "10.0.0.2")
    for device in document["server_list"][1]["device"]:
        device["device_ip"] = device["device_ip"].replace("192", "193")
    saved(elsewhere, document)
    return SimpleNamespace(parts=Parts.of([Runtime(device="ascend", rank_table="a.json")]))


def test_a_share_has_the_devices_of_its_server(job: Any, elsewhere: Path) -> None:
    node = _on_table(job, Node(ranks=16, first=8, local=8, port=1))
    assert node.devices == tuple(range(8))
    assert node.rank_table == str(elsewhere / "a.json")
    assert not node.schedules


def test_one_machine_is_not_all_servers(job: Any) -> None:
    with pytest.raises(RunError, match=r"no server has the ranks 0 to 15; .*launch.*\[G2-522\]"):
        _on_table(job, Node(ranks=16, local=16, port=1))
    job.parts = Parts.of([Runtime(rank_table="a.json")])
    node = Node(ranks=16, local=16, port=1)
    assert _on_table(job, node) is node
