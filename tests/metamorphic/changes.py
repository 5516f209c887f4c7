"""Changes to a project after it was run: keys of its recipe, bytes of its files, files beside."""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import attrs

from gpt2dsl.parts import TASKS
from tests.metamorphic.projects import INPUTS, Project, Table

KEYS: Mapping[str, Sequence[Any]] = {
    "model.size": ["nano", "124m"],
    "model.layers": [1, 2],
    "model.heads": [1],
    "model.hidden": [16],
    "model.positions": [12, 24],
    "model.vocab": [264, 280],
    "model.inner": [16],
    "model.activation": ["relu", "gelu"],
    "model.dropout": [0.0, 0.2],
    "model.weights": ["m2", "m", "a"],
    "model.allow_missing": ["ln_f"],
    "lora.r": [1, 3],
    "lora.alpha": [8, 16],
    "lora.dropout": [0.1],
    "lora.targets": ["c_proj", "c_attn|c_fc"],
    "lora.rslora": [True, False],
    "lora.rank_pattern": [{"c_attn": 3}],
    "lora.alpha_pattern": [{"c_attn": 5.0}],
    "classifier.labels": [["sun", "rain"], ["rain", "snow"], 3],
    "data.format": ["text", "csv", "tsv"],
    "data.tokenizer": ["m", "auto", "m2"],
    "data.vocab": [265, 280],
    "data.text_column": ["label", 0],
    "data.label_column": ["text", 1],
    "data.header": [False, True],
    "data.quotes": [False, True],
    "data.max_bad_rows": [2],
    "train.batch_size": [1, 4],
    "train.seq_length": [4, 12],
    "train.epochs": [1],
    "train.steps": [2, 3, 6],
    "train.clip": [0.0, 0.1],
    "train.seed": [1],
    "train.evaluate_every": [1, 2],
    "train.save_every": [0, 1, 3],
    "train.keep": [1, 2],
    "train.best": [True, False],
    "train.patience": [1, 2],
    "train.resume": ["never", "auto"],
    "train.async_save": [False],
    "train.export": ["hf"],
    "optim.name": ["sgd"],
    "optim.lr": [0.02],
    "optim.beta1": [0.5],
    "optim.beta2": [0.5],
    "optim.eps": [1e-3],
    "optim.momentum": [0.5],
    "optim.bias_correction": [False],
    "optim.weight_decay": [0.0],
    "schedule.kind": ["constant", "cosine", "linear"],
    "schedule.warmup": [2, 0.5],
    "schedule.end": [0.001],
    "schedule.power": [2.0],
    "schedule.cycles": [2],
    "precision.params": ["float16", "bfloat16"],
    "precision.compute": ["float16", "float32"],
    "precision.loss_scale": ["none", "dynamic"],
    "generation.max_new_tokens": [2, 5],
    "generation.max_length": [9],
    "generation.min_new_tokens": [1],
    "generation.min_length": [2],
    "generation.do_sample": [True, False],
    "generation.temperature": [0.5],
    "generation.top_k": [3],
    "generation.top_p": [0.5],
    "generation.min_p": [0.1],
    "generation.typical_p": [0.5],
    "generation.epsilon_cutoff": [0.1],
    "generation.eta_cutoff": [0.1],
    "generation.repetition_penalty": [1.5],
    "generation.encoder_repetition_penalty": [1.5],
    "generation.no_repeat_ngram_size": [2],
    "generation.encoder_no_repeat_ngram_size": [2],
    "generation.bad_words": [["a"]],
    "generation.bad_words_ids": [[[5]]],
    "generation.suppress_tokens": [[7]],
    "generation.begin_suppress_tokens": [[9]],
    "generation.sequence_bias": [[[[5], 9.0]]],
    "generation.forced_bos_token_id": [3],
    "generation.forced_eos_token_id": [[3]],
    "generation.exponential_decay_length_penalty": [[1, 1.5]],
    "generation.remove_invalid_values": [True],
    "generation.renormalize_logits": [True],
    "generation.stop_strings": [["e"]],
    "generation.eos": [[3]],
    "generation.beams": [2],
    "generation.length_penalty": [2.0],
    "generation.early_stopping": [True, "never"],
    "generation.num_return_sequences": [2],
    "generation.logprobs": [1],
    "generation.seed": [3],
    "generation.stream": [True],
    "runtime.device": ["cpu"],
    "runtime.rank_table": [""],
    "runtime.tensorboard": [True],
    "runtime.output": ["elsewhere"],
    "runtime.peak_flops": [1e12],
    "parallel.dp": [2],
    "parallel.mp": [1, 2],
    "parallel.pp": [1],
    "parallel.micro_batches": [2],
    "parallel.optimizer_shard": [True],
    "parallel.sequence_parallel": [True],
    "parallel.recompute": ["full", "selective"],
    "parallel.devices": [1],
    "parallel.memory": ["1GB"],
    "task.kind": ["pretrain", "finetune"],
    "task.data": ["valid.txt", "more.csv"],
    "task.eval_data": ["train.txt", "", "rows.csv"],
    "task.metrics": [["perplexity"]],
    "task.prompts": [["the"], "valid.txt"],
    "task.texts": [["the"], "valid.txt"],
    "task.source": ["m2", "a"],
    "task.target": ["elsewhere"],
    "task.to": ["mindformers", "hf"],
    "task.dtype": ["float16"],
    "task.merge": [True, False],
    "task.max_shard_size": ["8KB"],
    "task.layout": [{"mp": 1, "pp": 1}, {"dp": 2}],
    "task.source_layout": [{"mp": 1}],
    "task.source_strategy": ["m"],
    "task.optimizer": [True],
    "task.format": ["mindir"],
    "task.seq_length": [8],
    "task.batch": [2],
    "task.cache": [True],
    "task.ge": ["910B"],
    "task.name": ["other"],
    "task.host": ["localhost"],
    "task.port": [0],
    "task.allowed_hosts": [["example.org"]],
    "task.cors": [["*"]],
    "task.queue": [1],
    "task.cache_mb": [0],
    "task.template": ["valid.txt"],
    "task.warmup": [False],
    "task.max_body": [1000],
    "task.max_stops": [0],
    "task.grace": [1.5],
}
"""Key of a recipe → values that differ from those of the projects, and some that do not."""

