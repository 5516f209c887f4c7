"""Process groups of a rank: tensor parallel, data parallel, pipeline."""

from __future__ import annotations

import attrs


@attrs.frozen
class ProcessGroup:
    """Ranks that communicate with each other.

    Attributes:
        size: number of ranks.
        index: this rank's index in the group.
        name: MindSpore's name of the group; "" for a single rank.
    """

    size: int = 1
    index: int = 0
    name: str = ""

    @property
    def is_first(self) -> bool:
        """Whether this rank is the group's first: of a pipeline, the stage that embeds."""
        return self.index == 0

    @property
    def is_last(self) -> bool:
        """Whether this rank is the group's last: of a pipeline, the stage that has the loss."""
        return self.index == self.size - 1


@attrs.frozen
class TensorParallelGroup(ProcessGroup):
    """Ranks that share each layer.

    Attributes:
        sequence_parallel: whether norms, residuals and dropout are split by tokens.
    """

    sequence_parallel: bool = False


@attrs.frozen
class PipelineGroup(ProcessGroup):
    """One rank of each pipeline stage.

    Attributes:
        previous: name of the group with the previous stage; "" on the first.
        next: name of the group with the next stage; "" on the last.
        tied_embedding: name of the group of first and last stage, which tie the word table; "" on
            others.
    """

    previous: str = ""
    next: str = ""
    tied_embedding: str = ""


NO_DATA_PARALLEL = ProcessGroup()
NO_TENSOR_PARALLEL = TensorParallelGroup()
NO_PIPELINE = PipelineGroup()
