"""LoRA on the queries and values of the published GPT-2 1.5B on 8 devices: 19,660,800 parameters.

The values of MindFormers' run_gpt2_xl_lora.yaml. Corrected: GPT-2's own activation, not
`fast_gelu`, with which the published weights drift in silence; the adapters are trained in
float32, and saved alone.
"""

from gpt2dsl import LoRA, Model, Optim, Parallel, Precision, Runtime, Schedule, Task, Train

recipe = (
    Model(size="1.5b")
    | LoRA(r=64, alpha=128, dropout=0.1, targets="[qv]")
    | Parallel(dp=8, optimizer_shard=True, recompute="full")
    | Train(batch_size=64, epochs=2, save_every=500)
    | Optim(lr=5e-4)
    | Schedule(warmup=2000)
    | Precision(params="float16", compute="float16")
    | Runtime(device="ascend")
    | Task.finetune(data="wiki.train.tokens", eval_data="wiki.valid.tokens")
)
