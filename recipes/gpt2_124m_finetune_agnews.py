"""AG-News: what is a piece of news about?"""

from gpt2dsl import Classifier, Data, Model, Optim, Schedule, Task, Train

recipe = (
    Model(size="124m")
    | Classifier(labels=["World", "Sports", "Business", "Sci/Tech"])
    | Data(format="agnews")
    | Train(batch_size=16, seq_length=256, epochs=1, save_every=500)
    | Optim(lr=5e-5)
    | Schedule(kind="linear", warmup=0.1, end=0.0)
    | Task.finetune(data="ag_news/train.csv", eval_data="ag_news/test.csv")
)
