"""52B on 128 devices, 16 stages of 8 copies: the values of MindFormers' run_gpt2_52b.yaml.

Corrected: GPT-2's own activation, not `fast_gelu`; half precision keeps float32 master weights;
softmax is computed in float32; layers are shared among the stages evenly, where there the last
one takes the remainder. A warm-up of 2,000 steps is more than small texts have: the plan shows
how many there are.

Left as the paper and the weights have it, not as the file: parameters begin at 0.02 (there 0.01,
without the smaller residual projections), AdamW corrects its bias (FusedAdamWeightDecay does
not), and seed 0 is a seed (there it means none).
"""

from gpt2dsl import Model, Optim, Parallel, Precision, Runtime, Schedule, Task, Train

recipe = (
    Model(size="52b")
    | Parallel(dp=8, pp=16, micro_batches=64, optimizer_shard=True, recompute="full")
    | Train(batch_size=1024, epochs=2, save_every=100)
    | Optim(lr=5e-5)
    | Schedule(warmup=2000, end=1e-6)
    | Precision(params="float16", compute="float16")
    | Runtime(device="ascend")
    | Task.pretrain(data="wiki.train.tokens")
)
