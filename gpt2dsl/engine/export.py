"""The export task: graphs for deployment, verified against MindSpore before publication."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import attrs
import numpy as np

from gpt2dsl.data.prepare import TRAIN
from gpt2dsl.data.source import Source
from gpt2dsl.data.tokenizer import PUBLISHED, Tokenizer
from gpt2dsl.engine import export_beside
from gpt2dsl.engine.job import Job, Result
from gpt2dsl.engine.language_model import network_of
from gpt2dsl.engine.progress import ByteBar, saying
from gpt2dsl.engine.verification import Ids, Logits, Reference, verify
from gpt2dsl.files import cache
from gpt2dsl.layout.params import parameter_count
from gpt2dsl.lite import opening
from gpt2dsl.lite import writing as lite
from gpt2dsl.lite.description import COMPARED_ROWS, ONNX, Description
from gpt2dsl.lite.shapes import Shapes
from gpt2dsl.lite.writing import Graphs
from gpt2dsl.model.evaluation import ClassScores, TokenLogits
from gpt2dsl.parts.task import Export
from gpt2dsl.weights import reading, writing
from gpt2dsl.weights.files.lazy_tensor import LazyTensor
from gpt2dsl.weights.formats.config import class_names
from gpt2dsl.weights.initial import filled
from gpt2dsl.weights.network_weights import Weights
from gpt2dsl.weights.values import Values

REAL = 2000
"""Characters of the built-in text that verifies exported graphs."""


def run(job: Job) -> Result:
    """Export the source of the task."""
    task = job.parts.task
    assert isinstance(task, Export)
    started = time.perf_counter()
    weights = reading.read(task.source, job.overrides)
    length = task.seq_length or weights.geometry.positions
    batch = COMPARED_ROWS if task.format == ONNX else task.batch
    shapes = Shapes(weights.geometry.with_dropout(0.0), batch, length)
    dtype = task.dtype or "float32"
    tensors = filled(weights, job.parts.train.seed)
    content = writing.prepared(weights, writing.in_dtype(tensors, dtype))
    if (name := job.parts.data.tokenizer) not in ("auto", TRAIN):
        folder = None if name == PUBLISHED else cache.expanded(name)
        content = attrs.evolve(content, tokenizer=folder)
    target = cache.expanded(task.target)
    names = lite.names_of(task.format, shapes, cache=task.cache)
    needed = lite.room(task.format, names, parameter_count(weights.geometry), dtype)
    writing.find_room(target, sum(needed))
    with writing.unfinished(target, task.source, task.dtype, lambda _: None) as unfinished:
        watched = unfinished.stream.over(content.tensors)
        graphs = Graphs(shapes=shapes, names=names, tensors=watched, dtype=dtype)
        described = _written(unfinished, graphs, task, class_names(weights.config))
        unfinished.stream.refuse(task.source, task.dtype)
        described = _verified(unfinished.folder, described, content, job)
        rounded = _rounding(described, content, tensors, job)
        if task.ge:
            (unfinished.folder / "config.ini").write_text(lite.ge_config(task.ge), "utf-8")
        if task.format == ONNX:
            export_beside.write(unfinished.folder, described, content)
        else:
            writing.copy_beside(content, unfinished.folder)
        described.write(unfinished.folder)
        unfinished.meta.update(digest=described.digest)
    return Result(
        task="export",
        target=target,
        size=sum(path.stat().st_size for path in target.rglob("*") if path.is_file()),
        seconds=time.perf_counter() - started,
        notes=(*job.notes, *_notes(described), *rounded),
    )


def _written(
    new: writing.Unfinished, graphs: Graphs, task: Export, classes: tuple[str, ...]
) -> Description:
    """Write the graphs into the target's folder and return their description."""
    size = sum(tensor.size for tensor in graphs.tensors.values())
    with ByteBar(f"writing {task.target}", size) as bar:
        new.stream.moved = bar.move  # only here: the bar ends before graphs are compared
        files = lite.write(new.folder, task.format, graphs)
    return Description(
        format=task.format,
        shapes=graphs.shapes,
        files=files,
        dtype=graphs.dtype,
        digest=new.stream.digest(graphs.tensors),
        classes=classes if graphs.shapes.geometry.labels else (),
    )


def _verified(folder: Path, described: Description, content: Weights, job: Job) -> Description:
    """Return the description with the result of the comparison, or why there was none."""
    if why := opening.missing(described.format):
        return attrs.evolve(described, unverified=why)
    graphs = tuple(described.files)
    with saying("comparing with MindSpore"):
        reference = _reference(described.shapes, content.tensors, job.parts.runtime.device)
        with opening.runtime(folder, described) as runtime:
            largest = verify(runtime, described.shapes, graphs, reference, _real(content))
    return attrs.evolve(described, verified={runtime.name: largest})


def _rounding(
    described: Description, content: Weights, source: Mapping[str, LazyTensor], job: Job
) -> list[str]:
    """Return a note on how float16 changes logits, if the source is wider."""
    widths = {tensor.kind for tensor in source.values()}
    if described.dtype != "float16" or widths == {"F16"}:
        return []
    shapes, device = described.shapes, job.parts.runtime.device
    ids = np.resize(np.array(_real(content), np.int32), (shapes.batch, shapes.length))
    valid = np.full(shapes.batch, shapes.length, np.int32)
    rounded = _reference(shapes, content.tensors, device)(ids, valid)
    exact = _reference(shapes, source, device)(ids, valid)
    return [f"rounding to float16 moves logits by up to {np.abs(rounded - exact).max():.1e}"]


def _reference(shapes: Shapes, tensors: Mapping[str, LazyTensor], device: str) -> Reference:
    """Return MindSpore's logits of these weights, as a function."""
    network = network_of(shapes.geometry, Values(tensors), device)
    if shapes.geometry.labels:
        classes = ClassScores(network)
        return lambda ids, valid: classes.logits(ids, valid - 1)
    scores = TokenLogits(network)

    def logits(ids: Ids, _: Ids) -> Logits:
        return scores.logits(ids)

    return logits


def _real(content: Weights) -> list[int]:
    """Return the ids of a real text."""
    text = next(Source.open("sample:valid").documents())[:REAL]
    ids = Tokenizer.load(content.tokenizer or PUBLISHED).encode(text)
    return [i for i in ids if i < content.geometry.vocab] or [0]


def _notes(described: Description) -> list[str]:
    if described.unverified:
        return [f"not verified: {described.unverified}"]
    return [
        f"verified: in {name} no logit differs by more than {largest:.1e} from MindSpore's"
        for name, largest in described.verified.items()
    ]
