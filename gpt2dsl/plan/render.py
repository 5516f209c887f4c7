"""Rendering of a plan as a table."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from gpt2dsl.errors import counted, some
from gpt2dsl.plan.render_layout import layout_rows

if TYPE_CHECKING:
    from gpt2dsl.plan.batches import Batches
    from gpt2dsl.plan.disk import Disk
    from gpt2dsl.plan.host_memory import HostMemory
    from gpt2dsl.plan.inputs import Input
    from gpt2dsl.plan.plan import Plan
    from gpt2dsl.plan.serving import Served
    from gpt2dsl.plan.written import Written

WIDTH = 110

SIZES = ("kB", "MB", "GB")
FLOPS = ("kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP")

TINY = 1e8
"""Bytes per rank below which memory is shown in MB."""

COMPUTING = ("pretrain", "finetune", "evaluate", "generate", "classify", "serve")
"""Tasks that have a network in memory."""


def render(plan: Plan) -> str:
    """Return the plan as text: a line per subject, and at the end the inputs that a run refuses."""
    table = Table.grid(padding=(0, 2), pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for label, words in _rows(plan):
        table.add_row(f"  {label}", words)
    buffer = io.StringIO()
    console = Console(
        file=buffer, width=WIDTH, highlight=False, markup=False, emoji=False,
        force_jupyter=False,  # in a notebook it would display itself and leave the buffer empty
    )  # fmt: skip
    console.print(_title(plan))
    console.print(table)
    for line in _verdict(plan):
        console.print(line)
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines())


def _title(plan: Plan) -> str:
    r = plan.ranks
    count = r["dp"] * r["mp"] * r["pp"]
    layout = (
        f"{count} ranks = dp {r['dp']} x mp {r['mp']} x pp {r['pp']}" if count > 1 else "1 rank"
    )
    return f"{plan.name}   {plan.task}   digest {plan.digest[:8]}   {layout}   {plan.device}"


def _rows(plan: Plan) -> Iterator[tuple[str, str]]:
    if plan.parameters or _is_unknown(plan):
        yield "model", _model(plan)
    labels = {"model.weights": "weights", "task.data": "data", "task.eval_data": "eval"}
    reads_weights = any(item.key in ("model.weights", "task.source") for item in plan.inputs)
    if not reads_weights:
        yield "weights", "new: normal 0.02, residual projections divided by sqrt(2 layers)"
    for item in plan.inputs:
        yield labels.get(item.key, item.key.partition(".")[2]), _input(item)
        yield from _files(item)
    if plan.batches:
        yield "rows", _batches(plan.batches)
    if plan.optimizer:
        yield "optim", plan.optimizer
    if plan.adapters:
        yield "lora", plan.adapters
    if plan.precision:
        yield "numbers", plan.precision
    if plan.task in COMPUTING and not _is_unknown(plan):
        yield from _ranks(plan)
    yield "steps", ", ".join(step.kind for step in plan.steps)
    yield from _writes(plan)
    for note in plan.notes:
        yield "note", note


def _ranks(plan: Plan) -> Iterator[tuple[str, str]]:
    for number, choice in enumerate(plan.choices):
        yield "or" if number else "chosen", choice
    if plan.layout and plan.world > 1:
        yield from layout_rows(plan.layout, plan.ranks, _size)
    memory = plan.memory
    unit = "MB" if memory.total < TINY else "GB"
    whole, weights = (_in(unit, size) for size in (memory.total, memory.weights))
    if plan.serves:
        yield (
            "memory",
            f"{whole} {unit} at most: weights {weights}, keys and values of "
            f"texts {_in(unit, memory.texts)}, of prompts {_in(unit, memory.prompts)}",
        )
        return
    yield (
        "memory",
        f"per rank {whole} {unit}: weights {weights}, gradients "
        f"{_in(unit, memory.gradients)}, optimizer {_in(unit, memory.optimizer)}, activations "
        f"{_in(unit, memory.activations)}"
        + (f", HCCL {_in(unit, memory.buffers)}" if memory.buffers else ""),
    )
    if plan.host:
        yield "host", _host(plan.host)
    if plan.flops:
        yield "compute", f"{_scaled(plan.flops, FLOPS)} per step in matrix products"


def _host(host: HostMemory) -> str:
    words = f"per rank {_size(host.start)} at the start, {_size(host.save)} during a save"
    return f"{words}, {_size(host.evaluation)} in an evaluation" if host.evaluation else words


def _is_unknown(plan: Plan) -> bool:
    """Return whether the network is known only to weights that are absent or unusable."""
    weights = [item for item in plan.inputs if item.key in ("model.weights", "task.source")]
    return not plan.size and any(item.state in ("absent", "unusable") for item in weights)


def _model(plan: Plan) -> str:
    if _is_unknown(plan):
        return "as its weights, which are not there"
    g = plan.geometry
    words = (
        f"{plan.size or 'as its weights'}: {counted(g.layers, 'layer')}, "
        f"{counted(g.heads, 'head')}, {g.hidden} wide, "
        f"{g.positions} positions, {plan.parameters:,} parameters"
    )
    if 0 < plan.trained != plan.parameters:
        whole = plan.parameters + plan.trained
        words += f"; trains {plan.trained:,} ({plan.trained / whole:.2%})"
    return words


def _input(item: Input) -> str:
    if item.state == "promised":
        return f"{item.name}   {item.detail}"
    if item.state != "present":
        return f"{item.name}   {item.state}: {item.detail}"
    words = [item.name, item.detail]
    if item.size:
        words.append(_size(item.size))
    if item.key != "train.resume":  # a checkpoint has its own checksums
        words.append(f"sha256 {item.digest[:8]}.." if item.digest else "sha256 pending")
    return "   ".join(words)


def _files(data: Input) -> Iterator[tuple[str, str]]:
    """Yield the files behind a name of data, unless the name is that of one file."""
    if data.files not in ((), (data.name,)):
        yield "", f"{counted(len(data.files), 'file')}: {some(data.files)}"
    if data.passed_over:
        yield "", f"{len(data.passed_over):,} passed over: {some(data.passed_over)}"


def _batches(batches: Batches) -> str:
    rows = "not counted yet," if batches.rows is None else f"{counted(batches.rows, 'row')} of"
    words = f"{rows} {counted(batches.row_tokens, 'token')} each, in batches of {batches.batch:,}"
    words += f" ({batches.per_rank:,} per rank at once)"
    if batches.steps is None:
        return f"{words}, {_epochs(batches)}"
    steps = counted(batches.steps, "step")
    if batches.epochs:
        return f"{words}: {steps} = {_epochs(batches)}{_left_out(batches)}"
    return f"{words}: {steps}" if batches.steps else words


def _left_out(batches: Batches) -> str:
    """Return a suffix with the rows of the last epoch that fill no batch; "" for none."""
    surplus = (batches.rows or 0) * (batches.epochs or 0) % batches.batch
    return f"; {surplus:,} of the last rows fill no batch and are left out" if surplus else ""


def _epochs(batches: Batches) -> str:
    return counted(batches.epochs or 0, "epoch")


def _writes(plan: Plan) -> Iterator[tuple[str, str]]:
    written = plan.written
    if plan.disk:
        yield "disk", _disk(plan.disk)
    if plan.serves:
        yield "serves", _served(plan.serves)
    if written is None or plan.task != "reshard":
        if written:
            yield "disk", _target(written)
        yield "writes", plan.directory or "nothing"
        return
    files = f"{written.files} ranks, a file each" if written.files > 1 else "whole"
    yield "writes", f"{plan.directory}   {files}   {_size(written.size)}"
    yield "memory", f"{_size(written.memory)} of blocks at once, beside the process"


def _target(written: Written) -> str:
    words = f"{_size(written.size)} of weights"
    if written.files > 1:
        words += f": {written.files} graphs with {_size(written.size // written.files)} each"
    if written.scratch:
        words += f"; {_size(written.scratch)} more until it is done"
    return words


def _disk(disk: Disk) -> str:
    count = f"{counted(disk.kept, 'checkpoint')} of {_size(disk.checkpoint)}"
    if disk.export:
        count += f", {_size(disk.export)} for transformers"
    if disk.most == disk.kept:
        return f"{_size(disk.total)}: {count}" if disk.kept > 1 or disk.export else count
    return f"{_size(disk.total)} at most: {count}, and a new one before the oldest goes"


def _served(server: Served) -> str:
    port = "any free port" if server.address.endswith(":0") else ""
    place = f"{server.address.removesuffix(':0')}, {port}" if port else f"{server.address}/v1"
    texts = f"{counted(server.batch, 'text')} at once"
    return f"{server.name} on {place}: {texts}, {server.queue:,} may wait"


def _verdict(plan: Plan) -> Iterator[str]:
    refused = [item for item in plan.inputs if item.refusals]
    if refused:
        verb = "inputs are" if len(refused) > 1 else "input is"
        kind = "absent" if all(entry.state == "absent" for entry in refused) else "refused"
        yield f"{len(refused)} {verb} {kind}; a run is refused."


def _in(unit: str, size: int) -> str:
    number = size / (1e6 if unit == "MB" else 1e9)
    return f"{number:.2f}" if number < 10 else f"{number:.1f}"


def _size(size: int) -> str:
    return f"{size} B" if size < 1000 else _scaled(size, SIZES)


def _scaled(number: float, units: Sequence[str]) -> str:
    """Return a number in the first of the units, each 1000 of the one before, that it fits."""
    for unit in units:
        number /= 1000
        if number < 1000 or unit == units[-1]:
            break
    return f"{number:.1f} {unit}"
