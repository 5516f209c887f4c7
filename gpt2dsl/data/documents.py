"""JSON documents; output conforms to RFC 8259, without Infinity and NaN."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpt2dsl.errors import InputError


def dumps(document: Any, **form: Any) -> str:
    """Return a document as text, with null for Infinity and NaN."""
    try:
        return json.dumps(document, ensure_ascii=False, allow_nan=False, **form)
    except ValueError:
        return json.dumps(_finite(document), ensure_ascii=False, allow_nan=False, **form)


def loads(text: bytes, path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; refuse any other content (G2-304)."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError("G2-304", path, f"it is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise InputError("G2-304", path, "it is not a JSON object")
    return content


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        InputError: it is absent (G2-301), empty (G2-302), damaged or unreadable (G2-304).
    """
    try:
        text = path.read_bytes()
    except FileNotFoundError as error:
        raise InputError("G2-301", path, "it is not there, and the weights need it") from error
    except OSError as error:
        raise InputError("G2-304", path, f"it can't be read: {error.strerror}") from error
    if not text.strip():
        raise InputError("G2-302", path, "the file is empty")
    return loads(text, path)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value
