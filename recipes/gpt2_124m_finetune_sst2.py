"""SST-2: is a review good or bad?

The values of MindFormers' run_gpt2_txtcls.yaml. Corrected: the published weights are loaded,
where the file has none and trains random ones; the classes have names; 128 tokens hold its
sentences, where there each row is padded to 1,024.
"""

from gpt2dsl import Classifier, Data, Model, Optim, Schedule, Task, Train

recipe = (
    Model(size="124m")
    | Classifier(labels=["negative", "positive"])
    | Data(format="sst2")
    | Train(batch_size=16, seq_length=128, epochs=1, save_every=500)
    | Optim()
    | Schedule()
    | Task.finetune(data="SST-2/train.tsv", eval_data="SST-2/dev.tsv")
)
