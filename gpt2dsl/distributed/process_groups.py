"""A rank's share of the network, and the ranks that it exchanges with."""

from __future__ import annotations

import attrs


@attrs.frozen
class TensorParallelGroup:
    """The part of each layer that a rank holds.

    Attributes:
        mp: ranks that share each layer.
        index: which of them it is.
        group: MindSpore's name for them; "" where it is alone.
        sequence: whether each has some tokens of what they don't share: norms, residuals, dropout.
    """

    mp: int = 1
    index: int = 0
    group: str = ""
    sequence: bool = False


@attrs.frozen
class DataParallelGroup:
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


@attrs.frozen
class PipelineGroup:
    """The stages of a pipeline, of which a rank is one.

    Attributes:
        pp: how many there are.
        index: which of them this is.
        group: MindSpore's name for the ranks of all stages that exchange with this one.
        before: for this one and the stage before; "" where there is none.
        after: for this one and the next stage.
        ends: for the first and the last, which share the word table; "" on others.
    """

    pp: int = 1
    index: int = 0
    group: str = ""
    before: str = ""
    after: str = ""
    ends: str = ""

    @property
    def is_first(self) -> bool:
        """Whether it embeds."""
        return self.index == 0

    @property
    def is_last(self) -> bool:
        """Whether it computes the loss."""
        return self.index == self.pp - 1


NO_TENSOR_PARALLEL = TensorParallelGroup()
NO_DATA_PARALLEL = DataParallelGroup()
NO_PIPELINE = PipelineGroup()
