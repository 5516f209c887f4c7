"""Precision policy: the number formats of a network."""

from __future__ import annotations

import attrs


@attrs.frozen
class PrecisionPolicy:
    """Precision policy; sums, norms, softmax and the loss are always float32.

    Attributes:
        params: format to which parameters are rounded: float32, float16 or bfloat16.
        compute: format of the factors of matrix products.
    """

    params: str = "float32"
    compute: str = "float32"


FLOAT32 = PrecisionPolicy()
