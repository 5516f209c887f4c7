"""MindFormers' sharding of GPT-2, for checkpoints without strategy files.

Source: mindformers 0.8.0, models/gpt2 and modules/transformer. A sharded wte (``vocab_emb_dp``
false, and a vocabulary divisible by mp) can only be detected from strategy files.
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
"""Suffix of a name in a block → axis sharded over mp; the optimizer state is sharded alike."""

_IN_BLOCK = re.compile(r".*backbone\.blocks\.\d+\.(.+)")


def layout_of(name: str, axes: int, ranks: ParallelDims) -> TensorLayout:
    """Return the layout of a tensor with so many axes, by MindFormers' name."""
    match = _IN_BLOCK.fullmatch(name)
    inner = match[1] if match else ""
    cut = next((axis for end, axis in _CUT.items() if re.fullmatch(end, inner)), None)
    return TensorLayout((ranks.dp, ranks.mp), tuple(0 if i == cut else -1 for i in range(axes)))
