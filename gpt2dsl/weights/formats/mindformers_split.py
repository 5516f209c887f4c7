"""How MindFormers cuts GPT-2 over ranks, for checkpoints whose strategy files are lost.

Source: mindformers 0.8.0, models/gpt2 and modules/transformer. Where the word table is cut too
(``vocab_emb_dp`` false, and a vocabulary that mp divides), only the strategy files tell.
"""

from __future__ import annotations

import re

from gpt2dsl.layout.parallel_dims import ParallelDims
from gpt2dsl.layout.tensor_layout import TensorLayout

_CUT = {
    r"attention\.dense[123]\.(weight|bias)": 0,
    r"attention\.projection\.weight": 0,
    r"output\.mapping\.weight": 1,
    r"output\.mapping\.bias": 0,
    r"output\.projection\.weight": 0,
    r"attention\.dense[123]\.(mindpet|tk)_delta_lora_[bB]": 0,
}
"""The end of a name in a block → the axis that mp cuts; the optimizer's state is cut likewise."""

_IN_BLOCK = re.compile(r".*backbone\.blocks\.\d+\.(.+)")


def layout_of(name: str, axes: int, ranks: ParallelDims) -> TensorLayout:
    """Return how a tensor of MindFormers' is cut.

    Args:
        name: MindFormers'.
        axes: how many the tensor has.
        ranks: dp, mp and pp.
    """
    match = _IN_BLOCK.fullmatch(name)
    inner = match[1] if match else ""
    cut = next((axis for end, axis in _CUT.items() if re.fullmatch(end, inner)), None)
    return TensorLayout((ranks.dp, ranks.mp), tuple(0 if i == cut else -1 for i in range(axes)))
