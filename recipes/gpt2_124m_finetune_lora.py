"""LoRA on the queries and values of the published GPT-2 124M: 2,359,296 trained parameters.

The values of MindFormers' run_gpt2_lora.yaml; its targets `.*dense1.*|.*dense3.*` are the query
and the value. Corrected: a checkpoint every 500 steps, not at each, and of the adapters alone;
they are evaluated and generated with as they were trained, where the file's eval and predict
load plain gpt2.
"""

from gpt2dsl import LoRA, Model, Optim, Schedule, Task, Train

recipe = (
    Model(size="124m")
    | LoRA(r=64, alpha=128, dropout=0.1, targets="[qv]")
    | Train(batch_size=8, epochs=3, save_every=500)
    | Optim(lr=1e-3)
    | Schedule(end=1e-4)
    | Task.finetune(data="wiki.train.tokens", eval_data="wiki.valid.tokens")
)
