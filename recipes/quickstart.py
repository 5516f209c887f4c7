"""Trains a small model on English text that every Python carries, in about two minutes."""

from gpt2dsl import Data, Generation, Model, Optim, Schedule, Task, Train

recipe = (
    Model(size="nano")
    | Data(tokenizer="train", vocab=4096)
    | Train(seq_length=128, steps=1000, evaluate_every=250)
    | Optim(lr=0.0015)
    | Schedule(kind="cosine", warmup=0.05, end=0.0001)
    | Generation(max_new_tokens=40)
    | Task.pretrain(data="sample:train", eval_data="sample:valid")
)
