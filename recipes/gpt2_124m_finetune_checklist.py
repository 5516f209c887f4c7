"""A check-list to copy: each value that a fine-tuning of your own should decide on, and how.

Copy it, replace what is not yours, and delete the comments that you have answered.
"""

from gpt2dsl import (
    Data,
    Generation,
    LoRA,
    Model,
    Optim,
    Parallel,
    Precision,
    Runtime,
    Schedule,
    Task,
    Train,
)

recipe = (
    # Which weights? A size has its published ones; or a run, a folder, a file, a name on the Hub.
    Model(size="124m", weights="auto", dropout=0.1)
    # Adapters or all parameters? Without LoRA all are trained, with their moments in memory.
    | LoRA(r=8, alpha=16, targets="c_attn")
    # How does the data come? text, jsonl, csv, tsv, wikitext, mindrecord; how many bad rows may be?
    | Data(format="text", max_bad_rows=0)
    # Batch: rows of a step over all devices. Length: tokens of a row, at most the positions.
    # How often is it evaluated and saved, and when does it stop? Is the best checkpoint kept?
    | Train(
        batch_size=8,
        seq_length=1024,
        epochs=3,
        evaluate_every=200,
        save_every=200,
        best=True,
        patience=3,
        seed=1,
    )
    # Adapters want ten times the rate of all parameters: 1e-4 to 1e-3.
    | Optim(lr=1e-3, weight_decay=0.0)
    # A warm-up is a share of the steps below 1, else a number of steps.
    | Schedule(kind="cosine", warmup=0.03, end=1e-5)
    # float16 needs Ascend or a GPU to be faster; bfloat16 computes nothing on a CPU.
    | Precision(params="float32", compute="float32")
    # Does it fit? `gpt2dsl plan` says; micro_batches and recompute trade time for memory.
    | Parallel(dp=1, micro_batches=1, recompute="none")
    # How do the samples of the report read?
    | Generation(max_new_tokens=40, do_sample=False)
    # Where does it run, and where do runs go?
    | Runtime(device="cpu", output="runs")
    # What is it trained on, and what has it never seen?
    | Task.finetune(data="train.txt", eval_data="held-out.txt")
)
