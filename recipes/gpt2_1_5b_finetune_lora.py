"""LoRA on the queries and values of the published GPT-2 1.5B: 19,660,800 trained parameters."""

from gpt2dsl import LoRA, Model, Optim, Parallel, Runtime, Schedule, Task, Train

recipe = (
    Model(size="1.5b")
    | LoRA(r=64, alpha=128, dropout=0.1, targets="[qv]")
    | Train(batch_size=64, epochs=2, save_every=500)
    | Optim(lr=5e-4)
    | Schedule(warmup=2000)
    | Parallel(dp=8)
    | Runtime(device="ascend")
    | Task.finetune(data="wiki.train.tokens", eval_data="wiki.valid.tokens")
)
