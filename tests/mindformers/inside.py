"""The half of the parity judges that runs inside MindFormers 0.8.0: Python 3.9, MindSpore 2.0.0.

It never imports gpt2dsl: what it writes and what it reads is MindFormers' own word.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

# MindFormers opens its log files where this points while it is being imported; ./output otherwise.
_SCRATCH = tempfile.TemporaryDirectory(prefix="mindformers-")
os.environ["LOCAL_DEFAULT_PATH"] = _SCRATCH.name

import mindformers  # type: ignore[import-not-found]  # noqa: E402
import mindspore  # noqa: E402
import mindspore.dataset as ds  # noqa: E402
from mindformers.modules.transformer import (  # type: ignore[import-not-found]  # noqa: E402
    FeedForward,
)
from mindformers.pet.pet_model import (  # type: ignore[import-not-found]  # noqa: E402
    PetModel,
    get_pet_model,
)
from mindspore.mindrecord import FileWriter  # noqa: E402


class ToFloat32(mindspore.nn.Cell):
    """Stands in for the cast of FeedForward, whose float16 is written into its code."""

    def construct(self, x: Any, _dtype: Any) -> Any:
        return mindspore.ops.cast(x, mindspore.float32)


def widen(net: Any) -> None:
    """Make a network compute in float32.

    GPT2Config.compute_dtype reaches the classification head and nothing else: hidden states, every
    dense layer, the keys and values and the LM head keep a `dtype` of float16 that no key of the
    configuration reaches, so that logits would agree to no more than two or three digits.
    """
    for _, cell in net.cells_and_names():
        if getattr(cell, "dtype", None) == mindspore.float16:
            cell.dtype = mindspore.float32
        if isinstance(cell, FeedForward):
            cell.cast = ToFloat32()


def forward(net: Any, ids: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Logits of an eval pass, in which no id counts as padding."""
    net.set_train(False)
    # Left to itself the LM masks out each id that equals eos_token_id.
    mask = mindspore.Tensor(np.ones(ids.shape, np.float32))
    tokens = mindspore.Tensor(ids)
    # PetModel alone has labels and position_ids before the mask.
    found = net(tokens, *([None, None] if isinstance(net, PetModel) else []), mask)
    logits = found[0] if isinstance(found, tuple) else found
    if logits.dtype != mindspore.float32:
        raise SystemExit(f"the network answers in {logits.dtype}, not in float32")
    return np.asarray(logits.asnumpy(), np.float32)


def only(folder: Path, suffix: str) -> Path:
    """The one file with this suffix: MindFormers takes the first that the system lists."""
    found = sorted(folder.glob(f"*{suffix}"))
    if len(found) != 1:
        raise SystemExit(f"{folder}: expected one {suffix} file, found {len(found)}")
    return found[0]


def report(parameters: dict[str, Any], **more: Any) -> None:
    sys.stdout.write(
        json.dumps(
            {
                "parameters": len(parameters),
                "numbers": sum(int(np.prod(one.shape)) for one in parameters.values()),
                "mindformers": version("mindformers"),
                "mindspore": mindspore.__version__,
                "numpy": np.__version__,
                **more,
            }
        )
        + "\n"
    )


def save(options: argparse.Namespace) -> None:
    """A checkpoint, its YAML, ids and logits, all of them as MindFormers has them."""
    random = np.random.default_rng(0)
    net: Any
    config = mindformers.GPT2Config(
        num_layers=options.layers,
        num_heads=options.heads,
        hidden_size=options.hidden,
        seq_length=options.positions,
        vocab_size=options.vocab,
        hidden_act=options.activation,
        num_labels=options.labels or 2,
        eos_token_id=options.vocab - 1,
        pad_token_id=options.vocab - 1,
        bos_token_id=options.vocab - 1,
        unk_token_id=options.vocab - 1,
        max_decode_length=options.positions,
        compute_dtype="float32",
        param_init_type="float32",
        layernorm_compute_type="float32",
        softmax_compute_type="float32",
    )
    if options.labels:
        net = base = mindformers.GPT2ForSequenceClassification(config)
    else:
        net = base = mindformers.GPT2LMHeadModel(config)
    if options.lora:
        net = get_pet_model(
            base,
            {
                "pet_type": "lora",
                "lora_rank": options.lora,
                "lora_alpha": 2 * options.lora,
                "lora_dropout": 0.1,
                "target_modules": ".*dense1.*|.*dense3.*",
            },
        )
    parameters = {one.name: one for one in net.get_parameters()}
    for name, parameter in parameters.items():
        values = 0.2 * random.normal(size=parameter.shape) + name.endswith("gamma")
        parameter.set_data(mindspore.Tensor(values.astype(np.float32)))
    options.folder.mkdir(parents=True, exist_ok=True)
    # The base and not the PetModel: that one would name itself in the YAML as the architecture,
    # which MindFormers then doesn't know. Their parameters are the same.
    base.save_pretrained(str(options.folder))
    ids = random.integers(0, options.vocab, (2, options.positions)).astype(np.int32)
    widen(net)
    np.save(options.folder / "ids.npy", ids)
    np.save(options.folder / "logits.npy", forward(net, ids))
    report(parameters, saved=sorted(path.name for path in options.folder.iterdir()))


