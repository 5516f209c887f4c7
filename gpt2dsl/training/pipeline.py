"""Pipeline parallel training and evaluation: passes of a stage, transfers between stages.

A stage's backward pass recomputes its forward pass, so only the input of a micro-batch is saved.
Letters in shapes are those of block.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import mindspore.ops.operations as P
import numpy as np
from mindspore import Tensor
from numpy.typing import NDArray

from gpt2dsl.distributed.process_groups import PipelineGroup
from gpt2dsl.errors import RunError
from gpt2dsl.layout.pipeline_schedule import BACKWARD, FORWARD, SEND, PipelineAction, schedule
from gpt2dsl.model.evaluation import TokenLosses
from gpt2dsl.model.forward import Forward, ForwardState, MicroBatch
from gpt2dsl.model.gpt2 import GPT2
from gpt2dsl.training.forward_backward import Passes
from gpt2dsl.training.gradients import Gradients

Array = NDArray[np.float32]
MOST_MICRO_BATCHES = 2**14
"""Limit per step, so that every transfer has a unique tag that float32 represents exactly."""


class P2PChannel:
    """Point-to-point channel to a neighbouring stage: an all-reduce in which one side adds zeros.

    It is exact on every device. MindSpore's CPU collectives match by call order alone and don't
    notice differing sizes, so each message begins and ends with a tag, which the receiver checks.
    """

    def __init__(self, group: str, what: str) -> None:
        self._what, self._sum = what, P.AllReduce(group=group)

    def send(self, array: Array, tag: int) -> None:
        """Send an array; return when it has arrived."""
        ends = np.array([tag], np.float32)
        self._sum(Tensor(np.concatenate([ends, array.reshape(-1), ends]))).asnumpy()

    def receive(self, shape: tuple[int, ...], tag: int) -> Array:
        """Receive an array.

        Raises:
            RunError: the message is not the one that the schedule expects (G2-402).
        """
        size = int(np.prod(shape))
        message = self._sum(Tensor(np.zeros(size + 2, np.float32))).asnumpy()
        if not message[0] == message[-1] == tag:
            mismatch = f"expected transfer {tag}, found {message[0]:g} and {message[-1]:g}"
            raise RunError("G2-402", f"the {self._what} sent something else: {mismatch}")
        return np.array(message[1:-1]).reshape(shape)


class Pipeline:
    """Execution of the pipeline schedule on this rank's stage.

    Args:
        network: the stage's part of the network.
        micro_batches: number of micro-batches per step.
    """

    def __init__(self, network: GPT2, micro_batches: int) -> None:
        stages = network.stages
        self._network, self._passes, self._stages = network, Passes(network), stages
        self._hidden = network.geometry.hidden
        self._acts = schedule(stages.pp, micro_batches)[stages.index]
        self._pipes = p2p_channels(stages)
        self._steps = 0

    def run(self, batch: Iterable[MicroBatch], scale: float, gradients: Gradients) -> float:
        """Accumulate a batch's gradients; return the scaled loss on the last stage, else 0."""
        self._steps += 1
        work = _Work(iter(batch), gradients)
        loss = 0.0
        for act in self._acts:
            if act.kind == FORWARD:
                self._forward(work, act.micro)
            elif act.kind == BACKWARD and self._stages.is_last:
                loss += self._back_from_loss(work, act.micro, scale)
            elif act.kind == BACKWARD:
                self._back(work, act.micro)
            else:
                self._transfer(work, act)
        return loss

    def _forward(self, work: _Work, micro: int) -> None:
        state = self._walk(work.part(micro), work.inputs.get(micro), remembers=False)
        work.ready[FORWARD, micro] = self._network.all_rows(state.x).asnumpy()

    def _back(self, work: _Work, micro: int) -> None:
        state = self._walk(work.take(micro), work.inputs.pop(micro, None))
        dout = self._network.own_rows(Tensor(work.given.pop(micro)))
        self._backward(work, micro, state, dout)

    def _back_from_loss(self, work: _Work, micro: int, scale: float) -> float:
        part = work.take(micro)
        state = self._walk(part, work.inputs.pop(micro))
        loss, dx = self._passes.loss(state, part.labels, scale * part.weight, work.gradients)
        self._backward(work, micro, state, dx)
        return loss

    def _backward(self, work: _Work, micro: int, walk: ForwardState, dout: Tensor) -> None:
        dx = self._passes.backward(walk, dout, work.gradients)
        if self._stages.index:
            work.ready[BACKWARD, micro] = self._network.all_rows(dx).asnumpy()

    def _walk(self, part: MicroBatch, x: Array | None, *, remembers: bool = True) -> ForwardState:
        hidden = None if x is None else Tensor(x)
        return self._passes.forward(part, hidden, remembers=remembers)

    def _transfer(self, work: _Work, act: PipelineAction) -> None:
        sends = act.kind == SEND
        direction = FORWARD if sends == (act.peer > self._stages.index) else BACKWARD
        tag = (
            ((self._steps % 500) * 2 + (direction == FORWARD)) * MOST_MICRO_BATCHES + act.micro + 1
        )
        pipe = self._pipes[act.peer]
        if sends:
            pipe.send(work.ready.pop((direction, act.micro)), tag)
            return
        shape = (work.part(act.micro).ids.size, self._hidden)  # [b t, h]
        into = work.inputs if direction == FORWARD else work.given
        into[act.micro] = pipe.receive(shape, tag)


