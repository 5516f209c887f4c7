"""MindFormers' side of bench/train.py: MindFormers 0.8.0 on MindSpore 2.0.0 and Python 3.9."""

from __future__ import annotations

import argparse
import json
from typing import Any

import mindformers  # type: ignore[import-not-found]
import mindspore as ms
import numpy as np
from mindformers.core.clip_grad import ClipGradNorm  # type: ignore[import-not-found]
from mindformers.core.optim import FusedAdamWeightDecay  # type: ignore[import-not-found]
from mindspore.nn.learning_rate_schedule import LearningRateSchedule
from train import BETA1, BETA2, CLIP, DECAY, EPS, LR, Ids, Step

from tests.mindformers.inside import widen


class Corrected(LearningRateSchedule):  # type: ignore[misc]
    """The rates with which its optimizer does nearly what torch's does.

    It takes the moments as they are, where Loshchilov & Hutter 2019 correct their bias. These rates
    leave two differences: eps weighs more, and decay changes by their factor. In losses of the
    first six steps that was 3e-3 at most; with eps made smaller it was 5e-6 after one step.
    """

    def __init__(self, steps: int) -> None:
        super().__init__()
        count = np.arange(1, steps + 1)
        rates = LR * np.sqrt(1 - BETA2**count) / (1 - BETA1**count)
        self.rates = ms.Tensor(rates.astype(np.float32))

    def construct(self, global_step: Any) -> Any:
        """``[1] → [1]``."""
        return ms.ops.gather(self.rates, global_step, 0)


class TrainStep(ms.nn.TrainOneStepCell):  # type: ignore[misc]
    """Its MFTrainOneStepCell without the look for overflows, which the CPU has no operator for."""

    def __init__(self, trained: Any, optimizer: Any) -> None:
        super().__init__(trained, optimizer)
        self.clip = ClipGradNorm(CLIP)

    def construct(self, ids: Any) -> Any:
        """The loss, given after the update."""
        loss = self.network(ids)
        gradients = self.grad(self.network, self.weights)(ids, ms.ops.ones_like(loss))
        clipped, _ = self.clip(gradients)
        return ms.ops.depend(loss, self.optimizer(clipped))


def network(args: argparse.Namespace) -> Any:
    """Its network in float32, with as many positions as there are tokens."""
    config = json.loads((args.folder / "config.json").read_text())
    found = mindformers.GPT2LMHeadModel(
        mindformers.GPT2Config(
            num_layers=config["n_layer"], num_heads=config["n_head"], hidden_size=config["n_embd"],
            vocab_size=config["vocab_size"], seq_length=args.tokens, compute_dtype="float32",
            embedding_dropout_prob=0.0, hidden_dropout_rate=0.0, attention_dropout_rate=0.0,
        )
    )  # fmt: skip
    widen(found)
    weights = ms.load_checkpoint(str(args.folder / "mindformers.ckpt"))
    for one in found.trainable_params():
        values = weights[one.name].asnumpy()
        position = "position_embedding" in one.name
        one.set_data(ms.Tensor(values[: args.tokens] if position else values))
    return found


def side(args: argparse.Namespace) -> Step:
    """Its network, clip and optimizer, those of its run_gpt2.yaml."""
    ms.set_context(mode=ms.GRAPH_MODE, device_target="CPU")
    trained = network(args)
    parameters = trained.trainable_params()
    groups = [
        {"params": [p for p in parameters if len(p.shape) > 1], "weight_decay": DECAY},
        {"params": [p for p in parameters if len(p.shape) == 1], "weight_decay": 0.0},
    ]
    rate = Corrected(args.warmup + args.steps)
    optimizer = FusedAdamWeightDecay(groups, rate, BETA1, BETA2, EPS)
    trainer = TrainStep(trained, optimizer).set_train()

    def step(ids: Ids) -> float:
        return float(trainer(ms.Tensor(ids)).asnumpy())

    return step
