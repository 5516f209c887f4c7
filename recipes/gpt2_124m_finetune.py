"""All parameters of the published GPT-2 124M, trained on with a text of your own.

The values of MindFormers' run_gpt2.yaml with run_mode finetune. Corrected: a checkpoint every
500 steps, not at each; the published weights are loaded, where `Trainer.finetune()` without a
checkpoint trains random ones in silence.
"""

from gpt2dsl import Model, Optim, Task, Train

recipe = (
    Model(size="124m")
    | Train(batch_size=4, epochs=3, save_every=500)
    | Optim()
    | Task.finetune(data="wiki.train.tokens", eval_data="wiki.valid.tokens")
)
