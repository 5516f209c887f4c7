"""GPT-2 124M from new weights: the values of MindFormers' run_gpt2.yaml.

Corrected: a checkpoint every 500 steps; the file writes one, with the optimizer's state, at each
step.

Left as the paper and the weights have it, not as the file: parameters begin at 0.02 (there 0.01,
without the smaller residual projections), AdamW corrects its bias (FusedAdamWeightDecay does
not), and seed 0 is a seed (there it means none).
"""

from gpt2dsl import Model, Optim, Schedule, Task, Train

recipe = (
    Model(size="124m")
    | Train(batch_size=4, epochs=3, save_every=500)
    | Optim()
    | Schedule()
    | Task.pretrain(data="wiki.train.tokens", eval_data="wiki.valid.tokens")
)
