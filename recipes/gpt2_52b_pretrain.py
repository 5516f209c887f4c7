"""52B on 128 devices, 16 stages of 8 copies: the values of MindFormers' run_gpt2_52b.yaml."""

from gpt2dsl import Model, Optim, Parallel, Precision, Runtime, Schedule, Task, Train

recipe = (
    Model(size="52b")
    | Parallel(dp=8, pp=16, micro_batches=64, optimizer_shard=True, recompute="full")
    | Train(batch_size=1024, epochs=2, save_every=100)
    | Optim(lr=5e-05)
    | Schedule(warmup=2000, end=1e-06)
    | Precision(params="float16", compute="float16")
    | Runtime(device="ascend")
    | Task.pretrain(data="wiki.train.tokens")
)