class _Work:
    """A stage's state of the micro-batches in flight, by number.

    Attributes:
        gradients: accumulators of the parameters' gradients.
        inputs: activations received from the previous stage.
        given: gradients received from the next stage.
        ready: tensors to be sent.
    """

    def __init__(self, batch: Iterator[MicroBatch], gradients: Gradients) -> None:
        self._batch, self.gradients = enumerate(batch), gradients
        self._parts: dict[int, MicroBatch] = {}
        self.inputs: dict[int, Array] = {}
        self.given: dict[int, Array] = {}
        self.ready: dict[tuple[str, int], Array] = {}

    def part(self, micro: int) -> MicroBatch:
        """Return a micro-batch; they are drawn from the batch in order, on first use."""
        while micro not in self._parts:
            number, part = next(self._batch)
            self._parts[number] = part
        return self._parts[micro]

    def take(self, micro: int) -> MicroBatch:
        """Return a micro-batch and forget it."""
        self.part(micro)
        return self._parts.pop(micro)


class PipelineTokenLosses:
    """Per-token losses through all pipeline stages, on every rank (see ``TokenLosses``)."""

    def __init__(self, network: GPT2) -> None:
        self._network, self._stages = network, network.stages
        self._pipes = p2p_channels(network.stages)
        self._last = TokenLosses(network) if network.stages.is_last else None
        self._forward = None if network.stages.is_last else Forward(network)
        self._everyone = P.AllReduce(group=network.stages.group)

    def losses(self, ids: NDArray[np.int32], labels: NDArray[np.int32]) -> Array:
        """Return the loss of each token in nats: ``[b, t], [b, t] → [b, t]``."""
        stages, hidden = self._stages, self._network.geometry.hidden
        x, losses = None, np.zeros(ids.shape, np.float32)
        if stages.index:
            x = Tensor(self._pipes[stages.index - 1].receive((ids.size, hidden), 1))
        if self._last:
            losses = self._last.losses(ids, labels, x)
        elif self._forward:
            y = self._forward.walk(MicroBatch(ids, labels), x, remembers=False).x
            self._pipes[stages.index + 1].send(self._network.all_rows(y).asnumpy(), 1)
        return np.array(self._everyone(Tensor(losses)).asnumpy())


def p2p_channels(stages: PipelineGroup) -> dict[int, P2PChannel]:
    """Return the channels to neighbouring stages, by stage."""
    channels = {}
    if stages.before:
        channels[stages.index - 1] = P2PChannel(stages.before, "stage before")
    if stages.after:
        channels[stages.index + 1] = P2PChannel(stages.after, "next stage")
    return channels