SLOW = frozenset({"parallel.dp", "parallel.mp"})
"""Keys whose values take processes of their own."""

BESIDE: Mapping[str, Mapping[str, Sequence[Any]]] = {
    "config.json": {
        "activation_function": ["relu", "silu"],
        "layer_norm_epsilon": [0.1],
        "resid_pdrop": [0.3],
        "embd_pdrop": [0.3],
        "attn_pdrop": [0.3],
        "scale_attn_weights": [False],
        "scale_attn_by_inverse_layer_idx": [True],
        "reorder_and_upcast_attn": [True],
        "n_head": [1, 4],
        "n_layer": [2],
        "n_positions": [12],
        "n_inner": [16],
        "vocab_size": [260],
        "bos_token_id": [5, None],
        "eos_token_id": [5, None],
        "pad_token_id": [5],
        "tie_word_embeddings": [False],
        "id2label": [{"0": "sun", "1": "rain"}],
        "problem_type": ["multi_label_classification"],
        "model_type": ["gptj"],
        "a_key_of_nobody": [1],
        "max_length": [7],
        "_name_or_path": ["elsewhere"],
        "transformers_version": ["4.0.0"],
    },
    "generation_config.json": {
        "eos_token_id": [5],
        "bos_token_id": [5],
        "pad_token_id": [5],
        "max_new_tokens": [2],
        "num_beams": [2],
        "do_sample": [True],
        "temperature": [0.3],
        "repetition_penalty": [2.0],
        "suppress_tokens": [[3, 4]],
        "a_key_of_nobody": [1],
        "transformers_version": ["4.0.0"],
    },
    "tokenizer_config.json": {
        "add_prefix_space": [True],
        "add_bos_token": [True],
        "bos_token": ["!"],
        "eos_token": ["!"],
        "pad_token": ["!"],
        "clean_up_tokenization_spaces": [True],
        "errors": ["ignore"],
        "model_max_length": [4],
        "tokenizer_class": ["LlamaTokenizer", "GPT2Tokenizer"],
        "chat_template": ["{{ messages }}"],
        "a_key_of_nobody": [1],
    },
    "special_tokens_map.json": {"eos_token": ["!"], "unk_token": ["!"], "pad_token": ["!"]},
    "tokenizer.json": {"normalizer": [{"type": "Lowercase"}], "truncation": [None]},
    "vocab.json": {"the": [0]},
    "adapter_config.json": {
        "r": [4],
        "lora_alpha": [7],
        "lora_dropout": [0.2],
        "use_rslora": [True],
        "fan_in_fan_out": [False],
        "target_modules": [["c_proj"]],
        "peft_type": ["IA3"],
        "base_model_name_or_path": ["m2"],
        "a_key_of_nobody": [1],
    },
}
"""File beside weights → key → values; others than those that the projects have."""

