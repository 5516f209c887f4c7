"""Transfers between two stages that are not those of the schedule: what each rank makes of them."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np

from gpt2dsl.distributed.context import join
from gpt2dsl.errors import RunError
from gpt2dsl.layout.parallel_dims import ParallelDims
from gpt2dsl.training.pipeline import P2PChannel, p2p_channels

SENT = np.arange(8, dtype=np.float32)


def main() -> None:
    """Rank 0 sends, rank 1 receives: as planned, swapped, and of another size."""
    rank = int(os.environ["RANK_ID"])
    team = join(ParallelDims(pp=2), rank, "cpu")
    pipe = p2p_channels(team.pipeline_group)[1 - rank]
    if rank == 0:
        for tag in (1, 2, 3):
            pipe.send(SENT, tag)
        try:
            pipe.send(SENT, 4)
        except RuntimeError:
            sys.stderr.write("the sender noticed the size\n")
        return
    found = {
        "planned": received(pipe, (8,), 1),
        "swapped": received(pipe, (8,), 3),
        "as planned": received(pipe, (8,), 3),
        "short": received(pipe, (4,), 4),
    }
    Path(sys.argv[1]).write_text(json.dumps(found), encoding="utf-8")


def received(pipe: P2PChannel, shape: tuple[int, ...], tag: int) -> object:
    """What came, or why it was refused."""
    try:
        return pipe.receive(shape, tag).tolist()
    except (RunError, RuntimeError) as error:
        return str(error)


if __name__ == "__main__":
    main()
