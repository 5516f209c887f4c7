"""13B on 32 devices: the values of MindFormers' run_gpt2_13b.yaml, with Cerebras-GPT's network."""

from gpt2dsl import Model, Optim, Parallel, Precision, Runtime, Schedule, Task, Train

recipe = (
    Model(size="13b")
    | Parallel(dp=4, mp=8, optimizer_shard=True, recompute="full")
    | Train(seq_length=2048, epochs=2, save_every=500)
    | Optim(lr=5e-05)
    | Schedule(warmup=2000, end=1e-06)
    | Precision(params="float16", compute="float16")
    | Runtime(device="ascend")
    | Task.pretrain(data="wiki.train.tokens")
)