def logits(options: argparse.Namespace) -> None:
    """Logits of a folder that someone else wrote, loaded in MindFormers' own way."""
    only(options.folder, ".yaml")
    file = mindspore.load_checkpoint(str(only(options.folder, ".ckpt")))
    net = mindformers.AutoModel.from_pretrained(str(options.folder))
    parameters = {one.name: one for one in net.get_parameters()}
    # from_pretrained says nothing of what it couldn't find or use, and goes on with random weights.
    if set(parameters) != set(file):
        raise SystemExit(
            f"not in the file: {sorted(set(parameters) - set(file))}; "
            f"not in the network: {sorted(set(file) - set(parameters))}"
        )
    for name, parameter in parameters.items():
        held = parameter.asnumpy()
        if not np.array_equal(held, file[name].asnumpy().astype(held.dtype)):
            raise SystemExit(f"{name} isn't what the file says")
    widen(net)
    np.save(
        options.folder / "logits.npy",
        forward(net, np.load(options.folder / "ids.npy").astype(np.int32)),
    )
    report(parameters, network=type(net).__name__)


FIELDS = ["input_ids", "attention_mask", "labels"]


def read_classes(options: argparse.Namespace) -> None:
    """Read rows of classes as the classification dataset does: batched, projected, as int32."""
    names = [str(path) for path in options.folder.iterdir() if path.suffix == ".mindrecord"]
    rows = ds.MindDataset(names, columns_list=FIELDS, shuffle=False)
    rows = rows.batch(options.batch, drop_remainder=True).project(FIELDS)
    cast = ds.transforms.TypeCast(mindspore.int32)
    for field in FIELDS:
        rows = rows.map(operations=cast, input_columns=field)
    found = list(rows.create_dict_iterator(num_epochs=1, output_numpy=True))
    for field in FIELDS:
        np.save(options.folder / f"{field}.npy", np.concatenate([row[field] for row in found]))


def write_classes(options: argparse.Namespace) -> None:
    """Write rows of classes with the schema of txtcls_dataset_to_mindrecord.py."""
    writer = FileWriter(str(options.folder / "theirs.mindrecord"), 1)
    writer.add_schema({field: {"type": "int64", "shape": [-1]} for field in FIELDS}, "classes")
    arrays = {field: np.load(options.folder / f"{field}.npy").astype(np.int64) for field in FIELDS}
    count = len(arrays["labels"])
    writer.write_raw_data([{field: arrays[field][i] for field in FIELDS} for i in range(count)])
    writer.commit()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)
    saving = commands.add_parser("save", help=save.__doc__)
    saving.set_defaults(run=save)
    saving.add_argument("folder", type=Path)
    saving.add_argument("--layers", type=int, default=2)
    saving.add_argument("--heads", type=int, default=2)
    saving.add_argument("--hidden", type=int, default=16)
    saving.add_argument("--positions", type=int, default=32)
    saving.add_argument("--vocab", type=int, default=97)
    saving.add_argument("--activation", default="gelu")
    saving.add_argument("--labels", type=int, default=0)
    saving.add_argument("--lora", type=int, default=0)
    loading = commands.add_parser("logits", help=logits.__doc__)
    loading.set_defaults(run=logits)
    loading.add_argument("folder", type=Path)
    reading = commands.add_parser("read-classes", help=read_classes.__doc__)
    reading.set_defaults(run=read_classes)
    reading.add_argument("folder", type=Path)
    reading.add_argument("--batch", type=int, default=4)
    writing = commands.add_parser("write-classes", help=write_classes.__doc__)
    writing.set_defaults(run=write_classes)
    writing.add_argument("folder", type=Path)
    options = parser.parse_args()
    mindspore.set_context(mode=mindspore.GRAPH_MODE, device_target="CPU")
    options.run(options)


if __name__ == "__main__":
    main()
