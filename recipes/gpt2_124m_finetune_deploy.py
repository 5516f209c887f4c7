"""A chain: adapters on the published GPT-2 124M, their perplexity, and graphs for MindSpore Lite.

Run it twice: what is done and verified does not run again.
"""

from gpt2dsl import LoRA, Model, Optim, Schedule, Task, Train

trained = (
    Model(size="124m")
    | LoRA(r=64, alpha=128, dropout=0.1, targets="[qv]")
    | Train(batch_size=8, epochs=3, save_every=500)
    | Optim(lr=1e-3)
    | Schedule(end=1e-4)
    | Task.finetune(data="wiki.train.tokens", eval_data="wiki.valid.tokens")
)
evaluated = Train(batch_size=8) | Task.evaluate(data="wiki.test.tokens")

recipe = trained >> evaluated >> Task.export(target="gpt2-lite", format="ms", seq_length=256)
