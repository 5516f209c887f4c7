"""What crosses between two stages; that it is right is in tests/engine/test_parallel.py."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from gpt2dsl.cluster.supervisor import Limits, Node, free_port, supervise
from tests.model import wrong_transfers

ROOT = Path(__file__).parents[2]


def test_a_transfer_that_is_swapped_or_of_another_size_is_an_error(tmp_path: Path) -> None:
    """MindSpore's collectives on CPU match by order alone, and give garbage without a word."""
    supervise(
        [sys.executable, "-m", wrong_transfers.__name__, str(tmp_path / "found.json")],
        Node(ranks=2, local=2, port=free_port()),
        tmp_path / "logs",
        Limits(collective=10),
        environment={"PYTHONPATH": str(ROOT)},
    )
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["planned"] == wrong_transfers.SENT.tolist()
    assert found["swapped"] == (
        "the stage before sent something else: expected transfer 3, found 2 and 2 [G2-402]"
    )
    assert found["as planned"] == wrong_transfers.SENT.tolist()
    assert isinstance(found["short"], str), "values of another size were taken for right"
