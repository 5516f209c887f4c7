"""Process groups of a rank: tensor parallel, data parallel, pipeline."""

from __future__ import annotations

import attrs


@attrs.frozen
class TensorParallelGroup:
    """Tensor parallel group: the ranks that share each layer.

    Attributes:
        mp: number of ranks.
        index: this rank's index in the group.
        group: MindSpore's name of the group; "" for a single rank.
        sequence: whether norms, residuals and dropout are sequence parallel (split by tokens).
    """

    mp: int = 1
    index: int = 0
    group: str = ""
    sequence: bool = False


@attrs.frozen
class DataParallelGroup:
    """Data parallel group: the replicas of the same parameters, each with its own rows.

    Attributes:
        dp: number of replicas.
        index: this replica's index.
        group: MindSpore's name of the group; "" for a single replica.
        shards_state: whether each replica holds a shard of the optimizer state (ZeRO-1).
    """

    dp: int = 1
    index: int = 0
    group: str = ""
    shards_state: bool = False


@attrs.frozen
class PipelineGroup:
    """Pipeline group: one rank of each stage.

    Attributes:
        pp: number of stages.
        index: this rank's stage.
        group: MindSpore's name of the group of all stages.
        before: name of the group with the previous stage; "" on the first.
        after: name of the group with the next stage; "" on the last.
        ends: name of the group of first and last stage, which tie the word table; "" on others.
    """

    pp: int = 1
    index: int = 0
    group: str = ""
    before: str = ""
    after: str = ""
    ends: str = ""

    @property
    def is_first(self) -> bool:
        """Whether this is the first stage, which embeds."""
        return self.index == 0

    @property
    def is_last(self) -> bool:
        """Whether this is the last stage, which computes the loss."""
        return self.index == self.pp - 1


NO_TENSOR_PARALLEL = TensorParallelGroup()
NO_DATA_PARALLEL = DataParallelGroup()
NO_PIPELINE = PipelineGroup()
