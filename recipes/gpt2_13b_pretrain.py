"""13B on 32 devices of 30 GB: the values of MindFormers' run_gpt2_13b.yaml.

Corrected: the activation is gelu by erf, with which Cerebras-GPT was trained, not `fast_gelu`;
half precision keeps float32 master weights; softmax is computed in float32; the word table and
the head are split over mp by padding 50,257 rows to 50,304, where there they fall back to one
copy on each device.

Left as the paper and the weights have it, not as the file: parameters begin at 0.02 (there 0.01,
without the smaller residual projections), AdamW corrects its bias (FusedAdamWeightDecay does
not), and seed 0 is a seed (there it means none).
"""

from gpt2dsl import Model, Optim, Parallel, Precision, Runtime, Schedule, Task, Train

recipe = (
    Model(size="13b")
    | Parallel(dp=4, mp=8, optimizer_shard=True, recompute="full")
    | Train(seq_length=2048, epochs=2, save_every=500)
    | Optim(lr=5e-5)
    | Schedule(warmup=2000, end=1e-6)
    | Precision(params="float16", compute="float16")
    | Runtime(device="ascend")
    | Task.pretrain(data="wiki.train.tokens")
)
