"""Trains a small model on a novel that comes with gpt2dsl, in one to three minutes."""

from gpt2dsl import Data, Generation, Model, Optim, Schedule, Task, Train

recipe = (
    Model(size="nano", dropout=0.0)
    | Data(tokenizer="train", vocab=4096)
    | Train(seq_length=128, steps=400, evaluate_every=100)
    | Optim(lr=0.004)
    | Schedule(kind="cosine", warmup=0.05, end=0.0001)
    | Generation(max_new_tokens=40)
    | Task.pretrain(data="sample:train", eval_data="sample:valid")
)
