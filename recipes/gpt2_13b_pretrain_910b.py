"""13B on 8 devices of 59 GB (Ascend 910B): the values of MindFormers' run_gpt2_13b_910b.yaml.

Corrected: the activation is gelu by erf, with which Cerebras-GPT was trained, not `fast_gelu`;
half precision keeps float32 master weights; softmax is computed in float32; the layout is dp 2 x
mp 4 in 4 micro-batches, where its dp 8 needs 148 GB a device.

Left as the paper and the weights have it, not as the file: parameters begin at 0.02 (there 0.01,
without the smaller residual projections), AdamW corrects its bias (FusedAdamWeightDecay does
not), and seed 0 is a seed (there it means none).
"""

from gpt2dsl import Model, Optim, Parallel, Precision, Runtime, Schedule, Task, Train

recipe = (
    Model(size="13b")
    | Parallel(dp=2, mp=4, micro_batches=4, optimizer_shard=True, recompute="full")
    | Train(batch_size=16, seq_length=2048, epochs=2, save_every=500)
    | Optim(lr=5e-5)
    | Schedule(end=1e-6)
    | Precision(params="float16", compute="float16")
    | Runtime(device="ascend")
    | Task.pretrain(data="wiki.train.tokens")
)
