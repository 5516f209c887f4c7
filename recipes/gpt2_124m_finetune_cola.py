"""CoLA: is a sentence acceptable English? Matthews correlation is its own measure.

The values of MindFormers' run_gpt2_txtcls.yaml. Corrected: the published weights are loaded,
where the file has none and trains random ones; the classes have names; its first row is no
header, and counts; 64 tokens hold its sentences, where there each row is padded to 1,024.
"""

from gpt2dsl import Classifier, Data, Model, Optim, Schedule, Task, Train

recipe = (
    Model(size="124m")
    | Classifier(labels=["unacceptable", "acceptable"])
    | Data(format="cola")
    | Train(batch_size=16, seq_length=64, epochs=1, save_every=500)
    | Optim()
    | Schedule()
    | Task.finetune(data="cola/in_domain_train.tsv", eval_data="cola/in_domain_dev.tsv")
)
