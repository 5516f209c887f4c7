"""GPT-2 124M from new weights, with the values of MindFormers' run_gpt2.yaml."""

from gpt2dsl import Model, Optim, Schedule, Task, Train

recipe = (
    Model(size="124m")
    | Train(batch_size=4, epochs=3, save_every=500)
    | Optim()
    | Schedule()
    | Task.pretrain(data="wiki.train.tokens", eval_data="wiki.valid.tokens")
)