ADDED: Mapping[str, str] = {
    "added_tokens.json": '{"<x>": 263}',
    "chat_template.jinja": "{{ messages }}",
    "README.md": "A model.",
    "pytorch_model.bin": "not weights",
    "model.safetensors.index.json": '{"weight_map": {}}',
}
"""Files that may come to lie beside weights."""


@attrs.frozen
class Change:
    """One change.

    Attributes:
        names: words of which a refusal has to say one.
        key: of the recipe, changed to ``value`` in the stage of that number.
        file: relative to the project.
        content: of the file now; None for one that is gone.
        keeps_time: whether the file's time of change is put back.
    """

    names: tuple[str, ...]
    key: str = ""
    value: Any = None
    stage: int = 0
    file: str = ""
    content: bytes | None = attrs.field(default=None, repr=lambda data: f"{len(data or b'')} bytes")
    keeps_time: bool = False

    @property
    def is_numerical(self) -> bool:
        """Whether results may differ by rounding, as between layouts of ranks."""
        return self.key.startswith("parallel.")

    def apply(self, project: Project, folder: Path) -> None:
        """Make it in a copy of the project."""
        if self.key:
            stages = copy.deepcopy(project.stages)
            part, _, name = self.key.partition(".")
            table: Table = stages[self.stage].setdefault(part, {})
            for other in {"steps": ["epochs"], "epochs": ["steps"]}.get(name, []):
                table.pop(other, None)
            table[name] = self.value
            project.write(folder, stages)
            return
        path = folder / self.file
        if self.content is None:
            path.unlink()
            return
        times = path.stat() if path.exists() else None
        path.write_bytes(self.content)
        if times and self.keeps_time:
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def change(rng: Random, project: Project, inputs: Path) -> Change:
    """Draw a change to a project.

    Args:
        rng: what it is drawn with.
        project: the kind of run.
        inputs: where ``make_inputs`` has written what it reads.
    """
    return _of_key(rng, project) if rng.random() < 0.4 else _of_file(rng, project, inputs)


def _of_key(rng: Random, project: Project) -> Change:
    stage = rng.randrange(len(project.stages))
    tables = project.stages[stage]
    own = {"kind", *TASKS[tables["task"]["kind"]].rules()}
    keys = [key for key in KEYS if key not in SLOW or rng.random() < 0.1]
    parts = {key: key.partition(".")[::2] for key in keys}
    applicable = [
        key
        for key, (part, name) in parts.items()
        if (part != "task" or name in own)
        and (part not in ("lora", "classifier") or part in tables)
    ]
    key = rng.choice(applicable)
    return Change((key, parts[key][1], f"stage {stage + 1}"), key, rng.choice(KEYS[key]), stage)


def _of_file(rng: Random, project: Project, inputs: Path) -> Change:
    names = sorted(project.reads) if rng.random() < 0.9 else INPUTS
    folder = inputs / rng.choice(names)
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()] or [folder]
    path = rng.choice(files)
    place = path.relative_to(inputs)
    content = path.read_bytes()
    words: tuple[str, ...] = (place.name, place.parts[0])
    kind = rng.choice(["byte", "byte", "key", "key", "key", "gone", "added", "cut", "reversed"])
    changed: bytes | None = content
    if kind == "key" and place.name in BESIDE:
        key = rng.choice(sorted(BESIDE[place.name]))
        document = json.loads(content) | {key: rng.choice(BESIDE[place.name][key])}
        changed, words = json.dumps(document, indent=2).encode(), (*words, key)
    elif kind == "added" and folder.is_dir():
        name = rng.choice(sorted(ADDED))
        place, changed, words = place.parent / name, ADDED[name].encode(), (name, *words)
    elif kind == "gone":
        changed = None
    elif kind == "cut":
        changed = content[: rng.randrange(len(content))]
    elif kind == "reversed" and path.suffix in (".txt", ".csv"):
        lines = content.splitlines(keepends=True)
        changed = b"".join(lines[:1] + lines[:0:-1])
    else:
        flipped = bytearray(content)
        flipped[rng.randrange(len(content))] ^= rng.choice([1, 2, 4, 32, 128])
        changed = bytes(flipped)
    return Change(words, file=str(place), content=changed, keeps_time=rng.random() < 0.5)


def relink(folder: Path) -> None:
    """Put what a project reads elsewhere, and links in its place."""
    elsewhere = folder / ".elsewhere"
    elsewhere.mkdir()
    for name in INPUTS:
        shutil.move(folder / name, elsewhere / name)
        (folder / name).symlink_to(elsewhere / name)


def touch(folder: Path) -> None:
    """Give every file another time."""
    for path in folder.rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
