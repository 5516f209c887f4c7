"""SST-2: is a review good or bad?"""

from gpt2dsl import Classifier, Data, Model, Optim, Schedule, Task, Train

recipe = (
    Model(size="124m")
    | Classifier(labels=["negative", "positive"])
    | Data(format="sst2")
    | Train(batch_size=16, seq_length=128, epochs=1, save_every=500)
    | Optim(lr=5e-5)
    | Schedule(kind="linear", warmup=0.1, end=0.0)
    | Task.finetune(data="SST-2/train.tsv", eval_data="SST-2/dev.tsv")
)
