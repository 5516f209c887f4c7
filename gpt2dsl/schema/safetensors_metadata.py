"""Metadata keys of a safetensors file or an index of shards, and their fates."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from gpt2dsl.schema.fate import Table, no_effect, used


def _format(value: Any) -> str:
    if value in ("tf", "flax"):
        return "tensors of another library have other names: save the model with PyTorch"
    return ""


TABLE: Table = {
    "format": used("the library whose tensor names are used", _format),
    "total_size": no_effect("the bytes of all tensors, which follow from their shapes"),
    "total_parameters": no_effect("the elements of all tensors, which follow from their shapes"),
    "rank": used("the rank whose shards the file holds"),
    "dtype": no_effect("the element type, which each tensor records"),
}


def tied(content: Mapping[str, Any], names: Collection[str]) -> dict[str, str]:
    """Return tied tensors that a file leaves out → the tensor in the file.

    The safetensors library's ``save_model`` writes them into the metadata.
    """
    return {
        name: target for name, target in content.items() if target in names and name not in names
    }


def table(content: Mapping[str, Any], names: Collection[str]) -> Table:
    """Return the table for a file: the common rows, and one for each tied tensor."""
    words = "it is one tensor with the one that is named"
    return {**TABLE, **{name: used(words) for name in tied(content, names)}}
