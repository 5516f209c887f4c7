"""JSON in and out, as RFC 8259 has it: no Infinity and no NaN, which other readers refuse."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any


def dumps(document: Any, **form: Any) -> str:
    """Return a document as text; a number that is infinite or none is null."""
    try:
        return json.dumps(document, ensure_ascii=False, allow_nan=False, **form)
    except ValueError:
        return json.dumps(_finite(document), ensure_ascii=False, allow_nan=False, **form)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value
