"""IMDB: is a review good or bad?

The values of MindFormers' run_gpt2_txtcls.yaml. Corrected: the published weights are loaded,
where the file has none and trains random ones; the classes have names; the first 512 tokens of a
long review are read, where there it breaks its batch; an unknown label is an error, not a 0.
"""

from gpt2dsl import Classifier, Data, Model, Optim, Schedule, Task, Train

recipe = (
    Model(size="124m")
    | Classifier(labels=["negative", "positive"])
    | Data(format="imdb")
    | Train(batch_size=16, seq_length=512, epochs=1, save_every=500)
    | Optim()
    | Schedule()
    | Task.finetune(data="imdb/train.csv", eval_data="imdb/test.csv")
)
