"""A rank's share of the network, and the ranks that it exchanges with."""

from __future__ import annotations

import attrs


@attrs.frozen
class Shard:
    """The part of each layer that a rank holds.

    Attributes:
        mp: ranks that share each layer.
        index: which of them it is.
        group: MindSpore's name for them; "" where it is alone.
    """

    mp: int = 1
    index: int = 0
    group: str = ""


@attrs.frozen
class Copies:
    """The ranks that hold the same parameters and compute other rows.

    Attributes:
        dp: how many there are.
        index: which of them this is.
        group: MindSpore's name for them; "" where it is alone.
        shards_state: whether each keeps a part of the optimizer's state (ZeRO-1).
    """

    dp: int = 1
    index: int = 0
    group: str = ""
    shards_state: bool = False


WHOLE = Shard()
ALONE = Copies()
