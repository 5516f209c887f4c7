"""Keys of nanoGPT's ckpt.pt and of its model_args, and their fates."""

from __future__ import annotations

from gpt2dsl.schema.fate import Table, no_effect, used

MODEL_ARGS: Table = {
    "n_layer": used("blocks"),
    "n_head": used("heads"),
    "n_embd": used("width"),
    "block_size": used("positions"),
    "vocab_size": used("rows of the word table"),
    "bias": used("whether linears and layer norms have biases; without them they are zero here"),
    "dropout": used("dropout in training"),
}

_TRAINING = "the state of nanoGPT's training, which does not go on here"

TABLE: Table = {
    "model_args": used("the network"),
    "optimizer": no_effect(_TRAINING),
    "iter_num": no_effect(_TRAINING),
    "best_val_loss": no_effect(_TRAINING),
    "config": no_effect("the settings of the training script"),
}
