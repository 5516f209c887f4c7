"""AG-News: what is a piece of news about?

The values of MindFormers' run_gpt2_txtcls.yaml. Corrected: the published weights are loaded,
where the file has none and trains random ones; the classes have names; there are four, not the
file's two; 256 tokens are read, where there each row is padded to 1,024.
"""

from gpt2dsl import Classifier, Data, Model, Optim, Schedule, Task, Train

recipe = (
    Model(size="124m")
    | Classifier(labels=["World", "Sports", "Business", "Sci/Tech"])
    | Data(format="agnews")
    | Train(batch_size=16, seq_length=256, epochs=1, save_every=500)
    | Optim()
    | Schedule()
    | Task.finetune(data="ag_news/train.csv", eval_data="ag_news/test.csv")
)
