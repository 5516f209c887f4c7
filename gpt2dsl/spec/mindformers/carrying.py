"""Conversion of a MindFormers configuration to a recipe, by MindFormers' own rules."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from gpt2dsl.errors import Fault, SpecError
from gpt2dsl.parts import Part
from gpt2dsl.parts.model import SIZES
from gpt2dsl.spec import read
from gpt2dsl.spec.mindformers import keys, names
from gpt2dsl.spec.mindformers.document import ConfigEntry
from gpt2dsl.spec.mindformers.key_reader import CARRIED, ImportedKey, KeyReader
from gpt2dsl.spec.tables import Value, structure
from gpt2dsl.weights.formats.settings import ACTIVATIONS

OPTIONAL = ("task", "lora", "classifier")
"""Tables that have a meaning even when they are empty."""

_CONFIG = "model.model_config."
_PET = f"{_CONFIG}pet_config."
_SAVING = "callbacks[CheckpointMointor]."


@attrs.frozen
class Imported:
    """Tables of the recipe, and the fate of each key of the configuration."""

    tables: Mapping[str, Mapping[str, Any]]
    lines: tuple[ImportedKey, ...]

    def parts(self) -> list[Part]:
        """Return the parts of the recipe, without those that are all defaults.

        Raises:
            SpecError: values are invalid in a recipe; it has all of them.
        """
        values = {
            f"{table}.{key}": Value(value, "imported")
            for table, keys in self.tables.items()
            for key, value in keys.items()
        }
        parts, faults = structure(read.values(values))
        if faults:
            raise SpecError(faults)
        return [part for name, part in parts.items() if part.changed() or name in OPTIONAL]


def carry(entries: Iterable[ConfigEntry], devices: int | None = None) -> Imported:
    """Return the recipe of a configuration.

    Args:
        entries: entries of the YAML, then of the command line: the last one of a key counts.
        devices: devices of the job, for data parallelism; None for those of the configuration.

    Raises:
        SpecError: keys are unknown or values can't be carried over; it has all of them.
    """
    return _Carrier({entry.key: entry for entry in entries}, devices).imported()


class _Carrier(KeyReader):
    """Converter that moves values to the recipe; keys that it leaves have another fate."""

    def __init__(self, entries: dict[str, ConfigEntry], devices: int | None) -> None:
        super().__init__(entries)
        self.devices = devices
        self.faults += names.faults(entries)

    def imported(self) -> Imported:
        for step in (self._task, self._model, self._numbers, self._parallel, self._train,
                     self._optimizer, self._schedule, self._generation):  # fmt: skip
            step()
        for key, entry in self.entries.items():
            if key not in self.lines:
                self._rest(entry)
        if self.faults:
            raise SpecError(self.faults)
        tables = {name: table for name, table in self.tables.items() if table}
        return Imported(tables, tuple(self.lines[key] for key in self.entries))

    def _rest(self, entry: ConfigEntry) -> None:
        verdict = keys.fate(entry.key, entry.value)
        if verdict is None:
            self.faults.append(keys.unknown(entry, self.asked))
            return
        self.lines[entry.key] = ImportedKey(entry, *verdict)

    def _task(self) -> None:
        kind = self.choice("run_mode", names.MODES, "pretrain", "task.kind")
        self.kind = kind
        self.put("task.kind", kind)
        if kind == "generate":
            self.put("task.prompts", self.take("predict_data", [""], "task.prompts"))
            for side in ("train", "eval"):
                for name in ("type", "dataset_dir"):
                    self.note(
                        f"{side}_dataset.data_loader.{name}", keys.NO_EFFECT, "nothing is read"
                    )
            self.note("do_eval", keys.NO_EFFECT, "nothing is trained")
            return
        for side in ("train", "eval"):
            key, words = f"{side}_dataset.data_loader.type", 'data.format = "mindrecord"'
            self.choice(key, names.LOADERS, "mindrecord", words)
        self.put("data.format", "mindrecord")
        measures = bool(self.take("do_eval", False, "task.eval_data"))
        if kind == "evaluate":
            self._data("eval", "task.data")
            self._unread("train", "evaluation reads the other")
            return
        self._data("train", "task.data")
        if measures:
            self._data("eval", "task.eval_data")
            self.put("train.evaluate_every", self.take("eval_step_interval", 100))
        else:
            self._unread("eval", "read where do_eval is on")

    def _data(self, side: str, key: str) -> None:
        """Set data to a side's data set, or to a placeholder if it names none."""
        source = f"{side}_dataset.data_loader.dataset_dir"
        data, placeholder = self.take(source, "", key), f"{side}.mindrecord"
        if not data:
            self.note(source, CARRIED, f"{key}; it is empty: {placeholder} stands for it")
        self.put(key, data or placeholder)

    def _unread(self, side: str, why: str) -> None:
        self.note(f"{side}_dataset.data_loader.dataset_dir", keys.NO_EFFECT, why)

    def _model(self) -> None:
        sizes = {
            key: self.take(f"{_CONFIG}{source}", None, words=f"model.{key}")
            for key, source in {
                "layers": "num_layers", "heads": "num_heads", "hidden": "hidden_size",
                "positions": "seq_length", "vocab": "vocab_size",
            }.items()
        }  # fmt: skip
        matching = [
            name
            for name, size in SIZES.items()
            if name != "nano"
            and all(sizes[k] in (None, getattr(size, k)) for k in ("layers", "heads", "hidden"))
        ]
        size = matching[0] if matching and sizes["hidden"] else ""
        weights = self._weights()
        if size:
            self.put("model.size", size)
        for key, value in sizes.items():
            default = getattr(SIZES[size], key) if size else (50257 if key == "vocab" else None)
            if value is not None and value != default:
                self.put(f"model.{key}", value)
        self._inner(sizes["hidden"])
        self._activation(size, weights)
        self._dropout()
        if labels := self.take(f"{_CONFIG}num_labels", 0, "classifier.labels"):
            self.put("classifier.labels", labels)
        self._adapter()

    def _inner(self, hidden: object) -> None:
        """Set the inner width, which MindFormers has as a multiple of the width."""
        key = f"{_CONFIG}expand_ratio"
        ratio = self.number(key, 4, "model.inner")
        if ratio == 4 or type(hidden) is not int:
            return
        if math.isfinite(ratio) and ratio * hidden >= 1:
            self.put("model.inner", int(ratio * hidden))
        else:
            message = f"expected a number above 0, found {self.entries[key].value!r}"
            self.faults.append(Fault("G2-202", self.entries[key].origin, key, message))

    def _weights(self) -> str:
        """Return load_checkpoint, or in evaluation and generation checkpoint_name_or_path."""
        named = self.take("load_checkpoint", "", "model.weights")
        fallback = f"{_CONFIG}checkpoint_name_or_path"
        if not named and self.kind in ("evaluate", "generate"):
            named = self.take(fallback, "", "model.weights")
        else:
            words = "read there only where load_checkpoint is empty, in eval and predict"
            self.note(fallback, keys.NO_EFFECT, words)
        named = names.ADAPTED.get(named, named)
        weights = str(names.PUBLISHED.get(named, named))
        if weights:
            self.put("model.weights", weights)
        elif self.kind == "finetune":
            # MindFormers silently trains from random weights
            self.put("model.weights", "random")
        return weights

    def _activation(self, size: str, weights: str) -> None:
        key = f"{_CONFIG}hidden_act"
        activation = self.choice(key, ACTIVATIONS, "gelu_new", "model.activation")
        if weights in names.PUBLISHED.values():
            if key in self.entries:
                words = "the published weights' own counts: another one would drift in silence"
                self.note(key, keys.NO_EFFECT, words)
        elif activation != (SIZES[size].activation if size else "gelu_new"):
            self.put("model.activation", activation)

    def _dropout(self) -> None:
        hidden = self.number(f"{_CONFIG}hidden_dropout_rate", 0.1, "model.dropout")
        key = f"{_CONFIG}attention_dropout_rate"
        attention = self.number(key, hidden, "model.dropout")
        if attention != hidden:
            words = f"one rate counts for all: hidden_dropout_rate = {hidden}"
            self.note(key, keys.NO_COUNTERPART, words)
        if hidden != 0.1:
            self.put("model.dropout", hidden)

    def _adapter(self) -> None:
        if self.take(f"{_PET}pet_type", "", "[lora]") == "lora":
            self.put("lora.r", self.take(f"{_PET}lora_rank", 8, "lora.r"))
            self.put("lora.alpha", self.take(f"{_PET}lora_alpha", 16, "lora.alpha"))
            self.put("lora.dropout", self.number(f"{_PET}lora_dropout", 0.01, "lora.dropout"))
            key = f"{_PET}target_modules"
            pattern = str(self.take(key, ".*dense1.*|.*dense3.*", "lora.targets"))
            thirds = "".join(third for dense, third in names.THIRDS.items() if dense in pattern)
            if not thirds:
                message = "expected a pattern of dense1, dense2 and dense3"
                origin = self.entries[key].origin
                self.faults.append(Fault("G2-202", origin, key, f"{message}, found {pattern!r}"))
            self.put("lora.targets", f"[{thirds}]" if len(thirds) > 1 else thirds)

    def _numbers(self) -> None:
        kinds = {"float32": "float32", "float16": "float16"}
        params = self.choice(f"{_CONFIG}param_init_type", kinds, "float32", "[precision]")
        if params == "float16":
            self.put("precision.params", "float16")
            self.put("precision.compute", "float16")
        dynamic = {"DynamicLossScaleUpdateCell": "dynamic", "FixedLossScaleUpdateCell": "none"}
        scale = "runner_wrapper.scale_sense.type"
        if self.choice(scale, dynamic, "dynamic", "precision.loss_scale") == "none":
            self.put("precision.loss_scale", "none")
        target = {"Ascend": "ascend", "GPU": "gpu", "CPU": "cpu"}
        device = self.choice("context.device_target", target, "ascend", "runtime.device")
        self.put("runtime.device", device)
        if table := self.take("rank_table", "", "runtime.rank_table"):
            self.put("runtime.rank_table", table)

    def _parallel(self) -> None:
        is_parallel = bool(self.take("use_parallel", False, "[parallel]"))
        mode = self.take("parallel.parallel_mode", 0, "[parallel]")
        layout = {
            key: self.take(f"parallel_config.{source}", 1, f"parallel.{key}")
            for key, source in {
                "dp": "data_parallel", "mp": "model_parallel", "pp": "pipeline_stage",
            }.items()
        }  # fmt: skip
        micro = self.take("parallel_config.micro_batch_num", 1, "parallel.micro_batches")
        if not is_parallel:
            layout = dict.fromkeys(layout, 1)
        elif mode in names.DATA_PARALLEL:  # data parallel: MindFormers resets the others to 1
            layout = {"dp": self.devices or layout["dp"], "mp": 1, "pp": 1}
        self.micro = micro if layout["pp"] > 1 else 1
        self.layout = layout
        for key, value in (*layout.items(), ("micro_batches", self.micro)):
            if value != 1:
                self.put(f"parallel.{key}", value)
        for source, key, value in (
            ("parallel.enable_parallel_optimizer", "optimizer_shard", True),
            ("parallel_config.use_seq_parallel", "sequence_parallel", True),
            ("recompute_config.select_recompute", "recompute", "selective"),
            ("recompute_config.recompute", "recompute", "full"),
        ):
            if self.take(source, False, f"parallel.{key}"):
                self.put(f"parallel.{key}", value)

    def _train(self) -> None:
        each = self.take("runner_config.batch_size", 8, "train.batch_size, over all ranks")
        self.batch = each * self.layout["dp"] * self.micro
        self.put("train.batch_size", self.batch)
        length = self.entries.get(f"{_CONFIG}seq_length")
        if self.kind != "generate":
            self.put("train.seq_length", length.value if length else 1024)
        if self.kind in ("pretrain", "finetune"):
            self.move("runner_config.epochs", "train.epochs")
            self.move(f"{_SAVING}save_checkpoint_steps", "train.save_every")
            self.move(f"{_SAVING}keep_checkpoint_max", "train.keep")
        seed = self.take("seed", 0, "train.seed")
        if seed:
            self.put("train.seed", seed)
        largest = self.number("runner_wrapper.max_grad_norm", 1.0, "train.clip")
        clips = self.take("runner_wrapper.use_clip_grad", True, "train.clip")
        if not clips or largest != 1.0:
            self.put("train.clip", largest if clips else 0.0)
        if self.take("profile", False, "gpt2dsl run SPEC --profile"):
            self.note("profile", keys.NO_COUNTERPART, "gpt2dsl run SPEC --profile")
        if self.kind not in ("pretrain", "finetune"):
            for key in ("runner_config.epochs", f"{_SAVING}save_checkpoint_steps"):
                self.note(key, keys.NO_EFFECT, "nothing is trained")
        if self.kind == "generate":
            self.tables.pop("train", None)

    def _optimizer(self) -> None:
        kind = self.take("optimizer.type", names.OPTIMIZERS[0], "optim.name")
        lr = self.number("lr_schedule.learning_rate", 1e-4, "optim.lr")
        if self.take("lr_scale", False, "optim.lr"):
            lr *= self.batch / self.number("lr_scale_factor", 256, "optim.lr")
        values = {
            "lr": lr,
            "beta1": self.number("optimizer.beta1", 0.9, "optim.beta1"),
            "beta2": self.number("optimizer.beta2", 0.999, "optim.beta2"),
            "eps": self.number("optimizer.eps", 1e-6, "optim.eps"),
            "weight_decay": self.number("optimizer.weight_decay", 0.0, "optim.weight_decay"),
        }
        if self.kind in ("pretrain", "finetune"):
            for key, value in values.items():
                self.put(f"optim.{key}", value)
            if kind in names.OPTIMIZERS[:2]:
                self.put("optim.bias_correction", False)

    def _schedule(self) -> None:
        kind = self.choice("lr_schedule.type", names.SCHEDULES, "constant", "schedule.kind")
        warmup = self.number("lr_schedule.warmup_steps", 0, "schedule.warmup")
        share = self.number("lr_schedule.warmup_ratio", 0, "schedule.warmup")
        end = self.number("lr_schedule.lr_end", 1e-7, "schedule.end")
        power = self.number("lr_schedule.power", 1.0, "schedule.power")
        total = self.take("lr_schedule.total_steps", -1, "train.epochs")
        if total != -1:
            words = "the schedule ends with the training: train.steps"
            self.note("lr_schedule.total_steps", keys.NO_COUNTERPART, words)
        if self.kind not in ("pretrain", "finetune"):
            return
        self.put("schedule.kind", kind)
        self.put("schedule.warmup", float(share) if share else int(warmup))
        if kind in ("polynomial", "cosine"):
            self.put("schedule.end", end)
        if power != 1.0:
            self.put("schedule.power", power)

    def _generation(self) -> None:
        moved = {
            "max_decode_length": "max_length", "max_new_tokens": "max_new_tokens",
            "top_k": "top_k", "top_p": "top_p", "do_sample": "do_sample",
            "temperature": "temperature", "repetition_penalty": "repetition_penalty",
        }  # fmt: skip
        for name, key in moved.items():
            source = f"{_CONFIG}{name}"
            if self.kind != "generate":
                self.note(source, keys.NO_EFFECT, "read by predict alone")
                continue
            is_real = key in ("top_p", "temperature", "repetition_penalty")
            self.move(source, f"generation.{key}", float if is_real else lambda value: value)
        if "max_new_tokens" in self.tables.get("generation", {}):
            self.tables["generation"].pop("max_length", None)
        eos = self.take(f"{_CONFIG}eos_token_id", 50256, "generation.eos")
        if self.kind == "generate" and eos != 50256:
            self.put("generation.eos", [eos])
