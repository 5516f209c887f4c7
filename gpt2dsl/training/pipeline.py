"""Pipeline parallel training: passes of a stage, transfers between stages.

A stage's backward pass recomputes its forward pass, so only the input of a micro-batch is saved.
Letters in shapes are those of gpt2.py.
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
from gpt2dsl.model.forward import ForwardState, MicroBatch
from gpt2dsl.model.gpt2 import GPT2
from gpt2dsl.training.forward_backward import ForwardBackward
from gpt2dsl.training.gradients import Gradients

Array = NDArray[np.float32]
MOST_MICRO_BATCHES = 2**14
"""Limit per step, so that every transfer has a unique tag that float32 represents exactly."""


class P2PChannel:
    """Point-to-point channel to a neighbouring stage: an all-reduce in which one side adds zeros.

    It is exact on every device. MindSpore's CPU collectives match by call order alone and don't
    notice differing sizes, so each message begins and ends with a tag, which the receiver checks.
    """

    def __init__(self, group: str, peer: str) -> None:
        self._peer, self._sum = peer, P.AllReduce(group=group)

    def send(self, array: Array, tag: int) -> None:
        """Send an array; return when it has arrived."""
        marker = np.array([tag], np.float32)
        self._sum(Tensor(np.concatenate([marker, array.reshape(-1), marker]))).asnumpy()

    def receive(self, shape: tuple[int, ...], tag: int) -> Array:
        """Receive an array.

        Raises:
            RunError: the message is not the one that the schedule expects (G2-402).
        """
        size = int(np.prod(shape))
        message = self._sum(Tensor(np.zeros(size + 2, np.float32))).asnumpy()
        if not message[0] == message[-1] == tag:
            mismatch = f"expected transfer {tag}, found {message[0]:g} and {message[-1]:g}"
            raise RunError("G2-402", f"the {self._peer} sent something else: {mismatch}")
        return np.array(message[1:-1]).reshape(shape)


class Pipeline:
    """Execution of the pipeline schedule on this rank's stage.

    Args:
        network: the stage's part of the network.
        micro_batches: number of micro-batches per step.
    """

    def __init__(self, network: GPT2, micro_batches: int) -> None:
        self._network, self._passes = network, ForwardBackward(network)
        self._group = group = network.pipeline_group
        self._hidden = network.config.hidden
        self._actions = schedule(group.size, micro_batches)[group.index]
        self._channels = p2p_channels(group)
        self._steps = 0

    def run(self, batch: Iterable[MicroBatch], scale: float, gradients: Gradients) -> float:
        """Accumulate a batch's gradients; return the scaled loss on the last stage, else 0."""
        self._steps += 1
        work = _Work(iter(batch), gradients)
        loss = 0.0
        for action in self._actions:
            if action.kind == FORWARD:
                self._forward(work, action.micro)
            elif action.kind == BACKWARD and self._group.is_last:
                loss += self._backward_from_loss(work, action.micro, scale)
            elif action.kind == BACKWARD:
                self._backward_stage(work, action.micro)
            else:
                self._transfer(work, action)
        return loss

    def _forward(self, work: _Work, micro: int) -> None:
        state = self._run(work.micro_batch(micro), work.inputs.get(micro), saves=False)
        work.ready[FORWARD, micro] = self._network.gather_rows(state.x).asnumpy()

    def _backward_stage(self, work: _Work, micro: int) -> None:
        state = self._run(work.take(micro), work.inputs.pop(micro, None))
        dout = self._network.scatter_rows(Tensor(work.output_grads.pop(micro)))
        self._backward(work, micro, state, dout)

    def _backward_from_loss(self, work: _Work, micro: int, scale: float) -> float:
        micro_batch = work.take(micro)
        state = self._run(micro_batch, work.inputs.pop(micro))
        loss, dx = self._passes.loss(
            state, micro_batch.labels, scale * micro_batch.weight, work.gradients
        )
        self._backward(work, micro, state, dx)
        return loss

    def _backward(self, work: _Work, micro: int, state: ForwardState, dout: Tensor) -> None:
        dx = self._passes.backward(state, dout, work.gradients)
        if self._group.index:
            work.ready[BACKWARD, micro] = self._network.gather_rows(dx).asnumpy()

    def _run(self, micro_batch: MicroBatch, x: Array | None, *, saves: bool = True) -> ForwardState:
        hidden = None if x is None else Tensor(x)
        return self._passes.forward(micro_batch, hidden, saves=saves)

    def _transfer(self, work: _Work, action: PipelineAction) -> None:
        sends = action.kind == SEND
        direction = FORWARD if sends == (action.peer > self._group.index) else BACKWARD
        transfer = (self._steps % 500) * 2 + (direction == FORWARD)
        tag = transfer * MOST_MICRO_BATCHES + action.micro + 1
        channel = self._channels[action.peer]
        if sends:
            channel.send(work.ready.pop((direction, action.micro)), tag)
            return
        shape = (work.micro_batch(action.micro).ids.size, self._hidden)  # [b t, h]
        into = work.inputs if direction == FORWARD else work.output_grads
        into[action.micro] = channel.receive(shape, tag)


class _Work:
    """A stage's state of the micro-batches in flight, by number.

    Attributes:
        gradients: accumulators of the parameters' gradients.
        inputs: activations received from the previous stage.
        output_grads: gradients received from the next stage.
        ready: tensors to be sent.
    """

    def __init__(self, batch: Iterator[MicroBatch], gradients: Gradients) -> None:
        self._batch, self.gradients = enumerate(batch), gradients
        self._micro_batches: dict[int, MicroBatch] = {}
        self.inputs: dict[int, Array] = {}
        self.output_grads: dict[int, Array] = {}
        self.ready: dict[tuple[str, int], Array] = {}

    def micro_batch(self, micro: int) -> MicroBatch:
        """Return a micro-batch; they are drawn from the batch in order, on first use."""
        while micro not in self._micro_batches:
            number, micro_batch = next(self._batch)
            self._micro_batches[number] = micro_batch
        return self._micro_batches[micro]

    def take(self, micro: int) -> MicroBatch:
        """Return a micro-batch and forget it."""
        self.micro_batch(micro)
        return self._micro_batches.pop(micro)


def p2p_channels(group: PipelineGroup) -> dict[int, P2PChannel]:
    """Return the channels to neighbouring stages, by stage."""
    channels = {}
    if group.previous:
        channels[group.index - 1] = P2PChannel(group.previous, "stage before")
    if group.next:
        channels[group.index + 1] = P2PChannel(group.next, "next stage")
    return channels
