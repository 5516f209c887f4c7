"""Identity of the run of a planned recipe: the only place that names its entries."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gpt2dsl.files import cache
from gpt2dsl.identity.identity import PENDING, Identity
from gpt2dsl.parts.bundle import Parts
from gpt2dsl.plan.inputs import Input

if TYPE_CHECKING:
    from gpt2dsl.plan.network import Network

WEIGHTS = ("model.weights", "task.source")
"""Keys that name weights."""

DATA = ("task.data", "task.eval_data")
"""Keys that name data."""

KEEPING = ("train.save_every", "train.keep")
"""Keys that decide which checkpoints are kept; they leave the weights the same."""

_HOW = ("runtime.rank_table", "task.target")
"""Inputs that decide how and where to run; they leave the result the same."""


def identity_of(
    parts: Parts, inputs: Sequence[Input], network: Network | None, *, compute: bool
) -> Identity:
    """Return the identity of a run: everything that its result depends on.

    Inputs count by content and not by name: a file that was moved is the same input.

    Args:
        parts: the recipe's.
        inputs: inputs of the plan.
        network: the plan's, with the weights and the data that it has opened; None without inputs.
        compute: whether to read contents that take long; otherwise they are pending.

    Raises:
        InputError: an input can't be read.
    """
    contents = dict(_contents(inputs, network, compute=compute))
    values = {
        f"{table}.{name}": value
        for table, fields in parts.identity().items()
        for name, value in fields.items()
        if f"{table}.{name}" not in (*contents, *KEEPING)
    }
    # A round trip through JSON makes it equal to an identity that was read from a file.
    return Identity(values=json.loads(json.dumps(values)), contents=contents)


def _contents(
    inputs: Sequence[Input], network: Network | None, *, compute: bool
) -> Iterator[tuple[str, str]]:
    info, sources = (network.weights_info, network.sources) if network else (None, {})
    for read in inputs:
        if read.state != "present" or read.key in _HOW:
            continue
        if read.key in WEIGHTS and info:
            yield read.key, _files(info.files, compute=compute)
        elif read.key in WEIGHTS:
            yield read.key, _files(_of_adapter(read.name), compute=compute)
        elif read.digest:
            yield read.key, read.digest
        elif not compute and read.key in DATA:
            yield read.key, PENDING
        elif read.key in DATA:
            yield read.key, sources[read.key].digest()
        else:
            yield read.key, _files(_below(cache.expanded(read.name)), compute=compute)


def _files(files: Sequence[tuple[str, Path]], *, compute: bool) -> str:
    from gpt2dsl.weights import contents  # noqa: PLC0415  # NumPy: only where files are read

    return contents.of_files(files) if compute else contents.known(files) or PENDING


def _of_adapter(name: str) -> list[tuple[str, Path]]:
    """Return the files of an adapter that is converted without its base, local or cached."""
    from gpt2dsl.weights import beside, location  # noqa: PLC0415  # as above

    return beside.deciding(location.find(name, contents=False))


def _below(path: Path) -> list[tuple[str, Path]]:
    """Return a file, or all files below a folder."""
    if not path.is_dir():
        return [("", path)]
    return [
        (str(file.relative_to(path)), file) for file in sorted(path.rglob("*")) if file.is_file()
    ]
