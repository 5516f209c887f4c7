"""Size of the output of a conversion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import attrs

from gpt2dsl.plan.inputs import Input

BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
"""Bytes of an element of a dtype."""


@attrs.frozen(kw_only=True)
class Written:
    """Output of a conversion.

    Attributes:
        files: number of files with tensors: ranks of resharding, graphs of an export, else 1.
        size: bytes of the tensors, copies included.
        scratch: bytes of temporary files beside them.
        memory: bytes of the blocks that resharding has in memory at once, whatever the size.
    """

    files: int
    size: int
    scratch: int = 0
    memory: int = 0


Output: TypeAlias = tuple[Written | None, Sequence[Input]]
"""Output of a conversion, None where it is not known, and inputs that are refused for it."""
