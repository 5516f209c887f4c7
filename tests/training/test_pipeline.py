"""What crosses between two stages; that it is right is in tests/engine/test_parallel.py."""

from __future__ import annotations

from pathlib import Path

from tests.ranks import told_by
from tests.training import wrong_transfers


def test_a_transfer_that_is_swapped_or_of_another_size_is_an_error(tmp_path: Path) -> None:
    """MindSpore's collectives on CPU match by order alone, and give garbage without a word."""
    found = told_by(wrong_transfers, tmp_path, collective=10)
    assert found["planned"] == wrong_transfers.SENT.tolist()
    assert found["swapped"] == (
        "the stage before sent something else: expected transfer 3, found 2 and 2 [G2-402]"
    )
    assert found["as planned"] == wrong_transfers.SENT.tolist()
    assert isinstance(found["short"], str), "values of another size were taken for right"
