"""MindFormers' YAML as dotted keys, each with its line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import yaml

from gpt2dsl.errors import Fault, SpecError

_LISTS = ("callbacks", "eval_callbacks")
"""Lists of tables whose items are named by their type: ``callbacks[ObsMonitor].type``."""


@attrs.frozen
class ConfigEntry:
    """A value by its dotted key, with its origin: ``file.yaml:12``, or a command's option."""

    key: str
    value: Any
    origin: str


def read(path: Path) -> list[ConfigEntry]:
    """Return all values of a file, in order.

    Raises:
        SpecError: it is absent (G2-002), no YAML table (G2-001), or has a duplicate key (G2-003).
    """
    try:
        text = path.read_text("utf-8")
        node = yaml.compose(text, yaml.SafeLoader)
    except OSError as error:
        raise SpecError([Fault("G2-002", "", str(path), str(error.strerror))]) from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        origin = f"{path}:{mark.line + 1}" if mark else str(path)
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise SpecError([Fault("G2-001", origin, "YAML", f"not valid: {problem}")]) from error
    if not isinstance(node, yaml.MappingNode):
        raise SpecError([Fault("G2-001", f"{path}:1", "YAML", "expected a table of keys")])
    loader = yaml.SafeLoader("")
    return list(_entries(node, "", path, loader))


def _entries(
    node: yaml.MappingNode, prefix: str, path: Path, loader: yaml.SafeLoader
) -> Iterator[ConfigEntry]:
    seen: dict[str, int] = {}
    for name, value in node.value:
        line = name.start_mark.line + 1
        key = f"{prefix}{name.value}"
        if key in seen:
            message = f"written twice, first in line {seen[key]}"
            raise SpecError([Fault("G2-003", f"{path}:{line}", key, message)])
        seen[key] = line
        if name.value == "dataset_config" and prefix.endswith("dataset_task."):
            continue  # an alias of a table above
        if isinstance(value, yaml.MappingNode):
            yield from _entries(value, f"{key}.", path, loader)
        elif key in _LISTS and isinstance(value, yaml.SequenceNode):
            yield from _of_list(value, key, path, loader)
        else:
            yield ConfigEntry(key, loader.construct_object(value, deep=True), f"{path}:{line}")


def _of_list(
    node: yaml.SequenceNode, key: str, path: Path, loader: yaml.SafeLoader
) -> Iterator[ConfigEntry]:
    for item in node.value:
        if not isinstance(item, yaml.MappingNode):
            origin = f"{path}:{item.start_mark.line + 1}"
            raise SpecError([Fault("G2-201", origin, key, "expected a list of tables")])
        kinds = [value.value for name, value in item.value if name.value == "type"]
        yield from _entries(item, f"{key}[{kinds[0] if kinds else '?'}].", path, loader)
