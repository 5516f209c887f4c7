"""IMDB: is a review good or bad? Long texts: the first 512 tokens are read."""

from gpt2dsl import Classifier, Data, Model, Optim, Schedule, Task, Train

recipe = (
    Model(size="124m")
    | Classifier(labels=["negative", "positive"])
    | Data(format="imdb")
    | Train(batch_size=16, seq_length=512, epochs=1, save_every=500)
    | Optim(lr=5e-5)
    | Schedule(kind="linear", warmup=0.1, end=0.0)
    | Task.finetune(data="imdb/train.csv", eval_data="imdb/test.csv")
)
