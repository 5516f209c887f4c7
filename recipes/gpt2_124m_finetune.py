"""All parameters of the published GPT-2 124M, trained on with a text of your own."""

from gpt2dsl import Model, Optim, Task, Train

recipe = (
    Model(size="124m")
    | Train(batch_size=4, epochs=3, save_every=500)
    | Optim()
    | Task.finetune(data="wiki.train.tokens", eval_data="wiki.valid.tokens")
)
