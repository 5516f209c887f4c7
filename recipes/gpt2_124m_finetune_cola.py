"""CoLA: is a sentence acceptable English? Matthews correlation is its own measure."""

from gpt2dsl import Classifier, Data, Model, Optim, Schedule, Task, Train

recipe = (
    Model(size="124m")
    | Classifier(labels=["unacceptable", "acceptable"])
    | Data(format="cola")
    | Train(batch_size=16, seq_length=64, epochs=1, save_every=500)
    | Optim(lr=5e-5)
    | Schedule(kind="linear", warmup=0.1, end=0.0)
    | Task.finetune(data="cola/in_domain_train.tsv", eval_data="cola/in_domain_dev.tsv")
)
