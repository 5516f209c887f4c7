"""The number formats of a network."""

from __future__ import annotations

import attrs


@attrs.frozen
class PrecisionPolicy:
    """What a network computes in; sums, norms, softmax and the loss are float32 always.

    Attributes:
        params: the format that parameters are rounded to: float32, float16 or bfloat16.
        compute: that of the factors of matrix products.
    """

    params: str = "float32"
    compute: str = "float32"


FLOAT32 = PrecisionPolicy()
