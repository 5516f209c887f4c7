"""Names of files in a folder of weights, and their fates: used or no effect here.

Source: files that transformers 4.57, PEFT, the Hub and MindFormers 0.8 write beside weights.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

from gpt2dsl.schema.fate import KeySpec, no_effect, used

WEIGHTS = "model.safetensors"
INDEX = f"{WEIGHTS}.index.json"
CONFIG = "config.json"
GENERATION = "generation_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
NANOGPT = "ckpt.pt"
OPTIMIZER_STATE = "optimizer.safetensors"
TRAINING_STATE = "state.json"
STRATEGY = "strategy"
"""Folder of MindSpore's strategy files, in the ranks' folder or, as in MindFormers, beside it."""

_OTHER_COPY = "another copy of the weights or of some of them; the files named above are read"
_TRAINER = "the state of another trainer's run"
_DOCUMENT = "documentation"
_UNREADABLE_TOKENIZER = (
    "the vocabulary of a tokenizer other than GPT-2's byte-level BPE; reading text needs "
    "vocab.json or tokenizer.json"
)

FILES: tuple[tuple[str, KeySpec], ...] = (
    (CONFIG, used("the network")),
    (GENERATION, used("defaults of [generation]")),
    (ADAPTER_CONFIG, used("the adapter")),
    ("tokenizer.json", used("the tokenizer")),
    ("tokenizer_config.json", used("the tokenizer's settings")),
    ("special_tokens_map.json", used("the tokenizer's special tokens")),
    ("added_tokens.json", used("the tokenizer's added tokens")),
    ("vocab.json", used("the tokenizer's vocabulary, if there is no tokenizer.json")),
    ("merges.txt", used("the tokenizer's merges, if there is no tokenizer.json")),
    ("chat_template*", used("the chat template, copied with the tokenizer")),
    ("additional_chat_templates", used("chat templates, copied with the tokenizer")),
    ("vocab.txt", no_effect(_UNREADABLE_TOKENIZER)),
    ("*.model", no_effect(_UNREADABLE_TOKENIZER)),
    ("manifest.json", used("checksums of the folder")),
    ("mindspore_model.yaml", used("the network, in MindFormers' form")),
    ("*.yaml", used("the network of the .ckpt with the same name, in MindFormers' form")),
    (STRATEGY, used("how tensors are split over ranks")),
    ("rank_*", used("the tensors of one rank")),
    (OPTIMIZER_STATE, used("the optimizer state, for resuming")),
    (TRAINING_STATE, used("the training state, for resuming")),
    ("*.safetensors", no_effect(_OTHER_COPY)),
    ("*.safetensors.index.json", no_effect(_OTHER_COPY)),
    ("pytorch_model*", no_effect(_OTHER_COPY)),
    ("adapter_model*", no_effect(_OTHER_COPY)),
    ("*.ckpt", no_effect(_OTHER_COPY)),
    ("ckpt*.pt", no_effect(_OTHER_COPY)),
    ("tf_model*", no_effect(_OTHER_COPY)),
    ("flax_model*", no_effect(_OTHER_COPY)),
    ("rust_model.ot", no_effect(_OTHER_COPY)),
    ("64*.tflite", no_effect(_OTHER_COPY)),
    ("*.gguf", no_effect(_OTHER_COPY)),
    ("*.onnx", no_effect(_OTHER_COPY)),
    ("*.onnx_data*", no_effect(_OTHER_COPY)),
    ("onnx", no_effect(_OTHER_COPY)),
    ("openvino*", no_effect(_OTHER_COPY)),
    ("coreml", no_effect(_OTHER_COPY)),
    ("training_args.bin", no_effect(_TRAINER)),
    ("trainer_state.json", no_effect(_TRAINER)),
    ("optimizer.*", no_effect(_TRAINER)),
    ("scheduler.*", no_effect(_TRAINER)),
    ("scaler.pt", no_effect(_TRAINER)),
    ("rng_state*", no_effect(_TRAINER)),
    ("global_step*", no_effect(_TRAINER)),
    ("checkpoint-*", no_effect(_TRAINER)),
    ("runs", no_effect(_TRAINER)),
    ("logs", no_effect(_TRAINER)),
    ("events.out.*", no_effect(_TRAINER)),
    ("all_results.json", no_effect(_TRAINER)),
    ("*_results.json", no_effect(_TRAINER)),
    ("*.md", no_effect(_DOCUMENT)),
    ("LICENSE*", no_effect(_DOCUMENT)),
    ("NOTICE*", no_effect(_DOCUMENT)),
    ("*.png", no_effect(_DOCUMENT)),
    ("*.jpg", no_effect(_DOCUMENT)),
    (".*", no_effect("a hidden file")),
)
"""Pattern of a file's or folder's name → row; the first match wins."""


def file_row(name: str) -> KeySpec | None:
    """Return the row of a file's name; None if no pattern matches."""
    return next((row for pattern, row in FILES if fnmatchcase(name, pattern)), None)
